/* presence.c - see presence.h */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/presence.h"
#include "proto/uplink.h"
#include "supervisor/hosts.h"
#include "supervisor/presence.h"
#include "supervisor/supervisor.h"

#define PUSHES_MAX 65536
#define TICK_S 0.2
#define BUDGET_SHARE 16 /* of the ring's frames, for answers in a second */

_Static_assert(
    UPLINK_USER_MAX == PRESENCE_USER_MAX && UPLINK_INFO_MAX == PRESENCE_INFO_MAX,
    "what workers say fits");

/* ---- telling those who are there ---- */

struct push {
	struct slice channel; /* in `bytes`, before the frame */
	size_t len;
	uint8_t bytes[];
};

/* Returns -ENOBUFS when there is no room now. Where nobody is there is nothing to do.
 */
static int
push_now(struct presence *p, const struct push *push)
{
	struct supervisor *s = p->s;
	struct ring_desc desc = {.type = RING_PUSH};
	int r;

	desc.channel = registry_find(s->registry, push->channel.p, push->channel.len);
	if (desc.channel == UINT32_MAX ||
	    registry_workers(s->registry, desc.channel) == 0)
		return 0;
	r = publisher_frame(
	    &s->publisher, &desc, push->bytes + push->channel.len, push->len);
	return r == -ENOBUFS ? r : 0; /* no ring is so small that it does not fit */
}

static struct push *
push_new(const struct member *m, bool join)
{
	struct presence_member pm = {
	    .shown = m->shown,
	    .channel = member_channel(m),
	    .user = member_user(m),
	    .info = member_info(m),
	};
	uint8_t frame[PRESENCE_FRAME_MAX];
	size_t len = presence_push(&pm, join, frame);
	struct push *push = malloc(sizeof(*push) + pm.channel.len + len);

	if (push == NULL)
		return NULL;
	memcpy(push->bytes, pm.channel.p, pm.channel.len);
	memcpy(push->bytes + pm.channel.len, frame, len);
	push->channel = (struct slice){(char *)push->bytes, pm.channel.len};
	push->len = len;
	return push;
}

static void
push_lost(struct presence *p)
{
	p->lost++;
	(void)log_limited(&p->limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "too many come and go: some are not told of it");
}

static void
on_announce(void *owner, const struct member *m, bool join)
{
	struct presence *p = owner;
	uint64_t *n = join ? &p->joins : &p->leaves;
	struct push *push = p->pushes.len < PUSHES_MAX ? push_new(m, join) : NULL;

	(*n)++;
	if (push == NULL) {
		push_lost(p);
	} else if (p->pushes.len > 0 || push_now(p, push) == -ENOBUFS) {
		if (fifo_push(&p->pushes, &push) == 0)
			return;
		push_lost(p);
	}
	free(push);
}

void
presence_resume(struct presence *p)
{
	while (p->pushes.len > 0) {
		struct push *push = *(struct push **)fifo_at(&p->pushes, 0);

		if (push_now(p, push) == -ENOBUFS)
			return;
		(void)fifo_pop(&p->pushes, &push);
		free(push);
	}
}

static void
on_changed(void *owner, const struct member *m, bool gone)
{
	struct presence *p = owner;

	if (m->away_until_ms != 0)
		presence_watch(p);
	hosts_changed(p->hosts, member_channel(m), m->client);
}

/* ---- answers ---- */

static struct presence_member
shown_member(const struct member *m)
{
	return (struct presence_member){
	    .shown = m->shown, .user = member_user(m), .info = member_info(m)};
}

char *
presence_page(struct presence *p, struct slice channel, uint64_t after, size_t limit,
    size_t *ret_len)
{
	char *text = malloc(PRESENCE_PAGE_BYTES + PRESENCE_MEMBER_MAX + 128),
	     *at = text;
	const struct member *m;
	size_t n = 0;

	if (text == NULL)
		return NULL;
	if (limit == 0 || limit > PRESENCE_PAGE_MAX)
		limit = PRESENCE_PAGE_MAX;
	at = stpcpy(at, "{\"clients\":[");
	while ((m = members_after(&p->members, channel, after)) != NULL && n < limit &&
	       (size_t)(at - text) < PRESENCE_PAGE_BYTES) {
		struct presence_member pm = shown_member(m);

		if (n++ > 0)
			*at++ = ',';
		at += presence_put_member(&pm, at);
		after = m->order;
	}
	at += sprintf(at, "],\"total\":%zu", members_count(&p->members, channel));
	if (m != NULL)
		at += sprintf(at, ",\"next\":%" PRIu64, after);
	at = stpcpy(at, "}");
	*ret_len = (size_t)(at - text);
	return text;
}

/* Whether answers may take so much more of the ring. */
static bool
within_budget(struct presence *p, size_t len)
{
	uint64_t now_ms = supervisor_now_ms();
	uint64_t max = ring_frames_size(p->s->ring) / BUDGET_SHARE;
	uint64_t grown = (now_ms - p->budget_ms) * max / 1000;

	if (grown > 0) {
		p->budget = p->budget + grown > max ? max : p->budget + grown;
		p->budget_ms = now_ms;
	}
	if (p->budget < len) {
		p->answers_refused++;
		return false;
	}
	p->budget -= len;
	return true;
}

static int
refuse(struct presence *p, struct ring_desc *desc, int err)
{
	desc->type = RING_ACK;
	desc->arg = (uint64_t)-err;
	if (publisher_control(&p->s->publisher, desc) == 0)
		(void)log_limited(&p->limit, supervisor_now_ms(), LOG_ERROR, -ENOMEM,
		    "a client of worker %u gets no answer", (unsigned)desc->worker);
	return 0;
}

static int
answer_page(struct presence *p, struct ring_desc *desc, const char *page, size_t len)
{
	uint8_t *frame = malloc(FRAME_HEAD_MAX + len);
	size_t head_len;
	int r;

	if (frame == NULL)
		return refuse(p, desc, -ENOMEM);
	head_len = frame_head(OPCODE_TEXT, len, frame);
	memcpy(frame + head_len, page, len);
	r = publisher_frame(&p->s->publisher, desc, frame, head_len + len);
	free(frame);
	if (r == -ENOBUFS)
		p->budget += len; /* it comes again */
	return r == 0 || r == -ENOBUFS ? r : refuse(p, desc, r);
}

static int
answer(struct presence *p, unsigned worker, const struct uplink *u)
{
	struct ring_desc desc = {
	    .type = RING_ANSWER,
	    .worker = (uint16_t)worker,
	    .channel = u->slot,
	    .offset = u->cookie,
	};
	struct slice channel = {u->channel, u->channel_len};
	size_t len;
	char *page;
	int r;

	if (!settings_rule(p->s->settings, channel.p, channel.len)->presence)
		return refuse(p, &desc, -EOPNOTSUPP);
	page = presence_page(p, channel, u->token, u->directory, &len);
	if (page == NULL)
		r = refuse(p, &desc, -ENOMEM);
	else if (!within_budget(p, len))
		r = refuse(p, &desc, -EBUSY);
	else
		r = answer_page(p, &desc, page, len);
	free(page);
	return r;
}

/* ---- what workers say ---- */

static void
join(struct presence *p, unsigned worker, const struct uplink *u, uint64_t now_ms)
{
	const char *data = u->data;
	struct member_said said = {
	    .channel = {u->channel, u->channel_len},
	    .client = u->token,
	    .user = {u->cookie > 0 ? data : NULL, u->cookie},
	    .info = {u->data_len > u->cookie ? data + u->cookie : NULL,
		u->data_len - u->cookie},
	};
	int r;

	/* A reload may have been between. */
	if (!settings_rule(p->s->settings, u->channel, u->channel_len)->presence)
		return;
	r = members_set(&p->members, &p->workers[worker], &said, now_ms);
	if (r < 0)
		(void)log_limited(&p->limit, supervisor_now_ms(), LOG_ERROR, r,
		    "too many members of channels: one more is not shown");
}

int
presence_uplink(struct presence *p, unsigned worker, const struct uplink *u)
{
	struct member_source *src = &p->workers[worker];
	uint64_t now_ms = supervisor_now_ms();

	if (p->pushes.len > 0)
		return -ENOBUFS;
	switch (u->type) {
	case UPLINK_JOIN:
		join(p, worker, u, now_ms);
		return 0;
	case UPLINK_LEAVE:
		members_leave(&p->members, src,
		    (struct slice){u->channel, u->channel_len}, u->token, now_ms);
		return 0;
	case UPLINK_MEMBERS_BEGIN:
		members_name_all(src);
		return 0;
	case UPLINK_MEMBERS_END:
		members_named_all(&p->members, src, now_ms);
		return 0;
	default:
		return answer(p, worker, u);
	}
}

void
presence_worker_gone(struct presence *p, unsigned worker)
{
	members_source_leaves(&p->members, &p->workers[worker], supervisor_now_ms());
}

/* ---- other hosts ---- */

void
presence_hosts_up(struct presence *p)
{
	hosts_up(p->hosts);
}

void
presence_hear(struct presence *p, const char *text, size_t len)
{
	hosts_hear(p->hosts, text, len);
}

void
presence_flush(struct presence *p)
{
	hosts_flush(p->hosts);
}

void
presence_bye(struct presence *p)
{
	hosts_bye(p->hosts);
}

/* ---- life ---- */

static void
on_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct presence *p = container_of(t, struct presence, timer);

	members_tick(&p->members, supervisor_now_ms());
	if (!hosts_tick(p->hosts) && TAILQ_EMPTY(&p->members.away))
		ev_timer_stop(loop, t);
}

void
presence_watch(struct presence *p)
{
	if (!ev_is_active(&p->timer))
		ev_timer_again(p->s->loop, &p->timer);
}

void
presence_reload(struct presence *p, const struct settings *settings)
{
	p->members.grace_ms = settings->presence_grace_ms;
}

int
presence_new(struct supervisor *s, struct presence **ret)
{
	static const struct members_events events = {
	    .announce = on_announce,
	    .changed = on_changed,
	};
	struct presence *p = calloc(1, sizeof(*p));
	int r;

	if (p == NULL)
		return -ENOMEM;
	p->s = s;
	p->pushes.item = sizeof(struct push *);
	members_init(&p->members, &events, p);
	presence_reload(p, s->settings);
	ev_timer_init(&p->timer, on_timer, TICK_S, TICK_S);
	p->workers = calloc(s->nworkers, sizeof(*p->workers));
	r = p->workers == NULL ? -ENOMEM : 0;
	for (unsigned i = 0; r == 0 && i < s->nworkers; i++)
		member_source_init(&p->workers[i], true);
	if (r == 0 && s->peers != NULL)
		r = hosts_new(p, &p->hosts);
	if (r < 0) {
		presence_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

/* Nobody is to be told any more. */
static void
on_announce_no_more(void *owner, const struct member *m, bool join)
{
}

void
presence_free(struct presence *p)
{
	static const struct members_events quiet = {.announce = on_announce_no_more};
	struct push *push;

	if (p == NULL)
		return;
	ev_timer_stop(p->s->loop, &p->timer);
	p->members.events = &quiet;
	for (unsigned i = 0; p->workers != NULL && i < p->s->nworkers; i++)
		members_source_gone(&p->members, &p->workers[i]);
	hosts_free(p->hosts);
	members_done(&p->members);
	while (fifo_pop(&p->pushes, &push))
		free(push);
	fifo_clear(&p->pushes);
	free(p->workers);
	free(p);
}
