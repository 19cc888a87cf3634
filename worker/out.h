/*
 * out.h - one connection's output: where it is in the ring, and the private frames
 * (replies, pongs, the handshake's answer) that go between.
 *
 * A connection has no send queue. What it is still to be sent follows from its slot:
 * the records of its channels from its cursor on, and its private frames, each in its
 * place. A connection that is not lagging has been sent everything below w->done.
 */
#ifndef WSCAST_WORKER_OUT_H
#define WSCAST_WORKER_OUT_H

#include "worker/worker.h"

/*
 * Send bytes to this connection alone, behind all that was passed on so far. They are
 * copied into the arena when the socket does not take them at once.
 *
 * len  bytes: one or more whole frames, or the HTTP reply.
 *
 * Returns 0; -ENOBUFS when more than OUT_PRIVATE_MAX bytes wait already, or the arena
 * is full: then nothing was queued, and the caller closes. A socket error closes the
 * connection (client_close) and returns 0.
 */
#define OUT_PRIVATE_MAX (1u << 20)
int out_private(struct worker *w, uint32_t slot, const void *buf, size_t len)
    __attribute__((warn_unused_result));

/* The socket is writable again: send what is due, in bounded slices. */
void out_writable(struct worker *w, uint32_t slot);

/* Whether anything is still to be sent. */
bool out_lagging(const struct worker *w, uint32_t slot);

/* No message from here on (SLOT_CLOSING): what is begun is finished, then the private
 * frames go, and no other record. Called by client_end() before its Close frame. */
void out_cut(struct worker *w, uint32_t slot);

/* Free all private frames (the connection is being closed). */
void out_drop(struct worker *w, uint32_t slot);

#endif
