/* hashed.c - see hashed.h */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "supervisor/hashed.h"

#define BUCKETS_MIN 64

uint64_t
hashed_of(uint64_t number, const void *text, size_t len)
{
	static unsigned char key[crypto_shorthash_KEYBYTES];
	static int drawn;
	uint64_t of_text = 0, hash;

	if (!drawn)
		crypto_shorthash_keygen(key);
	drawn = 1;
	if (len > 0)
		(void)crypto_shorthash((unsigned char *)&of_text, text, len, key);
	number ^= of_text;
	(void)crypto_shorthash((unsigned char *)&hash, (const unsigned char *)&number,
	    sizeof(number), key);
	return hash;
}

static struct hashed_link **
bucket_of(const struct hashed *h, uint64_t hash)
{
	return &h->bucket[hash & (h->nbuckets - 1)];
}

static int
grow(struct hashed *h)
{
	size_t n = h->nbuckets == 0 ? BUCKETS_MIN : 2 * h->nbuckets;
	struct hashed old = *h;
	struct hashed_link **bucket = calloc(n, sizeof(struct hashed_link *));

	if (bucket == NULL)
		return -ENOMEM;
	h->bucket = bucket;
	h->nbuckets = n;
	for (size_t i = 0; i < old.nbuckets; i++) {
		struct hashed_link *link = old.bucket[i], *next;

		for (; link != NULL; link = next) {
			struct hashed_link **at = bucket_of(h, link->hash);

			next = link->next;
			link->next = *at;
			*at = link;
		}
	}
	free(old.bucket);
	return 0;
}

int
hashed_add(struct hashed *h, struct hashed_link *link, uint64_t hash)
{
	struct hashed_link **at;

	/* One that cannot grow is slower, and whole. */
	if (h->len >= h->nbuckets && grow(h) < 0 && h->nbuckets == 0)
		return -ENOMEM;
	at = bucket_of(h, hash);
	link->hash = hash;
	link->next = *at;
	*at = link;
	h->len++;
	return 0;
}

void
hashed_del(struct hashed *h, struct hashed_link *link)
{
	struct hashed_link **at = bucket_of(h, link->hash);

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	h->len--;
}

static struct hashed_link *
same(struct hashed_link *link, uint64_t hash)
{
	while (link != NULL && link->hash != hash)
		link = link->next;
	return link;
}

struct hashed_link *
hashed_first(const struct hashed *h, uint64_t hash)
{
	return h->nbuckets == 0 ? NULL : same(*bucket_of(h, hash), hash);
}

struct hashed_link *
hashed_next(const struct hashed_link *link)
{
	return same(link->next, link->hash);
}

void
hashed_done(struct hashed *h)
{
	free(h->bucket);
	*h = (struct hashed){0};
}
