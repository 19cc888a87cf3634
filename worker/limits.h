/*
 * limits.h - how much one client, one address and all together may take of a worker.
 *
 * What is held in private memory here (how many connections an address has, how many
 * handshakes there were of late) is counted anew by a successor; a connection's own
 * rates lie in its slot, and stay.
 *
 * Shares   A limit of the host is kept by each worker for itself, since a word that all
 *          of them wrote would make one that was taken over the master of the others.
 *          The kernel spreads connections over workers by chance, so a worker may
 *          take more than the even part: see limits_share().
 */
#ifndef WSCAST_WORKER_LIMITS_H
#define WSCAST_WORKER_LIMITS_H

#include "worker/worker.h"

struct limits;

int limits_new(const struct worker *w, struct limits **ret)
    __attribute__((warn_unused_result));
void limits_free(struct limits *l);
/* w->settings are others. old: those that were. Who is here stays, and is counted. */
void limits_reload(struct worker *w, const struct settings *old);

/*
 * What one of n workers grants of a limit for the host: the even part, and three times
 * its root, which chance exceeds once in several hundred times; never more than the
 * whole, which is what a single worker grants.
 */
uint32_t limits_share(uint32_t limit, unsigned nworkers);

/* Connections for which there are descriptors: some are kept back for the loop, the
 * keeper and its next spare. */
uint32_t limits_descriptors(unsigned nlisteners);

/* Whether there is room for what another connection may have to keep in the arena. */
bool limits_memory(const struct worker *w);

/*
 * Count a connection for its address, an IPv6 one for its network of 64 bits. Proxies
 * that are trusted (server.trusted_proxies) are not counted: who comes by them is, once
 * the request, or their PROXY header, says who it is.
 *
 * Returns whether the address has no more than its limit; counted it is in any case,
 * until limits_leave() is told the same slot with the same address.
 */
bool limits_enter(const struct worker *w, const struct slot *s);
void limits_leave(const struct worker *w, const struct slot *s);

/* Whether one more WebSocket may be opened now (server.max_handshakes_per_second). */
bool limits_handshake(const struct worker *w);

/*
 * Whether the slot's address may try one more handshake now
 * (server.max_handshakes_per_second_per_ip); addresses count as in limits_enter(). So
 * many addresses are remembered that have come of late; among more than fit, those are
 * forgotten first that have come least.
 */
bool limits_knock(const struct worker *w, const struct slot *s);

/*
 * A leaky bucket as one word (GCRA): the time, in 1/64 ms mod 2^32, at which it will be
 * empty again.
 *
 * tick   the wheel's.
 * cost   of one event, in 1/64 ms; 0: nothing is limited.
 * burst  so many fit at once, at least 1.
 *
 * Returns whether one more fits; changes nothing else.
 */
bool limits_rate(uint32_t tick, uint32_t *at, uint32_t cost, uint32_t burst);

/* The same for len bytes, of which `rate` a second are allowed and `burst` (at least 1)
 * at once; more than that at once pass when the bucket is empty. */
bool limits_bytes(
    uint32_t tick, uint32_t *at, uint32_t rate, uint32_t burst, size_t len);

/* Whether such a bucket is empty now. */
bool limits_rate_empty(uint32_t tick, uint32_t at);

/* The cost of one of `rate` events a second. */
#define LIMITS_SECOND 64000u
static inline uint32_t
limits_cost(uint32_t rate)
{
	return LIMITS_SECOND / rate;
}

#endif
