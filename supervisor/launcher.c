/* launcher.c - see launcher.h */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/launch.h"
#include "supervisor/launcher.h"

static bool
env_is_ours_alone(const char *var)
{
	static const char *const names[] = {"NOTIFY_SOCKET=", "WATCHDOG_USEC=",
	    "WATCHDOG_PID=", "LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES="};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(var, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

int
launcher_init(struct launcher *l, const char *path)
{
	size_t n = 0, kept = 0;

	*l = (struct launcher){.path = path};
	while (environ[n] != NULL)
		n++;
	l->env = calloc(n + 1, sizeof(*l->env));
	if (l->env == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (!env_is_ours_alone(environ[i]))
			l->env[kept++] = environ[i];
	l->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (l->null_fd < 0) {
		int r = -errno;

		free(l->env);
		l->env = NULL;
		return r;
	}
	return 0;
}

void
launcher_done(struct launcher *l)
{
	if (l->env == NULL)
		return;
	free(l->env);
	l->env = NULL;
	(void)close(l->null_fd);
}

/* Signals as a new program expects them: handlers go with exec, what is ignored or
 * blocked stays. */
static void
reset_signals(void)
{
	sigset_t none;

	(void)signal(SIGPIPE, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Put the descriptors under their numbers. A target may be the number of a source that
 * is still needed, so all sources first move above every target. close_range() is of
 * Linux 5.9; before that close-on-exec does its work, which all our descriptors have.
 */
static bool
place_fds(const int *fds, unsigned nfds, int null_fd)
{
	int high[LAUNCHER_FDS_MAX], null_high;
	int end = LAUNCH_CONTROL + (int)nfds;

	for (unsigned i = 0; i < nfds; i++) {
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, end);
		if (high[i] < 0)
			return false;
	}
	null_high = fcntl(null_fd, F_DUPFD_CLOEXEC, end);
	if (null_high < 0 || dup2(null_high, STDIN_FILENO) < 0 ||
	    dup2(null_high, STDOUT_FILENO) < 0)
		return false;
	for (unsigned i = 0; i < nfds; i++)
		if (dup2(high[i], LAUNCH_CONTROL + (int)i) < 0)
			return false;
#ifdef SYS_close_range
	(void)syscall(SYS_close_range, end, ~0u, 0);
#endif
	return true;
}

int
launcher_start(const struct launcher *l, unsigned index, int cpu, unsigned nlisteners,
    const int *fds, unsigned nfds, pid_t *ret_pid)
{
	char index_text[16], cpu_text[16], listeners_text[16], name[] = "wscast-worker";
	char *argv[] = {name, index_text, cpu_text, listeners_text, NULL};
	pid_t pid;

	assert(nfds <= LAUNCHER_FDS_MAX);
	(void)snprintf(index_text, sizeof(index_text), "%u", index);
	(void)snprintf(cpu_text, sizeof(cpu_text), "%d", cpu);
	(void)snprintf(listeners_text, sizeof(listeners_text), "%u", nlisteners);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		/* A group of their own: kill() can then reach keeper, spare and
		 * serving process without trusting a pid that they named, and Ctrl-C
		 * reaches only us. */
		(void)setpgid(0, 0);
		reset_signals();
		if (place_fds(fds, nfds, l->null_fd))
			(void)execve(l->path, argv, l->env);
		_exit(127);
	}
	(void)setpgid(pid, pid); /* both sides: whoever comes first */
	*ret_pid = pid;
	return 0;
}
