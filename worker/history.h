/*
 * history.h - a channel's past: its own records, walked back one by one from the
 * newest, for a client that resumes or asks for the last messages.
 *
 * A walk is done in slices. A short one ends at once; a longer one waits in a row, and
 * goes on a bit in each turn of the loop. Nothing of it is kept in the table but the
 * request itself: a successor walks anew.
 */
#ifndef WSCAST_WORKER_HISTORY_H
#define WSCAST_WORKER_HISTORY_H

#include "worker/worker.h"

/* Records looked at at once / in a turn, for all that wait: some 0.1 ms and 1 ms. */
#define HISTORY_STEPS 1024u
#define HISTORY_STEPS_TURN 16384u

/*
 * first   the oldest record found whose offset is above `until`; `begin` itself when
 *         there is none
 * had     the offset before it: what lies between `until` and that cannot be had
 * last    the newest record found whose offset is at most `upto`; 0 = none
 */
struct walk {
	/* what is wanted */
	uint32_t channel;
	uint64_t until, upto;
	uint64_t low; /* no record below is looked at */
	/* what was found */
	uint64_t first, had, last;
	uint32_t directory;
	uint64_t next;  /* to be looked at; 0 = the walk is over */
	uint64_t start; /* directory_start() when it began: another one voids it */
};

/* Begin with the newest record below `begin`, whose offset is `offset`; what is wanted
 * is set. */
void walk_init(struct worker *w, uint64_t begin, uint64_t offset, struct walk *walk);
/* Go on, for *steps records at most, of which those looked at are taken off. Returns
 * whether it is over. */
bool walk_on(const struct worker *w, struct walk *walk, unsigned *steps);
/* Whether what was found still holds: the ring kept it, and no gap came between. */
bool walk_holds(const struct worker *w, const struct walk *walk);

int history_new(struct worker *w, struct history **ret)
    __attribute__((warn_unused_result));
void history_free(struct history *h);

/* A wait of the slot (struct wait in the table, linked) goes on with this walk; NULL:
 * with one from the beginning. Its channel is held until it ends. Returns 0 or -ENOMEM.
 */
int history_wait(struct worker *w, uint32_t slot, arena_ref wait,
    const struct walk *walk) __attribute__((warn_unused_result));

/* The wait goes, unanswered or not. */
void history_forget(struct worker *w, arena_ref wait);

/* Whoever waits for a walk of this channel is refused. */
void history_refuse(struct worker *w, uint32_t channel, int err);

/* Once a turn: a slice of what waits. Returns whether there is more. */
bool history_turn(struct worker *w);

/*
 * Tell a client the last messages of a channel.
 *
 * walk    over and holding: from `last` back to `first`, as many as HISTORY_BYTES hold.
 * offset  the channel's newest.
 *
 * Returns 0, -ENOMEM, or -EMSGSIZE when the newest alone is too long.
 */
#define HISTORY_BYTES (256u << 10)
int history_answer(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct walk *walk, uint64_t offset) __attribute__((warn_unused_result));

#endif
