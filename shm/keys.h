/*
 * keys.h - the newest record of each key of each channel.
 *
 * A message may be published with a key: for a connection that cannot follow, a newer
 * message of the same key may then stand for it (slow = latest). The table is part of
 * the ring's map, so that it is there after the writer's exec as it was; nobody but the
 * writer looks into it. What readers need to know is in the descriptors: `newer`.
 *
 * Of fixed size, twice as many entries as there are records: a key is named by a keyed
 * hash of 128 bits, and the hash names a set of entries. Where a set is full the oldest
 * goes. Nearly always its record has left the ring; else that record is never marked as
 * superseded: who lags gets it besides the newer one, and nothing is lost. Two keys of
 * one hash would stand for each other; who does not know the salt cannot look for such.
 * (A worker may read it, and gains nothing: it may publish with any key anyway.)
 *
 * Units    numbers are those of records, as in ring.h.
 * Process  the ring's writer alone.
 */
#ifndef WSCAST_SHM_KEYS_H
#define WSCAST_SHM_KEYS_H

#include <stddef.h>
#include <stdint.h>

#define KEYS_WAYS 4
#define KEYS_SALT_LEN 16

struct keys_entry {
	uint64_t hash[2];
	uint64_t newest; /* record; 0 = free */
	uint32_t channel;
	uint32_t spare;
};

struct keys {
	uint8_t salt[KEYS_SALT_LEN]; /* drawn when the ring is made */
	uint64_t forgotten;          /* keys that gave way to others too early */
	uint8_t pad[104];
	struct keys_entry entry[][KEYS_WAYS];
};

/* Bytes of a table for a ring of so many descriptors, a power of two. */
size_t keys_len(uint32_t index_len);

/* Once, on a map of zeros. */
void keys_init(struct keys *k);

/*
 * The newest record of a key, to be set by the caller; 0 when none is known.
 *
 * index_len  as in keys_len().
 * oldest     the ring's: what lies below has gone.
 * key        len bytes, 1 at least.
 *
 * Points into the table, until the next call.
 */
uint64_t *keys_newest(struct keys *k, uint32_t index_len, uint64_t oldest,
    uint32_t channel, const void *key, size_t len);

#endif
