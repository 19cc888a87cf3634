/*
 * timers.h - what a connection's one deadline is for, and what happens then.
 *
 * One of its own, and beside it that of its token (expiry.c): the sooner counts. It
 * lies in the slot, so that a successor has it; the wheel that finds those that are due
 * is private, and made anew.
 */
#ifndef WSCAST_WORKER_TIMERS_H
#define WSCAST_WORKER_TIMERS_H

#include "worker/worker.h"

/* What a slot's deadline is for: in the table, so numbers are never given new meaning.
 */
enum timer {
	TIMER_NONE = 0,
	TIMER_HANDSHAKE = 1,
	TIMER_PING = 2,  /* to be sent */
	TIMER_PONG = 3,  /* to have come */
	TIMER_WRITE = 4, /* lagging: the socket must have taken something */
	TIMER_CLOSE = 5,
};

int timers_new(const struct worker *w, struct timers **ret)
    __attribute__((warn_unused_result));
void timers_free(struct timers *t);

/* w->settings are others. old: those that were, NULL when nobody knows. Deadlines that
 * are under way move. */
void timers_reload(struct worker *w, const struct settings *old);

/* The deadlines that have passed; once in a tick. */
void timers_tick(struct worker *w);

/* Set or move the deadline of a connection; the number of the wheel's ticks that an
 * interval of a setting takes. */
void timer_set(struct worker *w, uint32_t slot, enum timer timer, uint32_t in_ticks);
/* What its token's expiry asks for has changed (expiry.c). */
void timer_renew(struct worker *w, uint32_t slot);
void timer_clear(struct worker *w, uint32_t slot);
uint32_t timer_ticks(uint32_t ms);

/* The connection has opened: its first ping comes at a random time of the interval. */
void timer_opened(struct worker *w, uint32_t slot);

/* It waits for its socket to take something: that has a deadline. */
void timer_lagging(struct worker *w, uint32_t slot);

/* Bytes came from the client: whatever they are, they answer a ping. */
void timer_heard(struct worker *w, uint32_t slot);

/* Adoption: set the slot's deadline again. */
void timer_resume(struct worker *w, uint32_t slot);

#endif
