/* redis_commands.c - see redis_commands.h */
#include <errno.h>
#include <string.h>

#include "supervisor/redis_commands.h"
#include "supervisor/redis_error.h"
#include "supervisor/supervisor.h"

#define QUEUE_MAX (4u << 20)  /* bytes: no further command meanwhile */
#define RECEIPTS_MAX 16384    /* commands that Redis has not answered yet */
#define REPLY_MAX (64u << 10) /* an error is a line, an answer a number or an id */

struct pending {
	struct receipt receipt;
	uint64_t asked_ms;
};

static bool
room(const struct redis_commands *c, unsigned share)
{
	return redis_link_queued(c->link) < QUEUE_MAX / share &&
	       c->pending.len < RECEIPTS_MAX / share;
}

/* Who was refused for want of room may come again, and perhaps be refused for good. */
static void
say_room(struct redis_commands *c)
{
	if (!c->refused)
		return;
	c->refused = false;
	c->env->on_room(c->env->owner);
}

/* How long the oldest has waited for its answer. */
static uint64_t
waited_ms(const struct redis_commands *c, uint64_t now_ms)
{
	const struct pending *oldest;

	if (c->pending.len == 0)
		return 0;
	oldest = fifo_at(&c->pending, 0);
	return now_ms - oldest->asked_ms;
}

static void
slow_start(struct redis_commands *c, uint64_t ms)
{
	ev_timer_stop(c->env->loop, &c->slow);
	ev_timer_set(&c->slow, (double)ms / 1000., 0.);
	ev_timer_start(c->env->loop, &c->slow);
}

static void
fail(struct redis_commands *c, uint64_t now_ms, const char *why)
{
	if (c->breaker.state == BREAKER_CLOSED)
		(void)log_limited(&c->breaker_limit, now_ms, LOG_WARNING, 0,
		    "feed: %s: publishes are refused meanwhile", why);
	breaker_failed(&c->breaker, now_ms);
	say_room(c);
}

/* The oldest command is due to have been answered, unless it was and others came. */
static void
on_slow(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct redis_commands *c = container_of(t, struct redis_commands, slow);
	const uint64_t now_ms = supervisor_now_ms(), waited = waited_ms(c, now_ms);
	const uint64_t timeout = c->env->settings->publish_timeout_ms;

	if (c->pending.len == 0)
		return;
	if (waited >= timeout)
		fail(c, now_ms, "Redis does not answer in feed.publish_timeout");
	slow_start(c, waited < timeout ? timeout - waited : timeout);
}

static int
put(struct redis_commands *c, int argc, const char *const *argv, const size_t *argvlen,
    const struct receipt *receipt)
{
	struct pending p = {*receipt, supervisor_now_ms()};

	if (!room(c, 1)) {
		c->refused = receipt->kind != RECEIPT_OWN || c->refused;
		return -ENOBUFS;
	}
	if (fifo_push(&c->pending, &p) < 0)
		return -ENOMEM;
	if (redis_link_command(c->link, argc, argv, argvlen) < 0) {
		fifo_unpush(&c->pending);
		return -ENOMEM;
	}
	if (!ev_is_active(&c->slow))
		slow_start(c, c->env->settings->publish_timeout_ms);
	return 0;
}

int
redis_commands_put(struct redis_commands *c, int argc, const char *const *argv,
    const size_t *argvlen, const struct receipt *receipt)
{
	int r;

	if (!redis_link_up(c->link))
		return -ENOTCONN;
	if (receipt->kind == RECEIPT_OWN)
		return put(c, argc, argv, argvlen, receipt);
	if (!breaker_allows(&c->breaker, supervisor_now_ms()))
		return -ENOTCONN;
	r = put(c, argc, argv, argvlen, receipt);
	if (r < 0)
		breaker_untried(&c->breaker);
	return r;
}

static int
error_of(const redisReply *r)
{
	if (redis_is_elsewhere(r))
		return -ENOTCONN;
	return strncmp(r->str, "NOPERM ", 7) == 0 ? -EACCES : -EIO;
}

static bool
on_reply(void *owner, const redisReply *r)
{
	struct redis_commands *c = owner;
	char quoted[160];
	struct pending p;
	uint64_t now_ms = supervisor_now_ms();
	int err = 0;

	if (!fifo_pop(&c->pending, &p))
		return true;
	if (now_ms - p.asked_ms < c->env->settings->publish_timeout_ms)
		breaker_succeeded(&c->breaker);
	else
		breaker_failed(&c->breaker, now_ms);
	if (p.receipt.kind == RECEIPT_OWN) {
		c->on_own(c->owner, r);
		return true;
	}
	if (r->type == REDIS_REPLY_ERROR) {
		err = error_of(r);
		(void)log_limited(&c->reply_limit, now_ms, LOG_WARNING, 0,
		    "feed: Redis refuses to publish: %s",
		    redis_error_text(r, quoted, sizeof(quoted)));
	}
	c->env->on_done(c->env->owner, &p.receipt, err);
	if (err == -ENOTCONN)
		redis_link_lose(c->link, "it is not the server to publish to any more");
	else if (room(c, 2))
		say_room(c);
	return true;
}

static void
on_up(void *owner)
{
	struct redis_commands *c = owner;

	breaker_succeeded(&c->breaker); /* it has just answered our greeting */
	c->on_up(c->owner);
}

void
redis_commands_give_up(struct redis_commands *c)
{
	struct pending p;

	/* Redis may have taken some of them: nobody can tell any more. */
	while (fifo_pop(&c->pending, &p))
		if (p.receipt.kind != RECEIPT_OWN)
			c->env->on_done(c->env->owner, &p.receipt, -ENOTCONN);
	say_room(c);
}

static void
on_down(void *owner, const char *why)
{
	struct redis_commands *c = owner;

	ev_timer_stop(c->env->loop, &c->slow);
	breaker_failed(&c->breaker, supervisor_now_ms());
	c->on_down(c->owner, why);
	redis_commands_give_up(c);
}

int
redis_commands_init(struct redis_commands *c, const struct feed_env *env,
    struct redis_target *target, const struct redis_wish *wish, void (*up)(void *owner),
    void (*down)(void *owner, const char *why),
    void (*own)(void *owner, const redisReply *reply), void *owner)
{
	struct redis_link_config cfg = {
	    .loop = env->loop,
	    .target = target,
	    .wish = *wish,
	    .reply_max = REPLY_MAX,
	    .probe_ms = env->settings->probe_interval_ms,
	    .on_up = on_up,
	    .on_down = on_down,
	    .on_reply = on_reply,
	    .owner = c,
	};

	*c = (struct redis_commands){
	    .env = env,
	    .pending.item = sizeof(struct pending),
	    .on_up = up,
	    .on_down = down,
	    .on_own = own,
	    .owner = owner,
	};
	ev_timer_init(&c->slow, on_slow, 0., 0.);
	return redis_link_new(&cfg, &c->link);
}

void
redis_commands_done(struct redis_commands *c)
{
	if (c->env != NULL)
		ev_timer_stop(c->env->loop, &c->slow);
	redis_link_free(c->link);
	c->link = NULL;
	fifo_clear(&c->pending);
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

void
redis_commands_look(const struct redis_commands *c, struct feed_status *ret)
{
	ret->breaker = breaker_state_name(c->breaker.state);
	ret->breaker_opened = c->breaker.opened;
}
