/*
 * feed_sharded.c - sharded pub/sub of a Redis cluster; see feed.h.
 *
 * A channel lies in a slot, and is subscribed and published at the slot's owner. So
 * there are two links to each master (a shard), and the target's map says which is
 * whose. When a slot moves, its old owner says that he no longer serves its channels
 * (sunsubscribe), or refuses by MOVED: those channels are subscribed anew where the map
 * then says, and have a gap, as have those of a shard whose link was lost. Each shard's
 * link is probed by messages of our own in a slot of that shard (feed_probe.h).
 *
 * Source   Redis: SSUBSCRIBE, SUNSUBSCRIBE, SPUBLISH; redis.io, "Sharded Pub/Sub"
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "shm/directory.h"
#include "supervisor/feed_probe.h"
#include "supervisor/feed_state.h"
#include "supervisor/redis_commands.h"
#include "supervisor/redis_error.h"
#include "supervisor/redis_link.h"
#include "supervisor/redis_topology.h"
#include "supervisor/supervisor.h"

#define ASKED_MAX 4096               /* channels that a node has not answered yet */
#define SUBSCRIBE_QUEUE (256u << 10) /* bytes: no further SSUBSCRIBE meanwhile */
#define REPLY_MARGIN (64u << 10)
#define PROBE_TAGS 65536u /* looked at, for one in a slot of a shard */

/* A SSUBSCRIBE or SUNSUBSCRIBE, each of one channel: a node answers in turn. Or of the
 * probe's channel, which is none of the registry's. */
struct asked {
	uint32_t channel, gen;
	bool unsubscribe;
	bool probe;
};

struct sharded;

struct shard {
	struct sharded *all;
	struct redis_address address;
	struct redis_link *sub;
	struct redis_commands commands;
	struct fifo todo;  /* uint32_t: channels to be subscribed */
	struct fifo asked; /* struct asked: not answered yet */
	struct feed_probe probe;
};

/* Of a channel of the registry. */
struct place {
	struct shard *shard; /* where it is subscribed, or NULL */
	uint32_t gen;        /* rises when it is dropped */
};

struct sharded {
	struct feed feed;
	struct feed_state state;
	struct redis_target *target;
	char *prefix;
	size_t prefix_len;
	char *name; /* one with its prefix */

	struct shard *shards[REDIS_NODES_MAX];
	unsigned nshards;
	struct place *places; /* by channel */
	uint32_t nplaces;
	bool map_came; /* to be applied */
	bool retry;    /* somebody knew better than the map */
	ev_timer probe_timer;
	struct log_limit reply_limit;
};

/* ---- channels and their places ---- */

static struct place *
place_of(struct sharded *s, uint32_t channel)
{
	if (channel >= s->nplaces) {
		uint32_t n = channel < 512 ? 1024 : 2 * channel;
		struct place *places = reallocarray(s->places, n, sizeof(*places));

		if (places == NULL)
			return NULL;
		memset(places + s->nplaces, 0, (n - s->nplaces) * sizeof(*places));
		s->places = places;
		s->nplaces = n;
	}
	return &s->places[channel];
}

/* The name as Redis knows it, in s->name; returns its length. */
static size_t
redis_name(struct sharded *s, const char *name, size_t len)
{
	memcpy(s->name, s->prefix, s->prefix_len);
	memcpy(s->name + s->prefix_len, name, len);
	return s->prefix_len + len;
}

static size_t
channel_name(struct sharded *s, uint32_t channel)
{
	size_t len;
	const char *name = registry_name(s->feed.env.registry, channel, &len);

	return redis_name(s, name, len);
}

static struct shard *
shard_at(const struct sharded *s, const struct redis_address *address)
{
	for (unsigned i = 0; i < s->nshards; i++)
		if (redis_address_is(&s->shards[i]->address, address))
			return s->shards[i];
	return NULL;
}

/* Where a name belongs, or NULL. */
static struct shard *
owner_of_name(const struct sharded *s, const char *name, size_t len)
{
	const struct redis_cluster *map = redis_target_map(s->target);
	unsigned owner = map->owner[redis_slot(name, len)];

	return owner > 0 ? shard_at(s, &map->node[owner - 1]) : NULL;
}

/* The same of the name in s->name. */
static struct shard *
owner_of(const struct sharded *s, size_t len)
{
	return owner_of_name(s, s->name, len);
}

/* It is subscribed no longer where it was. */
static void
place_lost(struct sharded *s, uint32_t channel)
{
	s->places[channel].shard = NULL;
	registry_lost_channel(s->feed.env.registry, channel);
}

/* See that it is subscribed where the map says. */
static void
place_seek(struct sharded *s, uint32_t channel)
{
	struct place *place = place_of(s, channel);
	struct shard *shard = owner_of(s, channel_name(s, channel));

	if (place == NULL) {
		registry_confirmed(s->feed.env.registry, channel, -ENOMEM);
		return;
	}
	if (place->shard != NULL && place->shard != shard)
		place_lost(s, channel);
	if (place->shard == NULL && shard != NULL && redis_link_up(shard->sub) &&
	    fifo_push(&shard->todo, &channel) < 0)
		registry_confirmed(s->feed.env.registry, channel, -ENOMEM);
}

static void
place_seek_all(struct sharded *s)
{
	uint32_t cursor = 0, channel;

	while (registry_next_wanted(s->feed.env.registry, &cursor, &channel))
		place_seek(s, channel);
}

/* ---- the probe: one in each shard ---- */

static void link_up(struct sharded *s);

/* A channel in a slot of this shard. There is none when the prefix names a slot of
 * another one: then none of ours can be there. */
static bool
probe_place(struct shard *shard)
{
	struct sharded *s = shard->all;
	struct feed_probe *p = &shard->probe;
	char tag[12];

	for (unsigned n = 0; n < PROBE_TAGS; n++) {
		size_t len = (size_t)snprintf(tag, sizeof(tag), "%u", n);

		if (owner_of_name(s, tag, len) != shard)
			continue;
		feed_probe_set_slot(p, s->prefix, tag);
		return owner_of_name(s, p->name, p->name_len) == shard;
	}
	return false;
}

/* Last of all, so that its answer comes behind all of theirs. */
static void
probe_subscribe(struct shard *shard)
{
	struct feed_probe *p = &shard->probe;
	const struct asked a = {.channel = UINT32_MAX, .probe = true};
	const char *argv[2] = {"SSUBSCRIBE", p->name};
	size_t lens[2] = {10};

	if (!probe_place(shard)) {
		p->state = PROBE_REFUSED;
		link_up(shard->all);
		return;
	}
	lens[1] = p->name_len;
	if (fifo_push(&shard->asked, &a) < 0)
		return; /* again in the next turn */
	if (redis_link_command(shard->sub, 2, argv, lens) == 0)
		p->state = PROBE_ASKED;
	else
		fifo_unpush(&shard->asked);
}

/* Its slot is another's now: wait for the map. */
static void
probe_moved(struct shard *shard)
{
	shard->probe.state = PROBE_MOVED;
	shard->all->retry = true;
	redis_target_ask(shard->all->target);
}

static void
on_probe_error(struct shard *shard, const redisReply *r)
{
	if (redis_is_elsewhere(r)) {
		probe_moved(shard);
		return;
	}
	feed_probe_refused(&shard->probe);
	link_up(shard->all);
}

static void
on_own_reply(void *owner, const redisReply *r)
{
	struct shard *shard = owner;

	/* When the slot has moved, the other link is told so, or is lost. */
	if (r->type == REDIS_REPLY_ERROR && shard->probe.state == PROBE_LIVE &&
	    !redis_is_elsewhere(r))
		on_probe_error(shard, r);
}

static void
on_probe_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sharded *s = container_of(t, struct sharded, probe_timer);

	ev_timer_again(loop, t); /* one that was late is not made up for */
	for (unsigned i = 0; i < s->nshards; i++) {
		struct shard *shard = s->shards[i];

		feed_probe_run(&shard->probe, s->feed.env.settings->probe_interval_ms,
		    shard->sub, &shard->commands);
	}
}

/* ---- up and down ---- */

static void
link_up(struct sharded *s)
{
	for (unsigned i = 0; i < s->nshards; i++)
		if (!redis_link_up(s->shards[i]->sub) ||
		    !redis_commands_up(&s->shards[i]->commands) ||
		    !feed_probe_passed(&s->shards[i]->probe))
			return;
	if (s->nshards > 0 && !s->state.up)
		feed_state_up(&s->state);
}

static void
shard_forget(struct shard *shard)
{
	struct sharded *s = shard->all;

	fifo_clear(&shard->todo);
	fifo_clear(&shard->asked);
	feed_probe_reset(&shard->probe);
	for (uint32_t i = 0; i < s->nplaces; i++)
		if (s->places[i].shard == shard)
			place_lost(s, i);
}

static void
on_sub_up(void *owner)
{
	struct shard *shard = owner;

	place_seek_all(shard->all);
	link_up(shard->all);
}

static void
on_sub_down(void *owner, const char *why)
{
	struct shard *shard = owner;

	shard_forget(shard);
	feed_state_down(&shard->all->state, why);
}

static void
on_commands_up(void *owner)
{
	struct shard *shard = owner;

	feed_probe_publish(&shard->probe, &shard->commands);
	link_up(shard->all);
}

static void
on_commands_down(void *owner, const char *why)
{
	feed_state_down(&((struct shard *)owner)->all->state, why);
}

/* ---- subscribing ---- */

static bool
send_one(struct shard *shard, const char *command, const struct asked *a)
{
	struct sharded *s = shard->all;
	const char *argv[2] = {command, s->name};
	size_t lens[2] = {strlen(command), channel_name(s, a->channel)};

	if (fifo_push(&shard->asked, a) < 0)
		return false;
	if (redis_link_command(shard->sub, 2, argv, lens) == 0)
		return true;
	fifo_unpush(&shard->asked);
	return false;
}

/* Ask for the next channel that still belongs here. Returns false without one. */
static bool
subscribe_one(struct shard *shard)
{
	struct sharded *s = shard->all;
	struct registry *reg = s->feed.env.registry;
	struct asked a = {.unsubscribe = false};

	while (fifo_pop(&shard->todo, &a.channel)) {
		if (!registry_wanted(reg, a.channel) ||
		    s->places[a.channel].shard != NULL ||
		    owner_of(s, channel_name(s, a.channel)) != shard)
			continue;
		a.gen = s->places[a.channel].gen;
		if (!send_one(shard, "SSUBSCRIBE", &a))
			registry_confirmed(reg, a.channel, -ENOMEM);
		return true;
	}
	return false;
}

static void
on_sharded_want(struct feed *f, uint32_t channel)
{
	place_seek(container_of(f, struct sharded, feed), channel);
}

static void
on_sharded_drop(struct feed *f, uint32_t channel)
{
	struct sharded *s = container_of(f, struct sharded, feed);
	struct shard *shard = owner_of(s, channel_name(s, channel));
	struct asked a = {.channel = channel, .unsubscribe = true};
	struct place *place = place_of(s, channel);

	if (place != NULL) {
		shard = place->shard != NULL ? place->shard : shard;
		place->shard = NULL;
		place->gen++;
	}
	/* Also what is asked for just now. Without memory the node goes on to send what
	 * nobody wants: it is ignored. */
	if (shard != NULL && redis_link_up(shard->sub) &&
	    !send_one(shard, "SUNSUBSCRIBE", &a))
		(void)log_limited(&s->reply_limit, supervisor_now_ms(), LOG_WARNING,
		    -ENOMEM, "feed: a channel stays subscribed at Redis");
}

static void
on_subscribed(struct shard *shard)
{
	struct sharded *s = shard->all;
	struct asked a;

	if (!fifo_pop(&shard->asked, &a) || a.unsubscribe)
		return;
	if (a.probe) {
		shard->probe.state = PROBE_LIVE;
		feed_probe_publish(&shard->probe, &shard->commands);
		return;
	}
	if (s->places[a.channel].gen != a.gen ||
	    !registry_wanted(s->feed.env.registry, a.channel))
		return;
	s->places[a.channel].shard = shard;
	registry_confirmed(s->feed.env.registry, a.channel, 0);
}

/* Whether the node answers to a SUNSUBSCRIBE of ours; else it has lost the slot. */
static void
on_unsubscribed(struct shard *shard, uint32_t channel)
{
	struct sharded *s = shard->all;
	struct asked a;

	if (shard->asked.len > 0) {
		a = *(const struct asked *)fifo_at(&shard->asked, 0);
		if (a.unsubscribe && (channel == UINT32_MAX || a.channel == channel)) {
			(void)fifo_pop(&shard->asked, &a);
			return;
		}
	}
	if (channel == UINT32_MAX || channel >= s->nplaces ||
	    s->places[channel].shard != shard)
		return;
	place_lost(s, channel);
	s->retry = true;
	redis_target_ask(s->target);
}

static void
on_sub_error(struct shard *shard, const redisReply *r)
{
	struct sharded *s = shard->all;
	char quoted[160];
	struct asked a;

	if (!fifo_pop(&shard->asked, &a) || a.unsubscribe)
		return;
	if (a.probe) {
		on_probe_error(shard, r);
		return;
	}
	if (redis_is_elsewhere(r)) { /* the map will tell who is the slot's owner */
		s->retry = true;
		redis_target_ask(s->target);
		return;
	}
	(void)log_limited(&s->reply_limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "feed: Redis refuses a subscription: %s",
	    redis_error_text(r, quoted, sizeof(quoted)));
	if (s->places[a.channel].gen == a.gen)
		registry_confirmed(s->feed.env.registry, a.channel,
		    strncmp(r->str, "NOPERM", 6) == 0 ? -EACCES : -EIO);
}

/* ---- messages ---- */

/* Returns false when there is no room. */
static bool
on_message(struct shard *shard, uint32_t channel, const redisReply *data)
{
	struct sharded *s = shard->all;

	if (channel == UINT32_MAX || data->str == NULL ||
	    !registry_live(s->feed.env.registry, channel))
		return true; /* it was dropped a moment ago */
	if (feed_message(&s->feed, channel, (struct slice){NULL, 0}, data->str,
		data->len) == -ENOBUFS)
		return false;
	shard->probe.messages++;
	return true;
}

/* In the probe's channel. */
static void
on_probe_word(struct shard *shard, const char *kind, const redisReply *data)
{
	if (strcmp(kind, "ssubscribe") == 0)
		on_subscribed(shard);
	else if (strcmp(kind, "sunsubscribe") == 0)
		probe_moved(shard);
	if (strcmp(kind, "smessage") != 0 || data->str == NULL)
		return;
	feed_probe_take(&shard->probe, data->str, data->len, supervisor_now_ms());
	link_up(shard->all);
}

static bool
on_sub_reply(void *owner, const redisReply *r)
{
	struct shard *shard = owner;
	struct sharded *s = shard->all;
	const redisReply *name;
	uint32_t channel = UINT32_MAX;
	const char *kind;

	if (r->type == REDIS_REPLY_ERROR) {
		on_sub_error(shard, r);
		return true;
	}
	if (r->elements < 3 || r->element[0]->str == NULL)
		return true;
	kind = r->element[0]->str;
	name = r->element[1];
	if (name->str != NULL && feed_probe_is(&shard->probe, name->str, name->len)) {
		on_probe_word(shard, kind, r->element[2]);
		return true;
	}
	if (name->str != NULL && name->len > s->prefix_len)
		channel = registry_find(s->feed.env.registry, name->str + s->prefix_len,
		    name->len - s->prefix_len);
	if (strcmp(kind, "smessage") == 0)
		return on_message(shard, channel, r->element[2]);
	if (strcmp(kind, "ssubscribe") == 0)
		on_subscribed(shard);
	else if (strcmp(kind, "sunsubscribe") == 0)
		on_unsubscribed(shard, channel);
	return true;
}

static int
on_sharded_publish(
    struct feed *f, const struct feed_publish *m, const struct receipt *receipt)
{
	struct sharded *s = container_of(f, struct sharded, feed);
	const char *argv[3] = {"SPUBLISH", s->name, m->data.p};
	size_t lens[3] = {8, redis_name(s, m->channel.p, m->channel.len), m->data.len};
	struct shard *shard = owner_of(s, lens[1]);

	if (m->key.len > 0)
		return -EPROTONOSUPPORT;
	if (shard == NULL)
		return -ENOTCONN;
	if (m->data.len > ring_frame_max(f->env.publisher->ring) - CHANNEL_NAME_MAX)
		return -EMSGSIZE; /* Redis would take it, and we then could not */
	return redis_commands_put(&shard->commands, 3, argv, lens, receipt);
}

/* ---- shards ---- */

static void
shard_free(struct shard *shard)
{
	redis_link_free(shard->sub);
	redis_commands_done(&shard->commands);
	shard_forget(shard);
	free(shard);
}

static int
shard_new(struct sharded *s, const struct redis_address *address)
{
	struct shard *shard = calloc(1, sizeof(*shard));
	struct redis_link_config sub = {
	    .loop = s->feed.env.loop,
	    .target = s->target,
	    .wish = {.kind = WISH_NODE, .node = *address},
	    .subscriber = true,
	    .reply_max = 4 * ring_frame_max(s->feed.env.publisher->ring) + REPLY_MARGIN,
	    .probe_ms = s->feed.env.settings->probe_interval_ms,
	    .on_up = on_sub_up,
	    .on_down = on_sub_down,
	    .on_reply = on_sub_reply,
	    .owner = shard,
	};
	int r;

	if (shard == NULL)
		return -ENOMEM;
	shard->all = s;
	shard->address = *address;
	shard->todo.item = sizeof(uint32_t);
	shard->asked.item = sizeof(struct asked);
	feed_probe_init(&shard->probe, s->prefix, "SPUBLISH");
	r = redis_link_new(&sub, &shard->sub);
	if (r == 0)
		r = redis_commands_init(&shard->commands, &s->feed.env, s->target,
		    &sub.wish, on_commands_up, on_commands_down, on_own_reply, shard);
	if (r < 0) {
		shard_free(shard);
		return r;
	}
	s->shards[s->nshards++] = shard;
	return 0;
}

/* Its node is no master any more. The list is whole before anyone is told, since who is
 * told may publish at once. */
static void
shard_leave(struct sharded *s, unsigned i)
{
	struct shard *gone = s->shards[i];

	s->shards[i] = s->shards[--s->nshards];
	redis_commands_give_up(&gone->commands);
	shard_free(gone);
}

static bool
map_has(const struct redis_cluster *map, const struct redis_address *address)
{
	for (unsigned i = 0; i < map->nnodes; i++)
		if (redis_address_is(&map->node[i], address))
			return true;
	return false;
}

/* One shard for each master, and each channel where it belongs now. */
static void
apply_map(struct sharded *s)
{
	const struct redis_cluster *map = redis_target_map(s->target);
	int r = 0;

	for (unsigned i = s->nshards; i-- > 0;)
		if (!map_has(map, &s->shards[i]->address))
			shard_leave(s, i);
	for (unsigned i = 0; i < map->nnodes && r == 0; i++)
		if (shard_at(s, &map->node[i]) == NULL)
			r = shard_new(s, &map->node[i]);
	if (r < 0)
		log_error(r, "feed: cannot connect to all nodes of the cluster");
	s->retry = false;
	for (unsigned i = 0; i < s->nshards; i++)
		if (s->shards[i]->probe.state == PROBE_MOVED)
			s->shards[i]->probe.state = PROBE_DUE;
	place_seek_all(s);
	link_up(s);
}

static void
on_map(void *owner, bool changed)
{
	struct sharded *s = owner;

	s->map_came = s->map_came || changed || s->retry;
}

static void
on_sharded_flush(struct feed *f)
{
	struct sharded *s = container_of(f, struct sharded, feed);

	if (s->map_came) {
		s->map_came = false;
		apply_map(s);
	}
	for (unsigned i = 0; i < s->nshards; i++) {
		struct shard *shard = s->shards[i];

		while (redis_link_up(shard->sub) && shard->asked.len < ASKED_MAX &&
		       redis_link_queued(shard->sub) < SUBSCRIBE_QUEUE &&
		       subscribe_one(shard))
			;
		if (redis_link_up(shard->sub) && shard->todo.len == 0 &&
		    shard->probe.state == PROBE_DUE)
			probe_subscribe(shard);
		redis_link_flush(shard->sub);
		redis_commands_flush(&shard->commands);
	}
}

/* ---- life ---- */

static void
on_sharded_resume(struct feed *f)
{
	struct sharded *s = container_of(f, struct sharded, feed);

	for (unsigned i = 0; i < s->nshards; i++)
		redis_link_resume(s->shards[i]->sub);
}

/* The slowest shard's lag, and the state of a breaker that is not closed. */
static void
on_sharded_status(const struct feed *f, struct feed_status *ret)
{
	const struct sharded *s = container_of(f, struct sharded, feed);
	uint32_t lag_ms = 0;

	for (unsigned i = 0; i < s->nshards; i++) {
		const struct shard *shard = s->shards[i];
		uint32_t its_ms = feed_probe_lag_ms(&shard->probe, shard->sub);

		lag_ms = its_ms > lag_ms ? its_ms : lag_ms;
	}
	feed_state_look(&s->state, lag_ms, ret);
	ret->breaker = breaker_state_name(BREAKER_CLOSED);
	for (unsigned i = 0; i < s->nshards; i++)
		if (i == 0 || s->shards[i]->commands.breaker.state != BREAKER_CLOSED)
			redis_commands_look(&s->shards[i]->commands, ret);
}

static void
on_sharded_free(struct feed *f)
{
	struct sharded *s = container_of(f, struct sharded, feed);

	ev_timer_stop(f->env.loop, &s->probe_timer);
	while (s->nshards > 0)
		shard_free(s->shards[--s->nshards]);
	redis_target_free(s->target);
	free(s->places);
	free(s->name);
	free(s->prefix);
	free(s);
}

static const struct feed_ops sharded_ops = {
    .want = on_sharded_want,
    .drop = on_sharded_drop,
    .publish = on_sharded_publish,
    .flush = on_sharded_flush,
    .resume = on_sharded_resume,
    .status = on_sharded_status,
    .free = on_sharded_free,
    .complete = false,
};

int
feed_sharded_new(const struct feed_env *env, struct feed **ret_feed)
{
	struct sharded *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (s == NULL)
		return r;
	s->feed.ops = &sharded_ops;
	s->feed.env = *env;
	ev_timer_init(&s->probe_timer, on_probe_timer, 0.,
	    env->settings->probe_interval_ms / 1000.);
	s->prefix = strdup(env->settings->prefix);
	if (s->prefix == NULL)
		goto fail;
	s->prefix_len = strlen(s->prefix);
	s->name = malloc(s->prefix_len + CHANNEL_NAME_MAX);
	if (s->name == NULL)
		goto fail;
	r = redis_target_new(env->loop, env->settings, &s->target);
	if (r < 0)
		goto fail;
	feed_state_init(
	    &s->state, &s->feed.env, "pubsub", redis_target_where(s->target));
	redis_target_watch(s->target, on_map, s);
	ev_timer_again(env->loop, &s->probe_timer);
	*ret_feed = &s->feed;
	return 0;
fail:
	on_sharded_free(&s->feed);
	return r;
}
