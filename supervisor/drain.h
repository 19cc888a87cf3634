/*
 * drain.h - workers whose clients are told to go, while new ones are refused.
 *
 * What is asked for is kept with each worker, and outlives its processes; it is told by
 * a RING_DRAIN record, and to a worker that is launched anew by its page.
 */
#ifndef WSCAST_SUPERVISOR_DRAIN_H
#define WSCAST_SUPERVISOR_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

struct supervisor;

#define DRAIN_MAX_MS (24ull * 3600 * 1000)

/*
 * Drain the workers [first, end), or go on with another time from now on.
 *
 * over_ms  over which their clients are told; at most DRAIN_MAX_MS.
 *
 * Returns 0, or -ENOMEM when a worker could not be told.
 */
int drain_begin(struct supervisor *s, unsigned first, unsigned end, uint64_t over_ms)
    __attribute__((warn_unused_result));
/* Those clients who were not told stay, and new ones are let in. */
int drain_end(struct supervisor *s, unsigned first, unsigned end)
    __attribute__((warn_unused_result));

struct drain_look {
	unsigned workers;     /* that are drained; 0 = none, and the rest is 0 */
	uint64_t connections; /* theirs, now */
	uint64_t began_with;  /* ... and when it began */
	uint64_t over_ms;     /* the longest of their times */
	uint64_t left_ms;     /* ... and what is left of it */
};

void drain_look(const struct supervisor *s, struct drain_look *ret);

#endif
