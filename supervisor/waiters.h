/*
 * waiters.h - the workers that wait for the feed's answer about one channel, each with
 * the token that the answer is to carry.
 */
#ifndef WSCAST_SUPERVISOR_WAITERS_H
#define WSCAST_SUPERVISOR_WAITERS_H

#include <stdbool.h>
#include <stdint.h>

struct waiter {
	uint64_t token;
	unsigned worker;
};

struct waiters { /* all zero: nobody */
	struct waiting *first;
};

/* A worker that waits already is taken to have forgotten its token. Returns 0 or
 * -ENOMEM. */
int waiters_add(struct waiters *w, const struct waiter *waiter)
    __attribute__((warn_unused_result));
void waiters_del(struct waiters *w, unsigned worker);
/* Take one out; false: there is none. */
bool waiters_pop(struct waiters *w, struct waiter *ret_waiter);
void waiters_done(struct waiters *w);

#endif
