/*
 * slow.h - what becomes of a connection that cannot follow: its channels' policy.
 */
#ifndef WSCAST_WORKER_SLOW_H
#define WSCAST_WORKER_SLOW_H

#include "worker/worker.h"

/*
 * The connection's cursor is below `floor`, which is about to become the worker's.
 * Closes it, or moves it on (by the policy of its channels, the strictest holding) and
 * says what it misses. In any case it needs nothing below floor afterwards.
 */
void slow_lapped(struct worker *w, uint32_t slot, uint64_t floor);

#endif
