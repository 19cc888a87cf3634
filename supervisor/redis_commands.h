/*
 * redis_commands.h - the link that carries what clients publish, as commands of which
 * each has one receipt: pipelined, bounded, and every receipt answered once.
 */
#ifndef WSCAST_SUPERVISOR_REDIS_COMMANDS_H
#define WSCAST_SUPERVISOR_REDIS_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/journal.h"
#include "supervisor/feed.h"
#include "supervisor/fifo.h"
#include "supervisor/redis_link.h"

struct redis_commands {
	const struct feed_env *env; /* borrowed */
	struct redis_link *link;
	struct fifo receipts; /* struct receipt: not answered yet */
	bool refused;         /* one for want of room: say when there is some */
	struct log_limit reply_limit;
	void (*on_up)(void *owner);
	void (*on_down)(void *owner, const char *why);
	void *owner;
};

/* env, target: borrowed. on_up(), on_down(): as of a link. */
int redis_commands_init(struct redis_commands *c, const struct feed_env *env,
    struct redis_target *target, void (*on_up)(void *owner),
    void (*on_down)(void *owner, const char *why), void *owner)
    __attribute__((warn_unused_result));
void redis_commands_done(struct redis_commands *c);
bool redis_commands_up(const struct redis_commands *c);

/* Queue one. Returns as feed_publish() does; -ENOTCONN while the link is down. */
int redis_commands_put(struct redis_commands *c, int argc, const char *const *argv,
    const size_t *argvlen, const struct receipt *receipt)
    __attribute__((warn_unused_result));
void redis_commands_flush(struct redis_commands *c);

#endif
