/* redis_commands.c - see redis_commands.h */
#include <errno.h>
#include <string.h>

#include "supervisor/redis_commands.h"
#include "supervisor/supervisor.h"

#define QUEUE_MAX (4u << 20)  /* bytes: no further command meanwhile */
#define RECEIPTS_MAX 16384    /* commands that Redis has not answered yet */
#define REPLY_MAX (64u << 10) /* an error is a line, an answer a number or an id */

static bool
room(const struct redis_commands *c, unsigned share)
{
	return redis_link_queued(c->link) < QUEUE_MAX / share &&
	       c->receipts.len < RECEIPTS_MAX / share;
}

int
redis_commands_put(struct redis_commands *c, int argc, const char *const *argv,
    const size_t *argvlen, const struct receipt *receipt)
{
	if (!redis_link_up(c->link))
		return -ENOTCONN;
	if (!room(c, 1)) {
		c->refused = true;
		return -ENOBUFS;
	}
	if (fifo_push(&c->receipts, receipt) < 0)
		return -ENOMEM;
	if (redis_link_command(c->link, argc, argv, argvlen) < 0) {
		fifo_unpush(&c->receipts);
		return -ENOMEM;
	}
	return 0;
}

static bool
on_reply(void *owner, const redisReply *r)
{
	struct redis_commands *c = owner;
	char quoted[160];
	struct receipt receipt;
	unsigned long missed;
	int err = 0;

	if (r->type == REDIS_REPLY_ERROR) {
		err = strncmp(r->str, "NOPERM", 6) == 0 ? -EACCES : -EIO;
		if (log_allowed(&c->reply_limit, supervisor_now_ms(), &missed))
			log_warning(0, "feed: Redis refuses to publish: %s",
			    log_quote(r->str, r->len, quoted, sizeof(quoted)));
	}
	if (fifo_pop(&c->receipts, &receipt))
		c->env->on_done(c->env->owner, &receipt, err);
	if (c->refused && room(c, 2)) {
		c->refused = false;
		c->env->on_room(c->env->owner);
	}
	return true;
}

static void
on_up(void *owner)
{
	struct redis_commands *c = owner;

	c->on_up(c->owner);
}

static void
on_down(void *owner, const char *why)
{
	struct redis_commands *c = owner;
	struct receipt receipt;

	c->on_down(c->owner, why);
	/* Redis may have taken some of them: nobody can tell any more. */
	while (fifo_pop(&c->receipts, &receipt))
		c->env->on_done(c->env->owner, &receipt, -ENOTCONN);
	if (c->refused) {
		c->refused = false;
		c->env->on_room(c->env->owner);
	}
}

int
redis_commands_init(struct redis_commands *c, const struct feed_env *env,
    struct redis_target *target, void (*up)(void *owner),
    void (*down)(void *owner, const char *why), void *owner)
{
	struct redis_link_config cfg = {
	    .loop = env->loop,
	    .target = target,
	    .reply_max = REPLY_MAX,
	    .on_up = on_up,
	    .on_down = on_down,
	    .on_reply = on_reply,
	    .owner = c,
	};

	*c = (struct redis_commands){
	    .env = env,
	    .receipts.item = sizeof(struct receipt),
	    .on_up = up,
	    .on_down = down,
	    .owner = owner,
	};
	return redis_link_new(&cfg, &c->link);
}

void
redis_commands_done(struct redis_commands *c)
{
	redis_link_free(c->link);
	c->link = NULL;
	fifo_clear(&c->receipts);
}

bool
redis_commands_up(const struct redis_commands *c)
{
	return redis_link_up(c->link);
}

void
redis_commands_flush(struct redis_commands *c)
{
	redis_link_flush(c->link);
}
