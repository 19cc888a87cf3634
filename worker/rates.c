#include <errno.h>
#include <string.h>

#include "worker/limits.h"
#include "worker/rates.h"

static size_t
rates_cap(const struct worker *w, const struct slot *s)
{
	return s->rates == 0 ? 0 : arena_len(w->arena, s->rates) / sizeof(struct rate);
}

/* The rule's bucket, or one that holds nothing any more. */
static struct rate *
rates_find(const struct worker *w, const struct slot *s, uint32_t rule)
{
	struct rate *rates = s->rates == 0 ? NULL : arena_at(w->arena, s->rates);
	struct rate *unused = NULL;
	size_t cap = rates_cap(w, s);

	for (size_t i = 0; i < cap; i++) {
		if (rates[i].rule == rule)
			return &rates[i];
		if (rates[i].rule == 0 || limits_rate_empty(w->tick, rates[i].at))
			unused = &rates[i];
	}
	return unused;
}

/* Twice the room. Returns the first new bucket, or NULL. */
static struct rate *
rates_grow(struct worker *w, struct slot *s)
{
	size_t cap = rates_cap(w, s);
	arena_ref old = s->rates;
	arena_ref ref =
	    arena_alloc(w->arena, (cap == 0 ? 1 : 2 * cap) * sizeof(struct rate));
	struct rate *rates;

	if (ref == 0)
		return NULL;
	rates = arena_at(w->arena, ref);
	memset(rates, 0, arena_len(w->arena, ref));
	if (old != 0)
		memcpy(rates, arena_at(w->arena, old), cap * sizeof(*rates));
	atomic_signal_fence(memory_order_seq_cst); /* whole before it is found */
	s->rates = ref;
	arena_free(w->arena, old);
	return &rates[cap];
}

int
rates_take(struct worker *w, struct slot *s, const struct rule *rule)
{
	/* A reload that moves rules leaves a bucket to another rule, for a second. */
	uint32_t number = (uint32_t)(rule - w->settings->rules) + 1;
	struct rate *rate = rates_find(w, s, number);

	if (rate == NULL)
		rate = rates_grow(w, s);
	if (rate == NULL)
		return -ENOBUFS;
	rate->rule = number;
	return limits_rate(w->tick, &rate->at, limits_cost(rule->rate), rule->rate)
		   ? 0
		   : -EAGAIN;
}

void
rates_drop(struct worker *w, struct slot *s)
{
	arena_ref ref = s->rates;

	s->rates = 0;
	atomic_signal_fence(memory_order_seq_cst); /* unlinked before it is free */
	arena_free(w->arena, ref);
}

int
rates_mark(struct worker *w, struct slot *s)
{
	if (s->rates == 0 || arena_mark(w->arena, s->rates) == 0)
		return 0;
	s->rates = 0;
	return -EINVAL;
}
