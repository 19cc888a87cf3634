/* bitset.c - see bitset.h */
#include <assert.h>

#include "shm/bitset.h"

static uint64_t
words_for(uint64_t nbits)
{
	return (nbits + 63) / 64;
}

size_t
bitset_words(uint64_t bound)
{
	size_t total = 0;

	while (bound > 1) {
		bound = words_for(bound);
		total += bound;
	}
	return total + (bound == 1 && total == 0 ? 1 : 0);
}

void
bitset_init(struct bitset *b, uint64_t bound, uint64_t *words)
{
	b->nlevels = 0;
	if (bound == 0)
		return;
	do {
		assert(b->nlevels < BITSET_LEVELS);
		bound = words_for(bound);
		b->level[b->nlevels++] = words;
		words += bound;
	} while (bound > 1);
}

void
bitset_add(struct bitset *b, uint64_t i)
{
	for (unsigned l = 0; l < b->nlevels; l++, i /= 64) {
		uint64_t *word = &b->level[l][i / 64];
		bool known = *word != 0; /* to all levels above */

		*word |= 1ull << i % 64;
		if (known)
			return;
	}
}

void
bitset_remove(struct bitset *b, uint64_t i)
{
	for (unsigned l = 0; l < b->nlevels; l++, i /= 64) {
		uint64_t *word = &b->level[l][i / 64];

		*word &= ~(1ull << i % 64);
		if (*word != 0)
			return;
	}
}

uint64_t
bitset_first(const struct bitset *b)
{
	uint64_t i = 0;

	if (b->nlevels == 0 || b->level[b->nlevels - 1][0] == 0)
		return BITSET_NONE;
	for (unsigned l = b->nlevels; l-- > 0;)
		i = i * 64 + (unsigned)__builtin_ctzll(b->level[l][i]);
	return i;
}
