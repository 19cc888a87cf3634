/*
 * launcher.h - start a keeper: fork, and exec with exactly the descriptors of
 * shm/launch.h, in a process group of its own.
 */
#ifndef WSCAST_SUPERVISOR_LAUNCHER_H
#define WSCAST_SUPERVISOR_LAUNCHER_H

#include <sys/types.h>

#define LAUNCHER_FDS_MAX 64 /* LAUNCH_LISTENERS and all listeners fit */

struct launcher {
	const char *path; /* of wscast-worker */
	char **env;       /* of the keeper */
	int null_fd;      /* /dev/null: its standard input and output */
};

/* path: borrowed for ever. The environment is ours without what systemd meant for us
 * alone. */
int launcher_init(struct launcher *l, const char *path)
    __attribute__((warn_unused_result));
void launcher_done(struct launcher *l);

/*
 * Start one.
 *
 * cpu    to be pinned to, or -1.
 * fds    nfds descriptors, to be numbers LAUNCH_CONTROL, … in the keeper; they stay the
 *        caller's here.
 *
 * Returns 0 or -errno. A program that cannot be executed ends at once with status 127.
 */
int launcher_start(const struct launcher *l, unsigned index, int cpu,
    unsigned nlisteners, const int *fds, unsigned nfds, pid_t *ret_pid)
    __attribute__((warn_unused_result));

#endif
