#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "proto/journal.h"
#include "proto/uplink.h"
#include "shm/directory.h"
#include "shm/map.h"
#include "worker/channels.h"
#include "worker/fanout.h"
#include "worker/history.h"
#include "worker/out.h"
#include "worker/presence.h"
#include "worker/requests.h"
#include "worker/rules.h"
#include "worker/session.h"

/* ---- names and entries ---- */

static const char *
name_of(void *owner, uint32_t channel, size_t *ret_len)
{
	return channels_name(owner, channel, ret_len);
}

const char *
channels_name(const struct worker *w, uint32_t channel, size_t *ret_len)
{
	const struct channel *c = &w->table.channels[channel];

	*ret_len = c->name_len;
	return arena_at(w->arena, c->name);
}

static size_t
chan_map_len(const struct worker *w)
{
	return (size_t)w->table.header->nchannels * sizeof(struct chan);
}

static void
on_places_return(void *owner, uint32_t first, uint32_t n)
{
	struct worker *w = owner;
	struct channel *shared = w->table.channels + first;
	struct chan *private = w->channels->chan + first;

	map_return(shared, n * sizeof(*shared), true);
	map_return(private, n * sizeof(*private), false);
}

int
channels_new(struct worker *w, struct channels **ret)
{
	struct channels *c = calloc(1, sizeof(*c));
	void *map;
	int r;

	if (c == NULL)
		return -ENOMEM;
	r = map_private(chan_map_len(w), &map);
	if (r < 0)
		goto fail;
	r = places_init(&c->places, w->table.header->nchannels, on_places_return, w);
	if (r < 0)
		goto fail_map;
	c->chan = map;
	namemap_init(&c->names, name_of, w);
	*ret = c;
	return 0;
fail_map:
	map_close(map, chan_map_len(w));
fail:
	free(c);
	return r;
}

static uint32_t
channels_used(const struct worker *w)
{
	return atomic_load_explicit(
	    &w->table.header->channels_used, memory_order_relaxed);
}

void
channels_free(struct worker *w, struct channels *c)
{
	if (c == NULL)
		return;
	for (uint32_t i = 0; i < channels_used(w); i++)
		free(c->chan[i].slots);
	map_close(c->chan, chan_map_len(w));
	places_done(&c->places);
	namemap_done(&c->names);
	free(c->by_directory);
	free(c->idle);
	free(c);
}

static void
channel_set_state(struct channel *c, enum channel_state state)
{
	atomic_store_explicit(&c->state, (uint8_t)state, memory_order_release); /* T1 */
}

/* Room for one more in an array of u32. */
static int
grow(uint32_t **array, uint32_t len, uint32_t *cap)
{
	uint32_t want = *cap == 0 ? 4 : *cap * 2;
	uint32_t *bigger;

	if (len < *cap)
		return 0;
	bigger = realloc(*array, want * sizeof(**array));
	if (bigger == NULL)
		return -ENOMEM;
	*array = bigger;
	*cap = want;
	return 0;
}

static int
by_directory_set(struct channels *c, uint32_t directory, uint32_t channel)
{
	if (directory >= c->by_directory_len) {
		uint32_t want = directory < 512 ? 1024 : directory * 2;
		uint32_t *bigger = realloc(c->by_directory, want * sizeof(*bigger));

		if (bigger == NULL)
			return -ENOMEM;
		memset(bigger + c->by_directory_len, 0xff,
		    (want - c->by_directory_len) * sizeof(*bigger));
		c->by_directory = bigger;
		c->by_directory_len = want;
	}
	c->by_directory[directory] = channel;
	return 0;
}

/* ---- the subscribers' lists ---- */

static uint32_t
place_of(const struct chan *ch, uint32_t slot)
{
	uint32_t lo = 0, hi = ch->nslots;

	/* Mostly the last to be accepted is the last to subscribe. */
	if (hi > 0 && ch->slots[hi - 1] < slot)
		return hi;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (ch->slots[mid] < slot)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int
channels_list(struct worker *w, uint32_t channel, uint32_t slot)
{
	struct chan *ch = &w->channels->chan[channel];
	uint32_t at = place_of(ch, slot);

	if (at < ch->nslots && ch->slots[at] == slot)
		return 0;
	if (grow(&ch->slots, ch->nslots, &ch->cap) < 0)
		return -ENOMEM;
	memmove(
	    ch->slots + at + 1, ch->slots + at, (ch->nslots - at) * sizeof(*ch->slots));
	ch->slots[at] = slot;
	ch->nslots++;
	ch->served = 0;
	ch->joined = true;
	w->table.channels[channel].nsubs = ch->nslots;
	return 0;
}

/* Nobody needs it any more: to be dropped at the end of the turn. */
static void
note_idle(struct worker *w, uint32_t channel)
{
	struct channels *c = w->channels;

	if (c->chan[channel].nslots > 0 || c->chan[channel].held > 0)
		return;
	if (grow(&c->idle, c->nidle, &c->idle_cap) == 0)
		c->idle[c->nidle++] = channel;
	else
		(void)log_limited(&w->trouble_log, (uint64_t)w->tick * TICK_MS,
		    LOG_WARNING, -ENOMEM, "worker %u: a channel stays subscribed",
		    w->index);
}

void
channels_unlist(struct worker *w, uint32_t channel, uint32_t slot)
{
	struct channels *c = w->channels;
	struct chan *ch = &c->chan[channel];
	uint32_t at = place_of(ch, slot);

	if (at == ch->nslots || ch->slots[at] != slot)
		return;
	ch->nslots--;
	memmove(
	    ch->slots + at, ch->slots + at + 1, (ch->nslots - at) * sizeof(*ch->slots));
	w->table.channels[channel].nsubs = ch->nslots;
	note_idle(w, channel);
}

void
channels_hold(struct worker *w, uint32_t channel)
{
	w->channels->chan[channel].held++;
}

void
channels_unhold(struct worker *w, uint32_t channel)
{
	w->channels->chan[channel].held--;
	note_idle(w, channel);
}

/* ---- the supervisor ---- */

int
channels_ask(struct worker *w, const struct uplink *u)
{
	size_t len = uplink_len(u);
	void *room = upstream_room(w->up, len);

	if (room == NULL)
		return errno == EMSGSIZE ? -EMSGSIZE : -ENOBUFS;
	uplink_put(u, room);
	upstream_send(w->up, u->type, len);
	if (upstream_must_ring(w->up))
		(void)eventfd_write(w->doorbell, 1);
	return 0;
}

static uint64_t
token_of(const struct worker *w, uint32_t channel)
{
	return (uint64_t)w->table.channels[channel].gen << 32 | channel;
}

static int
ask_want(struct worker *w, uint32_t channel)
{
	const struct channel *c = &w->table.channels[channel];
	struct uplink u = {.type = UPLINK_WANT,
	    .token = token_of(w, channel),
	    .directory = UPLINK_NO_DIRECTORY};

	if (channel_state(c) == CHANNEL_LIVE)
		u.directory = c->directory;
	u.channel = channels_name(w, channel, &u.channel_len);
	return channels_ask(w, &u);
}

static void
note_used(struct worker *w)
{
	atomic_store_explicit(&w->table.header->channels_used,
	    places_len(&w->channels->places), memory_order_release);
}

static void
place_give(struct worker *w, uint32_t channel)
{
	places_give(&w->channels->places, channel);
	note_used(w);
}

/* Give the entry back. Its name must be in the map of names. */
static void
channel_release(struct worker *w, uint32_t channel)
{
	struct channels *cs = w->channels;
	struct channel *c = &w->table.channels[channel];
	arena_ref name = c->name;

	if (channel_state(c) == CHANNEL_LIVE)
		cs->by_directory[c->directory] = CHANNEL_NONE;
	namemap_del(&cs->names, channel);
	channel_set_state(c, CHANNEL_FREE);
	arena_free(w->arena, name);
	free(cs->chan[channel].slots);
	cs->chan[channel] = (struct chan){0};
	page_add(w->page, PAGE_channels, (uint64_t)-1);
	place_give(w, channel);
}

/* Drop a channel that nobody here is subscribed to. Returns 0 or -ENOBUFS: later. */
static int
channel_drop(struct worker *w, uint32_t channel)
{
	struct uplink u = {.type = UPLINK_DROP};
	int r;

	u.channel = channels_name(w, channel, &u.channel_len);
	r = channels_ask(w, &u);
	if (r == 0)
		channel_release(w, channel);
	return r;
}

static void
drop_idle(struct worker *w)
{
	struct channels *c = w->channels;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->nidle; i++) {
		uint32_t channel = c->idle[i];

		if (channel_state(&w->table.channels[channel]) == CHANNEL_FREE ||
		    c->chan[channel].nslots > 0 || c->chan[channel].held > 0)
			continue; /* dropped before, or wanted again */
		if (channel_drop(w, channel) < 0)
			c->idle[kept++] = channel;
	}
	c->nidle = kept;
}

/* Name our channels to the supervisor again, as far as there is room. */
static void
sync_more(struct worker *w)
{
	struct channels *c = w->channels;
	struct uplink begin = {.type = UPLINK_SYNC_BEGIN};
	struct uplink end = {.type = UPLINK_SYNC_END};
	uint32_t used = channels_used(w);

	if (!c->sync_begun) {
		if (channels_ask(w, &begin) < 0)
			return;
		c->sync_begun = true;
	}
	for (; c->sync_next < used; c->sync_next++)
		if (channel_state(&w->table.channels[c->sync_next]) != CHANNEL_FREE &&
		    ask_want(w, c->sync_next) < 0)
			return;
	c->syncing = channels_ask(w, &end) < 0;
}

void
channels_turn(struct worker *w)
{
	if (w->channels->syncing)
		sync_more(w);
	if (w->channels->nidle > 0)
		drop_idle(w);
	if (!w->channels->syncing)
		presence_turn(w);
}

/* ---- taking up a channel ---- */

/* What its rule says. */
static void
take_rule(struct worker *w, uint32_t channel)
{
	struct chan *ch = &w->channels->chan[channel];
	size_t len;
	const char *name = channels_name(w, channel, &len);
	const struct rule *rule = settings_rule(w->settings, name, len);

	ch->rule = rules_row(w, rule);
	w->table.channels[channel].latest = rule->slow == SLOW_LATEST;
	ch->latest = rule->slow == SLOW_LATEST;
	ch->presence = rule->presence;
}

uint32_t
channels_take(struct worker *w, const char *name, size_t len)
{
	arena_ref ref = arena_alloc(w->arena, len);
	uint32_t channel = ref != 0 ? places_take(&w->channels->places) : CHANNEL_NONE;
	struct channel *c;

	if (channel == CHANNEL_NONE) {
		arena_free(w->arena, ref);
		return CHANNEL_NONE;
	}
	note_used(w);
	memcpy(arena_at(w->arena, ref), name, len);
	c = &w->table.channels[channel];
	c->name = ref;
	c->name_len = (uint16_t)len;
	c->directory = UPLINK_NO_DIRECTORY;
	c->gen = ++w->table.header->gen; /* the entry itself may be zeros again */
	c->nsubs = 0;
	w->channels->chan[channel] = (struct chan){0};
	take_rule(w, channel);
	channel_set_state(c, CHANNEL_WANTED);
	page_add(w->page, PAGE_channels, 1);
	if (namemap_put(&w->channels->names, channel) < 0) {
		channel_set_state(c, CHANNEL_FREE);
		arena_free(w->arena, ref);
		page_add(w->page, PAGE_channels, (uint64_t)-1);
		place_give(w, channel);
		return CHANNEL_NONE;
	}
	if (ask_want(w, channel) < 0) {
		channel_release(w, channel);
		return CHANNEL_NONE;
	}
	return channel;
}

/* ---- places in the ring ---- */

/* The newest record of a channel below `number` that may still be looked at; 0 when
 * there is none. */
static uint64_t
record_before(const struct worker *w, uint32_t directory, uint64_t number)
{
	uint64_t n = directory_newest(ring_directory(w->ring), directory);
	uint64_t floor = fanout_floor(w);

	while (n >= number && n >= floor) {
		uint32_t prev = ring_at(w->ring, n)->prev;

		n = prev < n ? n - prev : 0;
		if (prev == 0)
			return 0;
	}
	return n >= floor ? n : 0;
}

uint64_t
channels_offset(
    const struct worker *w, uint32_t channel, uint64_t number, uint64_t *ret_newest)
{
	const struct directory *dir = ring_directory(w->ring);
	const struct chan *ch = &w->channels->chan[channel];
	uint32_t directory = w->table.channels[channel].directory;
	uint64_t offset = directory_offset(dir, directory); /* before the number: D1 */
	uint64_t n = directory_newest(dir, directory);
	uint64_t floor = fanout_floor(w), before;

	if (ch->newest != 0 && ch->newest < number && number <= w->done) {
		*ret_newest = ch->newest >= floor ? ch->newest : 0;
		return ch->offset; /* all below w->done were passed on by us */
	}
	*ret_newest = before = record_before(w, directory, number);
	if (before != 0)
		return ring_at(w->ring, before)->offset;
	if (n < number || n < floor)
		return offset; /* no newer one, or none that anyone was passed since */
	/* The oldest that is known lies at or behind `number`. */
	while (
	    ring_at(w->ring, n)->prev != 0 && n - ring_at(w->ring, n)->prev >= number)
		n -= ring_at(w->ring, n)->prev;
	return ring_at(w->ring, n)->offset - 1;
}

/* ---- records ---- */

/* The channel that a token names, if it is still the one that was asked for. */
static uint32_t
token_channel(const struct worker *w, uint64_t token)
{
	uint32_t channel = (uint32_t)token;

	if (channel >= channels_used(w) ||
	    channel_state(&w->table.channels[channel]) == CHANNEL_FREE ||
	    token_of(w, channel) != token)
		return CHANNEL_NONE;
	return channel;
}

static void
on_subscribed(struct worker *w, uint64_t number, const struct ring_desc *desc)
{
	uint32_t channel = token_channel(w, desc->arg);
	struct channel *c;

	if (channel == CHANNEL_NONE)
		return;
	c = &w->table.channels[channel];
	if (channel_state(c) == CHANNEL_LIVE && c->directory != desc->channel)
		w->channels->by_directory[c->directory] = CHANNEL_NONE;
	if (by_directory_set(w->channels, desc->channel, channel) < 0) {
		requests_answer(w, channel, -ENOMEM);
		return;
	}
	c->directory = desc->channel;
	channel_set_state(c, CHANNEL_LIVE);
	w->channels->chan[channel].offset = desc->offset;
	w->channels->chan[channel].newest = 0;
	requests_answer(w, channel, 0);
}

static void
on_refused(struct worker *w, const struct ring_desc *desc)
{
	uint32_t channel = token_channel(w, desc->arg);

	if (channel == CHANNEL_NONE)
		return;
	requests_answer(w, channel, -(int)desc->offset);
	/* The supervisor has forgotten us: who comes next must be asked for anew. */
	if (channel_state(&w->table.channels[channel]) == CHANNEL_WANTED)
		channel_release(w, channel);
}

/* What a channel lost is told to its subscribers, between what came before it and what
 * comes after, to each once: whom a predecessor has told, the table says. */
void
channels_gap_begin(
    struct worker *w, uint32_t channel, uint64_t number, uint32_t *ret_after)
{
	struct table_header *h = w->table.header;

	w->channels->chan[channel].newest =
	    0; /* the gap has an offset, but is no message */
	if (h->told_number != number) {
		h->told_slot = SLOT_NONE;
		atomic_signal_fence(memory_order_seq_cst);
		h->told_number = number;
	}
	*ret_after = h->told_slot;
}

void
channels_gap_tell(struct worker *w, uint32_t slot, uint64_t number, uint32_t channel)
{
	const struct ring_desc *desc = ring_at(w->ring, number);
	struct slot *s = worker_slot(w, slot);
	size_t len;
	const char *name = channels_name(w, channel, &len);
	const struct sub *sub;
	uint32_t corked;
	uint8_t before;

	sub = slot_sub(w, s, channel);
	/* Who came meanwhile begins to count behind it. */
	if (sub == NULL || out_cursor(w, slot) > number ||
	    (out_lagging(w, slot) && (int32_t)(sub->from - (uint32_t)number) > 0))
		return;
	corked = out_cork(w, slot);
	before = slot_surgery_begin(s);
	w->table.header->told_slot = slot;
	session_gap(w, slot, name, len, desc->offset, desc->arg);
	slot_surgery_end(s, before);
	out_uncork(w, slot, corked);
}

bool
channels_revoked(struct worker *w, const struct ring_desc *desc, unsigned *budget)
{
	uint32_t channel = channels_of(w, desc->channel);
	struct chan *ch;

	if (channel == CHANNEL_NONE)
		return true;
	ch = &w->channels->chan[channel];
	for (; ch->nslots > 0 && *budget > 0; (*budget)--)
		requests_revoke(w, ch->slots[0], channel, -(int)desc->offset);
	if (ch->nslots > 0)
		return false;
	history_refuse(w, channel, -(int)desc->offset);
	/* The supervisor has forgotten us: who comes next must be asked for anew. */
	w->channels->by_directory[desc->channel] = CHANNEL_NONE;
	channel_set_state(&w->table.channels[channel], CHANNEL_WANTED);
	if (ch->held == 0)
		channel_release(w, channel);
	else if (ask_want(w, channel) < 0) /* until those who held it have let go */
		(void)log_limited(&w->trouble_log, (uint64_t)w->tick * TICK_MS,
		    LOG_WARNING, -ENOBUFS, "worker %u: a channel is not asked for",
		    w->index);
	return true;
}

void
channels_record(struct worker *w, uint64_t number, const struct ring_desc *desc)
{
	if (desc->worker != w->index)
		return;
	if (desc->type == RING_SUBSCRIBED)
		on_subscribed(w, number, desc);
	else if (desc->type == RING_REFUSED)
		on_refused(w, desc);
	else if (desc->type == RING_ACK || desc->type == RING_ANSWER)
		requests_ack(w, number, desc);
}

/* ---- reload ---- */

void
channels_reload(struct worker *w)
{
	uint32_t used = channels_used(w);

	for (uint32_t i = 0; i < used; i++)
		if (channel_state(&w->table.channels[i]) != CHANNEL_FREE)
			take_rule(w, i);
	presence_name_all(w);
}

/* ---- adoption ---- */

/* Take up one channel of the predecessor's. */
static int
channel_adopt(struct worker *w, uint32_t channel)
{
	struct channels *cs = w->channels;
	struct channel *c = &w->table.channels[channel];
	int r;

	/* What a predecessor left may be anything: its own part alone is given up, and
	 * with it the connections that are subscribed to it. */
	if (arena_mark(w->arena, c->name) < 0 || c->name_len == 0 ||
	    c->name_len > CHANNEL_NAME_MAX ||
	    c->name_len > arena_len(w->arena, c->name) ||
	    (channel_state(c) == CHANNEL_LIVE &&
		c->directory >= ring_directory(w->ring)->max)) {
		atomic_store_explicit(&c->state, CHANNEL_FREE, memory_order_release);
		return -EINVAL;
	}
	places_claim(&cs->places, channel);
	/* What was sent is retraced by the rule that held then: channels_adopted(). */
	cs->chan[channel].latest = c->latest;
	r = namemap_put(&cs->names, channel);
	if (r == 0 && channel_state(c) == CHANNEL_LIVE)
		r = by_directory_set(cs, c->directory, channel);
	return r;
}

int
channels_adopt(struct worker *w)
{
	uint32_t used = channels_used(w);

	page_set(w->page, PAGE_channels, 0);
	page_set(w->page, PAGE_subscriptions, 0);
	for (uint32_t i = 0; i < used; i++) {
		const struct channel *c = &w->table.channels[i];
		int r;

		/* A predecessor of an older version counted for each entry. */
		if ((int32_t)(c->gen - w->table.header->gen) > 0)
			w->table.header->gen = c->gen;
		if (channel_state(c) == CHANNEL_FREE)
			continue;
		r = channel_adopt(w, i);
		if (r == 0)
			page_add(w->page, PAGE_channels, 1);
		else if (r != -EINVAL)
			return r;
	}
	note_used(w);
	return 0;
}

static bool
channel_known(const struct worker *w, uint32_t channel)
{
	return channel < channels_used(w) &&
	       channel_state(&w->table.channels[channel]) != CHANNEL_FREE;
}

int
channels_adopt_slot(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	const struct sub *sub = slot_subs(w, s);

	for (unsigned i = 0; i < s->nsubs; i++)
		if (!channel_known(w, sub[i].channel) ||
		    channels_list(w, sub[i].channel, slot) < 0)
			return -EINVAL;
	page_add(w->page, PAGE_subscriptions, s->nsubs);
	for (arena_ref ref = s->wait; ref != 0;) {
		const struct wait *wait = arena_at(w->arena, ref);
		int r = 0;

		if (!wait_is_asked(wait) && !channel_known(w, wait->channel))
			return -EINVAL;
		if (!wait_is_asked(wait))
			r = channel_state(&w->table.channels[wait->channel]) ==
				    CHANNEL_LIVE
				? history_wait(w, slot, ref, NULL)
				: channels_list(w, wait->channel, slot);
		if (r < 0)
			return -EINVAL;
		ref = wait->next;
	}
	return 0;
}

void
channels_adopted(struct worker *w)
{
	struct channels *c = w->channels;
	uint32_t used = channels_used(w);

	/* A predecessor that died between taking an entry and listing who asked. */
	for (uint32_t i = 0; i < used; i++)
		if (channel_state(&w->table.channels[i]) != CHANNEL_FREE &&
		    c->chan[i].nslots == 0 && c->chan[i].held == 0)
			channel_release(w, i);
	c->sync_next = 0;
	c->sync_begun = false;
	c->syncing = true; /* channels_turn() does it */
	channels_reload(w);
}
