/*
 * wsbench_via.h - ways to publish, as a table of functions: through Redis, HTTP, the
 * control socket, a client of the server, or into the floor (wsbench_limit.h).
 *
 * Process  the publisher's. A connection's socket does not block once it is open; what
 *          it does not take waits in `out`.
 */
#ifndef WSCAST_TOOLS_WSBENCH_VIA_H
#define WSCAST_TOOLS_WSBENCH_VIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/wsbench_options.h"

struct buf {
	uint8_t *data;
	size_t len, capacity;
};

struct via_conn {
	int fd;
	bool failed;      /* broken: nothing more will come of it */
	uint32_t asked;   /* HTTP: messages in the request that is being answered */
	uint32_t waiting; /* HTTP: messages in `later` */
	size_t sent;      /* of out */
	struct buf out, in;
	struct buf later; /* HTTP: messages that go with the next request */
	uint64_t acked, errors;
};

struct via {
	const char *name;
	bool to_all; /* every connection gets every message */
	/* Connect; index of `publishers`. Returns 0 or -errno, having said why. */
	int (*open)(const struct options *o, unsigned index, struct via_conn *c);
	/* Append one message to what goes out. Returns 0 or -ENOMEM. */
	int (*put)(const struct options *o, struct via_conn *c, const char *channel,
	    const char *payload, size_t len);
	/* Called before out is written: may add to it. */
	int (*prepare)(const struct options *o, struct via_conn *c);
	/* Take answers from the front of in. Returns the bytes taken, or -EPROTO. */
	long (*answers)(struct via_conn *c);
};

/* NULL: there is none of that name. */
const struct via *via_find(const char *name);
/* How many connections it makes. */
unsigned via_connections(const struct via *v, const struct options *o);
void via_close(struct via_conn *c);

/* Write what the socket takes, and read and count what was answered. Neither blocks.
 * Sets c->failed when the connection is no more. */
void via_flush(const struct via *v, const struct options *o, struct via_conn *c);
void via_read(const struct via *v, const struct options *o, struct via_conn *c);

#endif
