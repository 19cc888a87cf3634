/*
 * fanout.h - records of the ring, in their order, to the sockets of this worker's
 * subscribers: straight from the ring, one send for each socket and all that is there.
 *
 * A turn is a bounded slice: between two of them the loop serves its sockets, and what
 * is published meanwhile joins the sends of the next.
 */
#ifndef WSCAST_WORKER_FANOUT_H
#define WSCAST_WORKER_FANOUT_H

#include "proto/dialect.h"
#include "worker/uring.h"
#include "worker/worker.h"

enum fanout_turn {
	FANOUT_MORE, /* records wait: call again after the sockets had their turn */
	FANOUT_IDLE, /* all is read, and the page says that we sleep: await the bell */
};

/* w->done is as the page has it; it is set right if that cannot be. */
int fanout_new(struct worker *w, struct fanout **ret)
    __attribute__((warn_unused_result));
void fanout_free(struct fanout *f);

enum fanout_turn fanout_turn(struct worker *w);

/* Nothing at or behind this record may be sent yet: the head, or a record that must be
 * handled in its place first. Read again just before each send. */
uint64_t fanout_limit(struct worker *w);

/* The oldest record that may still be looked at, as the page says. */
uint64_t fanout_floor(const struct worker *w);

/* A connection began to lag: it is watched for falling out of the retained window. */
void fanout_lagging(struct worker *w, uint32_t slot);

/* For tests: see gather_set_few(). */
void fanout_set_few(struct worker *w, unsigned few);

/* Make the sends that are queued in w->uring, as uring_submit() does; when that fails
 * the process ends, and a successor asks the kernel what was sent. */
void fanout_submit(struct worker *w, uring_result_fn on_result, void *owner);

/* Whether a record's frame is meant for the subscribers of its channel who have this
 * dialect / for this one, if it is subscribed. */
static inline bool
fanout_goes_in(const struct ring_desc *desc, enum dialect d)
{
	return desc->type == RING_MESSAGE ||
	       (desc->type == RING_PUSH && dialect_plain(d) == DIALECT_V1);
}

static inline bool
fanout_goes_to(const struct ring_desc *desc, const struct slot *s)
{
	return fanout_goes_in(desc, (enum dialect)s->dialect);
}

/* The record that is being passed on and the channel that it belongs to, when a turn
 * ended in the middle of it; 0 otherwise. */
uint64_t fanout_middle(const struct worker *w, uint32_t *ret_channel);

#endif
