/*
 * revoked.h - the users and tokens that were revoked, each until a time.
 *
 * Part of the ring's map, written by the supervisor alone: it is there before any
 * worker is, and stays when any of them dies. A name is kept as a keyed hash of 128
 * bits, so that all entries are of one size, and nobody can aim at one.
 *
 * Of fixed size: the hash names a set of entries, and one whose time is over is free.
 *
 * Units    times are CLOCK_REALTIME in milliseconds.
 * Order    V1: an entry's hash is stored before `until_ms`, and `until_ms` is cleared
 *          before the hash changes. Only what is over is given to another, so whoever
 *          sees a time to come sees the hash that belongs to it.
 */
#ifndef WSCAST_SHM_REVOKED_H
#define WSCAST_SHM_REVOKED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REVOKED_SETS 4096
#define REVOKED_WAYS 16
#define REVOKED_KEY_LEN 16
#define REVOKED_TEXT_MAX 200 /* bytes of a subject or jti */

enum revoked_kind { REVOKED_USER = 1, REVOKED_JTI = 2 };

struct revoked_id {
	uint64_t hash[2];
};

struct revoked_entry {
	_Atomic uint64_t until_ms; /* 0 = free (V1) */
	_Atomic uint64_t hash[2];
};

struct revoked {
	uint8_t key[REVOKED_KEY_LEN]; /* drawn when the ring is made */
	_Atomic uint64_t live;        /* entries whose time is not over, about */
	uint64_t
	    in_use[REVOKED_SETS / 64]; /* the writer's: a bit for each set that is */
	uint8_t pad[104];
	struct revoked_entry entry[REVOKED_SETS][REVOKED_WAYS];
};

/* Writer: once, on a map of zeros. */
void revoked_init(struct revoked *r);

/* The entry that stands for a user or a token, len bytes of text. Returns false when it
 * is empty or longer than REVOKED_TEXT_MAX: no token holds such. */
bool revoked_id(const struct revoked *r, enum revoked_kind kind, const char *text,
    size_t len, struct revoked_id *ret_id) __attribute__((warn_unused_result));

/* Writer: revoked until then, or longer if it is already. Returns 0, or -ENOSPC when
 * its set is full of those that are not over. */
int revoked_add(struct revoked *r, const struct revoked_id *id, uint64_t until_ms,
    uint64_t now_ms) __attribute__((warn_unused_result));

/* Whether it is revoked now. */
bool revoked_has(const struct revoked *r, const struct revoked_id *id, uint64_t now_ms);

/* Until when it is revoked, 0 if it is not. */
uint64_t revoked_until(const struct revoked *r, const struct revoked_id *id);

/* Writer: free what is over, and count the rest; once in a while. */
void revoked_tick(struct revoked *r, uint64_t now_ms);

/* Entries that are not over, as of the last tick or addition. */
static inline uint64_t
revoked_live(const struct revoked *r)
{
	return atomic_load_explicit(&r->live, memory_order_relaxed);
}

#endif
