/* renew.c - see renew.h */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/journal.h"
#include "worker/renew.h"
#include "worker/serve.h"

int
renew_begin(const struct launch *launch, int spare_fd, pid_t spare_pid)
{
	const char *path = (const char *)getauxval(AT_EXECFN); /* NOLINT */
	char name[] = "wscast-worker", index[16], cpu[16], nlisteners[16], fd[16],
	     pid[16];
	char *argv[] = {name, index, cpu, nlisteners, fd, pid, NULL};
	int r;

	if (path == NULL)
		return -ENOENT;
	(void)snprintf(index, sizeof(index), "%u", launch->index);
	(void)snprintf(cpu, sizeof(cpu), "%d", launch->cpu);
	(void)snprintf(nlisteners, sizeof(nlisteners), "%u", launch->nlisteners);
	(void)snprintf(fd, sizeof(fd), "%d", spare_fd);
	(void)snprintf(pid, sizeof(pid), "%d", (int)spare_pid);
	if (fcntl(spare_fd, F_SETFD, 0) < 0)
		return -errno;
	(void)execve(path, argv, environ);
	r = -errno;
	(void)fcntl(spare_fd, F_SETFD, FD_CLOEXEC);
	return r;
}

int
renew_end(const struct launch *launch)
{
	struct pollfd pfd = {.fd = launch->spare_fd, .events = POLLIN};
	int r = serve_check();

	if (r < 0) {
		log_error(r, "the program that is installed now cannot go on from the "
			     "one before: that one goes on; restart the service");
		return r;
	}
	(void)syscall(SYS_pidfd_send_signal, launch->spare_fd, SIGKILL, NULL, 0);
	while (poll(&pfd, 1, -1) < 0)
		;
	(void)waitpid(launch->spare_pid, NULL, 0);
	(void)close(launch->spare_fd);
	return 0;
}
