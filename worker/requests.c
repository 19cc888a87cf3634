/* requests.c - see requests.h */
#include <errno.h>
#include <string.h>

#include "proto/dialect.h"
#include "proto/frame.h"
#include "proto/uplink.h"
#include "shm/directory.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/history.h"
#include "worker/out.h"
#include "worker/requests.h"
#include "worker/session.h"

#define WAITS_MAX 256 /* requests of one connection that wait for the supervisor */

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

/* Whether what a subscriber says it has had is a place in our count, at or before the
 * channel's `offset`. */
static bool
since_known(const struct worker *w, const struct wait *request, uint64_t offset)
{
	return request->has_since &&
	       strcmp(request->since_epoch, ring_epoch(w->ring)) == 0 &&
	       request->since_offset <= offset;
}

/* Above which offset a subscriber is sent again what lies in the ring. */
static uint64_t
replay_until(
    struct worker *w, uint32_t slot, const struct wait *request, uint64_t offset)
{
	const struct slot *s = worker_slot(w, slot);
	uint64_t until = offset;
	size_t len;
	const char *name = channels_name(w, request->channel, &len);
	const struct rule *rule = settings_rule(w->settings, name, len);

	if (since_known(w, request, offset) && rule->history)
		until = request->since_offset;
	else if (rule->cache && slot_sub(w, s, request->channel) == NULL)
		until = offset > 0 ? offset - 1 : 0;
	return until;
}

void
requests_walk(
    struct worker *w, uint32_t slot, const struct wait *request, struct walk *ret_walk)
{
	uint64_t begin = begin_of(w, slot, request->channel), newest;
	uint64_t offset = channels_offset(w, request->channel, begin, &newest);
	struct walk walk = {.channel = request->channel, .upto = UINT64_MAX};

	if (request->kind == WAIT_SUBSCRIBE) {
		walk.until = replay_until(w, slot, request, offset);
	} else {
		if (request->since_offset != 0)
			walk.upto = request->since_offset - 1;
		walk.until = walk.upto < offset ? walk.upto : offset;
		walk.until -=
		    walk.until < request->cookie ? walk.until : request->cookie;
	}
	walk_init(w, begin, offset, &walk);
	*ret_walk = walk;
}

/* What is said of a `since`, now that it is known from where on all is sent again. */
static void
tell_recovered(const struct worker *w, const struct wait *request, uint64_t had,
    struct sub_result *res)
{
	uint32_t directory = w->table.channels[request->channel].directory;
	uint64_t since = request->since_offset;

	res->asked_since = request->has_since;
	if (!since_known(w, request, res->offset))
		return;
	res->missed = had > since ? had - since : 0;
	res->recovered = res->missed == 0;
	/* A gap lies between, or a time when nobody here was subscribed. */
	res->missed_known =
	    res->recovered ||
	    since >= directory_start(ring_directory(w->ring), directory);
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

/* Subscribe to a live channel, or meet a `since` of a subscriber. The walk is over. */
static int
subscribe_live(struct worker *w, uint32_t slot, const struct wait *request,
    const struct walk *walk, const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t channel = request->channel, corked;
	bool again = slot_sub(w, s, channel) != NULL;
	uint64_t begin = begin_of(w, slot, channel), newest;
	struct sub_result res = {0};
	uint8_t before;
	int r;

	res.channel = channels_name(w, channel, &res.len);
	res.offset = channels_offset(w, channel, begin, &newest);
	tell_recovered(w, request, walk->had, &res);
	/* What is cut is found again by the subscriptions, which are about to move. */
	r = out_detach(w, slot);
	if (r < 0)
		return r;
	corked = out_cork(w, slot);
	before = slot_surgery_begin(s);
	if (!again) {
		r = subs_add(w, slot, channel, (uint32_t)begin);
		if (r == 0 && !(s->flags & SLOT_LAGGING))
			slot_set_pos(s, (uint32_t)begin, slot_tx(s));
	}
	if (r == 0 && walk->first < begin) {
		go_back(w, slot, channel, walk->first);
		if (request->has_since)
			s->marks |= SLOT_REPLAY;
		w->place = walk->first;
	}
	if (r == 0)
		session_subscribed(w, slot, id, id_len, &res);
	w->place = 0;
	slot_surgery_end(s, before);
	out_uncork(w, slot, corked);
	return r;
}

/* Answer a request whose walk is over. Returns 0 or why it cannot be done. */
static int
answer_walked(struct worker *w, uint32_t slot, const struct wait *request,
    const struct walk *walk, const char *id, size_t id_len)
{
	const struct slot *s = worker_slot(w, slot);
	uint64_t newest;

	if (request->kind == WAIT_SUBSCRIBE)
		return subscribe_live(w, slot, request, walk, id, id_len);
	if (s->out_bytes > OUT_PRIVATE_MAX / 2)
		return -ENOBUFS; /* who does not read the last answer gets no other */
	return history_answer(w, slot, id, id_len, walk,
	    channels_offset(
		w, request->channel, begin_of(w, slot, request->channel), &newest));
}

/* ---- requests that wait ---- */

/* Append a request to those of the slot. Returns where it lies, or 0: too many, or no
 * room. */
static arena_ref
wait_add(struct worker *w, struct slot *s, const struct wait *request, const char *id,
    size_t id_len)
{
	arena_ref *at = &s->wait, ref;
	struct wait *wait;

	for (int n = 0; *at != 0; n++) {
		if (n == WAITS_MAX)
			return 0;
		at = &((struct wait *)arena_at(w->arena, *at))->next;
	}
	ref = arena_alloc(w->arena, sizeof(*wait) + id_len);
	if (ref == 0)
		return 0;
	wait = arena_at(w->arena, ref);
	*wait = *request;
	wait->next = 0;
	wait->walks = 0;
	wait->id_len = (uint16_t)id_len;
	if (id_len > 0) /* without one, id may be NULL */
		memcpy(wait->id, id, id_len);
	atomic_signal_fence(memory_order_seq_cst); /* whole before it is linked */
	*at = ref;
	return ref;
}

static void
wait_unlink(struct worker *w, arena_ref *at)
{
	arena_ref ref = *at;

	const struct wait *wait = arena_at(w->arena, ref);

	if (wait->walks)
		history_forget(w, ref);
	*at = wait->next;
	atomic_signal_fence(memory_order_seq_cst); /* unlinked before it is free */
	arena_free(w->arena, ref);
}

/* Which waits for a channel are meant. */
enum waits_meant {
	WAITS_LISTED,     /* those that wait to hear that it is live */
	WAITS_SUBSCRIBES, /* those to subscribe, whatever they wait for */
	WAITS_HISTORIES,  /* those for its past, likewise */
};

static bool
wait_matches(const struct wait *wait, uint32_t channel, enum waits_meant meant)
{
	if (wait_is_asked(wait) || wait->channel != channel)
		return false;
	switch (meant) {
	case WAITS_LISTED:
		return !wait->walks;
	case WAITS_SUBSCRIBES:
		return wait->kind == WAIT_SUBSCRIBE;
	case WAITS_HISTORIES:
		return wait->kind == WAIT_HISTORY;
	}
	return false;
}

static bool
waits_for(const struct worker *w, const struct slot *s, uint32_t channel,
    enum waits_meant meant)
{
	for (arena_ref ref = s->wait; ref != 0;) {
		const struct wait *wait = arena_at(w->arena, ref);

		if (wait_matches(wait, channel, meant))
			return true;
		ref = wait->next;
	}
	return false;
}

/* Whether the slot must stay listed for a channel: it is subscribed, or waits to hear
 * that the channel is live. */
static bool
needs_listing(const struct worker *w, const struct slot *s, uint32_t channel)
{
	return slot_sub(w, s, channel) != NULL ||
	       waits_for(w, s, channel, WAITS_LISTED);
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

/* Take up a request: answer it, let it wait for its walk, or for its channel. */
static int
request_begin(struct worker *w, uint32_t slot, const struct wait *request,
    const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	bool live = channel_state(&w->table.channels[request->channel]) == CHANNEL_LIVE;
	unsigned steps = HISTORY_STEPS;
	struct walk walk;
	arena_ref ref;

	if (live) {
		requests_walk(w, slot, request, &walk);
		if (walk_on(w, &walk, &steps))
			return answer_walked(w, slot, request, &walk, id, id_len);
	}
	ref = wait_add(w, s, request, id, id_len);
	if (ref == 0)
		return -ENOBUFS;
	if (live)
		return history_wait(w, slot, ref, &walk) < 0 ? -ENOBUFS : 0;
	return channels_list(w, request->channel, slot) < 0 ? -ENOBUFS : 0;
}

int
requests_subscribe(struct worker *w, uint32_t slot, const char *name, size_t len,
    const struct since *since, const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t channel = namemap_get(&w->channels->names, name, len);
	bool held =
	    channel != NAMEMAP_NONE && (slot_sub(w, s, channel) != NULL ||
					   waits_for(w, s, channel, WAITS_SUBSCRIBES));
	struct wait request = {.kind = WAIT_SUBSCRIBE};

	if (!held && s->nsubs + waiting_subscribes(w, s) >=
			 w->settings->channels_per_connection) {
		page_add(w->page, PAGE_limited_channels, 1);
		return -EMFILE;
	}
	if (channel == NAMEMAP_NONE)
		channel = channels_take(w, name, len);
	if (channel == CHANNEL_NONE)
		return -ENOBUFS;
	request.channel = channel;
	if (since != NULL) {
		size_t n = since->epoch_len;

		if (n >= sizeof(request.since_epoch))
			n = sizeof(request.since_epoch) - 1;
		memcpy(request.since_epoch, since->epoch, n);
		request.since_offset = since->offset;
		request.has_since = 1;
	}
	return request_begin(w, slot, &request, id, id_len);
}

int
requests_history(struct worker *w, uint32_t slot, const char *name, size_t len,
    uint32_t limit, uint64_t before, const char *id, size_t id_len)
{
	struct wait request = {
	    .kind = WAIT_HISTORY,
	    .cookie = limit,
	    .since_offset = before,
	    .channel = namemap_get(&w->channels->names, name, len),
	};

	if (request.channel == NAMEMAP_NONE) {
		if (ring_feed_down(w->ring) != 0)
			return -ENOTCONN; /* nobody could tell where it lies */
		request.channel = channels_take(w, name, len);
	}
	if (request.channel == CHANNEL_NONE)
		return -ENOBUFS;
	return request_begin(w, slot, &request, id, id_len);
}

/* Answer a waiting request, whose walk is over unless err says why it was in vain. */
static void
wait_answer(
    struct worker *w, uint32_t slot, arena_ref *at, const struct walk *walk, int err)
{
	struct slot *s = worker_slot(w, slot);
	const struct wait *wait = arena_at(w->arena, *at);
	struct wait request = *wait;
	char id[UINT8_MAX];
	size_t id_len = wait->id_len < sizeof(id) ? wait->id_len : sizeof(id);
	uint32_t corked = out_cork(w, slot);
	uint8_t before = slot_surgery_begin(s);
	int r = err;

	memcpy(id, wait->id, id_len);
	wait_unlink(w, at);
	if (r == 0)
		r = answer_walked(w, slot, &request, walk, id, id_len);
	if (r < 0) {
		size_t len;
		const char *name = channels_name(w, request.channel, &len);

		session_refused(w, slot, id, id_len, name, len, r);
	}
	slot_surgery_end(s, before);
	out_uncork(w, slot, corked);
}

void
requests_walked(
    struct worker *w, uint32_t slot, arena_ref wait, const struct walk *walk, int err)
{
	arena_ref *at = &worker_slot(w, slot)->wait;

	while (*at != 0 && *at != wait)
		at = &((struct wait *)arena_at(w->arena, *at))->next;
	if (*at != 0)
		wait_answer(w, slot, at, walk, err);
}

/* Answer the slot's requests for a channel: it is live now, or err says why not. One
 * with a long walk goes on to wait for that. */
static void
answer_waits(
    struct worker *w, uint32_t slot, uint32_t channel, enum waits_meant meant, int err)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t corked = out_cork(w, slot);
	arena_ref *at = &s->wait;

	while (*at != 0) {
		struct wait *wait = arena_at(w->arena, *at);
		unsigned steps = HISTORY_STEPS;
		struct walk walk;
		int r = err;

		if (!wait_matches(wait, channel, meant)) {
			at = &wait->next;
			continue;
		}
		if (err == 0) {
			requests_walk(w, slot, wait, &walk);
			if (!walk_on(w, &walk, &steps))
				r = history_wait(w, slot, *at, &walk);
			if (wait->walks) {
				at = &wait->next;
				continue;
			}
		}
		wait_answer(w, slot, at, &walk, r);
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
		answer_waits(w, slot, channel, WAITS_LISTED, err);
		if (slot_sub(w, worker_slot(w, slot), channel) == NULL)
			channels_unlist(w, channel, slot);
	}
}

void
requests_refuse_history(struct worker *w, uint32_t slot, uint32_t channel, int err)
{
	answer_waits(w, slot, channel, WAITS_HISTORIES, err);
	if (!needs_listing(w, worker_slot(w, slot), channel))
		channels_unlist(w, channel, slot);
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
	if (waits_for(w, s, channel, WAITS_SUBSCRIBES)) {
		answer_waits(w, slot, channel, WAITS_SUBSCRIBES, -ECANCELED);
		if (!needs_listing(w, s, channel))
			channels_unlist(w, channel, slot);
		if (slot_sub(w, s, channel) == NULL)
			return 0;
	}
	if (slot_sub(w, s, channel) == NULL)
		return -ENOENT;
	r = out_detach(w, slot);
	if (r < 0)
		return r;
	before = slot_surgery_begin(s);
	subs_del(w, slot, channel);
	slot_surgery_end(s, before);
	return 0;
}

void
requests_revoke(struct worker *w, uint32_t slot, uint32_t channel, int err)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t corked = out_cork(w, slot);
	size_t len;
	const char *name = channels_name(w, channel, &len);
	uint8_t before;

	if (slot_sub(w, s, channel) == NULL) {
		channels_unlist(w, channel, slot); /* only waited to be */
	} else if (out_detach(w, slot) < 0) {
		client_close(w, slot, CLIENT_END_SERVER);
	} else {
		before = slot_surgery_begin(s);
		subs_del(w, slot, channel);
		session_unsubscribed(w, slot, name, len, err);
		slot_surgery_end(s, before);
	}
	out_uncork(w, slot, corked);
}

void
requests_leave(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint8_t before = slot_surgery_begin(s);

	while (s->wait != 0) {
		const struct wait *wait = arena_at(w->arena, s->wait);

		if (!wait_is_asked(wait))
			channels_unlist(w, wait->channel, slot);
		wait_unlink(w, &s->wait);
	}
	subs_end(w, slot);
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
requests_ask(struct worker *w, uint32_t slot, enum wait_kind kind, struct uplink *u,
    const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	struct wait request = {.kind = (uint8_t)kind, .cookie = next_cookie(w)};
	arena_ref *at, ref = wait_add(w, s, &request, id, id_len);
	int r;

	if (ref == 0)
		return -ENOBUFS;
	u->slot = slot;
	u->cookie = request.cookie;
	r = channels_ask(w, u);
	if (r < 0) {
		for (at = &s->wait; *at != ref;)
			at = &((struct wait *)arena_at(w->arena, *at))->next;
		wait_unlink(w, at);
	}
	return r;
}

int
requests_publish(struct worker *w, uint32_t slot, const char *name, size_t len,
    struct slice key, const void *data, size_t data_len, const char *id, size_t id_len)
{
	struct uplink u = {.type = UPLINK_PUBLISH,
	    .channel = name,
	    .channel_len = len,
	    .key = key.p,
	    .key_len = key.len,
	    .data = data,
	    .data_len = data_len};
	int r = requests_ask(w, slot, WAIT_PUBLISH, &u, id, id_len);

	if (r == 0)
		page_add(w->page, PAGE_published, 1);
	return r;
}

/* Pass on what the supervisor said of a request that waited. */
static void
tell_asked(struct worker *w, uint32_t slot, const struct wait *wait, uint64_t number,
    const struct ring_desc *desc, const char *id, size_t id_len)
{
	const void *frame, *page = NULL;
	enum opcode op;
	size_t len;

	if (wait->kind == WAIT_PUBLISH) {
		session_published(w, slot, id, id_len, -(int)desc->arg);
	} else if (desc->type == RING_ACK) {
		session_refused(w, slot, id, id_len, NULL, 0, -(int)desc->arg);
	} else if (worker_slot(w, slot)->out_bytes > OUT_PRIVATE_MAX / 2 ||
		   ring_frames(w->ring, DIALECT_RAW, number, number + 1, &frame) == 0) {
		/* Who does not read the last answer gets no other. */
		session_refused(w, slot, id, id_len, NULL, 0, -ENOBUFS);
	} else {
		len = frame_payload(frame, &op, &page);
		session_presence(w, slot, id, id_len, (struct slice){page, len});
	}
}

void
requests_ack(struct worker *w, uint64_t number, const struct ring_desc *desc)
{
	struct slot *s;
	arena_ref *at;

	if (desc->channel >= w->table.header->nslots)
		return;
	s = worker_slot(w, desc->channel);
	for (at = &s->wait; *at != 0;) {
		struct wait *wait = arena_at(w->arena, *at);
		struct wait asked = *wait;
		char id[UINT8_MAX];
		size_t id_len = wait->id_len < sizeof(id) ? wait->id_len : sizeof(id);
		uint32_t corked;
		uint8_t before;

		if (!wait_is_asked(wait) || wait->cookie != desc->offset) {
			at = &wait->next;
			continue;
		}
		memcpy(id, wait->id, id_len);
		corked = out_cork(w, desc->channel);
		before = slot_surgery_begin(s);
		wait_unlink(w, at);
		tell_asked(w, desc->channel, &asked, number, desc, id, id_len);
		slot_surgery_end(s, before);
		out_uncork(w, desc->channel, corked);
		return;
	}
}
