/*
 * wheel.h - a coarse timer wheel: each number below a bound has at most one deadline.
 *
 * Its owner keeps the deadlines; the wheel knows in which of its buckets a number lies.
 * Setting, moving and clearing are O(1), and a tick costs what is in one bucket.
 *
 * Units    ticks, modulo 2^32; deadlines lie less than 2^31 ticks ahead.
 * Memory   8 bytes a number, touched when first used.
 */
#ifndef WSCAST_WORKER_WHEEL_H
#define WSCAST_WORKER_WHEEL_H

#include <stdint.h>

#define WHEEL_BUCKETS 1024
#define WHEEL_NONE UINT32_MAX

struct wheel_link {
	uint32_t next; /* number + 1 */
	uint32_t prev; /* number + 1, or WHEEL_FIRST | bucket; 0 = in none */
};

struct wheel {
	uint32_t bucket[WHEEL_BUCKETS]; /* first number + 1 */
	struct wheel_link *links;
	uint32_t len;
	uint32_t now; /* tick whose bucket was emptied last */
	uint32_t at;  /* next of the bucket being emptied: number + 1 */
};

/* now: the tick as of now. Returns 0 or -ENOMEM. */
int wheel_init(struct wheel *w, uint32_t len, uint32_t now)
    __attribute__((warn_unused_result));
void wheel_done(struct wheel *w);

/* Set or move a number's deadline; one that has passed comes with the next tick. */
void wheel_set(struct wheel *w, uint32_t number, uint32_t deadline);
void wheel_clear(struct wheel *w, uint32_t number);

/* The deadline of a number that is in the wheel. */
typedef uint32_t (*wheel_deadline_fn)(void *owner, uint32_t number);
/* A deadline has come. The number is out of the wheel; it and any other may be set or
 * cleared from here. */
typedef void (*wheel_due_fn)(void *owner, uint32_t number);

/* Let the time become now, and report what is due by then. */
void wheel_advance(struct wheel *w, uint32_t now, wheel_deadline_fn deadline,
    wheel_due_fn due, void *owner);

#endif
