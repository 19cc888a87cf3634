/* revoked.c - see revoked.h */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "shm/revoked.h"

_Static_assert(REVOKED_KEY_LEN == crypto_shorthash_siphashx24_KEYBYTES, "its key");
_Static_assert(
    sizeof(struct revoked_id) == crypto_shorthash_siphashx24_BYTES, "its hash");

void
revoked_init(struct revoked *r)
{
	randombytes_buf(r->key, sizeof(r->key));
}

bool
revoked_id(const struct revoked *r, enum revoked_kind kind, const char *text,
    size_t len, struct revoked_id *ret_id)
{
	unsigned char name[1 + REVOKED_TEXT_MAX];

	if (len == 0 || len > REVOKED_TEXT_MAX)
		return false;
	name[0] = (unsigned char)kind;
	memcpy(name + 1, text, len);
	(void)crypto_shorthash_siphashx24(
	    (unsigned char *)ret_id->hash, name, 1 + len, r->key);
	return true;
}

static uint64_t
until_of(const struct revoked_entry *e)
{
	return atomic_load_explicit(&e->until_ms, memory_order_acquire); /* V1 */
}

static bool
is_of(const struct revoked_entry *e, const struct revoked_id *id)
{
	return atomic_load_explicit(&e->hash[0], memory_order_relaxed) == id->hash[0] &&
	       atomic_load_explicit(&e->hash[1], memory_order_relaxed) == id->hash[1];
}

uint64_t
revoked_until(const struct revoked *r, const struct revoked_id *id)
{
	const struct revoked_entry *set = r->entry[id->hash[0] % REVOKED_SETS];
	uint64_t longest = 0;

	for (unsigned i = 0; i < REVOKED_WAYS; i++) {
		uint64_t until = until_of(&set[i]);

		if (until > longest && is_of(&set[i], id))
			longest = until;
	}
	return longest;
}

bool
revoked_has(const struct revoked *r, const struct revoked_id *id, uint64_t now_ms)
{
	return revoked_until(r, id) > now_ms;
}

static void
count(struct revoked *r, uint64_t live)
{
	atomic_store_explicit(&r->live, live, memory_order_relaxed);
}

int
revoked_add(
    struct revoked *r, const struct revoked_id *id, uint64_t until_ms, uint64_t now_ms)
{
	uint32_t idx = (uint32_t)(id->hash[0] % REVOKED_SETS);
	struct revoked_entry *set = r->entry[idx], *free_one = NULL;

	for (unsigned i = 0; i < REVOKED_WAYS; i++) {
		uint64_t until = until_of(&set[i]);

		if (until <= now_ms) {
			free_one = &set[i];
		} else if (is_of(&set[i], id)) {
			if (until < until_ms)
				atomic_store_explicit(
				    &set[i].until_ms, until_ms, memory_order_release);
			return 0;
		}
	}
	if (until_ms <= now_ms)
		return 0;
	if (free_one == NULL)
		return -ENOSPC;
	atomic_store_explicit(&free_one->until_ms, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release); /* V1: before the hash changes */
	for (unsigned i = 0; i < 2; i++)
		atomic_store_explicit(
		    &free_one->hash[i], id->hash[i], memory_order_relaxed);
	atomic_store_explicit(
	    &free_one->until_ms, until_ms, memory_order_release); /* V1 */
	r->in_use[idx / 64] |= 1ull << idx % 64;
	count(r, revoked_live(r) + 1);
	return 0;
}

/* Returns how many entries of a set are not over. */
static unsigned
tick_set(struct revoked_entry *set, uint64_t now_ms)
{
	unsigned live = 0;

	for (unsigned i = 0; i < REVOKED_WAYS; i++) {
		if (until_of(&set[i]) > now_ms)
			live++;
		else
			atomic_store_explicit(
			    &set[i].until_ms, 0, memory_order_relaxed);
	}
	return live;
}

void
revoked_tick(struct revoked *r, uint64_t now_ms)
{
	uint64_t live = 0;

	if (revoked_live(r) == 0)
		return;
	for (uint32_t idx = 0; idx < REVOKED_SETS; idx++) {
		unsigned n;

		/* What was never used is no memory yet. */
		if (!(r->in_use[idx / 64] & 1ull << idx % 64))
			continue;
		n = tick_set(r->entry[idx], now_ms);
		if (n == 0)
			r->in_use[idx / 64] &= ~(1ull << idx % 64);
		live += n;
	}
	count(r, live);
}
