/*
 * expel_tell.h - passing revocations on: to the hosts that are there, and to Redis for
 * those that come later.
 *
 * What Redis does not take is tried again until it does, or until it is over.
 */
#ifndef WSCAST_SUPERVISOR_EXPEL_TELL_H
#define WSCAST_SUPERVISOR_EXPEL_TELL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "supervisor/peers.h"

#define EXPEL_TELL_KEY PEERS_KEY "revoked"

struct revocation;
struct supervisor;

TAILQ_HEAD(untold_list, untold);

struct expel_tell {
	struct untold_list asked; /* Redis has yet to answer */
	struct untold_list later; /* for the next try */
	unsigned n;               /* in both */
	uint64_t tried_ms;
};

void expel_tell_init(struct expel_tell *t);
/* Behind peers_free(): nothing is answered any more. What was not kept is said. */
void expel_tell_done(struct expel_tell *t);

/*
 * Tell all hosts, and have it kept.
 *
 * until_ms  CLOCK_REALTIME; past: it only closes, and is not tried again.
 *
 * Returns 0, or -errno when the hosts that are there could not be told now.
 */
int expel_tell(struct supervisor *s, const struct revocation *rev, uint64_t until_ms)
    __attribute__((warn_unused_result));
/* Have it kept: those that are there know it. */
void expel_keep(struct supervisor *s, const struct revocation *rev, uint64_t until_ms);

/* What waits is tried again: the link is new. */
void expel_tell_again(struct supervisor *s);
/* Once a second. */
void expel_tell_tick(struct supervisor *s);

#endif
