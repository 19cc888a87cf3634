/*
 * expel.h - closing connections on demand: kicked ones, of this host, and those of a
 * user or token that is revoked, of all hosts and for a time.
 *
 * Other hosts hear of a revocation on the Redis channel PREFIX!revoke, and whoever
 * comes later finds it in the sorted set PREFIX{!}revoked (proto/revocation.h).
 */
#ifndef WSCAST_SUPERVISOR_EXPEL_H
#define WSCAST_SUPERVISOR_EXPEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/revoked.h"
#include "shm/ring.h"
#include "supervisor/expel_tell.h"

struct revocation;
struct supervisor;

/* What was asked for: here, by other hosts, by backends. */
struct expel_counts {
	uint64_t kicks, revocations;
	uint64_t full;      /* revocations that there was no room to remember */
	uint64_t malformed; /* what came and was none */
	uint64_t not_kept;  /* revocations that Redis did not keep, and never will */
};

/*
 * Revoke here, and close who has come in with it.
 *
 * until_ms    CLOCK_REALTIME; 0 or past: only close.
 * ret_record  the RING_EXPEL that says so to the workers, if there is one.
 *
 * Returns 0; -EINVAL when no token can hold such a text; -ENOSPC when too many are
 * revoked already (logged): then those here are closed, and could come again; -ENOMEM.
 */
int expel_revoke(struct supervisor *s, const struct revocation *rev, uint64_t until_ms,
    uint64_t *ret_record);

/* Close the connection of this id, or those of this channel (an index of the registry).
 * Returns the record, 0 without memory. */
uint64_t expel_client(struct supervisor *s, uint64_t client);
uint64_t expel_channel(struct supervisor *s, uint32_t channel);

/* What another host, or a backend, published on PREFIX!revoke. */
void expel_told(struct supervisor *s, const char *text, size_t len);
/* The link to Redis is there: learn what was revoked meanwhile. */
void expel_learn(struct supervisor *s);

/* For expel_tell.c: the entry that stands for it among the revoked. Returns false when
 * no token can hold such a text. */
bool expel_id(const struct supervisor *s, const struct revocation *rev,
    struct revoked_id *ret_id) __attribute__((warn_unused_result));

/* Once a second: what is over is forgotten. */
void expel_tick(struct supervisor *s);

#endif
