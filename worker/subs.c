/* subs.c - see subs.h */
#include <errno.h>
#include <string.h>

#include "worker/channels.h"
#include "worker/presence.h"
#include "worker/subs.h"

/* Index of the first of them that is not below `channel`. */
static unsigned
place_of(const struct sub *sub, unsigned nsubs, uint32_t channel)
{
	unsigned lo = 0, hi = nsubs;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (sub[mid].channel < channel)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct sub *
slot_sub(const struct worker *w, const struct slot *s, uint32_t channel)
{
	struct sub *sub = slot_subs(w, (struct slot *)s);
	unsigned at = place_of(sub, s->nsubs, channel);

	return at < s->nsubs && sub[at].channel == channel ? &sub[at] : NULL;
}

/* Room for one more. Returns 0 or -ENOBUFS. */
static int
grow(struct worker *w, struct slot *s)
{
	unsigned cap = 1u << s->subs_log;
	arena_ref bigger, old = s->subs_log == 0 ? 0 : s->subs;

	if (s->nsubs < cap)
		return 0;
	bigger = arena_alloc(w->arena, (size_t)cap * 2 * sizeof(struct sub));
	if (bigger == 0)
		return -ENOBUFS;
	memcpy(
	    arena_at(w->arena, bigger), slot_subs(w, s), s->nsubs * sizeof(struct sub));
	s->subs = bigger;
	s->subs_log++;
	arena_free(w->arena, old);
	return 0;
}

int
subs_add(struct worker *w, uint32_t slot, uint32_t channel, uint32_t from)
{
	struct slot *s = worker_slot(w, slot);
	struct sub *sub;
	unsigned at;
	int r = grow(w, s);

	if (r == 0)
		r = channels_list(w, channel, slot);
	if (r < 0)
		return -ENOBUFS;
	sub = slot_subs(w, s);
	at = place_of(sub, s->nsubs, channel);
	memmove(sub + at + 1, sub + at, (s->nsubs - at) * sizeof(*sub));
	sub[at] = (struct sub){.channel = channel, .from = from};
	s->nsubs++;
	page_add(w->page, PAGE_subscriptions, 1);
	presence_join(w, slot, channel);
	return 0;
}

void
subs_del(struct worker *w, uint32_t slot, uint32_t channel)
{
	struct slot *s = worker_slot(w, slot);
	struct sub *sub = slot_subs(w, s);
	unsigned at = place_of(sub, s->nsubs, channel);

	presence_leave(w, slot, channel);
	s->nsubs--;
	memmove(sub + at, sub + at + 1, (s->nsubs - at) * sizeof(*sub));
	channels_unlist(w, channel, slot);
	page_add(w->page, PAGE_subscriptions, (uint64_t)-1);
}

void
subs_end(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	const struct sub *sub = slot_subs(w, s);
	arena_ref list = s->subs_log == 0 ? 0 : s->subs;

	for (unsigned i = 0; i < s->nsubs; i++) {
		presence_leave(w, slot, sub[i].channel);
		channels_unlist(w, sub[i].channel, slot);
	}
	page_add(w->page, PAGE_subscriptions, -(uint64_t)s->nsubs);
	s->nsubs = 0;
	s->subs_log = 0;
	arena_free(w->arena, list);
}
