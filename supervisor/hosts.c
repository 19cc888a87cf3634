/* hosts.c - see hosts.h */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/presence.h"
#include "supervisor/hosts.h"
#include "supervisor/peers.h"
#include "supervisor/presence.h"
#include "supervisor/supervisor.h"

#define CHANNEL "!presence"
#define KEY_MAX (sizeof(CHANNEL ":") + PEERS_NODE_LEN)
#define BATCH 64          /* members of one message */
#define UNTOLD_MAX 100000 /* changes that wait for the link */
#define BEATS 3           /* in an expiry */
#define SCAN_COUNT "500"
#define SCAN_PAGES 100000 /* no hash that we would take has more */
#define STALL_MS 1000     /* a tick that comes so late */

/* Another host. */
struct host {
	char node[PEERS_NODE_LEN + 1];
	uint64_t number; /* never used again: for answers of Redis */
	struct member_source members;
	uint64_t heard_ms;
	bool stopped;  /* it said so */
	bool scanning; /* its hash is being read */
	unsigned pages;
};

struct hosts {
	struct presence *p;
	struct host *host[HOSTS_MAX];
	unsigned nhosts;
	uint64_t last_number;
	struct fifo untold; /* fields, malloc'd */
	bool rebuild;       /* all of ours is told anew */
	bool stale;         /* the hash may have what nobody remembers */
	bool stopping;
	uint64_t beat_ms, ticked_ms;
	struct log_limit limit;
};

/* ---- what we have, told ---- */

static struct peers *
peers_of(const struct hosts *h)
{
	return h->p->s->peers;
}

static uint32_t
expiry_ms(const struct hosts *h)
{
	return h->p->s->settings->presence_expiry_ms;
}

static void
forget_untold(struct hosts *h)
{
	char *field;

	while (fifo_pop(&h->untold, &field))
		free(field);
}

static void
lose(struct hosts *h)
{
	forget_untold(h);
	h->rebuild = h->stale = true;
}

void
hosts_changed(struct hosts *h, struct slice channel, uint64_t client)
{
	char field[PRESENCE_FIELD_MAX], *copy;
	bool full;

	if (h == NULL || h->stopping)
		return;
	full = h->untold.len >= UNTOLD_MAX && !peers_up(peers_of(h));
	copy = strndup(field, presence_field(channel, client, field));
	if (copy == NULL || full || fifo_push(&h->untold, &copy) < 0) {
		free(copy);
		lose(h);
	}
}

static size_t
own_key(const struct hosts *h, char *key)
{
	return (size_t)snprintf(key, KEY_MAX, CHANNEL ":%s", peers_node(peers_of(h)));
}

/* What all our workers have. */
static uint64_t
own_count(const struct hosts *h)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < h->p->s->nworkers; i++)
		n += h->p->workers[i].n;
	return n;
}

static void
own_sum(const struct hosts *h, json_t *o)
{
	char text[20];
	uint64_t sum = 0;

	for (unsigned i = 0; i < h->p->s->nworkers; i++)
		sum ^= h->p->workers[i].sum;
	(void)snprintf(text, sizeof(text), "%016" PRIx64, sum);
	(void)json_object_set_new(o, "n", json_integer((json_int_t)own_count(h)));
	(void)json_object_set_new(o, "sum", json_string(text));
}

static void
publish(struct hosts *h, json_t *o)
{
	char *text;

	(void)json_object_set_new(o, "node", json_string(peers_node(peers_of(h))));
	if (h->untold.len > 0 || h->rebuild)
		(void)json_object_set_new(o, "busy", json_true());
	own_sum(h, o);
	text = json_dumps(o, JSON_COMPACT);
	if (text == NULL || peers_tell(peers_of(h), CHANNEL, text, strlen(text)) < 0)
		lose(h);
	free(text);
	json_decref(o);
}

/* One command for all fields of a batch: HSET's have values. */
struct batch {
	const char *argv[2 + 2 * BATCH];
	size_t lens[2 + 2 * BATCH];
	int argc;
};

static void
batch_begin(struct batch *b, const char *command, const char *key, size_t key_len)
{
	b->argv[0] = command;
	b->lens[0] = strlen(command);
	b->argv[1] = key;
	b->lens[1] = key_len;
	b->argc = 2;
}

static void
batch_put(struct batch *b, const char *text)
{
	b->argv[b->argc] = text;
	b->lens[b->argc++] = strlen(text);
}

static void
batch_send(struct hosts *h, const struct batch *b)
{
	if (b->argc > 2 &&
	    peers_command(peers_of(h), b->argc, b->argv, b->lens, NULL, NULL, 0) < 0)
		lose(h);
}

/* A member as it is by now, or NULL. */
static json_t *
value_of(const struct hosts *h, const char *field)
{
	struct presence_member pm;
	const struct member *m = NULL;

	if (presence_parse_field(
		(struct slice){field, strlen(field)}, &pm.channel, &pm.client) == 0)
		m = members_find_local(&h->p->members, pm.channel, pm.client);
	if (m == NULL)
		return NULL;
	pm.shown = m->shown;
	pm.away = m->away_until_ms != 0;
	pm.user = member_user(m);
	pm.info = member_info(m);
	return presence_value(&pm);
}

static void
tell_batch(struct hosts *h)
{
	json_t *o = json_object(), *set = json_object(), *del = json_array();
	char key[KEY_MAX], *field[BATCH], *text[BATCH];
	size_t key_len = own_key(h, key);
	struct batch hset, hdel;
	int n;

	batch_begin(&hset, "HSET", key, key_len);
	batch_begin(&hdel, "HDEL", key, key_len);
	for (n = 0; n < BATCH && fifo_pop(&h->untold, &field[n]); n++) {
		json_t *value = value_of(h, field[n]);

		text[n] = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
		if (text[n] != NULL) {
			batch_put(&hset, field[n]);
			batch_put(&hset, text[n]);
			(void)json_object_set_new(set, field[n], value);
		} else {
			batch_put(&hdel, field[n]);
			(void)json_array_append_new(del, json_string(field[n]));
			json_decref(value);
		}
	}
	batch_send(h, &hset);
	batch_send(h, &hdel);
	while (n-- > 0) {
		free(field[n]);
		free(text[n]);
	}
	(void)json_object_set_new(o, "set", set);
	(void)json_object_set_new(o, "del", del);
	publish(h, o);
}

/* ---- signs of life ---- */

static void
on_renewed(void *owner, uint64_t tag, const redisReply *r)
{
	struct hosts *h = owner;

	/* Our hash is gone: Redis lost it, or we were silent for too long. */
	if (r != NULL && r->type == REDIS_REPLY_INTEGER && r->integer == 0 && tag > 0)
		h->rebuild = true;
}

static void
renew(struct hosts *h)
{
	char key[KEY_MAX], ms[16];
	const char *argv[3] = {"PEXPIRE", key, ms};
	size_t lens[3] = {7, own_key(h, key)};

	lens[2] = (size_t)snprintf(ms, sizeof(ms), "%u", expiry_ms(h));
	if (peers_command(peers_of(h), 3, argv, lens, on_renewed, h, own_count(h)) < 0)
		h->rebuild = true;
	h->beat_ms = supervisor_now_ms();
}

static void
beat(struct hosts *h, const char *why)
{
	json_t *o = json_object();

	if (why != NULL)
		(void)json_object_set_new(o, why, json_true());
	publish(h, o);
}

/* Tell all of ours anew. What is there already stays meanwhile, so that nobody who
 * reads it takes a member for gone. */
static void
rebuild(struct hosts *h)
{
	char key[KEY_MAX];
	const char *argv[2] = {"DEL", key};
	size_t lens[2] = {3, own_key(h, key)};
	const struct member *m;

	if (h->stale && peers_command(peers_of(h), 2, argv, lens, NULL, NULL, 0) < 0)
		return;
	h->rebuild = h->stale = false;
	for (unsigned i = 0; i < h->p->s->nworkers && !h->rebuild; i++) {
		const struct member_source *src = &h->p->workers[i];

		TAILQ_FOREACH(m, &src->named, of_source)
		hosts_changed(h, member_channel(m), m->client);
		TAILQ_FOREACH(m, &src->before, of_source)
		hosts_changed(h, member_channel(m), m->client);
	}
}

void
hosts_flush(struct hosts *h)
{
	bool told = false;

	if (h == NULL || h->stopping || !peers_up(peers_of(h)))
		return;
	if (h->rebuild)
		rebuild(h);
	for (; h->untold.len > 0 && !h->rebuild && !peers_busy(peers_of(h));
	     told = true)
		tell_batch(h);
	if (told) /* the hash may be a new one */
		renew(h);
}

/* ---- what others have ---- */

static struct host *
host_find(const struct hosts *h, const char *node)
{
	for (unsigned i = 0; i < h->nhosts; i++)
		if (strcmp(h->host[i]->node, node) == 0)
			return h->host[i];
	return NULL;
}

static struct host *
host_take(struct hosts *h, const char *node)
{
	struct host *host = host_find(h, node);

	if (host != NULL || h->nhosts == HOSTS_MAX)
		return host;
	host = calloc(1, sizeof(*host));
	if (host == NULL)
		return NULL;
	memcpy(host->node, node, PEERS_NODE_LEN);
	host->number = ++h->last_number;
	member_source_init(&host->members, false);
	h->host[h->nhosts++] = host;
	presence_watch(h->p);
	return host;
}

static void
host_drop(struct hosts *h, unsigned i)
{
	struct host *host = h->host[i];

	h->host[i] = h->host[--h->nhosts];
	members_source_gone(&h->p->members, &host->members);
	free(host);
}

static void
bad(struct hosts *h, const char *text, size_t len)
{
	char quoted[160];
	unsigned long missed;

	if (log_allowed(&h->limit, supervisor_now_ms(), &missed))
		log_warning(0, "no host of ours says on " CHANNEL ": %s",
		    log_quote(text, len, quoted, sizeof(quoted)));
}

static void
take(struct hosts *h, struct host *host, struct slice field, const json_t *value)
{
	struct presence_member m;
	struct member_said said;
	unsigned long missed;
	int r;

	if (presence_parse(field, value, &m) < 0) {
		bad(h, field.p, field.len);
		return;
	}
	said = (struct member_said){
	    .channel = m.channel,
	    .client = m.client,
	    .shown = m.shown,
	    .away = m.away,
	    .user = m.user,
	    .info = m.info,
	};
	r = members_set(&h->p->members, &host->members, &said, supervisor_now_ms());
	if (r < 0 && log_allowed(&h->limit, supervisor_now_ms(), &missed))
		log_error(r, "too many members of channels: one more is not shown");
}

static void scan(struct hosts *h, struct host *host, const char *cursor);

static struct host *
host_numbered(const struct hosts *h, uint64_t number)
{
	for (unsigned i = 0; i < h->nhosts; i++)
		if (h->host[i]->number == number)
			return h->host[i];
	return NULL;
}

static void
take_page(struct hosts *h, struct host *host, const redisReply *page)
{
	for (size_t i = 0; i + 1 < page->elements; i += 2) {
		const redisReply *field = page->element[i];
		const redisReply *value = page->element[i + 1];
		json_t *v;

		if (field->str == NULL || value->str == NULL)
			continue;
		v = json_loadb(value->str, value->len, 0, NULL);
		take(h, host, (struct slice){field->str, field->len}, v);
		json_decref(v);
	}
}

static void
on_page(void *owner, uint64_t tag, const redisReply *r)
{
	struct hosts *h = owner;
	struct host *host = host_numbered(h, tag);
	const redisReply *cursor;

	if (host == NULL)
		return;
	host->scanning = false; /* what is amiss shows with the next beat */
	if (r == NULL || r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
	    r->element[0]->str == NULL || r->element[1]->type != REDIS_REPLY_ARRAY)
		return;
	h->p->members.grace_ms = h->p->s->settings->presence_grace_ms;
	take_page(h, host, r->element[1]);
	cursor = r->element[0];
	if (strcmp(cursor->str, "0") == 0 || ++host->pages > SCAN_PAGES)
		members_named_all(&h->p->members, &host->members, supervisor_now_ms());
	else
		scan(h, host, cursor->str);
}

static void
scan(struct hosts *h, struct host *host, const char *cursor)
{
	char key[KEY_MAX];
	const char *argv[5] = {"HSCAN", key, cursor, "COUNT", SCAN_COUNT};
	size_t lens[5] = {5, 0, strlen(cursor), 5, strlen(SCAN_COUNT)};

	lens[1] = (size_t)snprintf(key, sizeof(key), CHANNEL ":%s", host->node);
	host->scanning =
	    peers_command(peers_of(h), 5, argv, lens, on_page, h, host->number) == 0;
}

static void
scan_begin(struct hosts *h, struct host *host)
{
	if (host->scanning || host->stopped)
		return;
	host->pages = 0;
	members_name_all(&host->members);
	scan(h, host, "0");
}

/* Whether we count as the host does. */
static bool
counts_as(const struct host *host, const json_t *told)
{
	const char *sum = json_string_value(json_object_get(told, "sum"));
	uint64_t theirs = 0;

	return sum != NULL &&
	       presence_parse_id((struct slice){sum, strlen(sum)}, &theirs) &&
	       theirs == host->members.sum &&
	       json_integer_value(json_object_get(told, "n")) ==
		   (json_int_t)host->members.n;
}

static void
take_told(struct hosts *h, struct host *host, json_t *told)
{
	const json_t *del = json_object_get(told, "del"), *item;
	const char *field;
	json_t *value;
	size_t i;

	json_object_foreach(json_object_get(told, "set"), field, value)
	    take(h, host, (struct slice){field, strlen(field)}, value);
	json_array_foreach(del, i, item)
	{
		struct slice text = {json_string_value(item), json_string_length(item)};
		struct slice channel;
		uint64_t client;

		if (text.p != NULL &&
		    presence_parse_field(text, &channel, &client) == 0)
			members_drop(&h->p->members, &host->members, channel, client);
	}
}

static void
hear_host(struct hosts *h, const char *node, json_t *told)
{
	struct host *host = host_take(h, node);

	if (host == NULL) {
		bad(h, node, strlen(node));
		return;
	}
	host->heard_ms = supervisor_now_ms();
	take_told(h, host, told);
	if (json_is_true(json_object_get(told, "bye"))) {
		host->stopped = true;
		members_source_leaves(&h->p->members, &host->members, host->heard_ms);
	} else if (!json_is_true(json_object_get(told, "busy")) &&
		   !counts_as(host, told)) {
		scan_begin(h, host);
	}
	if (json_is_true(json_object_get(told, "hello")) && !h->stopping &&
	    peers_up(peers_of(h)))
		beat(h, NULL);
}

void
hosts_hear(struct hosts *h, const char *text, size_t len)
{
	json_t *told;
	const char *node;
	uint64_t id;

	if (h == NULL)
		return;
	told = json_loadb(text, len, 0, NULL);
	node = json_string_value(json_object_get(told, "node"));
	if (node == NULL || !presence_parse_id((struct slice){node, strlen(node)}, &id))
		bad(h, text, len);
	else if (strcmp(node, peers_node(peers_of(h))) != 0)
		hear_host(h, node, told);
	json_decref(told);
}

/* ---- life ---- */

void
hosts_up(struct hosts *h)
{
	if (h == NULL || h->stopping)
		return;
	h->rebuild = true;
	hosts_flush(h);
	/* What they said meanwhile we have not heard: how they count now shows it. */
	for (unsigned i = 0; i < h->nhosts; i++) {
		h->host[i]->heard_ms = supervisor_now_ms();
		h->host[i]->scanning = false;
	}
	beat(h, "hello");
	presence_watch(h->p);
}

void
hosts_bye(struct hosts *h)
{
	char key[KEY_MAX];
	const char *argv[2] = {"DEL", key};
	size_t lens[2] = {3};

	if (h == NULL || h->stopping || !peers_up(peers_of(h)))
		return;
	lens[1] = own_key(h, key);
	beat(h, "bye");
	h->stopping = true;
	(void)!peers_command(peers_of(h), 2, argv, lens, NULL, NULL, 0);
}

static void
drop_silent(struct hosts *h, uint64_t now_ms)
{
	for (unsigned i = h->nhosts; i-- > 0;) {
		struct host *host = h->host[i];

		if (host->stopped && host->members.n == 0) {
			host_drop(h, i);
		} else if (now_ms - host->heard_ms >= expiry_ms(h)) {
			log_warning(0,
			    "host %s was not heard for %u ms: its %u members of "
			    "channels are gone",
			    host->node, expiry_ms(h), host->members.n);
			host_drop(h, i);
		}
	}
}

bool
hosts_tick(struct hosts *h)
{
	uint64_t now_ms = supervisor_now_ms(), late_ms;

	if (h == NULL || h->stopping)
		return false;
	late_ms = now_ms - h->ticked_ms;
	h->ticked_ms = now_ms;
	if (!peers_up(peers_of(h)))
		return true; /* nobody could be heard */
	/* We stood still, and what they said meanwhile waits to be read. */
	for (unsigned i = 0; late_ms > STALL_MS && i < h->nhosts; i++)
		h->host[i]->heard_ms = now_ms;
	if (now_ms - h->beat_ms >= expiry_ms(h) / BEATS) {
		renew(h);
		beat(h, NULL);
	}
	drop_silent(h, now_ms);
	return true;
}

int
hosts_new(struct presence *p, struct hosts **ret)
{
	struct hosts *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return -ENOMEM;
	h->p = p;
	h->untold.item = sizeof(char *);
	*ret = h;
	return 0;
}

void
hosts_free(struct hosts *h)
{
	if (h == NULL)
		return;
	while (h->nhosts > 0)
		host_drop(h, h->nhosts - 1);
	forget_untold(h);
	fifo_clear(&h->untold);
	free(h);
}
