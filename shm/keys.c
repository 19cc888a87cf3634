/* keys.c - see keys.h */
#include <sodium.h>

#include "shm/keys.h"

_Static_assert(KEYS_SALT_LEN == crypto_shorthash_siphashx24_KEYBYTES, "its key");
_Static_assert(
    sizeof(((struct keys_entry *)0)->hash) == crypto_shorthash_siphashx24_BYTES,
    "its hash");
_Static_assert(sizeof(struct keys) == 128, "entries on lines of their own");

static uint32_t
sets_of(uint32_t index_len)
{
	return index_len * 2 / KEYS_WAYS;
}

size_t
keys_len(uint32_t index_len)
{
	return sizeof(struct keys) +
	       (size_t)sets_of(index_len) * KEYS_WAYS * sizeof(struct keys_entry);
}

void
keys_init(struct keys *k)
{
	randombytes_buf(k->salt, sizeof(k->salt));
}

uint64_t *
keys_newest(struct keys *k, uint32_t index_len, uint64_t oldest, uint32_t channel,
    const void *key, size_t len)
{
	struct keys_entry *set, *e;
	uint64_t hash[2];

	(void)crypto_shorthash_siphashx24((unsigned char *)hash, key, len, k->salt);
	set = k->entry[(hash[0] ^ channel) & (sets_of(index_len) - 1)];
	e = set;
	for (unsigned i = 0; i < KEYS_WAYS; i++) {
		if (set[i].hash[0] == hash[0] && set[i].hash[1] == hash[1] &&
		    set[i].channel == channel)
			return &set[i].newest;
		if (set[i].newest < e->newest)
			e = &set[i];
	}
	k->forgotten += e->newest >= oldest;
	*e = (struct keys_entry){.hash = {hash[0], hash[1]}, .channel = channel};
	return &e->newest;
}
