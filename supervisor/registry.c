/* registry.c - see registry.h */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/uplink.h"
#include "shm/directory.h"
#include "shm/map.h"
#include "shm/namemap.h"
#include "shm/places.h"
#include "supervisor/registry.h"
#include "supervisor/waiters.h"

#define NONE UINT32_MAX
#define RETIRED_BATCH 1024 /* entries looked at in one tick, and a part of all */
#define RETIRED_PART 4
#define RETIRED_MAX 65536 /* that are kept only for whoever may come again */
#define REFUSED_MS 5000   /* until the feed is asked again for those who had it */

enum list_id {
	LIST_LINGER,
	LIST_REFUSED, /* by the feed, though somebody is subscribed */
	LIST_RETIRED,
	LIST_COUNT,
	LIST_NONE = LIST_COUNT
};

struct entry {
	struct waiters waiters; /* for the feed's answer */
	uint64_t last_control;  /* number of the last control record that names it */
	uint64_t before_gap;    /* of the last message before its last gap; 0 = none */
	uint64_t due_ms;        /* LINGER, REFUSED: until when it is on that list */
	uint32_t next, prev;    /* on its list */
	uint32_t nworkers, tails;
	uint8_t list; /* enum list_id */
	bool used;    /* else all is zero */
	bool wanted;  /* the feed was asked */
	bool live;    /* the feed delivers */
	bool gap;     /* messages may have passed while it did not */
};

struct list {
	uint32_t first, last, len;
};

struct registry {
	struct publisher *publisher;
	struct directory *dir;
	const struct registry_feed *feed;
	void *owner;
	struct namemap names;
	unsigned nworkers, words; /* 64-bit words of a set of workers */

	struct places places; /* in the directory, and in these: one map, for all */
	struct entry *entries;
	uint64_t *interest; /* `words` each: the workers that have a subscriber */
	uint64_t *synced;   /* `words` each: named since the worker's SYNC_BEGIN */
	uint64_t gaps;

	struct list lists[LIST_COUNT];
	uint64_t now_ms;
};

static const char *
on_namemap_name(void *owner, uint32_t number, size_t *ret_len)
{
	return registry_name(owner, number, ret_len);
}

static size_t
set_len(const struct registry *r)
{
	return r->words * sizeof(uint64_t);
}

static size_t
map_len(const struct registry *r)
{
	return r->dir->max * (sizeof(struct entry) + 2 * set_len(r));
}

static void
on_places_return(void *owner, uint32_t first, uint32_t n)
{
	struct registry *r = owner;
	const size_t set = (size_t)first * r->words;

	directory_return(r->dir, first, n);
	map_return(r->entries + first, n * sizeof(*r->entries), false);
	map_return(r->interest + set, n * set_len(r), false);
	map_return(r->synced + set, n * set_len(r), false);
}

int
registry_new(struct publisher *p, unsigned nworkers, struct registry **ret_registry)
{
	struct registry *r = calloc(1, sizeof(*r));
	void *map;
	int err;

	if (r == NULL)
		return -ENOMEM;
	r->publisher = p;
	r->dir = ring_directory(p->ring);
	r->nworkers = nworkers;
	r->words = (nworkers + 63) / 64;
	for (int i = 0; i < LIST_COUNT; i++)
		r->lists[i].first = r->lists[i].last = NONE;
	namemap_init(&r->names, on_namemap_name, r);
	err = places_init(&r->places, r->dir->max, on_places_return, r);
	if (err < 0)
		goto fail;
	err = map_private(map_len(r), &map);
	if (err < 0)
		goto fail;
	r->entries = map;
	r->interest = (uint64_t *)(r->entries + r->dir->max);
	r->synced = r->interest + (size_t)r->dir->max * r->words;
	*ret_registry = r;
	return 0;
fail:
	registry_free(r);
	return err;
}

void
registry_free(struct registry *r)
{
	if (r == NULL)
		return;
	for (uint32_t i = 0; i < registry_len(r); i++)
		waiters_done(&r->entries[i].waiters);
	namemap_done(&r->names);
	places_done(&r->places);
	map_close(r->entries, map_len(r));
	free(r);
}

void
registry_set_feed(struct registry *r, const struct registry_feed *feed, void *owner)
{
	r->feed = feed;
	r->owner = owner;
}

/* ---- sets of workers ---- */

static bool
bit_get(const struct registry *r, const uint64_t *sets, uint32_t idx, unsigned worker)
{
	return sets[(size_t)idx * r->words + worker / 64] >> (worker % 64) & 1;
}

static void
bit_put(
    const struct registry *r, uint64_t *sets, uint32_t idx, unsigned worker, bool on)
{
	uint64_t *word = &sets[(size_t)idx * r->words + worker / 64];
	uint64_t bit = UINT64_C(1) << (worker % 64);

	*word = on ? *word | bit : *word & ~bit;
}

/* ---- lists ---- */

static void
list_remove(struct registry *r, uint32_t idx)
{
	struct entry *e = &r->entries[idx];
	struct list *l;

	if (e->list == LIST_NONE)
		return;
	l = &r->lists[e->list];
	if (e->prev == NONE)
		l->first = e->next;
	else
		r->entries[e->prev].next = e->next;
	if (e->next == NONE)
		l->last = e->prev;
	else
		r->entries[e->next].prev = e->prev;
	l->len--;
	e->list = LIST_NONE;
}

static void
list_append(struct registry *r, enum list_id id, uint32_t idx)
{
	struct entry *e = &r->entries[idx];
	struct list *l = &r->lists[id];

	list_remove(r, idx);
	e->prev = l->last;
	e->next = NONE;
	if (l->last == NONE)
		l->first = idx;
	else
		r->entries[l->last].next = idx;
	l->last = idx;
	l->len++;
	e->list = id;
}

/* ---- entries ---- */

static int
entry_new(struct registry *r, const char *name, size_t len, uint32_t *ret_channel)
{
	uint32_t idx = places_take(&r->places);
	int err;

	if (idx == PLACES_NONE)
		return -ENOSPC;
	directory_set(r->dir, idx, name, len, ring_head(r->publisher->ring) - 1);
	err = namemap_put(&r->names, idx);
	if (err < 0) {
		directory_clear(r->dir, idx);
		places_give(&r->places, idx);
		return err;
	}
	r->entries[idx] = (struct entry){.used = true, .list = LIST_NONE};
	list_append(r, LIST_RETIRED, idx);
	*ret_channel = idx;
	return 0;
}

static void
entry_free(struct registry *r, uint32_t idx)
{
	list_remove(r, idx);
	namemap_del(&r->names, idx); /* asks for the name, so before it goes */
	directory_clear(r->dir, idx);
	r->entries[idx] = (struct entry){0};
	memset(&r->interest[(size_t)idx * r->words], 0, set_len(r));
	places_give(&r->places, idx);
}

int
registry_take(struct registry *r, const char *name, size_t len, uint32_t *ret_channel)
{
	uint32_t idx = namemap_get(&r->names, name, len);

	if (idx == NAMEMAP_NONE)
		return entry_new(r, name, len, ret_channel);
	*ret_channel = idx;
	return 0;
}

/* ---- records ---- */

static void
write_record(struct registry *r, uint32_t idx, enum ring_type type, unsigned worker,
    uint64_t offset, uint64_t arg)
{
	struct ring_desc desc = {
	    .type = type,
	    .channel = idx,
	    .worker = (uint16_t)worker,
	    .offset = offset,
	    .arg = arg,
	};
	uint64_t number = publisher_control(r->publisher, &desc);

	if (idx != RING_NO_CHANNEL && number > r->entries[idx].last_control)
		r->entries[idx].last_control = number;
}

static void
answer(struct registry *r, uint32_t idx, const struct waiter *w, int err)
{
	if (err < 0)
		write_record(r, idx, RING_REFUSED, w->worker, (uint64_t)-err, w->token);
	else
		write_record(r, idx, RING_SUBSCRIBED, w->worker,
		    directory_offset(r->dir, idx), w->token);
}

/*
 * The gap takes an offset and a record of its own: offsets never run ahead of record
 * numbers, on which a new entry's start relies (directory.h). What came before it is
 * out of reach from here on, so that no replay or history runs across it unseen.
 */
static void
write_gap(struct registry *r, uint32_t idx)
{
	uint64_t offset = directory_offset(r->dir, idx) + 1;
	char name[CHANNEL_NAME_MAX];
	size_t len;

	if (directory_newest(r->dir, idx) != 0)
		r->entries[idx].before_gap = directory_newest(r->dir, idx);
	memcpy(name, registry_name(r, idx, &len), sizeof(name));
	directory_set(r->dir, idx, name, len, offset);
	write_record(r, idx, RING_GAP, 0, offset, UINT64_MAX);
	r->gaps++;
}

/* ---- interest ---- */

static void
interest_gained(struct registry *r, uint32_t idx)
{
	struct entry *e = &r->entries[idx];

	list_remove(r, idx);
	if (e->wanted)
		return;
	e->wanted = true;
	r->feed->want(r->owner, idx);
}

static void
interest_lost(struct registry *r, uint32_t idx)
{
	struct entry *e = &r->entries[idx];

	if (e->nworkers > 0 || e->tails > 0 || e->list != LIST_NONE)
		return;
	e->due_ms = r->now_ms + REGISTRY_LINGER_MS;
	list_append(r, LIST_LINGER, idx);
}

void
registry_want(struct registry *r, unsigned worker, const char *name, size_t len,
    uint64_t token, uint32_t believed)
{
	struct waiter once = {.worker = worker, .token = token};
	struct entry *e;
	uint32_t idx;
	int err = registry_take(r, name, len, &idx);

	assert(worker < r->nworkers);
	if (err < 0) {
		write_record(
		    r, RING_NO_CHANNEL, RING_REFUSED, worker, (uint64_t)-err, token);
		return;
	}
	e = &r->entries[idx];
	bit_put(r, r->synced, idx, worker, true);
	if (!bit_get(r, r->interest, idx, worker)) {
		bit_put(r, r->interest, idx, worker, true);
		e->nworkers++;
	}
	/* A worker that has subscribers here was answered once: it waits for nothing.
	 */
	if (!e->live && believed != idx) {
		err = waiters_add(&e->waiters, &once);
		if (err < 0)
			answer(r, idx, &once, err);
	}
	if (e->live && believed != idx)
		answer(r, idx, &once, 0);
	interest_gained(r, idx); /* last: it may confirm, and so answer, at once */
}

static void
drop_worker(struct registry *r, uint32_t idx, unsigned worker)
{
	struct entry *e = &r->entries[idx];

	if (!bit_get(r, r->interest, idx, worker))
		return;
	bit_put(r, r->interest, idx, worker, false);
	waiters_del(&e->waiters, worker);
	e->nworkers--;
	interest_lost(r, idx);
}

/* Who is refused has no interest any more, and will not drop it. */
static void
answer_all(struct registry *r, uint32_t idx, int err)
{
	struct waiter w;

	while (waiters_pop(&r->entries[idx].waiters, &w)) {
		answer(r, idx, &w, err);
		if (err < 0)
			drop_worker(r, idx, w.worker);
	}
}

void
registry_leave(struct registry *r, unsigned worker, const char *name, size_t len)
{
	uint32_t idx = namemap_get(&r->names, name, len);

	if (idx != NAMEMAP_NONE)
		drop_worker(r, idx, worker);
}

void
registry_sync_begin(struct registry *r, unsigned worker)
{
	for (uint32_t i = 0; i < registry_len(r); i++)
		if (r->entries[i].used)
			bit_put(r, r->synced, i, worker, false);
}

void
registry_sync_end(struct registry *r, unsigned worker)
{
	for (uint32_t i = 0; i < registry_len(r); i++)
		if (r->entries[i].used && !bit_get(r, r->synced, i, worker))
			drop_worker(r, i, worker);
}

void
registry_worker_gone(struct registry *r, unsigned worker)
{
	for (uint32_t i = 0; i < registry_len(r); i++)
		if (r->entries[i].used)
			drop_worker(r, i, worker);
}

int
registry_tail(struct registry *r, const char *name, size_t len, uint32_t *ret_channel)
{
	uint32_t idx;
	int err = registry_take(r, name, len, &idx);

	if (err < 0)
		return err;
	r->entries[idx].tails++;
	interest_gained(r, idx);
	*ret_channel = idx;
	return 0;
}

void
registry_untail(struct registry *r, uint32_t channel)
{
	assert(r->entries[channel].tails > 0);
	r->entries[channel].tails--;
	interest_lost(r, channel);
}

/* ---- the feed's side ---- */

/* A refused channel. Its index stays its own while a worker has subscribers that were
 * served before: they would get whatever has it next. */
static void
put_aside(struct registry *r, uint32_t idx)
{
	struct entry *e = &r->entries[idx];

	if (e->wanted) /* asked for anew by who was told */
		return;
	e->due_ms = r->now_ms + REFUSED_MS;
	list_append(
	    r, e->nworkers > 0 || e->tails > 0 ? LIST_REFUSED : LIST_RETIRED, idx);
}

/* The feed may not: for those who were served before, too. */
static void
revoke(struct registry *r, uint32_t idx, int err)
{
	write_record(r, idx, RING_REVOKED, 0, (uint64_t)-err, 0);
	for (unsigned i = 0; i < r->nworkers; i++)
		drop_worker(r, idx, i);
}

void
registry_confirmed(struct registry *r, uint32_t channel, int err)
{
	struct entry *e = &r->entries[channel];

	if (!registry_wanted(r, channel))
		return; /* dropped meanwhile */
	if (err < 0) {
		/* Whoever asks next makes the feed try again, or registry_tick(). */
		e->wanted = e->live = false;
	} else if (!e->live) {
		e->live = true;
		if (e->gap)
			write_gap(r, channel);
		e->gap = false;
	}
	answer_all(r, channel, err);
	if (err == -EACCES && e->nworkers > 0)
		revoke(r, channel, err);
	if (r->feed->on_live != NULL)
		r->feed->on_live(r->owner, channel, err);
	if (err < 0)
		put_aside(r, channel);
}

void
registry_lost_channel(struct registry *r, uint32_t channel)
{
	struct entry *e = &r->entries[channel];

	e->gap = e->gap || e->live;
	e->live = false;
}

void
registry_lost(struct registry *r)
{
	for (uint32_t i = 0; i < registry_len(r); i++)
		if (r->entries[i].used)
			registry_lost_channel(r, i);
}

void
registry_gap(struct registry *r, uint32_t channel)
{
	struct entry *e = &r->entries[channel];

	if (e->live)
		write_gap(r, channel);
	else
		e->gap = true;
}

void
registry_gap_all(struct registry *r)
{
	for (uint32_t i = 0; i < registry_len(r); i++)
		if (r->entries[i].used)
			registry_gap(r, i);
}

bool
registry_wanted(const struct registry *r, uint32_t channel)
{
	return channel < registry_len(r) && r->entries[channel].wanted;
}

bool
registry_live(const struct registry *r, uint32_t channel)
{
	return channel < registry_len(r) && r->entries[channel].live;
}

bool
registry_next_wanted(const struct registry *r, uint32_t *cursor, uint32_t *ret_channel)
{
	while (*cursor < registry_len(r)) {
		uint32_t idx = (*cursor)++;

		if (!registry_wanted(r, idx))
			continue;
		*ret_channel = idx;
		return true;
	}
	return false;
}

/* ---- for all ---- */

uint32_t
registry_find(const struct registry *r, const char *name, size_t len)
{
	uint32_t idx = namemap_get(&r->names, name, len);

	return idx == NAMEMAP_NONE ? NONE : idx;
}

const char *
registry_name(const struct registry *r, uint32_t channel, size_t *ret_len)
{
	/* The directory is ours alone to write. */
	*ret_len = r->dir->entry[channel].name_len;
	return r->dir->entry[channel].name;
}

bool
registry_used(const struct registry *r, uint32_t channel)
{
	return channel < registry_len(r) && r->entries[channel].used;
}

unsigned
registry_workers(const struct registry *r, uint32_t channel)
{
	return r->entries[channel].nworkers;
}

unsigned
registry_tails(const struct registry *r, uint32_t channel)
{
	return r->entries[channel].tails;
}

uint32_t
registry_len(const struct registry *r)
{
	return places_len(&r->places);
}

uint64_t
registry_gaps(const struct registry *r)
{
	return r->gaps;
}

uint32_t
registry_count(const struct registry *r)
{
	return places_count(&r->places);
}

static void
end_linger(struct registry *r, uint32_t idx)
{
	struct entry *e = &r->entries[idx];

	if (e->wanted)
		r->feed->drop(r->owner, idx);
	e->gap = e->gap || (e->live && !r->feed->complete);
	e->wanted = e->live = false;
	list_append(r, LIST_RETIRED, idx);
}

static void
end_refused(struct registry *r, uint32_t idx)
{
	const struct entry *e = &r->entries[idx];

	if (e->nworkers > 0 || e->tails > 0)
		interest_gained(r, idx); /* as if it were just now */
	else
		list_append(r, LIST_RETIRED, idx);
}

/* All records below were handled by all workers, also by those that are away. */
static uint64_t
read_by_all(const struct registry *r)
{
	uint64_t lowest = ring_head(r->publisher->ring);

	for (unsigned i = 0; i < r->publisher->npages; i++) {
		struct page_now now;

		page_look(r->publisher->pages[i], &now);
		if (now.done < lowest)
			lowest = now.done;
	}
	return lowest;
}

/* Whether the ring still holds a message of it, or a control record at or behind
 * `control`. */
static bool
in_ring(const struct registry *r, uint32_t idx, uint64_t control)
{
	const uint64_t oldest = ring_oldest(r->publisher->ring);
	const struct entry *e = &r->entries[idx];

	return directory_newest(r->dir, idx) >= oldest || e->before_gap >= oldest ||
	       e->last_control >= control;
}

/* Free what nobody can refer to any more. A channel without messages is kept as long as
 * the ring names it, so that who comes again is told that nothing was missed; but not
 * more of them than so many: then only until all workers have read what names it. */
static void
free_retired(struct registry *r)
{
	const struct list *retired = &r->lists[LIST_RETIRED];
	uint64_t oldest = ring_oldest(r->publisher->ring), read = read_by_all(r);
	uint32_t n = retired->len / RETIRED_PART + RETIRED_BATCH;

	if (n > retired->len)
		n = retired->len;
	for (; n > 0; n--) {
		uint32_t idx = retired->first;

		if (in_ring(r, idx, retired->len > RETIRED_MAX ? read : oldest))
			list_append(r, LIST_RETIRED, idx); /* to the end: later again */
		else
			entry_free(r, idx);
	}
}

void
registry_tick(struct registry *r, uint64_t now_ms)
{
	const struct list *linger = &r->lists[LIST_LINGER];
	const struct list *refused = &r->lists[LIST_REFUSED];

	r->now_ms = now_ms;
	while (linger->first != NONE && r->entries[linger->first].due_ms <= now_ms)
		end_linger(r, linger->first);
	while (refused->first != NONE && r->entries[refused->first].due_ms <= now_ms)
		end_refused(r, refused->first);
	free_retired(r);
}
