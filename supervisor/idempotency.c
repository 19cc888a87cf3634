/* idempotency.c - see idempotency.h */
#include <errno.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/idempotency.h"

#define CELLS (2 * IDEMPOTENCY_WINDOW) /* half full at most */

/* 128 bits of a keyed hash: two ids that meet by chance would cost a message. */
struct cell {
	uint64_t word[2]; /* all zero: free */
};
_Static_assert(sizeof(struct cell) == crypto_shorthash_siphashx24_BYTES, "hash");

struct set {
	struct cell cells[CELLS];
	size_t len;
};

struct idempotency {
	unsigned char key[crypto_shorthash_siphashx24_KEYBYTES];
	struct set sets[2];
	unsigned newer;
};

int
idempotency_new(struct idempotency **ret_ids)
{
	struct idempotency *ids = calloc(1, sizeof(*ids));

	if (ids == NULL || sodium_init() < 0) {
		free(ids);
		return -ENOMEM;
	}
	randombytes_buf(ids->key, sizeof(ids->key));
	*ret_ids = ids;
	return 0;
}

void
idempotency_free(struct idempotency *ids)
{
	free(ids);
}

/* Its cell, or the free one where it belongs. */
static size_t
find(const struct set *set, const struct cell *id)
{
	size_t i = id->word[0] % CELLS;

	while ((set->cells[i].word[0] | set->cells[i].word[1]) != 0 &&
	       memcmp(&set->cells[i], id, sizeof(*id)) != 0)
		i = (i + 1) % CELLS;
	return i;
}

static bool
has(const struct set *set, const struct cell *id)
{
	return memcmp(&set->cells[find(set, id)], id, sizeof(*id)) == 0;
}

/* The id's hash is keyed by that of its channel: ids of two channels never meet. */
static struct cell
hash(const struct idempotency *ids, const char *channel, size_t channel_len,
    const void *id, size_t len)
{
	unsigned char key[crypto_shorthash_siphashx24_KEYBYTES];
	struct cell out;

	(void)crypto_shorthash_siphashx24(
	    key, (const unsigned char *)channel, channel_len, ids->key);
	(void)crypto_shorthash_siphashx24((unsigned char *)&out, id, len, key);
	out.word[1] |= 1; /* never all zero */
	return out;
}
_Static_assert(
    crypto_shorthash_siphashx24_BYTES == crypto_shorthash_siphashx24_KEYBYTES,
    "a hash is a key");

bool
idempotency_has(const struct idempotency *ids, const char *channel, size_t channel_len,
    const void *id, size_t len)
{
	struct cell cell = hash(ids, channel, channel_len, id, len);

	return has(&ids->sets[0], &cell) || has(&ids->sets[1], &cell);
}

void
idempotency_add(struct idempotency *ids, const char *channel, size_t channel_len,
    const void *id, size_t len)
{
	struct cell cell = hash(ids, channel, channel_len, id, len);
	struct set *set = &ids->sets[ids->newer];

	if (has(set, &cell))
		return;
	if (set->len == IDEMPOTENCY_WINDOW) {
		ids->newer ^= 1;
		set = &ids->sets[ids->newer];
		memset(set, 0, sizeof(*set));
	}
	set->cells[find(set, &cell)] = cell;
	set->len++;
}
