/*
 * listeners.h - the listening sockets: for each address of the settings one for each
 * worker index, made once and held for life. While a worker is away its connections
 * wait in its own socket; closing it would lose them.
 *
 * A unix socket's path can have one socket alone, so all workers share it, each by a
 * descriptor of its own: whoever is awake takes what waits, so that a worker that is
 * away keeps nobody waiting at all.
 */
#ifndef WSCAST_SUPERVISOR_LISTENERS_H
#define WSCAST_SUPERVISOR_LISTENERS_H

#include "proto/settings.h"
#include "supervisor/unix_file.h"

struct listeners {
	unsigned naddresses, nworkers;
	int *fds; /* [address * nworkers + worker] */
	char (
	    *text)[128]; /* [address]: as bound, "0.0.0.0:8080", "unix:/run/ws.sock" */
	struct unix_file *files; /* [address]; of those that have one */
};

/* Open all of them. Logs each that fails, and what would help; returns -errno of the
 * first. */
int listeners_open(const struct settings *s, unsigned nworkers, struct listeners *ret)
    __attribute__((warn_unused_result));
/* Of the clients that are accepted from now on: limits.send_buffer. */
void listeners_set_send_buffer(const struct listeners *l, uint32_t bytes);
void listeners_close(struct listeners *l);

static inline int
listeners_fd(const struct listeners *l, unsigned address, unsigned worker)
{
	return l->fds[address * l->nworkers + worker];
}

#endif
