/* redis_target.c - see redis_target.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "supervisor/feed.h"
#include "supervisor/redis_error.h"
#include "supervisor/redis_target.h"

#define ASK_TIMEOUT_S 1.0 /* to connect, and to answer */
#define ASK_EVERY_S 1.0
#define ASK_REPLY_MAX (64u << 10)
#define WHY_MAX 256

struct redis_target {
	struct ev_loop *loop;
	struct redis_url url;
	char *password_file, *ca, *certificate, *key, *sentinel_password_file;
	struct redis_login login, asker_login; /* of these */
	char where[REDIS_URL_MAX + 64];

	struct redis_seeker *seekers;
	struct redis_conn asker;
	unsigned host, tried; /* who is asked; how many could not say */
	bool asking;          /* an answer is to come */
	bool round;           /* all are asked in turn, for somebody who seeks */
	ev_timer timer;       /* of an answer, or until the next question */
	uint64_t epoch;       /* SENTINEL: the highest seen */
	struct redis_cluster cluster,
	    before; /* as of the last answer, the last but one */
	void (*on_map)(void *owner, bool changed);
	void *owner;
};

/* ---- whom to ask ---- */

/* The nodes that we know, and those that we were told of at first. */
static unsigned
nhosts(const struct redis_target *t)
{
	return t->cluster.nnodes + t->url.naddresses;
}

static const struct redis_address *
host(const struct redis_target *t)
{
	unsigned i = t->host % nhosts(t);

	return i < t->cluster.nnodes ? &t->cluster.node[i]
				     : &t->url.address[i - t->cluster.nnodes];
}

static void
timer_set(struct redis_target *t, double seconds)
{
	ev_timer_stop(t->loop, &t->timer);
	ev_timer_set(&t->timer, seconds, 0.);
	ev_timer_start(t->loop, &t->timer);
}

static void
ask(struct redis_target *t)
{
	const char *sentinel[3] = {"SENTINEL", "MASTER", t->url.master};
	const char *cluster[2] = {"CLUSTER", "SLOTS"};
	const size_t sentinel_lens[3] = {8, 6, strlen(t->url.master)};
	const size_t cluster_lens[2] = {7, 5};
	int r = t->url.form == REDIS_SENTINEL
		    ? redis_conn_command(&t->asker, 3, sentinel, sentinel_lens)
		    : redis_conn_command(&t->asker, 2, cluster, cluster_lens);

	t->asking = r == 0; /* without memory: the timer says that nobody answers */
	timer_set(t, ASK_TIMEOUT_S);
	redis_conn_flush(&t->asker);
}

static void
ask_host(struct redis_target *t)
{
	ev_timer_stop(t->loop, &t->timer);
	t->asking = false;
	if (redis_conn_up(&t->asker))
		ask(t);
	else if (t->asker.state == CONN_CLOSED)
		redis_conn_open(&t->asker, host(t));
}

/* Begin to ask all in turn, until one can say. */
static void
round_begin(struct redis_target *t)
{
	if (t->round)
		return;
	t->round = true;
	t->tried = 0;
	if (!t->asking)
		ask_host(t);
}

/* Nobody could say; the last one, this. */
static void
round_failed(struct redis_target *t, const char *why)
{
	struct redis_seeker *next;

	t->round = false;
	/* If all of them are behind, they were set up anew. */
	t->epoch = 0;
	timer_set(t, ASK_EVERY_S);
	for (struct redis_seeker *s = t->seekers; s != NULL; s = next) {
		next = s->next;
		if (!s->seeking)
			continue;
		s->seeking = false;
		s->seeks->on_lost(s->owner, why);
	}
}

/* This one cannot say: the next. */
static void
host_failed(struct redis_target *t, const char *why)
{
	char text[REDIS_URL_MAX + 16], line[WHY_MAX];

	(void)snprintf(line, sizeof(line), "%s %.80s: %.140s",
	    t->url.form == REDIS_SENTINEL ? "sentinel" : "node",
	    redis_address_text(host(t), text, sizeof(text)), why);
	redis_conn_close(&t->asker);
	t->asking = false;
	t->host = (t->host + 1) % nhosts(t);
	if (!t->round) {
		timer_set(t, ASK_EVERY_S);
		return;
	}
	if (++t->tried >= nhosts(t))
		round_failed(t, line);
	else
		ask_host(t);
}

/* ---- what they say ---- */

/* Where a seeker belongs now, or NULL. */
static const struct redis_address *
place_of(const struct redis_target *t, const struct redis_seeker *s)
{
	const struct redis_cluster *c = &t->cluster;
	/* One that may be anywhere need not move. */
	const struct redis_address *node = s->wish.kind == WISH_NODE ? &s->wish.node
					   : s->found                ? &s->address
								     : NULL;

	if (s->wish.kind == WISH_SLOT)
		return c->owner[s->wish.slot] > 0 ? &c->node[c->owner[s->wish.slot] - 1]
						  : NULL;
	for (unsigned i = 0; node != NULL && i < c->nnodes; i++)
		if (redis_address_is(&c->node[i], node))
			return &c->node[i];
	return s->wish.kind == WISH_ANY && c->nnodes > 0 ? &c->node[s->turn % c->nnodes]
							 : NULL;
}

static void
tell(struct redis_seeker *s, const struct redis_address *address)
{
	char text[REDIS_URL_MAX + 16], why[WHY_MAX];

	if (s->seeking) {
		s->seeking = false;
		s->found = true;
		s->address = *address;
		s->seeks->on_found(s->owner, address);
	} else if (s->found && !redis_address_is(&s->address, address)) {
		s->found = false;
		(void)snprintf(why, sizeof(why), "its place was taken by %s",
		    redis_address_text(address, text, sizeof(text)));
		s->seeks->on_moved(s->owner, why);
	}
}

/* Tell all of them. A slot without an owner will have one again. */
static void
tell_all(struct redis_target *t, const struct redis_address *master)
{
	struct redis_seeker *next;

	t->round = false;
	timer_set(t, ASK_EVERY_S);
	for (struct redis_seeker *s = t->seekers; s != NULL; s = next) {
		const struct redis_address *a =
		    master != NULL ? master : place_of(t, s);

		next = s->next;
		if (a != NULL) {
			tell(s, a);
		} else if (s->seeking) {
			s->seeking = false;
			s->seeks->on_lost(
			    s->owner, "no master of the cluster is in its place");
		}
	}
}

static void
on_master(struct redis_target *t, const redisReply *reply)
{
	struct redis_master m;

	if (!redis_master_parse(reply, &m)) {
		host_failed(t, "its answer is not understood");
		return;
	}
	if (m.epoch < t->epoch) {
		host_failed(t, "it is behind the others");
		return;
	}
	t->epoch = m.epoch;
	tell_all(t, &m.address);
}

static void
on_slots(struct redis_target *t, const redisReply *reply)
{
	struct redis_address asked = *host(t);

	t->before = t->cluster;
	if (!redis_cluster_parse(reply, &asked, &t->cluster)) {
		t->cluster = t->before;
		host_failed(t, "it knows of no node that serves a slot");
		return;
	}
	/* Who is asked next is found in the new list. */
	for (unsigned i = 0; i < nhosts(t); i++) {
		t->host = i;
		if (redis_address_is(host(t), &asked))
			break;
	}
	tell_all(t, NULL);
	if (t->on_map != NULL)
		t->on_map(t->owner, !redis_cluster_is(&t->before, &t->cluster));
}

static bool
on_asker_reply(void *owner, const redisReply *reply)
{
	struct redis_target *t = owner;
	char quoted[120];

	t->asking = false;
	if (reply->type == REDIS_REPLY_ERROR)
		host_failed(t, redis_error_text(reply, quoted, sizeof(quoted)));
	else if (t->url.form == REDIS_SENTINEL)
		on_master(t, reply);
	else
		on_slots(t, reply);
	return true;
}

static void
on_asker_up(void *owner)
{
	ask(owner);
}

static void
on_asker_down(void *owner, const char *why)
{
	host_failed(owner, why);
}

static void
on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct redis_target *t = container_of(timer, struct redis_target, timer);

	if (redis_conn_up(&t->asker) && t->asking)
		host_failed(t, "it did not answer in 1 s");
	else if (t->seekers != NULL || t->on_map != NULL)
		ask_host(t);
}

/* ---- those who seek ---- */

void
redis_seeker_init(struct redis_seeker *s, struct redis_target *target,
    const struct redis_wish *wish, const struct redis_seeks *seeks, void *owner)
{
	*s = (struct redis_seeker){.target = target,
	    .seeks = seeks,
	    .owner = owner,
	    .wish = *wish,
	    .next = target->seekers};
	target->seekers = s;
}

void
redis_seeker_done(struct redis_seeker *s)
{
	struct redis_seeker **at = &s->target->seekers;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
}

void
redis_seeker_start(struct redis_seeker *s)
{
	struct redis_target *t = s->target;
	bool no_luck = s->found;

	if (t->url.form == REDIS_SERVER) {
		s->seeks->on_found(s->owner, &t->url.address[0]);
		return;
	}
	s->seeking = true;
	s->found = false;
	s->turn += no_luck;
	/* Another may know better than who sent us there. */
	if (no_luck && !t->round && !t->asking) {
		redis_conn_close(&t->asker);
		t->host = (t->host + 1) % nhosts(t);
	}
	round_begin(t);
}

void
redis_seeker_stop(struct redis_seeker *s)
{
	s->seeking = false;
}

/* ---- those who watch ---- */

const struct redis_cluster *
redis_target_map(const struct redis_target *t)
{
	return &t->cluster;
}

void
redis_target_watch(
    struct redis_target *t, void (*on_map)(void *owner, bool changed), void *owner)
{
	t->on_map = on_map;
	t->owner = owner;
	timer_set(t, 0.);
}

void
redis_target_ask(struct redis_target *t)
{
	if (!t->asking)
		ask_host(t);
}

/* ---- life ---- */

static int
login_set(struct redis_target *t, const struct settings *settings)
{
	t->password_file = strdup(settings->redis_password_file);
	t->ca = strdup(settings->redis_ca);
	t->certificate = strdup(settings->redis_certificate);
	t->key = strdup(settings->redis_key);
	t->sentinel_password_file = strdup(settings->sentinel_password_file);
	if (t->password_file == NULL || t->ca == NULL || t->certificate == NULL ||
	    t->key == NULL || t->sentinel_password_file == NULL)
		return -ENOMEM;
	t->login = (struct redis_login){
	    .user = t->url.user,
	    .password = t->url.password,
	    .password_file = t->password_file,
	    .db = t->url.db,
	    .tls = t->url.tls,
	    .ca = t->ca,
	    .certificate = t->certificate,
	    .key = t->key,
	};
	t->asker_login = t->login;
	if (t->url.form == REDIS_SENTINEL) {
		t->asker_login.user = t->asker_login.password = "";
		t->asker_login.password_file = t->sentinel_password_file;
		t->asker_login.db = 0;
	}
	return 0;
}

static void
where_set(struct redis_target *t)
{
	char text[REDIS_URL_MAX + 16];

	(void)redis_address_text(&t->url.address[0], text, sizeof(text));
	if (t->url.form == REDIS_SENTINEL)
		(void)snprintf(t->where, sizeof(t->where),
		    "master %.60s of sentinel %.150s", t->url.master, text);
	else
		(void)snprintf(t->where, sizeof(t->where), "%s%s",
		    t->url.form == REDIS_CLUSTER ? "the cluster of " : "", text);
}

static void
asker_set(struct redis_target *t)
{
	struct redis_conn_config cfg = {
	    .loop = t->loop,
	    .login = &t->asker_login,
	    .timeout_s = ASK_TIMEOUT_S,
	    .reply_max = ASK_REPLY_MAX,
	    .on_up = on_asker_up,
	    .on_down = on_asker_down,
	    .on_reply = on_asker_reply,
	    .owner = t,
	};

	redis_conn_init(&t->asker, &cfg);
	ev_timer_init(&t->timer, on_timer, 0., 0.);
}

int
redis_target_new(struct ev_loop *loop, const struct settings *settings,
    struct redis_target **ret_target)
{
	struct redis_target *t = calloc(1, sizeof(*t));
	const char *why;
	int r;

	if (t == NULL)
		return -ENOMEM;
	t->loop = loop;
	asker_set(t);
	r = redis_url_parse(settings->redis, &t->url, &why);
	if (r < 0)
		log_error(0, "feed.redis: %s", why);
	else
		r = login_set(t, settings);
	if (r < 0) {
		redis_target_free(t);
		return r;
	}
	where_set(t);
	*ret_target = t;
	return 0;
}

void
redis_target_free(struct redis_target *t)
{
	if (t == NULL)
		return;
	ev_timer_stop(t->loop, &t->timer);
	redis_conn_close(&t->asker);
	free(t->password_file);
	free(t->ca);
	free(t->certificate);
	free(t->key);
	free(t->sentinel_password_file);
	free(t);
}

const struct redis_login *
redis_target_login(const struct redis_target *t)
{
	return &t->login;
}

enum redis_form
redis_target_form(const struct redis_target *t)
{
	return t->url.form;
}

const char *
redis_target_where(const struct redis_target *t)
{
	return t->where;
}
