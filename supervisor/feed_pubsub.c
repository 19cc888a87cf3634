/*
 * feed_pubsub.c - Redis pub/sub; see feed.h.
 *
 * Two links: one subscribes, for the whole host and only to what somebody here wants;
 * the other publishes. The feed is up while both are, and a message of our own has come
 * all the way (feed_probe.h).
 *
 * What passes while the subscribing link is down is lost, and nobody can say how much:
 * the registry writes a gap for each channel once it is subscribed again.
 *
 * Source   Redis: SUBSCRIBE, UNSUBSCRIBE, PUBLISH
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "shm/directory.h"
#include "supervisor/feed_probe.h"
#include "supervisor/feed_state.h"
#include "supervisor/redis_commands.h"
#include "supervisor/redis_error.h"
#include "supervisor/redis_link.h"
#include "supervisor/supervisor.h"

#define BATCH 128                    /* channels of one SUBSCRIBE */
#define ASKED_MAX 4096               /* channels that Redis has not answered yet */
#define SUBSCRIBE_QUEUE (256u << 10) /* bytes: no further SUBSCRIBE meanwhile */
#define REPLY_MARGIN (64u << 10)

/* A channel that is to be, or was, subscribed; `gen` tells whether it still is. Or the
 * probe's, which is none of the registry's. Or an UNSUBSCRIBE, whose answer comes in
 * its turn among theirs. */
struct asked {
	uint32_t channel, gen;
	bool unsubscribe;
	bool probe;
	bool first; /* of its command */
	bool alone; /* refused together with others: ask for it by itself */
};

struct pubsub {
	struct feed feed;
	struct redis_target *target;
	struct feed_state state;
	char *prefix;
	size_t prefix_len;
	struct redis_link *sub;
	struct redis_commands commands;
	struct feed_probe probe;
	ev_timer probe_timer;

	struct log_limit reply_limit;

	struct fifo todo;  /* struct asked: to be sent */
	struct fifo asked; /* struct asked: sent */
	uint32_t again;    /* next channel to be subscribed again; UINT32_MAX: none */
	uint32_t *gens;    /* by channel: rises when it is dropped */
	uint32_t ngens;
	char *names; /* BATCH names with their prefix */
};

/* ---- up and down ---- */

static void
link_up(struct pubsub *p)
{
	if (redis_link_up(p->sub) && redis_commands_up(&p->commands) &&
	    feed_probe_passed(&p->probe))
		feed_state_up(&p->state);
}

/* ---- the probe ---- */

static void
probe_refused(struct pubsub *p)
{
	feed_probe_refused(&p->probe);
	link_up(p);
}

static void
on_own_reply(void *owner, const redisReply *r)
{
	struct pubsub *p = owner;

	if (r->type == REDIS_REPLY_ERROR && p->probe.state == PROBE_LIVE)
		probe_refused(p);
}

static void
on_probe_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct pubsub *p = container_of(t, struct pubsub, probe_timer);

	ev_timer_again(loop, t); /* one that was late is not made up for */
	feed_probe_run(
	    &p->probe, p->feed.env.settings->probe_interval_ms, p->sub, &p->commands);
}

/* ---- subscribing ---- */

static uint32_t
gen_of(const struct pubsub *p, uint32_t channel)
{
	return channel < p->ngens ? p->gens[channel] : 0;
}

static void
gen_next(struct pubsub *p, uint32_t channel)
{
	if (channel >= p->ngens) {
		uint32_t n = channel < 512 ? 1024 : 2 * channel;
		uint32_t *gens = reallocarray(p->gens, n, sizeof(*gens));

		if (gens == NULL)
			return; /* at worst a channel is taken to be live too early */
		memset(gens + p->ngens, 0, (n - p->ngens) * sizeof(*gens));
		p->gens = gens;
		p->ngens = n;
	}
	p->gens[channel]++;
}

static bool
still_asked(const struct pubsub *p, const struct asked *a)
{
	return a->probe || (a->gen == gen_of(p, a->channel) &&
			       registry_wanted(p->feed.env.registry, a->channel));
}

/* Redis' answer to a SUBSCRIBE, or why it was not sent. */
static void
confirm(struct pubsub *p, const struct asked *a, int err)
{
	if (!a->probe) {
		registry_confirmed(p->feed.env.registry, a->channel, err);
	} else if (err < 0) {
		probe_refused(p);
	} else {
		p->probe.state = PROBE_LIVE;
		feed_probe_publish(&p->probe, &p->commands);
	}
}

/* A channel's name as Redis knows it; returns its length. */
static size_t
redis_name(const struct pubsub *p, uint32_t channel, char *out)
{
	size_t len;
	const char *name = registry_name(p->feed.env.registry, channel, &len);

	memcpy(out, p->prefix, p->prefix_len);
	memcpy(out + p->prefix_len, name, len);
	return p->prefix_len + len;
}

static void
on_pubsub_want(struct feed *f, uint32_t channel)
{
	struct pubsub *p = container_of(f, struct pubsub, feed);
	struct asked a = {.channel = channel, .gen = gen_of(p, channel)};

	/* While the link is down: all that is wanted is asked for when it is up. */
	if (redis_link_up(p->sub) && fifo_push(&p->todo, &a) < 0)
		registry_confirmed(f->env.registry, channel, -ENOMEM);
}

static void
on_pubsub_drop(struct feed *f, uint32_t channel)
{
	struct pubsub *p = container_of(f, struct pubsub, feed);
	const char *argv[2] = {"UNSUBSCRIBE", p->names};
	size_t lens[2] = {11, redis_name(p, channel, p->names)};

	struct asked a = {.channel = channel, .unsubscribe = true, .first = true};

	gen_next(p, channel);
	if (!redis_link_up(p->sub))
		return;
	/* Without memory Redis goes on to send what nobody wants: it is ignored. */
	if (fifo_push(&p->asked, &a) == 0) {
		if (redis_link_command(p->sub, 2, argv, lens) == 0)
			return;
		fifo_unpush(&p->asked);
	}
	(void)log_limited(&p->reply_limit, supervisor_now_ms(), LOG_WARNING, -ENOMEM,
	    "feed: a channel stays subscribed at Redis");
}

/* The next channel to subscribe. */
static bool
next_todo(struct pubsub *p, struct asked *ret)
{
	while (fifo_pop(&p->todo, ret))
		if (still_asked(p, ret))
			return true;
	*ret = (struct asked){0};
	if (p->again != UINT32_MAX &&
	    registry_next_wanted(p->feed.env.registry, &p->again, &ret->channel)) {
		ret->gen = gen_of(p, ret->channel);
		return true;
	}
	p->again = UINT32_MAX;
	/* Last of all, so that its answer comes behind all of theirs. */
	if (p->probe.state != PROBE_DUE)
		return false;
	p->probe.state = PROBE_ASKED;
	ret->probe = ret->alone = true;
	return true;
}

static size_t
asked_name(const struct pubsub *p, const struct asked *a, char *out)
{
	if (!a->probe)
		return redis_name(p, a->channel, out);
	memcpy(out, p->probe.name, p->probe.name_len);
	return p->probe.name_len;
}

/* One SUBSCRIBE. Returns false when there is nothing to ask for. */
static bool
subscribe_some(struct pubsub *p)
{
	const char *argv[BATCH + 1] = {"SUBSCRIBE"};
	size_t lens[BATCH + 1] = {9}, used = 0;
	struct asked a;
	int n = 0;

	while (n < BATCH && next_todo(p, &a)) {
		/* What must go alone waits for its turn to be the first. */
		if (a.alone && n > 0) {
			if (fifo_push(&p->todo, &a) < 0)
				confirm(p, &a, -ENOMEM);
			break;
		}
		a.first = n == 0;
		if (fifo_push(&p->asked, &a) < 0) {
			confirm(p, &a, -ENOMEM);
			continue;
		}
		n++;
		argv[n] = p->names + used;
		lens[n] = asked_name(p, &a, p->names + used);
		used += lens[n];
		if (a.alone)
			break;
	}
	if (n == 0)
		return false;
	/* On failure the probe's answer will not fit, and the link starts anew. */
	return redis_link_command(p->sub, n + 1, argv, lens) == 0;
}

static void
on_pubsub_flush(struct feed *f)
{
	struct pubsub *p = container_of(f, struct pubsub, feed);

	while (redis_link_up(p->sub) && p->asked.len < ASKED_MAX &&
	       redis_link_queued(p->sub) < SUBSCRIBE_QUEUE && subscribe_some(p))
		;
	redis_link_flush(p->sub);
	redis_commands_flush(&p->commands);
}

/* Whether the next command to be answered is an UNSUBSCRIBE. */
static bool
unsubscribe_is_next(const struct pubsub *p)
{
	return p->asked.len > 0 &&
	       ((const struct asked *)fifo_at(&p->asked, 0))->unsubscribe;
}

static void
on_subscribed(struct pubsub *p)
{
	struct asked a;

	if (!unsubscribe_is_next(p) && fifo_pop(&p->asked, &a) && still_asked(p, &a))
		confirm(p, &a, 0);
}

static void
on_unsubscribed(struct pubsub *p)
{
	struct asked a;

	if (unsubscribe_is_next(p))
		(void)fifo_pop(&p->asked, &a);
}

/* Redis refused a command: a whole SUBSCRIBE, though perhaps not for all of its
 * channels. */
static void
on_sub_error(struct pubsub *p, const redisReply *reply)
{
	int err = strncmp(reply->str, "NOPERM", 6) == 0 ? -EACCES : -EIO;
	char quoted[160];
	struct asked a;
	bool many;

	if (!fifo_pop(&p->asked, &a))
		return;
	if (a.unsubscribe) {
		/* It goes on to send what nobody wants, which is ignored. */
		(void)log_limited(&p->reply_limit, supervisor_now_ms(), LOG_WARNING, 0,
		    "feed: Redis refuses an UNSUBSCRIBE: %s",
		    redis_error_text(reply, quoted, sizeof(quoted)));
		return;
	}
	many = p->asked.len > 0 && !((struct asked *)fifo_at(&p->asked, 0))->first;
	for (;;) {
		a.alone = true;
		if (still_asked(p, &a) && (!many || fifo_push(&p->todo, &a) < 0))
			confirm(p, &a, err);
		if (p->asked.len == 0 || ((struct asked *)fifo_at(&p->asked, 0))->first)
			break;
		(void)fifo_pop(&p->asked, &a);
	}
	if (!many)
		(void)log_limited(&p->reply_limit, supervisor_now_ms(), LOG_WARNING, 0,
		    "feed: Redis refuses a subscription: %s",
		    redis_error_text(reply, quoted, sizeof(quoted)));
}

/* Returns false when there is no room. */
static bool
on_message(struct pubsub *p, const redisReply *name, const redisReply *data)
{
	struct registry *reg = p->feed.env.registry;
	uint32_t channel;

	if (name->str == NULL || data->str == NULL || name->len < p->prefix_len)
		return true;
	if (feed_probe_is(&p->probe, name->str, name->len)) {
		feed_probe_take(&p->probe, data->str, data->len, supervisor_now_ms());
		link_up(p);
		return true;
	}
	channel =
	    registry_find(reg, name->str + p->prefix_len, name->len - p->prefix_len);
	if (channel == UINT32_MAX || !registry_live(reg, channel))
		return true; /* it was dropped a moment ago */
	if (feed_message(&p->feed, channel, (struct slice){NULL, 0}, data->str,
		data->len) == -ENOBUFS)
		return false;
	p->probe.messages++;
	return true;
}

static bool
on_sub_reply(void *owner, const redisReply *r)
{
	struct pubsub *p = owner;
	const char *kind;

	if (r->type == REDIS_REPLY_ERROR) {
		on_sub_error(p, r);
		return true;
	}
	if (r->elements < 3 || r->element[0]->str == NULL)
		return true;
	kind = r->element[0]->str;
	if (strcmp(kind, "message") == 0)
		return on_message(p, r->element[1], r->element[2]);
	if (strcmp(kind, "subscribe") == 0)
		on_subscribed(p);
	else if (strcmp(kind, "unsubscribe") == 0)
		on_unsubscribed(p);
	return true;
}

static void
on_sub_up(void *owner)
{
	struct pubsub *p = owner;

	p->again = 0;
	link_up(p);
}

static void
on_sub_down(void *owner, const char *why)
{
	struct pubsub *p = owner;

	fifo_clear(&p->todo);
	fifo_clear(&p->asked);
	p->again = UINT32_MAX;
	feed_probe_reset(&p->probe);
	registry_lost(p->feed.env.registry);
	feed_state_down(&p->state, why);
}

/* ---- publishing ---- */

static int
on_pubsub_publish(
    struct feed *f, const struct feed_publish *m, const struct receipt *receipt)
{
	struct pubsub *p = container_of(f, struct pubsub, feed);
	const char *argv[3] = {"PUBLISH", p->names, m->data.p};
	size_t lens[3] = {7, p->prefix_len + m->channel.len, m->data.len};

	if (m->key.len > 0)
		return -EPROTONOSUPPORT;
	if (!p->state.up)
		return -ENOTCONN;
	if (m->data.len > ring_frame_max(f->env.publisher->ring) - CHANNEL_NAME_MAX)
		return -EMSGSIZE; /* Redis would take it, and we then could not */
	memcpy(p->names, p->prefix, p->prefix_len);
	memcpy(p->names + p->prefix_len, m->channel.p, m->channel.len);
	return redis_commands_put(&p->commands, 3, argv, lens, receipt);
}

static void
on_cmd_up(void *owner)
{
	struct pubsub *p = owner;

	feed_probe_publish(&p->probe, &p->commands);
	link_up(p);
}

static void
on_cmd_down(void *owner, const char *why)
{
	struct pubsub *p = owner;

	feed_state_down(&p->state, why);
}

/* ---- life ---- */

static void
on_pubsub_resume(struct feed *f)
{
	struct pubsub *p = container_of(f, struct pubsub, feed);

	redis_link_resume(p->sub);
}

static void
on_pubsub_status(const struct feed *f, struct feed_status *ret)
{
	const struct pubsub *p = container_of(f, struct pubsub, feed);

	feed_state_look(&p->state, feed_probe_lag_ms(&p->probe, p->sub), ret);
	redis_commands_look(&p->commands, ret);
}

static void
on_pubsub_free(struct feed *f)
{
	struct pubsub *p = container_of(f, struct pubsub, feed);

	ev_timer_stop(p->feed.env.loop, &p->probe_timer);
	redis_link_free(p->sub);
	redis_commands_done(&p->commands);
	redis_target_free(p->target);
	fifo_clear(&p->todo);
	fifo_clear(&p->asked);
	free(p->gens);
	free(p->names);
	free(p->prefix);
	free(p);
}

static const struct feed_ops pubsub_ops = {
    .want = on_pubsub_want,
    .drop = on_pubsub_drop,
    .publish = on_pubsub_publish,
    .flush = on_pubsub_flush,
    .resume = on_pubsub_resume,
    .status = on_pubsub_status,
    .free = on_pubsub_free,
    .complete = false,
};

static int
links_new(struct pubsub *p)
{
	struct redis_link_config sub = {
	    .loop = p->feed.env.loop,
	    .target = p->target,
	    .subscriber = true,
	    .reply_max = 4 * ring_frame_max(p->feed.env.publisher->ring) + REPLY_MARGIN,
	    .probe_ms = p->feed.env.settings->probe_interval_ms,
	    .on_up = on_sub_up,
	    .on_down = on_sub_down,
	    .on_reply = on_sub_reply,
	    .owner = p,
	};
	int r = redis_link_new(&sub, &p->sub);

	return r < 0 ? r
		     : redis_commands_init(&p->commands, &p->feed.env, p->target,
			   &sub.wish, on_cmd_up, on_cmd_down, on_own_reply, p);
}

int
feed_pubsub_new(const struct feed_env *env, struct feed **ret_feed)
{
	struct pubsub *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (p == NULL)
		return r;
	p->feed.ops = &pubsub_ops;
	p->feed.env = *env;
	p->todo.item = p->asked.item = sizeof(struct asked);
	p->again = UINT32_MAX;
	ev_timer_init(&p->probe_timer, on_probe_timer, 0.,
	    env->settings->probe_interval_ms / 1000.);
	p->prefix = strdup(env->settings->prefix);
	if (p->prefix == NULL)
		goto fail;
	p->prefix_len = strlen(p->prefix);
	feed_probe_init(&p->probe, p->prefix, "PUBLISH");
	p->names = malloc(BATCH * (p->prefix_len + CHANNEL_NAME_MAX));
	if (p->names == NULL)
		goto fail;
	r = redis_target_new(env->loop, env->settings, &p->target);
	if (r < 0)
		goto fail;
	feed_state_init(
	    &p->state, &p->feed.env, "pubsub", redis_target_where(p->target));
	r = links_new(p);
	if (r < 0)
		goto fail;
	ev_timer_again(env->loop, &p->probe_timer);
	*ret_feed = &p->feed;
	return 0;
fail:
	on_pubsub_free(&p->feed);
	return r;
}
