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

/* Queue one Pong (a whole frame). It takes the place of one that was queued so, and of
 * which nothing has been sent. Returns as out_private() does. */
int out_pong(struct worker *w, uint32_t slot, const void *buf, size_t len)
    __attribute__((warn_unused_result));

/*
 * Between the two, a connection's private frames are queued and not sent: so that who
 * reads an answer can rely on it, whatever kills us after. Without it an answer is in
 * the client's hands before our send() returns, and SLOT_READING, which closes the
 * connection after a crash, is still set. They nest; out_uncork() takes what out_cork()
 * returned, and sends.
 */
uint32_t out_cork(struct worker *w, uint32_t slot);
void out_uncork(struct worker *w, uint32_t slot, uint32_t before);

/* The socket may take something: send what is due, in bounded slices. */
void out_writable(struct worker *w, uint32_t slot);

/* Whether anything is still to be sent. */
bool out_lagging(const struct worker *w, uint32_t slot);

/* No message from here on (SLOT_CLOSING): what is begun is finished, then the private
 * frames go, and no other record. Called by client_end() before its Close frame. */
void out_cut(struct worker *w, uint32_t slot);

/* Free all private frames (the connection is being closed). */
void out_drop(struct worker *w, uint32_t slot);

/* ---- between out.c and out_private.c ---- */

/* Whether the private frame that comes first has begun: `part` counts its bytes. */
bool out_private_begun(const struct worker *w, const struct slot *s);

/* The first private frame was sent: unlink and free it. */
void out_unlink(struct worker *w, struct slot *s);

/* ---- for fanout.c, requests.c, slow.c and adopt.c ---- */

/* The next record that this connection is to look at. */
uint64_t out_cursor(const struct worker *w, uint32_t slot);

/* What is meant for a connection, step by step. */
struct out_walk {
	uint64_t number;  /* where it stands */
	uint32_t channel; /* of the record that was found */
	bool any_passed;  /* over, since a newer one stands for it (slow = latest) */
};

/* Go on to the first record in [at->number, end) that is meant for this connection, or
 * to end, and return false. lagging: heed where its subscriptions begin, and their
 * policy. */
bool out_next(const struct worker *w, const struct slot *s, uint64_t end, bool lagging,
    struct out_walk *at);

/* From here on `pos` and the subscriptions' `from` count; wait for the socket. The
 * position must have been stored. */
void out_set_lagging(struct worker *w, uint32_t slot);

/* Send a connection that is not lagging the records meant for it in [number, end). */
void out_records(struct worker *w, uint32_t slot, uint64_t number, uint64_t end);

/* A connection that is not lagging was sent a run of whole frames but for the last:
 * `pos` is (cursor, tx), and `part` bytes of the frame at cursor went. */
void out_cut_short(
    struct worker *w, uint32_t slot, uint64_t cursor, uint32_t tx, uint32_t part);

/* Bring the 32 bits of its positions up to date: they are read as those nearest to
 * w->done, so none may become older than 2^31 records. Called often enough by fanout.c;
 * whatever it is killed at, each store alone changes nothing of what they mean. */
void out_renew(struct worker *w, uint32_t slot);

/* Make a frame of the ring that has begun to be sent a private one, so that the
 * connection may move in the ring. Returns 0 or -ENOBUFS. */
int out_detach(struct worker *w, uint32_t slot) __attribute__((warn_unused_result));

/* A send failed for good, or its socket would block: closes, or returns. */
bool out_would_block(struct worker *w, uint32_t slot, int err);

/* Between the two, a crash closes the connection instead of cutting its stream:
 * around changes of the table that no single store can make. They nest. */
static inline uint8_t
slot_surgery_begin(struct slot *s)
{
	uint8_t before = s->flags & SLOT_READING;

	s->flags |= SLOT_READING;
	atomic_signal_fence(memory_order_seq_cst); /* a successor sees program order */
	return before;
}

static inline void
slot_surgery_end(struct slot *s, uint8_t before)
{
	atomic_signal_fence(memory_order_seq_cst);
	s->flags = (uint8_t)((s->flags & ~SLOT_READING) | before);
}

#endif
