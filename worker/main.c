/*
 * wscast-worker - one worker of wscastd: a keeper, its spare, and a serving process.
 *
 * In the order they come to life:
 *   main.c       what the supervisor hands over (shm/launch.h)
 *   keeper.c     holds the file table; clones what serves, again when it died
 *   renew.c      ... and executes a new program in its own place
 *   serve.c      the serving process: maps, loop, signals
 *   reload.c     the settings that hold
 *   client.c     connections: slots, accepting, deadlines (wheel.c)
 *   channels.c   who is subscribed to what
 *   subs.c       subscriptions of one connection
 *   requests.c   what its client asks
 *   fanout.c     records of the ring to their sockets (out.c, side.c, slow.c)
 *   adopt.c      what a predecessor left
 *   sandbox.c    no more rights than serving takes
 *   handshake.c  HTTP requests
 *   tls.c        TLS below them, where the listener has it (tls_context.c)
 *   reader.c     WebSocket frames from clients
 *   session.c    what they mean (session_raw.c, session_v1.c)
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/journal.h"
#include "proto/settings.h"
#include "shm/launch.h"
#include "shm/ring.h"
#include "worker/keeper.h"

static bool
number_parse(const char *text, long min, long max, long *ret)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n < min || n > max)
		return false;
	*ret = n;
	return true;
}

static bool
launch_parse(int argc, char **argv, struct launch *ret)
{
	long index, cpu, nlisteners, spare_fd = -1, spare_pid = 0;

	if ((argc != 4 && argc != 6) ||
	    !number_parse(argv[1], 0, RING_WORKERS_MAX - 1, &index) ||
	    !number_parse(argv[2], -1, INT_MAX, &cpu) ||
	    !number_parse(argv[3], 0, SETTINGS_LISTENERS_MAX, &nlisteners))
		return false;
	if (argc == 6 &&
	    (!number_parse(argv[4], LAUNCH_LISTENERS, INT_MAX, &spare_fd) ||
		!number_parse(argv[5], 1, INT_MAX, &spare_pid)))
		return false;
	ret->index = (unsigned)index;
	ret->cpu = (int)cpu;
	ret->nlisteners = (unsigned)nlisteners;
	ret->spare_fd = (int)spare_fd;
	ret->spare_pid = (pid_t)spare_pid;
	/* The arguments lie in a row: room for what ps is to show. */
	ret->title = argv[0];
	ret->title_len = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]);
	return true;
}

/* All descriptors that the launch names must be there: none may later be taken for
 * another file's number. */
static bool
launch_has_fds(const struct launch *l)
{
	int end = LAUNCH_LISTENERS + (int)l->nlisteners;
	struct stat st;

	for (int fd = LAUNCH_CONTROL; fd < end; fd++)
		if (fstat(fd, &st) < 0)
			return false;
	if (fstat(LAUNCH_CONTROL, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	static char who[24];
	static struct launch launch;

	if (!launch_parse(argc, argv, &launch) || !launch_has_fds(&launch)) {
		(void)fputs("wscast-worker: started by wscastd only\n", stderr);
		return 2;
	}
	(void)snprintf(who, sizeof(who), "worker %u", launch.index);
	log_open(who);
	/* No atexit(): several processes come back here. */
	_exit(keeper_run(&launch));
}
