/* unix_file.c - see unix_file.h */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/unix_file.h"

static int
unix_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Whether the name is free; a socket that nobody answers on is removed. */
static int
make_way(const struct sockaddr_un *sa)
{
	struct stat st;
	int fd, r = 0;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	fd = unix_socket();
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 ||
	    errno == EAGAIN)
		r = -EADDRINUSE; /* EAGAIN: its backlog is full, so somebody has it */
	else if (errno != ECONNREFUSED || (unlink(sa->sun_path) < 0 && errno != ENOENT))
		r = -errno;
	(void)close(fd);
	return r;
}

int
unix_file_bind(
    const char *path, mode_t mode, gid_t gid, int *ret_fd, struct unix_file *ret_file)
{
	struct unix_file f = {.sa.sun_family = AF_UNIX};
	struct stat st;
	mode_t mask;
	int fd, r;

	if (strlen(path) >= sizeof(f.sa.sun_path))
		return -ENAMETOOLONG;
	(void)snprintf(f.sa.sun_path, sizeof(f.sa.sun_path), "%s", path);
	r = make_way(&f.sa);
	if (r < 0)
		return r;
	fd = unix_socket();
	if (fd < 0)
		return fd;
	mask = umask(~mode & 0777);
	r = bind(fd, (const struct sockaddr *)&f.sa, sizeof(f.sa)) < 0 ? -errno : 0;
	(void)umask(mask);
	if (r < 0)
		goto fail;
	if ((gid != (gid_t)-1 && lchown(path, (uid_t)-1, gid) < 0) ||
	    lstat(path, &st) < 0) {
		r = -errno;
		(void)unlink(path);
		goto fail;
	}
	f.dev = st.st_dev;
	f.ino = st.st_ino;
	f.gid = st.st_gid;
	*ret_fd = fd;
	*ret_file = f;
	return 0;
fail:
	(void)close(fd);
	return r;
}

void
unix_file_remove(struct unix_file *f)
{
	struct stat st;

	if (f->sa.sun_path[0] != '\0' && lstat(f->sa.sun_path, &st) == 0 &&
	    st.st_dev == f->dev && st.st_ino == f->ino)
		(void)unlink(f->sa.sun_path);
	f->sa.sun_path[0] = '\0';
}
