/* hosts_tell.c - see hosts_tell.h */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/presence.h"
#include "supervisor/hosts_tell.h"
#include "supervisor/presence.h"
#include "supervisor/supervisor.h"

#define BATCH 64          /* members of one message */
#define UNTOLD_MAX 100000 /* changes that wait for the link */
#define SCAN_COUNT "500"

static struct peers *
peers_of(const struct hosts_tell *t)
{
	return t->p->s->peers;
}

static uint32_t
expiry_ms(const struct hosts_tell *t)
{
	return t->p->s->settings->presence_expiry_ms;
}

static void
forget_untold(struct hosts_tell *t)
{
	char *field;

	while (fifo_pop(&t->untold, &field))
		free(field);
}

static void
lose(struct hosts_tell *t)
{
	forget_untold(t);
	t->rebuild = t->stale = true;
}

void
hosts_tell_changed(struct hosts_tell *t, struct slice channel, uint64_t client)
{
	char field[PRESENCE_FIELD_MAX], *copy;
	/* A link that is up takes all of ours. */
	size_t max = peers_up(peers_of(t)) ? MEMBERS_MAX : UNTOLD_MAX;

	if (t->stopping)
		return;
	copy = strndup(field, presence_field(channel, client, field));
	if (copy == NULL || t->untold.len >= max || fifo_push(&t->untold, &copy) < 0) {
		free(copy);
		lose(t);
	}
}

size_t
hosts_key(const char *node, char *key)
{
	return (size_t)snprintf(key, HOSTS_KEY_MAX, HOSTS_KEY "%s", node);
}

int
hosts_scan(struct peers *peers, const char *node, const char *cursor,
    peers_reply *on_reply, void *owner, uint64_t tag)
{
	char key[HOSTS_KEY_MAX];
	const char *argv[5] = {"HSCAN", key, cursor, "COUNT", SCAN_COUNT};
	size_t lens[5] = {
	    5, hosts_key(node, key), strlen(cursor), 5, strlen(SCAN_COUNT)};

	return peers_command(peers, 5, argv, lens, on_reply, owner, tag);
}

const redisReply *
hosts_scanned(const redisReply *reply, const char **ret_cursor)
{
	if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    reply->element[0]->str == NULL ||
	    reply->element[1]->type != REDIS_REPLY_ARRAY)
		return NULL;
	*ret_cursor = reply->element[0]->str;
	return reply->element[1];
}

static size_t
own_key(const struct hosts_tell *t, char *key)
{
	return hosts_key(peers_node(peers_of(t)), key);
}

/* What all our workers have. */
static uint64_t
own_count(const struct hosts_tell *t)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < t->p->s->nworkers; i++)
		n += t->p->workers[i].n;
	return n;
}

static void
own_sum(const struct hosts_tell *t, json_t *o)
{
	char text[20];
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->p->s->nworkers; i++)
		sum ^= t->p->workers[i].sum;
	(void)snprintf(text, sizeof(text), "%016" PRIx64, sum);
	(void)json_object_set_new(o, "n", json_integer((json_int_t)own_count(t)));
	(void)json_object_set_new(o, "sum", json_string(text));
}

static void
publish(struct hosts_tell *t, json_t *o)
{
	char *text;

	(void)json_object_set_new(o, "node", json_string(peers_node(peers_of(t))));
	if (t->untold.len > 0 || t->rebuild)
		(void)json_object_set_new(o, "busy", json_true());
	own_sum(t, o);
	text = json_dumps(o, JSON_COMPACT);
	if (text == NULL ||
	    peers_tell(peers_of(t), PEERS_PRESENCE, text, strlen(text)) < 0)
		lose(t);
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

/* What was not done is done with the next sign of life: at once might be in vain. */
static void
on_told(void *owner, uint64_t tag, const redisReply *r)
{
	struct hosts_tell *t = owner;

	if (r == NULL || r->type == REDIS_REPLY_ERROR)
		t->stale = true;
}

static void
batch_send(struct hosts_tell *t, const struct batch *b)
{
	if (b->argc > 2 &&
	    peers_command(peers_of(t), b->argc, b->argv, b->lens, on_told, t, 0) < 0)
		lose(t);
}

/* A member as it is by now, or NULL. */
static json_t *
value_of(const struct hosts_tell *t, const char *field)
{
	struct presence_member pm;
	const struct member *m = NULL;

	if (presence_parse_field(
		(struct slice){field, strlen(field)}, &pm.channel, &pm.client) == 0)
		m = members_find_local(&t->p->members, pm.channel, pm.client);
	if (m == NULL)
		return NULL;
	pm.shown = m->shown;
	pm.away = m->away_until_ms != 0;
	pm.user = member_user(m);
	pm.info = member_info(m);
	return presence_value(&pm);
}

static void
tell_batch(struct hosts_tell *t)
{
	json_t *o = json_object(), *set = json_object(), *del = json_array();
	char key[HOSTS_KEY_MAX], *field[BATCH], *text[BATCH];
	size_t key_len = own_key(t, key);
	struct batch hset, hdel;
	int n;

	batch_begin(&hset, "HSET", key, key_len);
	batch_begin(&hdel, "HDEL", key, key_len);
	for (n = 0; n < BATCH && fifo_pop(&t->untold, &field[n]); n++) {
		json_t *value = value_of(t, field[n]);

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
	batch_send(t, &hset);
	batch_send(t, &hdel);
	while (n-- > 0) {
		free(field[n]);
		free(text[n]);
	}
	(void)json_object_set_new(o, "set", set);
	(void)json_object_set_new(o, "del", del);
	publish(t, o);
}

/* ---- signs of life ---- */

static void
on_renewed(void *owner, uint64_t tag, const redisReply *r)
{
	struct hosts_tell *t = owner;

	/* Our hash is gone: Redis lost it, or we were silent for too long. */
	if (r != NULL && r->type == REDIS_REPLY_INTEGER && r->integer == 0 && tag > 0)
		t->rebuild = true;
}

/* PEXPIRE by presence.expiry. */
static int
expire(struct hosts_tell *t, const char *key, peers_reply *on_reply, uint64_t tag)
{
	char ms[16];
	const char *argv[3] = {"PEXPIRE", key, ms};
	size_t lens[3] = {7, strlen(key)};

	lens[2] = (size_t)snprintf(ms, sizeof(ms), "%u", expiry_ms(t));
	return peers_command(peers_of(t), 3, argv, lens, on_reply, t, tag);
}

/* Our hash and our name in the set live on. n: how many are in it; 0: never mind. */
static void
renew(struct hosts_tell *t, uint64_t n)
{
	const char *node = peers_node(peers_of(t));
	const char *argv[3] = {"SADD", HOSTS_SET, node};
	size_t lens[3] = {4, strlen(HOSTS_SET), strlen(node)};
	char key[HOSTS_KEY_MAX];

	(void)own_key(t, key);
	if (expire(t, key, on_renewed, n) < 0 ||
	    peers_command(peers_of(t), 3, argv, lens, NULL, NULL, 0) < 0 ||
	    expire(t, HOSTS_SET, NULL, 0) < 0)
		t->stale = true;
}

void
hosts_tell_expire(struct hosts_tell *t, const char *node)
{
	char key[HOSTS_KEY_MAX];

	(void)hosts_key(node, key);
	(void)!expire(t, key, NULL, 0);
}

void
hosts_tell_beat(struct hosts_tell *t, const char *why)
{
	json_t *o = json_object();

	if (why != NULL)
		(void)json_object_set_new(o, why, json_true());
	publish(t, o);
}

void
hosts_tell_live(struct hosts_tell *t)
{
	t->rebuild = t->rebuild || t->stale;
	renew(t, own_count(t));
	hosts_tell_beat(t, NULL);
	t->beat_ms = supervisor_now_ms();
}

/* Tell all of ours anew. */
static void
rebuild(struct hosts_tell *t)
{
	const struct member *m;

	t->rebuild = false;
	for (unsigned i = 0; i < t->p->s->nworkers && !t->rebuild; i++) {
		const struct member_source *src = &t->p->workers[i];

		TAILQ_FOREACH(m, &src->named, of_source)
		hosts_tell_changed(t, member_channel(m), m->client);
		TAILQ_FOREACH(m, &src->before, of_source)
		hosts_tell_changed(t, member_channel(m), m->client);
	}
}

static void sweep(struct hosts_tell *t, const char *cursor, uint64_t npages);

/* Who is in the hash and not here is gone: tell so. */
static void
on_swept(void *owner, uint64_t npages, const redisReply *r)
{
	struct hosts_tell *t = owner;
	const char *cursor;
	const redisReply *page = hosts_scanned(r, &cursor);

	t->sweeping = false;
	t->stale = t->stale || page == NULL;
	for (size_t i = 0; page != NULL && i + 1 < page->elements; i += 2) {
		struct slice field = {page->element[i]->str, page->element[i]->len};
		struct slice channel;
		uint64_t client;

		if (field.p != NULL &&
		    presence_parse_field(field, &channel, &client) == 0 &&
		    members_find_local(&t->p->members, channel, client) == NULL)
			hosts_tell_changed(t, channel, client);
	}
	if (page != NULL && strcmp(cursor, "0") != 0 && npages < HOSTS_PAGES_MAX)
		sweep(t, cursor, npages + 1);
}

static void
sweep(struct hosts_tell *t, const char *cursor, uint64_t npages)
{
	t->sweeping = hosts_scan(peers_of(t), peers_node(peers_of(t)), cursor, on_swept,
			  t, npages) == 0;
	t->stale = t->stale || !t->sweeping;
}

void
hosts_tell_flush(struct hosts_tell *t)
{
	bool told = false;

	if (t->stopping || !peers_up(peers_of(t)))
		return;
	if (t->rebuild) {
		rebuild(t);
		if (t->stale && !t->sweeping) {
			t->stale = false;
			sweep(t, "0", 1);
		}
	}
	for (; t->untold.len > 0 && !t->rebuild && !peers_busy(peers_of(t));
	     told = true)
		tell_batch(t);
	if (told) /* the hash may be a new one */
		renew(t, 0);
}

void
hosts_tell_bye(struct hosts_tell *t)
{
	const char *node = peers_node(peers_of(t));
	char key[HOSTS_KEY_MAX];
	const char *del[2] = {"DEL", key};
	size_t del_lens[2] = {3, own_key(t, key)};
	const char *rem[3] = {"SREM", HOSTS_SET, node};
	size_t rem_lens[3] = {4, strlen(HOSTS_SET), strlen(node)};

	if (t->stopping || !peers_up(peers_of(t)))
		return;
	hosts_tell_beat(t, "bye");
	t->stopping = true;
	(void)!peers_command(peers_of(t), 2, del, del_lens, NULL, NULL, 0);
	(void)!peers_command(peers_of(t), 3, rem, rem_lens, NULL, NULL, 0);
}

void
hosts_tell_init(struct hosts_tell *t, struct presence *p)
{
	*t = (struct hosts_tell){.p = p, .untold = {.item = sizeof(char *)}};
}

void
hosts_tell_done(struct hosts_tell *t)
{
	forget_untold(t);
	fifo_clear(&t->untold);
}
