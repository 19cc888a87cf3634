/* places.c - see places.h */
#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "shm/places.h"

static uint32_t
runs_of(uint32_t n)
{
	return n / PLACES_RUN + (n % PLACES_RUN != 0);
}

int
places_init(struct places *p, uint32_t max, places_return_fn on_return, void *owner)
{
	const uint32_t nruns = runs_of(max);

	assert(max > 0);
	*p = (struct places){.max = max, .on_return = on_return, .owner = owner};
	/* Large and mostly unused: what is never written costs nothing. */
	p->words = calloc(bitset_words(max) + bitset_words(nruns), sizeof(*p->words));
	p->taken = calloc(nruns, sizeof(*p->taken));
	if (p->words == NULL || p->taken == NULL) {
		places_done(p);
		return -ENOMEM;
	}
	bitset_init(&p->free, max, p->words);
	bitset_init(&p->stale, nruns, p->words + bitset_words(max));
	return 0;
}

void
places_done(struct places *p)
{
	if (p == NULL)
		return;
	free(p->words);
	free(p->taken);
	*p = (struct places){0};
}

/* One more run of places that were never used. */
static void
know_more(struct places *p)
{
	for (uint32_t i = 0; i < PLACES_RUN && p->known < p->max; i++)
		bitset_add(&p->free, p->known++);
}

void
places_claim(struct places *p, uint32_t place)
{
	const uint32_t run = place / PLACES_RUN;

	assert(place < p->max);
	while (p->known <= place)
		know_more(p);
	assert(bitset_has(&p->free, place));
	bitset_remove(&p->free, place);
	p->taken[run]++;
	if (++p->count > p->most)
		p->most = p->count;
	if (place >= p->len)
		p->len = place + 1;
	if (bitset_has(&p->stale, run)) {
		bitset_remove(&p->stale, run);
		p->nstale--;
	}
}

uint32_t
places_take(struct places *p)
{
	uint64_t place = bitset_first(&p->free);

	if (place == BITSET_NONE) {
		if (p->known == p->max)
			return PLACES_NONE;
		place = p->known;
	}
	places_claim(p, (uint32_t)place);
	return (uint32_t)place;
}

static void
return_stale(struct places *p)
{
	const uint32_t nruns = runs_of(p->max);

	while (p->nstale > 0) {
		uint32_t first = (uint32_t)bitset_first(&p->stale), end = first;

		/* At most as many as were added: the bitset's end is not met. */
		for (; p->nstale > 0 && bitset_has(&p->stale, end); end++, p->nstale--)
			bitset_remove(&p->stale, end);
		/* The neighbours, too: a page may lie on both sides of an edge. */
		first -= first > 0 && p->taken[first - 1] == 0;
		end += end < nruns && p->taken[end] == 0;
		first *= PLACES_RUN;
		end = end < nruns ? end * PLACES_RUN : p->max;
		p->on_return(p->owner, first, end - first);
	}
	if (p->count <= p->most / 2) {
		(void)malloc_trim(0); /* whatever it says, it did what can be done */
		p->most = p->count;
	}
}

void
places_give(struct places *p, uint32_t place)
{
	const uint32_t run = place / PLACES_RUN;

	assert(place < p->known && !bitset_has(&p->free, place));
	bitset_add(&p->free, place);
	p->count--;
	if (--p->taken[run] > 0)
		return;
	while (p->len > 0 && p->taken[(p->len - 1) / PLACES_RUN] == 0)
		p->len = (p->len - 1) / PLACES_RUN * PLACES_RUN;
	bitset_add(&p->stale, run);
	if (++p->nstale > PLACES_RUNS_KEPT)
		return_stale(p);
}
