/* redis_link.c - see redis_link.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/late_tick.h"
#include "supervisor/redis_conn.h"
#include "supervisor/redis_error.h"
#include "supervisor/redis_link.h"
#include "supervisor/supervisor.h"

#define CONNECT_S 5.0 /* to resolve, connect and greet */
#define DELAY_MIN_MS 100u
#define DELAY_MAX_MS 10000u
#define SETTLED_MS 5000 /* a link that held for so long starts its waits anew */

enum state { LINK_WAITING, LINK_SEEKING, LINK_CONNECTING, LINK_UP };

struct redis_link {
	struct redis_link_config cfg;
	enum state state;
	struct redis_seeker seeker;
	struct redis_conn conn;

	uint64_t sent, answered; /* commands of a link that is no subscriber */
	uint64_t probe;          /* the probe's place among them */
	bool probing;
	bool spared; /* its answer was not missed once, since we stood still */
	uint64_t probe_ms;
	uint64_t ticked_ms;
	uint32_t lag_ms;

	unsigned delay_ms;
	uint64_t up_ms;
	ev_timer timer; /* of the state: wait, probe */
};

static void
timer_set(struct redis_link *l, double seconds)
{
	ev_timer_stop(l->cfg.loop, &l->timer);
	ev_timer_set(&l->timer, seconds, 0.);
	ev_timer_start(l->cfg.loop, &l->timer);
}

static unsigned
jitter(unsigned ms)
{
	uint32_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)getpid(); /* early in the boot: hosts differ in it */
	return ms - random % (ms / 2);
}

/* Lost, or not made: wait, and try again. */
static void
fail(struct redis_link *l, const char *why)
{
	if (l->state == LINK_UP && supervisor_now_ms() - l->up_ms >= SETTLED_MS)
		l->delay_ms = DELAY_MIN_MS;
	redis_seeker_stop(&l->seeker);
	redis_conn_close(&l->conn);
	l->probing = false;
	l->state = LINK_WAITING;
	timer_set(l, jitter(l->delay_ms) / 1000.);
	l->delay_ms = 2 * l->delay_ms < DELAY_MAX_MS ? 2 * l->delay_ms : DELAY_MAX_MS;
	l->cfg.on_down(l->cfg.owner, why);
}

/* ---- commands ---- */

int
redis_link_command(
    struct redis_link *l, int argc, const char *const *argv, const size_t *argvlen)
{
	int r = redis_conn_command(&l->conn, argc, argv, argvlen);

	if (r == 0)
		l->sent++;
	return r;
}

size_t
redis_link_queued(const struct redis_link *l)
{
	return redis_conn_queued(&l->conn);
}

void
redis_link_flush(struct redis_link *l)
{
	redis_conn_flush(&l->conn);
}

void
redis_link_resume(struct redis_link *l)
{
	redis_conn_resume(&l->conn);
}

/* ---- input ---- */

static bool
word_is(const redisReply *r, const char *word)
{
	return r->str != NULL && strcasecmp(r->str, word) == 0;
}

static bool
is_probe_reply(struct redis_link *l, const redisReply *reply)
{
	if (!l->probing)
		return false;
	if (!l->cfg.subscriber)
		return l->answered == l->probe;
	/* RESP2 answers in kind: an array while anything is subscribed. */
	return (reply->type == REDIS_REPLY_STATUS && word_is(reply, "PONG")) ||
	       (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
		   word_is(reply->element[0], "pong"));
}

static void
on_probe_reply(struct redis_link *l, const redisReply *reply)
{
	char quoted[160], why[224];

	l->probing = false;
	l->lag_ms = (uint32_t)(supervisor_now_ms() - l->probe_ms);
	l->answered++;
	if (reply->type != REDIS_REPLY_ERROR)
		return;
	(void)snprintf(why, sizeof(why), "PING: %s",
	    redis_error_text(reply, quoted, sizeof(quoted)));
	fail(l, why);
}

static bool
on_conn_reply(void *owner, const redisReply *reply)
{
	struct redis_link *l = owner;

	if (is_probe_reply(l, reply)) {
		on_probe_reply(l, reply);
		return true;
	}
	if (!l->cfg.on_reply(l->cfg.owner, reply))
		return false;
	l->answered++;
	return true;
}

/* ---- connecting ---- */

static void
on_conn_up(void *owner)
{
	struct redis_link *l = owner;

	l->state = LINK_UP;
	l->up_ms = supervisor_now_ms();
	l->sent = l->answered = 0;
	l->ticked_ms = l->up_ms;
	timer_set(l, l->cfg.probe_ms / 1000.);
	l->cfg.on_up(l->cfg.owner);
}

static void
on_conn_down(void *owner, const char *why)
{
	fail(owner, why);
}

static void
on_seeker_found(void *owner, const struct redis_address *address)
{
	struct redis_link *l = owner;

	l->state = LINK_CONNECTING;
	redis_conn_open(&l->conn, address);
}

static void
on_seeker_lost(void *owner, const char *why)
{
	fail(owner, why);
}

/* ---- time ---- */

static void
probe(struct redis_link *l)
{
	static const char *const argv[] = {"PING"};
	static const size_t lens[] = {4};
	bool late = late_tick(&l->ticked_ms, supervisor_now_ms(), l->cfg.probe_ms);

	timer_set(l, l->cfg.probe_ms / 1000.);
	/* What we do not read cannot be held against it; nor can its PONG be when it is
	 * behind messages that still come. */
	if (l->probing && !l->conn.paused && !l->conn.heard) {
		if (!late || l->spared)
			fail(l, "it did not answer in feed.probe_interval");
		l->spared = true;
		return;
	}
	l->conn.heard = false;
	if (l->probing)
		return;
	l->probing = true;
	l->spared = false;
	l->probe = l->sent;
	l->probe_ms = supervisor_now_ms();
	if (redis_link_command(l, 1, argv, lens) < 0)
		fail(l, "out of memory");
	else
		redis_link_flush(l);
}

static void
on_link_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct redis_link *l = container_of(t, struct redis_link, timer);

	if (l->state == LINK_UP) {
		probe(l);
		return;
	}
	l->state = LINK_SEEKING;
	redis_seeker_start(&l->seeker);
}

/* ---- life ---- */

int
redis_link_new(const struct redis_link_config *cfg, struct redis_link **ret_link)
{
	static const struct redis_seeks seeks = {
	    .on_found = on_seeker_found,
	    .on_lost = on_seeker_lost,
	    .on_moved = on_seeker_lost,
	};
	struct redis_link *l = calloc(1, sizeof(*l));
	struct redis_conn_config conn = {
	    .loop = cfg->loop,
	    .subscriber = cfg->subscriber,
	    .timeout_s = CONNECT_S,
	    .reply_max = cfg->reply_max,
	    .on_up = on_conn_up,
	    .on_down = on_conn_down,
	    .on_reply = on_conn_reply,
	    .owner = l,
	};

	if (l == NULL)
		return -ENOMEM;
	l->cfg = *cfg;
	conn.login = redis_target_login(cfg->target);
	conn.form = redis_target_form(cfg->target);
	redis_conn_init(&l->conn, &conn);
	redis_seeker_init(&l->seeker, cfg->target, &cfg->wish, &seeks, l);
	l->delay_ms = DELAY_MIN_MS;
	l->state = LINK_WAITING;
	ev_timer_init(&l->timer, on_link_timer, 0., 0.);
	ev_timer_start(cfg->loop, &l->timer);
	*ret_link = l;
	return 0;
}

void
redis_link_free(struct redis_link *l)
{
	if (l == NULL)
		return;
	ev_timer_stop(l->cfg.loop, &l->timer);
	redis_seeker_done(&l->seeker);
	redis_conn_close(&l->conn);
	free(l);
}

void
redis_link_lose(struct redis_link *l, const char *why)
{
	if (l->state == LINK_UP)
		fail(l, why);
}

bool
redis_link_paused(const struct redis_link *l)
{
	return l->conn.paused;
}

bool
redis_link_up(const struct redis_link *l)
{
	return l->state == LINK_UP;
}

uint32_t
redis_link_lag_ms(const struct redis_link *l)
{
	return l->lag_ms;
}
