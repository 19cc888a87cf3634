/* peers.c - see peers.h */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "supervisor/fifo.h"
#include "supervisor/peers.h"
#include "supervisor/redis_error.h"
#include "supervisor/redis_link.h"
#include "supervisor/redis_target.h"
#include "supervisor/supervisor.h"

#define QUEUE_MAX (8u << 20) /* bytes: no further command meanwhile */
#define QUEUE_BUSY (1u << 20)
#define PENDING_MAX 65536
#define PENDING_BUSY 1024
#define MESSAGE_MAX (1u << 20) /* bytes of what is heard */
#define REPLY_MAX (32u << 20)  /* of an answer */
#define ARGS_MAX 256
#define NAME_MAX_LEN 640 /* bytes of a key with its prefix */

static const char *const heard[] = {PEERS_REVOKE, PEERS_PRESENCE};
#define NHEARD (sizeof(heard) / sizeof(heard[0]))

struct pending {
	peers_reply *on_reply;
	void *owner;
	uint64_t tag;
};

struct peers {
	const struct peers_events *events;
	void *owner;
	char *prefix; /* of our own: a reload replaces the settings */
	size_t prefix_len;
	char node[PEERS_NODE_LEN + 1];
	struct redis_target *target;
	struct redis_link *sub, *cmd;
	unsigned nheard; /* that Redis has confirmed */
	struct fifo pending;
	uint64_t refused;
	struct log_limit reply_limit;
};

bool
peers_up(const struct peers *p)
{
	return p != NULL && p->nheard == NHEARD && redis_link_up(p->cmd);
}

uint64_t
peers_refused(const struct peers *p)
{
	return p == NULL ? 0 : p->refused;
}

const char *
peers_node(const struct peers *p)
{
	return p == NULL ? "" : p->node;
}

static void
look_up(struct peers *p)
{
	if (peers_up(p))
		p->events->on_up(p->owner);
}

static void
refused(struct peers *p, const char *what, const redisReply *r)
{
	char quoted[160];

	p->refused++;
	(void)log_limited(&p->reply_limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "Redis refuses what hosts tell each other (%s): %s", what,
	    redis_error_text(r, quoted, sizeof(quoted)));
}

/* ---- hearing ---- */

static void
on_sub_up(void *owner)
{
	struct peers *p = owner;
	char names[NHEARD][NAME_MAX_LEN];
	const char *argv[1 + NHEARD] = {"SUBSCRIBE"};
	size_t lens[1 + NHEARD] = {9};

	for (size_t i = 0; i < NHEARD; i++) {
		argv[i + 1] = names[i];
		lens[i + 1] = (size_t)snprintf(
		    names[i], sizeof(names[i]), "%s%s", p->prefix, heard[i]);
	}
	if (redis_link_command(p->sub, 1 + NHEARD, argv, lens) < 0)
		redis_link_lose(p->sub, "out of memory");
}

static void
on_sub_down(void *owner, const char *why)
{
	((struct peers *)owner)->nheard = 0;
}

static bool
on_sub_reply(void *owner, const redisReply *r)
{
	struct peers *p = owner;
	const redisReply *name, *data;

	if (r->type == REDIS_REPLY_ERROR)
		refused(p, "SUBSCRIBE", r);
	if (r->elements < 3 || r->element[0]->str == NULL)
		return true;
	name = r->element[1];
	data = r->element[2];
	if (strcmp(r->element[0]->str, "subscribe") == 0) {
		p->nheard++;
		look_up(p);
	} else if (strcmp(r->element[0]->str, "message") == 0 && name->str != NULL &&
		   data->str != NULL && name->len > p->prefix_len) {
		p->events->on_message(p->owner,
		    (struct slice){
			name->str + p->prefix_len, name->len - p->prefix_len},
		    (struct slice){data->str, data->len});
	}
	return true;
}

/* ---- commands ---- */

static void
on_cmd_up(void *owner)
{
	look_up(owner);
}

static void
on_cmd_down(void *owner, const char *why)
{
	struct peers *p = owner;
	struct fifo lost = p->pending;
	struct pending one;

	/* What is asked meanwhile is for the next link. */
	p->pending = (struct fifo){.item = sizeof(struct pending)};
	while (fifo_pop(&lost, &one))
		if (one.on_reply != NULL)
			one.on_reply(one.owner, one.tag, NULL);
	fifo_clear(&lost);
}

static bool
on_cmd_reply(void *owner, const redisReply *r)
{
	struct peers *p = owner;
	struct pending one;

	if (!fifo_pop(&p->pending, &one))
		return true;
	if (r->type == REDIS_REPLY_ERROR)
		refused(p, "a command", r);
	if (one.on_reply != NULL)
		one.on_reply(one.owner, one.tag, r);
	if (r->type == REDIS_REPLY_ERROR && redis_is_elsewhere(r)) {
		redis_target_ask(p->target);
		redis_link_lose(p->cmd, "it is not the server of our keys any more");
	}
	return true;
}

bool
peers_busy(const struct peers *p)
{
	return redis_link_queued(p->cmd) >= QUEUE_BUSY ||
	       p->pending.len >= PENDING_BUSY;
}

int
peers_command(struct peers *p, int argc, const char *const *argv, const size_t *argvlen,
    peers_reply *on_reply, void *owner, uint64_t tag)
{
	struct pending one = {on_reply, owner, tag};
	const char *args[ARGS_MAX];
	size_t lens[ARGS_MAX];
	char key[NAME_MAX_LEN];

	if (p == NULL || !redis_link_up(p->cmd))
		return -ENOTCONN;
	if (redis_link_queued(p->cmd) >= QUEUE_MAX || p->pending.len >= PENDING_MAX ||
	    argc > ARGS_MAX || p->prefix_len + argvlen[1] > sizeof(key))
		return -ENOBUFS;
	memcpy(args, argv, (size_t)argc * sizeof(*args));
	memcpy(lens, argvlen, (size_t)argc * sizeof(*lens));
	memcpy(key, p->prefix, p->prefix_len);
	memcpy(key + p->prefix_len, argv[1], argvlen[1]);
	args[1] = key;
	lens[1] += p->prefix_len;
	if (fifo_push(&p->pending, &one) < 0)
		return -ENOMEM;
	if (redis_link_command(p->cmd, argc, args, lens) < 0) {
		fifo_unpush(&p->pending);
		return -ENOMEM;
	}
	return 0;
}

int
peers_tell(struct peers *p, const char *name, const void *data, size_t len)
{
	const char *argv[3] = {"PUBLISH", name, data};
	size_t lens[3] = {7, strlen(name), len};

	return peers_command(p, 3, argv, lens, NULL, NULL, 0);
}

void
peers_flush(struct peers *p)
{
	if (p == NULL)
		return;
	redis_link_flush(p->sub);
	redis_link_flush(p->cmd);
}

/* ---- life ---- */

static int
links_new(struct peers *p, struct ev_loop *loop, uint32_t probe_ms)
{
	struct redis_link_config sub = {
	    .loop = loop,
	    .target = p->target,
	    .subscriber = true,
	    .reply_max = MESSAGE_MAX,
	    .probe_ms = probe_ms,
	    .on_up = on_sub_up,
	    .on_down = on_sub_down,
	    .on_reply = on_sub_reply,
	    .owner = p,
	};
	struct redis_link_config cmd = {
	    .loop = loop,
	    .target = p->target,
	    .reply_max = REPLY_MAX,
	    .probe_ms = probe_ms,
	    .on_up = on_cmd_up,
	    .on_down = on_cmd_down,
	    .on_reply = on_cmd_reply,
	    .owner = p,
	};
	char key[NAME_MAX_LEN];
	int len = snprintf(key, sizeof(key), "%s" PEERS_KEY, p->prefix);
	int r = redis_link_new(&sub, &p->sub);

	cmd.wish = (struct redis_wish){
	    .kind = WISH_SLOT, .slot = redis_slot(key, (size_t)len)};
	return r < 0 ? r : redis_link_new(&cmd, &p->cmd);
}

int
peers_new(struct ev_loop *loop, const struct settings *settings,
    const struct peers_events *events, void *owner, struct peers **ret_peers)
{
	struct peers *p;
	int r;

	*ret_peers = NULL;
	if (settings->source == FEED_EMBEDDED)
		return 0;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	p->events = events;
	p->owner = owner;
	p->pending.item = sizeof(struct pending);
	p->prefix = strdup(settings->prefix);
	if (p->prefix == NULL) {
		peers_free(p);
		return -ENOMEM;
	}
	p->prefix_len = strlen(p->prefix);
	(void)snprintf(p->node, sizeof(p->node), "%08x%08x", randombytes_random(),
	    randombytes_random());
	r = redis_target_new(loop, settings, &p->target);
	if (r == 0)
		r = links_new(p, loop, settings->probe_interval_ms);
	if (r < 0) {
		peers_free(p);
		return r;
	}
	*ret_peers = p;
	return 0;
}

void
peers_free(struct peers *p)
{
	if (p == NULL)
		return;
	redis_link_free(p->sub);
	redis_link_free(p->cmd);
	redis_target_free(p->target);
	fifo_clear(&p->pending);
	free(p->prefix);
	free(p);
}
