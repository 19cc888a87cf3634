/* drain.c - see drain.h */
#include <errno.h>

#include "proto/journal.h"
#include "supervisor/drain.h"
#include "supervisor/keeper_link.h"

static int
tell(struct keeper_link *k)
{
	struct ring_desc desc = {
	    .type = RING_DRAIN,
	    .channel = RING_NO_CHANNEL,
	    .worker = (uint16_t)k->index,
	    .offset = k->drain.end_ms,
	    .arg = k->drain.begin_ms,
	};

	return publisher_control(&k->all->s->publisher, &desc) == 0 ? -ENOMEM : 0;
}

/* /ready and handshakes of all workers follow at once when no worker is left. */
static void
tell_all(struct supervisor *s)
{
	bool all = true;

	for (unsigned i = 0; i < s->nworkers; i++)
		all = all && s->workers->links[i].drain.end_ms != 0;
	ring_set_draining(s->ring, all || s->stopping);
}

int
drain_begin(struct supervisor *s, unsigned first, unsigned end, uint64_t over_ms)
{
	uint64_t now_ms = supervisor_now_ms();
	int r = 0;

	for (unsigned i = first; i < end; i++) {
		struct keeper_link *k = &s->workers->links[i];

		if (k->drain.end_ms == 0)
			k->drain.began_with = page_get(k->page, PAGE_connections);
		k->drain.begin_ms = now_ms;
		k->drain.end_ms = now_ms + over_ms;
		if (tell(k) < 0)
			r = -ENOMEM;
	}
	tell_all(s);
	log_notice("draining %u of %u workers over %llu ms, on demand", end - first,
	    s->nworkers, (unsigned long long)over_ms);
	return r;
}

int
drain_end(struct supervisor *s, unsigned first, unsigned end)
{
	bool any = false;
	int r = 0;

	for (unsigned i = first; i < end; i++) {
		struct keeper_link *k = &s->workers->links[i];

		if (k->drain.end_ms == 0)
			continue;
		any = true;
		k->drain = (struct keeper_drain){0};
		if (tell(k) < 0)
			r = -ENOMEM;
	}
	tell_all(s);
	if (any)
		log_notice("not draining any more, on demand");
	return r;
}

void
drain_look(const struct supervisor *s, struct drain_look *ret)
{
	uint64_t now_ms = supervisor_now_ms();

	*ret = (struct drain_look){0};
	for (unsigned i = 0; i < s->nworkers; i++) {
		const struct keeper_link *k = &s->workers->links[i];
		uint64_t over_ms = k->drain.end_ms - k->drain.begin_ms, left_ms = 0;

		if (k->drain.end_ms == 0)
			continue;
		if (k->drain.end_ms > now_ms)
			left_ms = k->drain.end_ms - now_ms;
		ret->workers++;
		ret->connections += page_get(k->page, PAGE_connections);
		ret->began_with += k->drain.began_with;
		ret->over_ms = over_ms > ret->over_ms ? over_ms : ret->over_ms;
		ret->left_ms = left_ms > ret->left_ms ? left_ms : ret->left_ms;
	}
}
