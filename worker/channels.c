#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "proto/journal.h"
#include "proto/uplink.h"
#include "shm/directory.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/out.h"
#include "worker/session.h"

#define WAITS_MAX 256 /* requests of one connection that wait for the supervisor */

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

int
channels_new(struct worker *w, struct channels **ret)
{
	struct channels *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	/* Large and mostly unused: mapped, so that it costs only what is touched. */
	c->chan = mmap(NULL, chan_map_len(w), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->chan == MAP_FAILED) {
		free(c);
		return -ENOMEM;
	}
	namemap_init(&c->names, name_of, w);
	*ret = c;
	return 0;
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
	(void)munmap(c->chan, chan_map_len(w));
	namemap_done(&c->names);
	free(c->by_directory);
	free(c->idle);
	free(c);
}

static uint8_t
channel_state(const struct channel *c)
{
	return atomic_load_explicit(&c->state, memory_order_acquire); /* T1 */
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

static int
list_add(struct worker *w, uint32_t channel, uint32_t slot)
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

/* Take the slot off the list; a channel whose list becomes empty is dropped at the end
 * of the turn, unless someone comes until then. */
static void
list_del(struct worker *w, uint32_t channel, uint32_t slot)
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
	if (ch->nslots > 0)
		return;
	if (grow(&c->idle, c->nidle, &c->idle_cap) == 0)
		c->idle[c->nidle++] = channel;
	else
		log_warning(-ENOMEM, "worker %u: a channel stays subscribed", w->index);
}

/* ---- the supervisor ---- */

static int
ask(struct worker *w, const struct uplink *u)
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
	return ask(w, &u);
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
	if (channel < cs->free_hint)
		cs->free_hint = channel;
	page_add(w->page, PAGE_channels, (uint64_t)-1);
}

/* Drop a channel that nobody here is subscribed to. Returns 0 or -ENOBUFS: later. */
static int
channel_drop(struct worker *w, uint32_t channel)
{
	struct uplink u = {.type = UPLINK_DROP};
	int r;

	u.channel = channels_name(w, channel, &u.channel_len);
	r = ask(w, &u);
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
		    c->chan[channel].nslots > 0)
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
		if (ask(w, &begin) < 0)
			return;
		c->sync_begun = true;
	}
	for (; c->sync_next < used; c->sync_next++)
		if (channel_state(&w->table.channels[c->sync_next]) != CHANNEL_FREE &&
		    ask_want(w, c->sync_next) < 0)
			return;
	c->syncing = ask(w, &end) < 0;
}

void
channels_turn(struct worker *w)
{
	if (w->channels->syncing)
		sync_more(w);
	if (w->channels->nidle > 0)
		drop_idle(w);
}

/* ---- taking up a channel ---- */

static uint32_t
free_entry(struct worker *w)
{
	struct channels *c = w->channels;
	struct table_header *h = w->table.header;
	uint32_t used = channels_used(w);

	for (; c->free_hint < used; c->free_hint++)
		if (channel_state(&w->table.channels[c->free_hint]) == CHANNEL_FREE)
			return c->free_hint++;
	if (used == h->nchannels)
		return CHANNEL_NONE;
	atomic_store_explicit(&h->channels_used, used + 1, memory_order_release);
	c->free_hint = used + 1;
	return used;
}

/* A new entry, asked of the supervisor. Returns its index or CHANNEL_NONE. */
static uint32_t
channel_take(struct worker *w, const char *name, size_t len)
{
	arena_ref ref = arena_alloc(w->arena, len);
	uint32_t channel = ref != 0 ? free_entry(w) : CHANNEL_NONE;
	const struct rule *rule = settings_rule(w->settings, name, len);
	struct channel *c;

	if (channel == CHANNEL_NONE) {
		arena_free(w->arena, ref);
		return CHANNEL_NONE;
	}
	memcpy(arena_at(w->arena, ref), name, len);
	c = &w->table.channels[channel];
	c->name = ref;
	c->name_len = (uint16_t)len;
	c->directory = UPLINK_NO_DIRECTORY;
	c->gen++;
	c->nsubs = 0;
	w->channels->chan[channel] = (struct chan){.latest = rule->slow == SLOW_LATEST};
	channel_set_state(c, CHANNEL_WANTED);
	page_add(w->page, PAGE_channels, 1);
	if (namemap_put(&w->channels->names, channel) < 0) {
		channel_set_state(c, CHANNEL_FREE);
		arena_free(w->arena, ref);
		page_add(w->page, PAGE_channels, (uint64_t)-1);
		return CHANNEL_NONE;
	}
	if (ask_want(w, channel) < 0) {
		channel_release(w, channel);
		return CHANNEL_NONE;
	}
	return channel;
}

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
		r = list_add(w, channel, slot);
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
	list_del(w, channel, slot);
	page_add(w->page, PAGE_subscriptions, (uint64_t)-1);
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
	uint32_t directory = w->table.channels[channel].directory;
	uint64_t offset = directory_offset(dir, directory); /* before the number: D1 */
	uint64_t n = directory_newest(dir, directory);
	uint64_t floor = fanout_floor(w), before;

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
		n = record_before(w, w->table.channels[channel].directory, begin);
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
	return list_add(w, channel, slot) < 0 ? -ENOBUFS : 0;
}

int
channels_subscribe(struct worker *w, uint32_t slot, const char *name, size_t len,
    const struct since *since, const char *id, size_t id_len)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t channel = namemap_get(&w->channels->names, name, len);
	bool held = channel != NAMEMAP_NONE &&
		    (slot_sub(w, s, channel) != NULL || waits_for(w, s, channel));

	if (!held &&
	    s->nsubs + waiting_subscribes(w, s) >= w->settings->channels_per_connection)
		return -EMFILE;
	if (channel == NAMEMAP_NONE)
		channel = channel_take(w, name, len);
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

/* Answer all who wait for a channel. */
static void
answer_all(struct worker *w, uint32_t channel, int err)
{
	struct chan *ch = &w->channels->chan[channel];

	for (uint32_t i = ch->nslots; i-- > 0;) {
		uint32_t slot;

		if (i >= ch->nslots) /* an answer closed some of them */
			continue;
		slot = ch->slots[i];
		answer_waits(w, slot, channel, err);
		if (slot_sub(w, worker_slot(w, slot), channel) == NULL)
			list_del(w, channel, slot);
	}
}

int
channels_unsubscribe(struct worker *w, uint32_t slot, const char *name, size_t len)
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
		list_del(w, channel, slot);
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
channels_leave(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	const struct sub *sub = slot_subs(w, s);
	uint8_t before = slot_surgery_begin(s);
	arena_ref subs = s->subs_cap == 0 ? 0 : s->subs;

	while (s->wait != 0) {
		const struct wait *wait = arena_at(w->arena, s->wait);

		if (wait->kind == WAIT_SUBSCRIBE)
			list_del(w, wait->channel, slot);
		wait_unlink(w, &s->wait);
	}
	for (unsigned i = 0; i < s->nsubs; i++)
		list_del(w, sub[i].channel, slot);
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
channels_publish(struct worker *w, uint32_t slot, const char *name, size_t len,
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
	r = ask(w, &u);
	if (r < 0) {
		for (at = &s->wait; arena_at(w->arena, *at) != wait;)
			at = &((struct wait *)arena_at(w->arena, *at))->next;
		wait_unlink(w, at);
		return r;
	}
	page_add(w->page, PAGE_published, 1);
	return 0;
}

static void
on_ack(struct worker *w, const struct ring_desc *desc)
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
		answer_all(w, channel, -ENOMEM);
		return;
	}
	c->directory = desc->channel;
	channel_set_state(c, CHANNEL_LIVE);
	w->channels->chan[channel].offset = desc->offset;
	answer_all(w, channel, 0);
}

static void
on_refused(struct worker *w, const struct ring_desc *desc)
{
	uint32_t channel = token_channel(w, desc->arg);

	if (channel == CHANNEL_NONE)
		return;
	answer_all(w, channel, -(int)desc->offset);
	/* The supervisor has forgotten us: who comes next must be asked for anew. */
	if (channel_state(&w->table.channels[channel]) == CHANNEL_WANTED)
		channel_release(w, channel);
}

/* What a channel lost is told to its subscribers, between what came before and what
 * comes after. */
static void
on_gap(struct worker *w, const struct ring_desc *desc)
{
	uint32_t channel = channels_of(w, desc->channel);
	const struct chan *ch;
	const char *name;
	size_t len;

	if (channel == CHANNEL_NONE)
		return;
	ch = &w->channels->chan[channel];
	name = channels_name(w, channel, &len);
	for (uint32_t i = ch->nslots; i-- > 0;)
		if (i < ch->nslots)
			session_gap(
			    w, ch->slots[i], name, len, desc->offset, desc->arg);
}

void
channels_record(struct worker *w, uint64_t number, const struct ring_desc *desc)
{
	if (desc->type == RING_GAP)
		on_gap(w, desc);
	if (desc->worker != w->index)
		return;
	if (desc->type == RING_SUBSCRIBED)
		on_subscribed(w, number, desc);
	else if (desc->type == RING_REFUSED)
		on_refused(w, desc);
	else if (desc->type == RING_ACK)
		on_ack(w, desc);
}

/* ---- adoption ---- */

/* Take up one channel of the predecessor's. */
static int
channel_adopt(struct worker *w, uint32_t channel)
{
	struct channels *cs = w->channels;
	struct channel *c = &w->table.channels[channel];
	size_t len;
	const char *name;
	int r = arena_mark(w->arena, c->name);

	if (r < 0)
		return r;
	name = channels_name(w, channel, &len);
	cs->chan[channel].latest =
	    settings_rule(w->settings, name, len)->slow == SLOW_LATEST;
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
		int r;

		if (channel_state(&w->table.channels[i]) == CHANNEL_FREE)
			continue;
		r = channel_adopt(w, i);
		if (r < 0)
			return r;
		page_add(w->page, PAGE_channels, 1);
	}
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
		    list_add(w, sub[i].channel, slot) < 0)
			return -EINVAL;
	page_add(w->page, PAGE_subscriptions, s->nsubs);
	for (arena_ref ref = s->wait; ref != 0;) {
		const struct wait *wait = arena_at(w->arena, ref);

		if (wait->kind == WAIT_SUBSCRIBE &&
		    (!channel_known(w, wait->channel) ||
			list_add(w, wait->channel, slot) < 0))
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
		    c->chan[i].nslots == 0)
			channel_release(w, i);
	c->sync_next = 0;
	c->sync_begun = false;
	c->syncing = true; /* channels_turn() does it */
}
