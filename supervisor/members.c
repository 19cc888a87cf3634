/* members.c - see members.h */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "shm/directory.h"
#include "supervisor/container_of.h"
#include "supervisor/members.h"

#define PLACES_MIN 8

/* The places of a room are in the order of coming; one whose member went is empty until
 * half of them are. */
struct place {
	uint64_t order;
	struct member *member;
};

struct member_room {
	struct hashed_link by_name;
	uint64_t id; /* never used again */
	struct place *places;
	uint32_t nplaces, cap, n;
	uint16_t name_len;
	char name[];
};

void
members_init(struct members *ms, const struct members_events *events, void *owner)
{
	*ms = (struct members){.events = events, .owner = owner};
	TAILQ_INIT(&ms->away);
}

void
members_done(struct members *ms)
{
	hashed_done(&ms->rooms);
	hashed_done(&ms->by_client);
	hashed_done(&ms->by_shown);
	hashed_done(&ms->by_user);
}

void
member_source_init(struct member_source *src, bool local)
{
	*src = (struct member_source){.local = local};
	TAILQ_INIT(&src->named);
	TAILQ_INIT(&src->before);
}

struct slice
member_channel(const struct member *m)
{
	return (struct slice){m->room->name, m->room->name_len};
}

struct slice
member_user(const struct member *m)
{
	return (struct slice){m->user_len > 0 ? m->text : NULL, m->user_len};
}

struct slice
member_info(const struct member *m)
{
	return (struct slice){
	    m->info_len > 0 ? m->text + m->user_len : NULL, m->info_len};
}

uint64_t
member_sum(const struct member *m)
{
	static const unsigned char key[crypto_shorthash_KEYBYTES];
	unsigned char text[16 + CHANNEL_NAME_MAX];
	uint64_t sum;

	memcpy(text, &m->client, 8);
	memcpy(text + 8, &m->shown, 8);
	memcpy(text + 16, m->room->name, m->room->name_len);
	(void)crypto_shorthash(
	    (unsigned char *)&sum, text, 16u + m->room->name_len, key);
	return sum;
}

/* ---- rooms ---- */

static struct member_room *
room_find(const struct members *ms, struct slice name)
{
	struct hashed_link *link =
	    hashed_first(&ms->rooms, hashed_of(0, name.p, name.len));

	for (; link != NULL; link = hashed_next(link)) {
		struct member_room *room =
		    container_of(link, struct member_room, by_name);

		if (room->name_len == name.len &&
		    memcmp(room->name, name.p, name.len) == 0)
			return room;
	}
	return NULL;
}

static struct member_room *
room_take(struct members *ms, struct slice name)
{
	struct member_room *room = room_find(ms, name);

	if (room != NULL)
		return room;
	room = calloc(1, sizeof(*room) + name.len);
	if (room == NULL)
		return NULL;
	room->id = ++ms->last_room;
	room->name_len = (uint16_t)name.len;
	memcpy(room->name, name.p, name.len);
	if (hashed_add(&ms->rooms, &room->by_name, hashed_of(0, name.p, name.len)) <
	    0) {
		free(room);
		return NULL;
	}
	return room;
}

/* Nobody is in it any more. */
static void
room_give(struct members *ms, struct member_room *room)
{
	if (room->n > 0)
		return;
	hashed_del(&ms->rooms, &room->by_name);
	free(room->places);
	free(room);
}

static void
room_compact(struct member_room *room)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < room->nplaces; i++) {
		if (room->places[i].member == NULL)
			continue;
		room->places[kept] = room->places[i];
		room->places[kept].member->place = kept;
		kept++;
	}
	room->nplaces = kept;
}

static int
room_add(struct member_room *room, struct member *m)
{
	if (room->nplaces == room->cap) {
		uint32_t cap = room->cap == 0 ? PLACES_MIN : 2 * room->cap;
		struct place *places = reallocarray(room->places, cap, sizeof(*places));

		if (places == NULL)
			return -ENOMEM;
		room->places = places;
		room->cap = cap;
	}
	m->place = room->nplaces;
	room->places[room->nplaces++] = (struct place){m->order, m};
	room->n++;
	return 0;
}

static void
room_del(struct member_room *room, const struct member *m)
{
	room->places[m->place].member = NULL;
	room->n--;
	if (room->nplaces > PLACES_MIN && room->n < room->nplaces / 2)
		room_compact(room);
}

/* ---- finding ---- */

static uint64_t
user_hash(const struct member_room *room, struct slice user)
{
	return hashed_of(room->id, user.p, user.len);
}

static struct member *
find(const struct members *ms, const struct member_source *src,
    const struct member_room *room, uint64_t client)
{
	struct hashed_link *link =
	    hashed_first(&ms->by_client, hashed_of(room->id ^ client, NULL, 0));

	for (; link != NULL; link = hashed_next(link)) {
		struct member *m = container_of(link, struct member, by_client);

		if (m->room == room && m->client == client && m->source == src)
			return m;
	}
	return NULL;
}

const struct member *
members_find_local(const struct members *ms, struct slice channel, uint64_t client)
{
	const struct member_room *room = room_find(ms, channel);
	struct hashed_link *link =
	    room == NULL
		? NULL
		: hashed_first(&ms->by_client, hashed_of(room->id ^ client, NULL, 0));

	for (; link != NULL; link = hashed_next(link)) {
		const struct member *m = container_of(link, struct member, by_client);

		if (m->room == room && m->client == client && m->source->local)
			return m;
	}
	return NULL;
}

/* Another member that is shown under the same id. */
static struct member *
double_of(const struct members *ms, const struct member *of)
{
	struct hashed_link *link = hashed_first(&ms->by_shown, of->by_shown.hash);

	for (; link != NULL; link = hashed_next(link)) {
		struct member *m = container_of(link, struct member, by_shown);

		if (m != of && m->room == of->room && m->shown == of->shown)
			return m;
	}
	return NULL;
}

static struct member *
find_away(const struct members *ms, const struct member_room *room, struct slice user)
{
	struct hashed_link *link =
	    user.len == 0 ? NULL : hashed_first(&ms->by_user, user_hash(room, user));

	for (; link != NULL; link = hashed_next(link)) {
		struct member *m = container_of(link, struct member, by_user);

		if (m->room == room && m->user_len == user.len &&
		    memcmp(m->text, user.p, user.len) == 0)
			return m;
	}
	return NULL;
}

/* ---- away and back ---- */

static void
away_end(struct members *ms, struct member *m)
{
	if (m->away_until_ms == 0)
		return;
	TAILQ_REMOVE(&ms->away, m, of_away);
	if (m->in_by_user)
		hashed_del(&ms->by_user, &m->by_user);
	m->in_by_user = false;
	m->away_until_ms = 0;
}

static void
away_begin(struct members *ms, struct member *m, uint64_t until_ms)
{
	struct member *last = TAILQ_LAST(&ms->away, member_list);

	if (m->away_until_ms != 0)
		return;
	/* In order, even where the grace became shorter meanwhile. */
	if (last != NULL && last->away_until_ms > until_ms)
		until_ms = last->away_until_ms;
	m->away_until_ms = until_ms;
	TAILQ_INSERT_TAIL(&ms->away, m, of_away);
	m->in_by_user = hashed_add(&ms->by_user, &m->by_user,
			    user_hash(m->room, member_user(m))) == 0;
}

/* ---- coming and going ---- */

static struct member_list *
list_of(const struct member *m)
{
	return m->is_before ? &m->source->before : &m->source->named;
}

static void
unlink_member(struct members *ms, struct member *m)
{
	away_end(ms, m);
	TAILQ_REMOVE(list_of(m), m, of_source);
	m->source->n--;
	m->source->sum ^= member_sum(m);
	hashed_del(&ms->by_client, &m->by_client);
	hashed_del(&ms->by_shown, &m->by_shown);
	room_del(m->room, m);
	ms->n--;
}

static void
drop(struct members *ms, struct member *m)
{
	struct member_room *room = m->room;

	unlink_member(ms, m);
	if (double_of(ms, m) == NULL)
		ms->events->announce(ms->owner, m, false);
	if (m->source->local && ms->events->changed != NULL)
		ms->events->changed(ms->owner, m, true);
	free(m);
	room_give(ms, room);
}

static int
link_member(struct members *ms, struct member *m)
{
	int r = room_add(m->room, m);

	if (r < 0)
		return r;
	r = hashed_add(
	    &ms->by_client, &m->by_client, hashed_of(m->room->id ^ m->client, NULL, 0));
	if (r < 0)
		goto fail_room;
	r = hashed_add(
	    &ms->by_shown, &m->by_shown, hashed_of(m->room->id ^ ~m->shown, NULL, 0));
	if (r < 0)
		goto fail_client;
	TAILQ_INSERT_TAIL(&m->source->named, m, of_source);
	m->source->n++;
	m->source->sum ^= member_sum(m);
	ms->n++;
	return 0;
fail_client:
	hashed_del(&ms->by_client, &m->by_client);
fail_room:
	room_del(m->room, m);
	return r;
}

static bool
says_the_same(const struct member *m, const struct member_said *said)
{
	return m->user_len == said->user.len && m->info_len == said->info.len &&
	       (said->shown == 0 || said->shown == m->shown) &&
	       (said->user.len == 0 ||
		   memcmp(m->text, said->user.p, said->user.len) == 0) &&
	       (said->info.len == 0 ||
		   memcmp(m->text + m->user_len, said->info.p, said->info.len) == 0);
}

/* A member that is known is named again. */
static void
name_again(struct members *ms, struct member *m)
{
	TAILQ_REMOVE(list_of(m), m, of_source);
	m->is_before = false;
	TAILQ_INSERT_TAIL(&m->source->named, m, of_source);
	if (m->away_until_ms == 0)
		return;
	away_end(ms, m);
	if (m->source->local && ms->events->changed != NULL)
		ms->events->changed(ms->owner, m, false);
}

static struct member *
member_new(struct members *ms, struct member_source *src, struct member_room *room,
    const struct member_said *said)
{
	struct member *m = calloc(1, sizeof(*m) + said->user.len + said->info.len);

	if (m == NULL)
		return NULL;
	m->room = room;
	m->source = src;
	m->client = said->client;
	m->order = ++ms->last_order;
	m->user_len = (uint16_t)said->user.len;
	m->info_len = (uint16_t)said->info.len;
	if (said->user.len > 0)
		memcpy(m->text, said->user.p, said->user.len);
	if (said->info.len > 0)
		memcpy(m->text + m->user_len, said->info.p, said->info.len);
	return m;
}

/* Under which id it is shown: that of one who is away, if it has the same name. Nobody
 * else gets that id. */
static uint64_t
shown_of(struct members *ms, const struct member_room *room,
    const struct member_said *said, const struct member *old)
{
	struct member *away = NULL;

	if (said->shown != 0)
		return said->shown;
	if (old != NULL)
		return old->shown;
	away = find_away(ms, room, said->user);
	if (away == NULL)
		return said->client;
	hashed_del(&ms->by_user, &away->by_user);
	away->in_by_user = false;
	return away->shown;
}

/* Those of ours whose place it takes need not wait for their end. */
static void
take_over(struct members *ms, const struct member *m)
{
	struct member *other = double_of(ms, m);

	if (other != NULL && other->away_until_ms != 0 && other->source->local)
		drop(ms, other);
}

static int
add(struct members *ms, struct member_source *src, struct member_room *room,
    const struct member_said *said, struct member *old)
{
	struct member *m;
	int r;

	if (ms->n >= MEMBERS_MAX) {
		ms->refused++;
		return -ENOSPC;
	}
	m = member_new(ms, src, room, said);
	if (m == NULL)
		return -ENOMEM;
	m->shown = shown_of(ms, room, said, old);
	r = link_member(ms, m);
	if (r < 0) {
		free(m);
		return r;
	}
	if (old != NULL) { /* what is told of it now is told as a change */
		unlink_member(ms, old);
		free(old);
	} else if (double_of(ms, m) == NULL) {
		ms->events->announce(ms->owner, m, true);
	}
	if (src->local && ms->events->changed != NULL)
		ms->events->changed(ms->owner, m, false);
	take_over(ms, m);
	return 0;
}

int
members_set(struct members *ms, struct member_source *src,
    const struct member_said *said, uint64_t now_ms)
{
	struct member_room *room = room_take(ms, said->channel);
	struct member *m;
	int r = 0;

	if (room == NULL)
		return -ENOMEM;
	m = find(ms, src, room, said->client);
	if (m != NULL && says_the_same(m, said))
		name_again(ms, m);
	else
		r = add(ms, src, room, said, m);
	if (r < 0) {
		room_give(ms, room);
		return r;
	}
	if (!said->away)
		return 0;
	/* Its host ends it; ours only should that host fall silent. */
	m = find(ms, src, room, said->client);
	if (m != NULL)
		away_begin(ms, m, now_ms + ms->grace_ms * 2u);
	return 0;
}

static void
leave(struct members *ms, struct member *m, uint64_t now_ms)
{
	if (m->user_len == 0 || ms->grace_ms == 0 || double_of(ms, m) != NULL) {
		drop(ms, m);
		return;
	}
	if (m->away_until_ms != 0)
		return;
	away_begin(ms, m, now_ms + ms->grace_ms);
	if (m->source->local && ms->events->changed != NULL)
		ms->events->changed(ms->owner, m, false);
}

void
members_leave(struct members *ms, struct member_source *src, struct slice channel,
    uint64_t client, uint64_t now_ms)
{
	struct member_room *room = room_find(ms, channel);
	struct member *m = room == NULL ? NULL : find(ms, src, room, client);

	if (m != NULL)
		leave(ms, m, now_ms);
}

void
members_drop(struct members *ms, struct member_source *src, struct slice channel,
    uint64_t client)
{
	struct member_room *room = room_find(ms, channel);
	struct member *m = room == NULL ? NULL : find(ms, src, room, client);

	if (m != NULL)
		drop(ms, m);
}

/* ---- sources ---- */

void
members_name_all(struct member_source *src)
{
	struct member *m;

	TAILQ_FOREACH(m, &src->named, of_source)
	m->is_before = true;
	TAILQ_CONCAT(&src->before, &src->named, of_source);
}

void
members_named_all(struct members *ms, struct member_source *src, uint64_t now_ms)
{
	struct member *m, *next;

	for (m = TAILQ_FIRST(&src->before); m != NULL; m = next) {
		next = TAILQ_NEXT(m, of_source);
		if (src->local)
			leave(ms, m, now_ms); /* may stay there, away */
		else
			drop(ms, m);
	}
}

void
members_source_leaves(struct members *ms, struct member_source *src, uint64_t now_ms)
{
	members_name_all(src);
	for (struct member *m = TAILQ_FIRST(&src->before), *next; m != NULL; m = next) {
		next = TAILQ_NEXT(m, of_source);
		leave(ms, m, now_ms);
	}
}

void
members_source_gone(struct members *ms, struct member_source *src)
{
	members_name_all(src);
	for (struct member *m = TAILQ_FIRST(&src->before), *next; m != NULL; m = next) {
		next = TAILQ_NEXT(m, of_source); /* another's end ends none of these */
		drop(ms, m);
	}
}

void
members_tick(struct members *ms, uint64_t now_ms)
{
	struct member *m;

	while ((m = TAILQ_FIRST(&ms->away)) != NULL && m->away_until_ms <= now_ms)
		drop(ms, m);
}

/* ---- who is there ---- */

size_t
members_count(const struct members *ms, struct slice channel)
{
	const struct member_room *room = room_find(ms, channel);

	return room == NULL ? 0 : room->n;
}

const struct member *
members_after(const struct members *ms, struct slice channel, uint64_t order)
{
	const struct member_room *room = room_find(ms, channel);
	uint32_t lo = 0, hi = room == NULL ? 0 : room->nplaces;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (room->places[mid].order <= order)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; room != NULL && lo < room->nplaces; lo++) {
		const struct member *m = room->places[lo].member;

		/* Who is away and has come again elsewhere is shown once. */
		if (m != NULL && (m->away_until_ms == 0 || double_of(ms, m) == NULL))
			return m;
	}
	return NULL;
}
