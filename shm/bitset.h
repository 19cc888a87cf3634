/*
 * bitset.h - a set of numbers below a bound, whose lowest member is found in a few
 * steps, however large the bound.
 *
 * Memory   an eighth of a byte for each number, and a sixtieth more, in storage
 *          that the caller provides and clears.
 */
#ifndef WSCAST_SHM_BITSET_H
#define WSCAST_SHM_BITSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITSET_NONE UINT64_MAX
#define BITSET_LEVELS 6 /* 64 to the 6th: numbers of 36 bits */

struct bitset {
	uint64_t *level[BITSET_LEVELS]; /* each says which words below are not zero */
	unsigned nlevels;
};

/* Words of storage for numbers below `bound` (0: none). */
size_t bitset_words(uint64_t bound);
/* words: bitset_words(bound) zeros, borrowed for the set's life. */
void bitset_init(struct bitset *b, uint64_t bound, uint64_t *words);

void bitset_add(struct bitset *b, uint64_t i);
void bitset_remove(struct bitset *b, uint64_t i);
/* The lowest member, or BITSET_NONE. */
uint64_t bitset_first(const struct bitset *b);

static inline bool
bitset_has(const struct bitset *b, uint64_t i)
{
	return b->level[0][i / 64] >> i % 64 & 1;
}

#endif
