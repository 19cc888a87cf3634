/* state_file.c - see state_file.h */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervisor/feed.h"
#include "supervisor/state_file.h"

#define WAIT_MS 5000 /* at the end, for a child */

int
state_file_init(struct state_file *f, struct ev_loop *loop, const char *directory,
    const char *name, void (*on_written)(void *owner, int err), void *owner)
{
	int n = snprintf(f->path, sizeof(f->path), "%s/%s", directory, name);

	f->loop = loop;
	f->child_fd = -1;
	f->on_written = on_written;
	f->owner = owner;
	return n < 0 || (size_t)n >= sizeof(f->path) ? -ENAMETOOLONG : 0;
}

static void
child_gone(struct state_file *f)
{
	ev_io_stop(f->loop, &f->child_io);
	(void)close(f->child_fd);
	f->child_fd = -1;
}

void
state_file_done(struct state_file *f)
{
	if (f->loop != NULL && f->child_fd >= 0)
		child_gone(f);
}

int
state_file_read(const struct state_file *f, char **ret_text)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char *text;
	ssize_t n;

	if (fd < 0)
		return -errno;
	text = calloc(1, STATE_FILE_MAX + 1);
	n = text != NULL ? read(fd, text, STATE_FILE_MAX) : -1;
	if (n < 0) {
		int err = text != NULL ? -errno : -ENOMEM;

		free(text);
		(void)close(fd);
		return err;
	}
	(void)close(fd);
	*ret_text = text;
	return 0;
}

/* The name is on the disk when its directory is. */
static int
sync_directory(const char *path)
{
	char copy[sizeof(((struct state_file *)0)->path)];
	int r = 0, fd;

	(void)snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0 && errno != EINVAL)
		r = -errno;
	(void)close(fd);
	return r;
}

static int
replace(const char *path, const char *text)
{
	char beside[sizeof(((struct state_file *)0)->path) + 8];
	size_t len = strlen(text);
	int r = 0, fd;
	ssize_t n;

	(void)snprintf(beside, sizeof(beside), "%s.new", path);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n != (ssize_t)len)
		r = n < 0 ? -errno : -ENOSPC;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	(void)close(fd);
	if (r == 0 && rename(beside, path) < 0)
		r = -errno;
	return r < 0 ? r : sync_directory(path);
}

static void
on_child(struct ev_loop *loop, ev_io *io, int revents)
{
	struct state_file *f = container_of(io, struct state_file, child_io);
	int err;
	ssize_t n = read(f->child_fd, &err, sizeof(err));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	child_gone(f);
	f->on_written(f->owner, n == sizeof(err) ? err : -ECHILD);
}

/* In the child, which keeps nothing open that others wait to see closed, and dies with
 * us: a half-written file counts for nothing. */
static void
child(const char *path, const char *text, int fd)
{
	int r;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)dup2(fd, STDIN_FILENO);
#ifdef SYS_close_range
	(void)syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
#endif
	r = replace(path, text);
	_exit(write(STDIN_FILENO, &r, sizeof(r)) == sizeof(r) ? 0 : 1);
}

int
state_file_write(struct state_file *f, const char *text)
{
	int fds[2], r;
	pid_t pid;

	if (f->child_fd >= 0)
		return -EBUSY;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		r = -errno;
		(void)close(fds[0]);
		(void)close(fds[1]);
		return r;
	}
	if (pid == 0)
		child(f->path, text, fds[1]);
	(void)close(fds[1]);
	f->child_fd = fds[0];
	ev_io_init(&f->child_io, on_child, f->child_fd, EV_READ);
	ev_io_start(f->loop, &f->child_io);
	return 0;
}

int
state_file_write_now(struct state_file *f, const char *text)
{
	if (f->child_fd >= 0) {
		struct pollfd p = {.fd = f->child_fd, .events = POLLIN};

		/* What it renames late would be older than ours. */
		if (poll(&p, 1, WAIT_MS) <= 0)
			return -EBUSY;
		child_gone(f);
	}
	return replace(f->path, text);
}
