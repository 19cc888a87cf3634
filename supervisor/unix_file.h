/*
 * unix_file.h - a listening unix socket's file: made over one that nobody answers on,
 * removed by who made it.
 */
#ifndef WSCAST_SUPERVISOR_UNIX_FILE_H
#define WSCAST_SUPERVISOR_UNIX_FILE_H

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

struct unix_file {
	struct sockaddr_un sa; /* sun_path "": there is none */
	dev_t dev;             /* which file it is, should another take its name */
	ino_t ino;
	gid_t gid;
};

/*
 * Bind a new stream socket, close-on-exec and non-blocking, which the caller sets to
 * listen(): nobody gets in before.
 *
 * mode  of the file, from its first moment.
 * gid   its group; (gid_t)-1: ours.
 *
 * Returns 0; -EADDRINUSE when somebody answers there, -ENOTSOCK when it is another kind
 * of file, -EPERM when it may not be given to that group, or -errno. On failure no new
 * file is left.
 */
int unix_file_bind(const char *path, mode_t mode, gid_t gid, int *ret_fd,
    struct unix_file *ret_file) __attribute__((warn_unused_result));

/* Remove the file, if it is still that one. */
void unix_file_remove(struct unix_file *f);

#endif
