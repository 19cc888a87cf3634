/*
 * redis_target.h - which server a link connects to, and how it comes in there: the one
 * that feed.redis names, the master that sentinels name, or a node of a cluster.
 *
 * Sentinels and nodes are asked in turn over a connection of our own, when a link seeks
 * its server and, while there are links, every second: so a link leaves a server that
 * is no longer the right one though it still answers. A sentinel that is behind
 * the others is known by its epoch.
 *
 * What is said over a link is no matter of it, and how a connection is made neither.
 */
#ifndef WSCAST_SUPERVISOR_REDIS_TARGET_H
#define WSCAST_SUPERVISOR_REDIS_TARGET_H

#include <ev.h>
#include <stdbool.h>

#include "proto/redis_url.h"
#include "proto/settings.h"
#include "supervisor/redis_conn.h"
#include "supervisor/redis_topology.h"

struct redis_target;

/* settings: borrowed for the call. Returns 0, -EINVAL (logged) or -ENOMEM. */
int redis_target_new(struct ev_loop *loop, const struct settings *settings,
    struct redis_target **ret_target) __attribute__((warn_unused_result));
void redis_target_free(struct redis_target *t); /* its seekers are stopped */

const struct redis_login *redis_target_login(const struct redis_target *t);
enum redis_form redis_target_form(const struct redis_target *t);
const char *redis_target_where(const struct redis_target *t); /* for people */

/* Which node has which slots, as of the last answer: all zero before the first. */
const struct redis_cluster *redis_target_map(const struct redis_target *t);
/* Be told of each answer, from soon on; it may not change the seekers. */
void redis_target_watch(
    struct redis_target *t, void (*on_map)(void *owner, bool changed), void *owner);
/* The map is wrong: ask now. */
void redis_target_ask(struct redis_target *t);

/* What one who seeks is told. It may not add or remove seekers then. */
struct redis_seeks {
	void (*on_found)(void *owner, const struct redis_address *address);
	/* Nobody could say. why: one line of ASCII. */
	void (*on_lost)(void *owner, const char *why);
	/* What was found is not the right one any more. */
	void (*on_moved)(void *owner, const char *why);
};

/* Where in a cluster; elsewhere there is no choice. All zero: at any node. */
struct redis_wish {
	enum { WISH_ANY, WISH_SLOT, WISH_NODE } kind;
	uint16_t slot;             /* SLOT: at its owner */
	struct redis_address node; /* NODE: there, as long as it is a master */
};

struct redis_seeker {
	struct redis_target *target;
	const struct redis_seeks *seeks;
	void *owner;
	struct redis_wish wish;

	struct redis_seeker *next; /* of the target's */
	bool seeking, found;
	unsigned turn;                /* ANY: which node */
	struct redis_address address; /* found */
};

/* target, seeks: borrowed; wish: copied. */
void redis_seeker_init(struct redis_seeker *s, struct redis_target *target,
    const struct redis_wish *wish, const struct redis_seeks *seeks, void *owner);
void redis_seeker_done(struct redis_seeker *s);
/* One of on_found() and on_lost() follows, perhaps before this returns, unless
 * redis_seeker_stop() does. Who was told an address and seeks again had no luck there.
 */
void redis_seeker_start(struct redis_seeker *s);
void redis_seeker_stop(struct redis_seeker *s);

#endif
