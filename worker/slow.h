/*
 * slow.h - what becomes of a connection that cannot follow: its channels' policy.
 */
#ifndef WSCAST_WORKER_SLOW_H
#define WSCAST_WORKER_SLOW_H

#include "worker/worker.h"

/* What is below `floor` is about to leave the retained window: note what that takes
 * from those who lag. Comes before slow_lapped() for each of them. */
void slow_leaving(struct worker *w, uint64_t floor);

/*
 * The connection's cursor is below `floor`, which is about to become the worker's.
 * Closes it, or moves it on (by the policy of its channels, the strictest holding) and
 * says what it misses. In any case it needs nothing below floor afterwards.
 */
void slow_lapped(struct worker *w, uint32_t slot, uint64_t floor);

#endif
