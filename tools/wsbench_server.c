#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/wsbench_net.h"
#include "tools/wsbench_run.h"
#include "tools/wsbench_server.h"

#define START_TRIES 500 /* of 20 ms */
#define STOP_TRIES 500

static void
become(const char *command, int log_fd)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setpgid(0, 0); /* ^C is for us */
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (null_fd >= 0)
		(void)dup2(null_fd, STDIN_FILENO);
	(void)dup2(log_fd, STDOUT_FILENO);
	(void)dup2(log_fd, STDERR_FILENO);
	(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

static void
show_log(int fd, off_t begin)
{
	char text[2049];
	off_t end = lseek(fd, 0, SEEK_END);
	ssize_t n =
	    pread(fd, text, sizeof(text) - 1, end - begin > 2048 ? end - 2048 : begin);

	if (n > 0)
		fprintf(stderr, "%.*s", (int)n, text);
}

/* Returns 0 once it takes connections, -ETIMEDOUT, or -ECHILD: it ended. */
static int
wait_for_port(const struct options *o, pid_t pid)
{
	int fd;

	for (int i = 0; i < START_TRIES; i++) {
		if (net_connect(&o->addr, o->addr_len, &fd) == 0) {
			(void)close(fd);
			return 0;
		}
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return -ECHILD;
		if (run_interrupted())
			return -EINTR;
		(void)usleep(20000);
	}
	return -ETIMEDOUT;
}

int
server_start(const struct options *o, const char *command, pid_t *ret_pid)
{
	int r, fd, log_fd;
	off_t begin;
	pid_t pid;

	/* Whoever listens there already would be measured in its place. */
	if (net_connect(&o->addr, o->addr_len, &fd) == 0) {
		(void)close(fd);
		fprintf(stderr, "wsbench: something else listens at %s\n", o->url);
		return -EADDRINUSE;
	}
	log_fd =
	    o->server_log != NULL
		? open(o->server_log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)
		: memfd_create("wsbench-server", MFD_CLOEXEC);
	if (log_fd < 0) {
		fprintf(stderr, "wsbench: %s: %s\n", o->server_log, strerror(errno));
		return -errno;
	}
	begin = lseek(log_fd, 0, SEEK_END);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (pid == 0)
		become(command, log_fd);
	r = pid < 0 ? -errno : wait_for_port(o, pid);
	if (r < 0) {
		fprintf(stderr, "wsbench: `%s` does not answer at %s: %s\n", command,
		    o->url, r == -ECHILD ? "it ended" : strerror(-r));
		show_log(log_fd, begin);
		if (pid > 0 && r != -ECHILD)
			server_stop(o, pid);
	} else {
		*ret_pid = pid;
	}
	(void)close(log_fd);
	return r;
}

/* Whether anyone of the group is left, the shell's children included: as their
 * subreaper we see the last of them go. */
static bool
group_is_gone(pid_t pid)
{
	while (waitpid(-pid, NULL, WNOHANG) > 0)
		continue;
	return kill(-pid, 0) < 0 && errno == ESRCH;
}

void
server_stop(const struct options *o, pid_t pid)
{
	bool gone = false;
	int fd;

	if (pid <= 0)
		return;
	(void)kill(-pid, SIGTERM);
	for (int i = 0; i < STOP_TRIES && !gone; i++) {
		(void)usleep(20000);
		gone = group_is_gone(pid);
	}
	if (!gone) {
		fprintf(stderr, "wsbench: the server does not stop: killed\n");
		(void)kill(-pid, SIGKILL);
	}
	/* Those that left the group (workers) hold the port a moment longer. */
	for (int i = 0; i < STOP_TRIES; i++) {
		(void)group_is_gone(pid);
		if (net_connect(&o->addr, o->addr_len, &fd) < 0)
			return;
		(void)close(fd);
		(void)usleep(20000);
	}
}
