/*
 * redis_target.h - which server a link connects to, and how it comes in there: the one
 * that feed.redis names.
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

struct redis_target;

/* settings: borrowed. Returns 0, -EINVAL (logged) or -ENOMEM. */
int redis_target_new(struct ev_loop *loop, const struct settings *settings,
    struct redis_target **ret_target) __attribute__((warn_unused_result));
void redis_target_free(struct redis_target *t); /* its seekers are stopped */

const struct redis_login *redis_target_login(const struct redis_target *t);
/* The server must say that it is the master. */
bool redis_target_is_master(const struct redis_target *t);
const char *redis_target_where(const struct redis_target *t); /* for people */

/* What one who seeks is told. */
struct redis_seeks {
	void (*on_found)(void *owner, const struct redis_address *address);
	/* Nobody could say. why: one line of ASCII. */
	void (*on_lost)(void *owner, const char *why);
};

struct redis_seeker {
	struct redis_target *target;
	const struct redis_seeks *seeks;
	void *owner;
};

/* target, seeks: borrowed. */
void redis_seeker_init(struct redis_seeker *s, struct redis_target *target,
    const struct redis_seeks *seeks, void *owner);
/* One of on_found() and on_lost() follows, perhaps before this returns, unless
 * redis_seeker_stop() does. */
void redis_seeker_start(struct redis_seeker *s);
void redis_seeker_stop(struct redis_seeker *s);

#endif
