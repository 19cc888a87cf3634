/* requests.c - see requests.h */
#include <errno.h>
#include <string.h>

#include "proto/uplink.h"
#include "shm/directory.h"
#include "worker/channels.h"
#include "worker/fanout.h"
#include "worker/out.h"
#include "worker/requests.h"
#include "worker/session.h"

#define WAITS_MAX 256 /* requests of one connection that wait for the supervisor */

/* ---- a connection's subscriptions ---- */

/* Index of the first of the slot's subscriptions that is not below `channel`. */
static unsigned
sub_place(const struct sub *sub, unsigned nsubs, uint32_t channel)
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
	unsigned at = sub_place(sub, s->nsubs, channel);

	return at < s->nsubs && sub[at].channel == channel ? &sub[at] : NULL;
}

/* Room for one more subscription. Returns 0 or -ENOBUFS. */
static int
subs_grow(struct worker *w, struct slot *s)
{
	unsigned cap = s->subs_cap == 0 ? 1 : s->subs_cap;
	arena_ref bigger, old = s->subs_cap == 0 ? 0 : s->subs;

	if (s->nsubs < cap)
		return 0;
	bigger = arena_alloc(w->arena, (size_t)cap * 2 * sizeof(struct sub));
	if (bigger == 0)
		return -ENOBUFS;
	memcpy(
	    arena_at(w->arena, bigger), slot_subs(w, s), s->nsubs * sizeof(struct sub));
	s->subs = bigger;
	s->subs_cap = (uint16_t)(cap * 2);
	arena_free(w->arena, old);
	return 0;
}

static int
sub_add(struct worker *w, uint32_t slot, uint32_t channel, uint32_t from)
{
	struct slot *s = worker_slot(w, slot);
	struct sub *sub;
	unsigned at;
	int r = subs_grow(w, s);

	if (r == 0)
		r = channels_list(w, channel, slot);
	if (r < 0)
		return -ENOBUFS;
	sub = slot_subs(w, s);
	at = sub_place(sub, s->nsubs, channel);
	memmove(sub + at + 1, sub + at, (s->nsubs - at) * sizeof(*sub));
	sub[at] = (struct sub){.channel = channel, .from = from};
	s->nsubs++;
	page_add(w->page, PAGE_subscriptions, 1);
	return 0;
}

static void
sub_del(struct worker *w, uint32_t slot, uint32_t channel)
{
	struct slot *s = worker_slot(w, slot);
	struct sub *sub = slot_subs(w, s);
	unsigned at = sub_place(sub, s->nsubs, channel);

	s->nsubs--;
	memmove(sub + at, sub + at + 1, (s->nsubs - at) * sizeof(*sub));
	channels_unlist(w, channel, slot);
	page_add(w->page, PAGE_subscriptions, (uint64_t)-1);
}

/* ---- subscribing ---- */

/* Where a subscription that is made now begins: behind what this connection and this
 * channel were already passed. */
static uint64_t
begin_of(const struct worker *w, uint32_t slot, uint32_t channel)
{
	uint64_t begin = out_cursor(w, slot);
	uint32_t in_progress;

	if (begin < w->done)
		begin = w->done;
	if (begin == fanout_middle(w, &in_progress) && in_progress == channel)
		begin++;
	return begin;
}

/* How a `since` is met: the first record to send again, and what to say of it. */
static uint64_t
replay_from(const struct worker *w, uint32_t channel, uint64_t begin,
    const struct since *since, struct sub_result *res)
{
	size_t len;
	const char *name = channels_name(w, channel, &len);
	const char *epoch = ring_epoch(w->ring);
	uint64_t floor = fanout_floor(w), first = begin, n, had;

	res->asked_since = true;
	if (since->epoch_len != strlen(epoch) ||
	    memcmp(since->epoch, epoch, since->epoch_len) != 0 ||
	    since->offset > res->offset)
		return begin;
	had = res->offset; /* all above it are sent again */
	if (settings_rule(w->settings, name, len)->history) {
		(void)channels_offset(w, channel, begin, &n);
		while (n >= floor && n != 0 && had > since->offset) {
			uint32_t prev = ring_at(w->ring, n)->prev;

			first = n;
			had = ring_at(w->ring, n)->offset - 1;
			n = prev != 0 ? n - prev : 0;
		}
	}
	res->missed = had > since->offset ? had - since->offset : 0;
	res->recovered = res->missed == 0;
	/* A gap lies between, or a time when nobody here was subscribed. */
	res->missed_known = res->recovered ||
			    since->offset >= directory_start(ring_directory(w->ring),
						 w->table.channels[channel].directory);
	return first;
}

/* The connection goes back to `first`, and what it was passed since is meant for the
 * one subscription only. */
static void
go_back(struct worker *w, uint32_t slot, uint32_t channel, uint64_t first)
{
	struct slot *s = worker_slot(w, slot);
	uint64_t cursor = out_cursor(w, slot);
	struct sub *sub;

	slot_set_pos(s, (uint32_t)cursor, slot_tx(s));
	out_set_lagging(w, slot); /* makes each `from` count */
	sub = slot_subs(w, s);
	for (unsigned i = 0; i < s->nsubs; i++) {
		if (sub[i].channel == channel)
			sub[i].from = (uint32_t)first;
		else if ((int32_t)((uint32_t)cursor - sub[i].from) > 0)
			sub[i].from = (uint32_t)cursor;
	}
	if (first < cursor)
		slot_set_pos(s, (uint32_t)first, slot_tx(s));
}

/* Subscribe to a live channel, or meet a `since` of a subscriber. */
static int
subscribe_live(struct worker *w, uint32_t slot, uint32_t channel,
    const struct since *since, const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	bool again = slot_sub(w, s, channel) != NULL;
	uint64_t begin = begin_of(w, slot, channel), first = begin, newest;
	struct sub_result res = {0};
	uint32_t corked;
	uint8_t before;
	int r;

	res.channel = channels_name(w, channel, &res.len);
	res.offset = channels_offset(w, channel, begin, &newest);
	if (since != NULL)
		first = replay_from(w, channel, begin, since, &res);
	/* What is cut is found again by the subscriptions, which are about to move. */
	r = out_detach(w, slot);
	if (r < 0)
		return r;
	corked = out_cork(w, slot);
	before = slot_surgery_begin(s);
	if (!again) {
		r = sub_add(w, slot, channel, (uint32_t)begin);
		if (r == 0 && !(s->flags & SLOT_LAGGING))
			slot_set_pos(s, (uint32_t)begin, slot_tx(s));
	}
	if (r == 0 && first < begin) {
		go_back(w, slot, channel, first);
		w->place = first;
	}
	if (r == 0)
		session_subscribed(w, slot, id, id_len, &res);
	w->place = 0;
	slot_surgery_end(s, before);
	out_uncork(w, slot, corked);
	return r;
}

/* ---- requests that wait ---- */

/* Append a wait to the slot. Returns it, or NULL: too many, or no room. */
static struct wait *
wait_add(struct worker *w, struct slot *s, enum wait_kind kind, const char *id,
    size_t id_len)
{
	arena_ref *at = &s->wait, ref;
	struct wait *wait;

	for (int n = 0; *at != 0; n++) {
		if (n == WAITS_MAX)
			return NULL;
		at = &((struct wait *)arena_at(w->arena, *at))->next;
	}
	ref = arena_alloc(w->arena, sizeof(*wait) + id_len);
	if (ref == 0)
		return NULL;
	wait = arena_at(w->arena, ref);
	*wait = (struct wait){.kind = (uint8_t)kind, .id_len = (uint16_t)id_len};
	if (id_len > 0) /* without one, id may be NULL */
		memcpy(wait->id, id, id_len);
	atomic_signal_fence(memory_order_seq_cst); /* whole before it is linked */
	*at = ref;
	return wait;
}

static void
wait_unlink(struct worker *w, arena_ref *at)
{
	arena_ref ref = *at;

	*at = ((struct wait *)arena_at(w->arena, ref))->next;
	atomic_signal_fence(memory_order_seq_cst); /* unlinked before it is free */
	arena_free(w->arena, ref);
}

static bool
waits_for(const struct worker *w, const struct slot *s, uint32_t channel)
{
	for (arena_ref ref = s->wait; ref != 0;) {
		const struct wait *wait = arena_at(w->arena, ref);

		if (wait->kind == WAIT_SUBSCRIBE && wait->channel == channel)
			return true;
		ref = wait->next;
	}
	return false;
}

static unsigned
waiting_subscribes(const struct worker *w, const struct slot *s)
{
	unsigned n = 0;

	for (arena_ref ref = s->wait; ref != 0;) {
		const struct wait *wait = arena_at(w->arena, ref);

		n += wait->kind == WAIT_SUBSCRIBE;
		ref = wait->next;
	}
	return n;
}

static int
subscribe_later(struct worker *w, uint32_t slot, uint32_t channel,
    const struct since *since, const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	struct wait *wait = wait_add(w, s, WAIT_SUBSCRIBE, id, id_len);

	if (wait == NULL)
		return -ENOBUFS;
	wait->channel = channel;
	if (since != NULL) {
		size_t len = since->epoch_len;

		if (len >= sizeof(wait->since_epoch))
			len = sizeof(wait->since_epoch) - 1;
		memcpy(wait->since_epoch, since->epoch, len);
		wait->since_offset = since->offset;
		wait->has_since = 1;
	}
	return channels_list(w, channel, slot) < 0 ? -ENOBUFS : 0;
}

int
requests_subscribe(struct worker *w, uint32_t slot, const char *name, size_t len,
    const struct since *since, const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t channel = namemap_get(&w->channels->names, name, len);
	bool held = channel != NAMEMAP_NONE &&
		    (slot_sub(w, s, channel) != NULL || waits_for(w, s, channel));

	if (!held && s->nsubs + waiting_subscribes(w, s) >=
			 w->settings->channels_per_connection) {
		page_add(w->page, PAGE_limited_channels, 1);
		return -EMFILE;
	}
	if (channel == NAMEMAP_NONE)
		channel = channels_take(w, name, len);
	if (channel == CHANNEL_NONE)
		return -ENOBUFS;
	if (channel_state(&w->table.channels[channel]) == CHANNEL_LIVE)
		return subscribe_live(w, slot, channel, since, id, id_len);
	return subscribe_later(w, slot, channel, since, id, id_len);
}

/* Answer the slot's requests for a channel: it is live now, or err says why not. */
static void
answer_waits(struct worker *w, uint32_t slot, uint32_t channel, int err)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t corked = out_cork(w, slot);
	arena_ref *at = &s->wait;

	while (*at != 0) {
		struct wait *wait = arena_at(w->arena, *at);
		struct since since = {
		    wait->since_epoch, strlen(wait->since_epoch), wait->since_offset};
		char id[UINT8_MAX];
		size_t id_len = wait->id_len < sizeof(id) ? wait->id_len : sizeof(id);
		uint8_t before;
		int r = err;

		if (wait->kind != WAIT_SUBSCRIBE || wait->channel != channel) {
			at = &wait->next;
			continue;
		}
		memcpy(id, wait->id, id_len);
		before = slot_surgery_begin(s);
		wait_unlink(w, at);
		if (r == 0)
			r = subscribe_live(w, slot, channel,
			    wait->has_since ? &since : NULL, id, id_len);
		if (r < 0) {
			size_t len;
			const char *name = channels_name(w, channel, &len);

			session_refused(w, slot, id, id_len, name, len, r);
		}
		slot_surgery_end(s, before);
		at = &s->wait; /* an answer may have closed it, and freed the list */
	}
	out_uncork(w, slot, corked);
}

void
requests_answer(struct worker *w, uint32_t channel, int err)
{
	struct chan *ch = &w->channels->chan[channel];

	for (uint32_t i = ch->nslots; i-- > 0;) {
		uint32_t slot;

		if (i >= ch->nslots) /* an answer closed some of them */
			continue;
		slot = ch->slots[i];
		answer_waits(w, slot, channel, err);
		if (slot_sub(w, worker_slot(w, slot), channel) == NULL)
			channels_unlist(w, channel, slot);
	}
}

int
requests_unsubscribe(struct worker *w, uint32_t slot, const char *name, size_t len)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t channel = namemap_get(&w->channels->names, name, len);
	uint8_t before;
	int r;

	if (channel == NAMEMAP_NONE)
		return -ENOENT;
	if (slot_sub(w, s, channel) == NULL) {
		if (!waits_for(w, s, channel))
			return -ENOENT;
		answer_waits(w, slot, channel, -ECANCELED);
		channels_unlist(w, channel, slot);
		return 0;
	}
	r = out_detach(w, slot);
	if (r < 0)
		return r;
	before = slot_surgery_begin(s);
	sub_del(w, slot, channel);
	slot_surgery_end(s, before);
	return 0;
}

void
requests_leave(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	const struct sub *sub = slot_subs(w, s);
	uint8_t before = slot_surgery_begin(s);
	arena_ref subs = s->subs_cap == 0 ? 0 : s->subs;

	while (s->wait != 0) {
		const struct wait *wait = arena_at(w->arena, s->wait);

		if (wait->kind == WAIT_SUBSCRIBE)
			channels_unlist(w, wait->channel, slot);
		wait_unlink(w, &s->wait);
	}
	for (unsigned i = 0; i < s->nsubs; i++)
		channels_unlist(w, sub[i].channel, slot);
	page_add(w->page, PAGE_subscriptions, -(uint64_t)s->nsubs);
	s->nsubs = 0;
	s->subs_cap = 0;
	arena_free(w->arena, subs);
	slot_surgery_end(s, before);
}

/* ---- publishing ---- */

/* Unique over the lives of all serving processes of this table. */
static uint32_t
next_cookie(struct worker *w)
{
	_Atomic uint32_t *last = &w->table.header->cookie;
	uint32_t cookie = atomic_load_explicit(last, memory_order_relaxed) + 1;

	atomic_store_explicit(last, cookie, memory_order_relaxed);
	return cookie;
}

int
requests_publish(struct worker *w, uint32_t slot, const char *name, size_t len,
    const void *data, size_t data_len, const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	struct uplink u = {.type = UPLINK_PUBLISH,
	    .slot = slot,
	    .channel = name,
	    .channel_len = len,
	    .data = data,
	    .data_len = data_len};
	struct wait *wait;
	arena_ref *at;
	int r;

	wait = wait_add(w, s, WAIT_PUBLISH, id, id_len);
	if (wait == NULL)
		return -ENOBUFS;
	wait->cookie = u.cookie = next_cookie(w);
	r = channels_ask(w, &u);
	if (r < 0) {
		for (at = &s->wait; arena_at(w->arena, *at) != wait;)
			at = &((struct wait *)arena_at(w->arena, *at))->next;
		wait_unlink(w, at);
		return r;
	}
	page_add(w->page, PAGE_published, 1);
	return 0;
}

void
requests_ack(struct worker *w, const struct ring_desc *desc)
{
	struct slot *s;
	arena_ref *at;

	if (desc->channel >= w->table.header->nslots)
		return;
	s = worker_slot(w, desc->channel);
	for (at = &s->wait; *at != 0;) {
		struct wait *wait = arena_at(w->arena, *at);
		char id[UINT8_MAX];
		size_t id_len = wait->id_len < sizeof(id) ? wait->id_len : sizeof(id);
		uint32_t corked;
		uint8_t before;

		if (wait->kind != WAIT_PUBLISH || wait->cookie != desc->offset) {
			at = &wait->next;
			continue;
		}
		memcpy(id, wait->id, id_len);
		corked = out_cork(w, desc->channel);
		before = slot_surgery_begin(s);
		wait_unlink(w, at);
		session_published(w, desc->channel, id, id_len, -(int)desc->arg);
		slot_surgery_end(s, before);
		out_uncork(w, desc->channel, corked);
		return;
	}
}
