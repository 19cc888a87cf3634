/*
 * places.h - the places of a large array, given out lowest first, so that those in use
 * lie together and the memory of the others can go back to the kernel.
 *
 * The array itself is its owner's: mapped for all places that there can be, it costs
 * what was touched. Free places are counted in runs. Once more than a few runs have
 * fallen free as a whole, the owner is told to give back what he has there; few are
 * kept, so that a run which falls free and is used again in turn costs no system call
 * each time.
 *
 * malloc keeps what was freed between blocks that are in use. So whenever the places in
 * use have fallen to half, it is told to give back whole pages, too: their owners have
 * small blocks for each. That is seldom, however many come and go.
 *
 * Memory   an eighth of a byte for each place that ever was used.
 */
#ifndef WSCAST_SHM_PLACES_H
#define WSCAST_SHM_PLACES_H

#include <stdint.h>

#include "shm/bitset.h"

#define PLACES_NONE UINT32_MAX
/* Whole pages of any item whose size is a multiple of 8 bytes. */
#define PLACES_RUN 512u
#define PLACES_RUNS_KEPT 4u

/* The `n` places from `first` on, whole runs, are free: what they hold may be lost. */
typedef void (*places_return_fn)(void *owner, uint32_t first, uint32_t n);

struct places {
	struct bitset free;  /* of those below `known` */
	struct bitset stale; /* runs that are free, and may have been written to */
	uint64_t *words;     /* of both */
	uint16_t *taken;     /* places of each run that are */
	uint32_t max, known, len, nstale;
	uint32_t count, most; /* taken; ... at one time, since malloc was told */
	places_return_fn on_return;
	void *owner;
};

/* max: 1 at least. Returns 0 or -ENOMEM. */
int places_init(struct places *p, uint32_t max, places_return_fn on_return, void *owner)
    __attribute__((warn_unused_result));
void places_done(struct places *p); /* zeros are fine, too */

/* The lowest free place, taken; PLACES_NONE when there is none. */
uint32_t places_take(struct places *p);
/* Take this one, below max, which is free. */
void places_claim(struct places *p, uint32_t place);
/* It is free again. The last thing to be done about it: on_return() may follow. */
void places_give(struct places *p, uint32_t place);

/* How many are taken. */
static inline uint32_t
places_count(const struct places *p)
{
	return p->count;
}

/* None at or above is taken. */
static inline uint32_t
places_len(const struct places *p)
{
	return p->len;
}

#endif
