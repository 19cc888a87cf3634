/*
 * hashed.h - a hash table of what lies elsewhere: whoever is in it has a link.
 *
 * A hash is the caller's, and keyed (hashed_of()), since names come from strangers.
 */
#ifndef WSCAST_SUPERVISOR_HASHED_H
#define WSCAST_SUPERVISOR_HASHED_H

#include <stddef.h>
#include <stdint.h>

struct hashed_link {
	struct hashed_link *next; /* of the same bucket */
	uint64_t hash;
};

struct hashed { /* all zero is an empty one */
	struct hashed_link **bucket;
	size_t nbuckets, len;
};

/* Of a number and a text, under a key that this process has drawn. */
uint64_t hashed_of(uint64_t number, const void *text, size_t len);

/* Returns 0 or -ENOMEM. */
int hashed_add(struct hashed *h, struct hashed_link *link, uint64_t hash)
    __attribute__((warn_unused_result));
void hashed_del(struct hashed *h, struct hashed_link *link); /* it is in there */
/* The first with this hash / the next one; NULL: none. */
struct hashed_link *hashed_first(const struct hashed *h, uint64_t hash);
struct hashed_link *hashed_next(const struct hashed_link *link);
void hashed_done(struct hashed *h); /* frees no one who is in it */

#endif
