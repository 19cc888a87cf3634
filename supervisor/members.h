/*
 * members.h - who is in which channel: on this host, and on those that share its Redis.
 *
 * A member is a connection in a channel. It belongs to a source, which is a worker of
 * this host or another host, and goes with it. A source that begins to name all it has
 * anew is taken at its word: what it has not named by the end is gone.
 *
 * Members are shown under an id. Whoever goes and has a name is `away` for a while; who
 * comes to the channel with that name meanwhile, on whichever host, is shown under the
 * id of the one that is away. The channel is told (announce) when the first member of
 * an id comes, and when the last one goes: so each host finds out by itself what to
 * tell, and who comes again in time was never gone.
 *
 * Units    time is the caller's, in milliseconds.
 */
#ifndef WSCAST_SUPERVISOR_MEMBERS_H
#define WSCAST_SUPERVISOR_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/slice.h"
#include "supervisor/hashed.h"

#define MEMBERS_MAX (1u << 20)

struct member_room; /* a channel that has members */

TAILQ_HEAD(member_list, member);

struct member_source {
	struct member_list named;  /* in this naming, or since */
	struct member_list before; /* not yet in the one that goes on */
	bool local;                /* a worker of ours */
	uint64_t sum;              /* of member_sum() over all it has */
	uint32_t n;
};

struct member {
	TAILQ_ENTRY(member) of_source;
	TAILQ_ENTRY(member) of_away; /* while away_until_ms is set */
	struct hashed_link by_client, by_shown, by_user; /* by_user: who is away */
	struct member_room *room;
	struct member_source *source;
	uint64_t client;
	uint64_t shown;
	uint64_t away_until_ms; /* 0 = here */
	uint64_t order;         /* of coming; never used again */
	uint32_t place;         /* in the room's list */
	bool is_before;         /* on its source's list `before` */
	bool in_by_user;        /* nobody has taken its id yet */
	uint16_t user_len, info_len;
	char text[]; /* user, info */
};

struct members_events {
	/* Those who are in the channel are to be told. */
	void (*announce)(void *owner, const struct member *m, bool join);
	/* A local member is new or another / gone: for other hosts. May be NULL. */
	void (*changed)(void *owner, const struct member *m, bool gone);
};

struct members {
	const struct members_events *events;
	void *owner;
	uint32_t grace_ms;
	struct hashed rooms, by_client, by_shown, by_user;
	struct member_list away; /* in the order in which they end */
	uint64_t last_order, last_room;
	size_t n;
	uint64_t refused; /* members beyond MEMBERS_MAX */
};

void members_init(struct members *ms, const struct members_events *events, void *owner);
void members_done(struct members *ms); /* all sources have been dropped */
void member_source_init(struct member_source *src, bool local);

/* What a source says of a member. */
struct member_said {
	struct slice channel; /* name_ok() */
	uint64_t client;
	uint64_t shown; /* 0 = the source leaves it to us */
	bool away;      /* another host's: it has gone, and may come again */
	struct slice user, info;
};

/* It is there, or is another than it was. Returns 0, -ENOSPC or -ENOMEM. */
int members_set(struct members *ms, struct member_source *src,
    const struct member_said *said, uint64_t now_ms)
    __attribute__((warn_unused_result));
/* It is gone: for good, or (a local one that has a name) for as long as the grace. */
void members_leave(struct members *ms, struct member_source *src, struct slice channel,
    uint64_t client, uint64_t now_ms);
void members_drop(struct members *ms, struct member_source *src, struct slice channel,
    uint64_t client);

void members_name_all(struct member_source *src);
void members_named_all(struct members *ms, struct member_source *src, uint64_t now_ms);
/* The source is gone: its members leave / are dropped at once. */
void members_source_leaves(
    struct members *ms, struct member_source *src, uint64_t now_ms);
void members_source_gone(struct members *ms, struct member_source *src);

/* Once in a while: drop those whose grace is over. */
void members_tick(struct members *ms, uint64_t now_ms);

/* ---- who is there ---- */

struct slice member_channel(const struct member *m);
struct slice member_user(const struct member *m);
struct slice member_info(const struct member *m); /* absent, or JSON */
/* A member of a worker of ours; NULL: there is none. */
const struct member *members_find_local(
    const struct members *ms, struct slice channel, uint64_t client);
/* What tells two hosts' views apart: of one member. The same on all hosts. */
uint64_t member_sum(const struct member *m);

/* How many are shown in a channel (about: one that is being taken over counts twice).
 */
size_t members_count(const struct members *ms, struct slice channel);
/* The next member of a channel that came behind `order`; NULL: none. */
const struct member *members_after(
    const struct members *ms, struct slice channel, uint64_t order);

#endif
