/*
 * state_file.h - a small file that is replaced as a whole, and is on the disk before it
 * counts: written beside it, fsync'd, renamed.
 *
 * fsync() takes as long as the disk likes, and the supervisor may not wait. So a child
 * process writes, one at a time; only the last write, at the end, is waited for.
 */
#ifndef WSCAST_SUPERVISOR_STATE_FILE_H
#define WSCAST_SUPERVISOR_STATE_FILE_H

#include <ev.h>
#include <stddef.h>

#define STATE_FILE_MAX 65536 /* bytes */

struct state_file {
	struct ev_loop *loop;
	char path[256];
	int child_fd; /* its other end is open for as long as a child writes; -1 */
	ev_io child_io;
	void (*on_written)(void *owner, int err); /* 0 or -errno */
	void *owner;
};

/* directory, name: copied. Returns 0 or -ENAMETOOLONG. */
int state_file_init(struct state_file *f, struct ev_loop *loop, const char *directory,
    const char *name, void (*on_written)(void *owner, int err), void *owner)
    __attribute__((warn_unused_result));
void state_file_done(struct state_file *f);

/* All of it, malloc'd and NUL-terminated. Returns 0 or -errno; -ENOENT: none yet. */
int state_file_read(const struct state_file *f, char **ret_text)
    __attribute__((warn_unused_result));
/* Begin to write: on_written() follows. Returns 0, -EBUSY while a child writes, or
 * -errno. */
int state_file_write(struct state_file *f, const char *text)
    __attribute__((warn_unused_result));
/* Write now, after whatever is being written. Returns 0 or -errno. */
int state_file_write_now(struct state_file *f, const char *text)
    __attribute__((warn_unused_result));

#endif
