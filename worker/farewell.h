/*
 * farewell.h - connections are told to go, one after the other: by a drain, at a stop,
 * and at a planned restart those that no successor can serve (TLS).
 *
 * The time that it may take is divided evenly among those who are left, reckoned anew
 * at each: so it comes out right whoever leaves meanwhile by itself. Of a drain the
 * page holds the time (page_drain()), and a slot says itself whether it was told: a
 * successor goes on in the middle.
 */
#ifndef WSCAST_WORKER_FAREWELL_H
#define WSCAST_WORKER_FAREWELL_H

#include "worker/worker.h"

/* A stop or a restart: tell them over this time. They go before a drain. */
void farewell_begin(struct worker *w, enum farewell_why why, uint64_t over_ms);

/* RING_DRAIN: begin a drain of this worker, with another time, or end it. */
void farewell_record(struct worker *w, const struct ring_desc *desc);

/* All stands: say so (page_set_state()), and go on with a predecessor's drain. */
void farewell_resume(struct worker *w);

/* Tell those whose turn has come, but a slice of them. Returns whether there are more
 * at once. */
bool farewell_turn(struct worker *w);

/* Whether new WebSockets are refused. */
bool farewell_refuses(const struct worker *w);

#endif
