/*
 * rates.h - how fast a connection publishes to the channels of each rule that has a
 * rate: a bucket for each such rule, in the arena, where a successor finds them.
 *
 * A connection has buckets only while they are not empty: those that have run out make
 * room for the next.
 */
#ifndef WSCAST_WORKER_RATES_H
#define WSCAST_WORKER_RATES_H

#include "worker/worker.h"

/*
 * One more publish under a rule.
 *
 * rule  of w->settings, with a rate.
 *
 * Returns 0, -EAGAIN when it comes too soon, or -ENOBUFS when the arena is full.
 */
int rates_take(struct worker *w, struct slot *s, const struct rule *rule)
    __attribute__((warn_unused_result));
void rates_drop(struct worker *w, struct slot *s); /* none is fine */

/* Adoption: mark them as in use. Returns 0, or -EINVAL when they are damaged: then the
 * slot has none. */
int rates_mark(struct worker *w, struct slot *s) __attribute__((warn_unused_result));

#endif
