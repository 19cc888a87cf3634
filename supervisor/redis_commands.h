/*
 * redis_commands.h - the link that carries what clients publish, as commands of which
 * each has one receipt: pipelined, bounded, and every receipt answered once.
 *
 * When Redis has not answered one for feed.publish_timeout, or the link is down, what
 * comes is refused at once (breaker.h): better than a pile that all wait for.
 */
#ifndef WSCAST_SUPERVISOR_REDIS_COMMANDS_H
#define WSCAST_SUPERVISOR_REDIS_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/journal.h"
#include "supervisor/breaker.h"
#include "supervisor/feed.h"
#include "supervisor/fifo.h"
#include "supervisor/redis_link.h"

struct redis_commands {
	const struct feed_env *env; /* borrowed */
	struct redis_link *link;
	struct fifo pending; /* struct pending: not answered yet */
	struct breaker breaker;
	ev_timer slow; /* runs while anything is pending */
	bool refused;  /* one for want of room: say when there is some */
	struct log_limit reply_limit, breaker_limit;
	void (*on_up)(void *owner);
	void (*on_down)(void *owner, const char *why);
	/* The answer to a command with RECEIPT_OWN. */
	void (*on_own)(void *owner, const redisReply *reply);
	void *owner;
};

/* env, target: borrowed; wish: copied. on_up(), on_down(): as of a link;
 * on_own: may be NULL. */
int redis_commands_init(struct redis_commands *c, const struct feed_env *env,
    struct redis_target *target, const struct redis_wish *wish,
    void (*on_up)(void *owner), void (*on_down)(void *owner, const char *why),
    void (*on_own)(void *owner, const redisReply *reply), void *owner)
    __attribute__((warn_unused_result));
/* Without a word to those who wait for an answer: who is still there to hear it has
 * redis_commands_give_up() first. */
void redis_commands_done(struct redis_commands *c);
/* All that wait are told that the link is down. */
void redis_commands_give_up(struct redis_commands *c);
bool redis_commands_up(const struct redis_commands *c);

/* Queue one. Returns as feed_publish() does; -ENOTCONN while the link is down, or the
 * breaker open: that does not count for RECEIPT_OWN. */
int redis_commands_put(struct redis_commands *c, int argc, const char *const *argv,
    const size_t *argvlen, const struct receipt *receipt)
    __attribute__((warn_unused_result));
void redis_commands_flush(struct redis_commands *c);
/* Fill in what a feed's status says of its breaker. */
void redis_commands_look(const struct redis_commands *c, struct feed_status *ret);

#endif
