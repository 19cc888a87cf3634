/* expel.c - see expel.h */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/journal.h"
#include "supervisor/expel.h"
#include "supervisor/peers.h"
#include "supervisor/supervisor.h"

#define CHANNEL "!revoke"
#define KEY PEERS_KEY "revoked"

uint64_t
expel_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static const char *
kind_name(enum revoked_kind kind)
{
	return kind == REVOKED_USER ? "user" : "jti";
}

/* ---- here ---- */

int
expel_revoke(struct supervisor *s, enum revoked_kind kind, const char *text, size_t len,
    uint64_t until_ms, uint64_t *ret_record)
{
	struct revoked *table = ring_revoked(s->ring);
	struct ring_desc desc = {
	    .type = RING_EXPEL, .channel = RING_NO_CHANNEL, .data_kind = EXPEL_REVOKED};
	uint64_t now_ms = expel_now_ms();
	struct revoked_id id;
	int r;

	if (!revoked_id(table, kind, text, len, &id))
		return -EINVAL;
	r = revoked_add(table, &id, until_ms, now_ms);
	if (r < 0 || until_ms <= now_ms) {
		desc.data_kind = kind == REVOKED_USER ? EXPEL_USER : EXPEL_JTI;
		desc.offset = id.hash[0];
		desc.arg = id.hash[1];
	}
	if (r < 0)
		log_error(r, "too many users and tokens are revoked: one more is not "
			     "remembered, and may come in again");
	*ret_record = publisher_control(&s->publisher, &desc);
	return *ret_record == 0 ? -ENOMEM : r;
}

uint64_t
expel_client(struct supervisor *s, uint64_t client)
{
	struct ring_desc desc = {.type = RING_EXPEL,
	    .channel = RING_NO_CHANNEL,
	    .data_kind = EXPEL_CLIENT,
	    .offset = client};

	return publisher_control(&s->publisher, &desc);
}

uint64_t
expel_channel(struct supervisor *s, uint32_t channel)
{
	struct ring_desc desc = {
	    .type = RING_EXPEL, .channel = channel, .data_kind = EXPEL_CHANNEL};

	return publisher_control(&s->publisher, &desc);
}

void
expel_tick(struct supervisor *s)
{
	revoked_tick(ring_revoked(s->ring), expel_now_ms());
}

/* ---- all hosts ---- */

/* For hosts that come later. */
static void
remember(struct supervisor *s, enum revoked_kind kind, const char *text, size_t len,
    uint64_t until_ms)
{
	json_t *object = json_pack("{s:s%}", kind_name(kind), text, len);
	char *member = json_dumps(object, JSON_COMPACT);
	char score[24];
	const char *argv[4] = {"ZADD", KEY, score, member};
	size_t lens[4] = {4, strlen(KEY)};

	lens[2] = (size_t)snprintf(
	    score, sizeof(score), "%llu", (unsigned long long)until_ms);
	lens[3] = member == NULL ? 0 : strlen(member);
	if (until_ms > expel_now_ms() && lens[3] > 0 &&
	    peers_command(s->peers, 4, argv, lens, NULL, NULL, 0) < 0)
		log_warning(0, "a host that starts later may not know of a revocation");
	free(member);
	json_decref(object);
}

int
expel_tell(struct supervisor *s, enum revoked_kind kind, const char *text, size_t len,
    uint64_t until_ms)
{
	uint64_t now_ms = expel_now_ms();
	json_t *told = json_pack("{s:s%, s:f, s:s}", kind_name(kind), text, len, "for",
	    until_ms > now_ms ? (double)(until_ms - now_ms) / 1000 : 0., "node",
	    peers_node(s->peers));
	char *message = json_dumps(told, JSON_COMPACT);
	int r = -ENOMEM;

	if (message != NULL)
		r = peers_tell(s->peers, CHANNEL, message, strlen(message));
	if (r == 0)
		remember(s, kind, text, len, until_ms);
	free(message);
	json_decref(told);
	return r;
}

/* {"user":…} or {"jti":…}. Returns NULL when it is neither. */
static const char *
parse_name(const json_t *told, enum revoked_kind *ret_kind, size_t *ret_len)
{
	const json_t *user = json_object_get(told, "user");
	const json_t *jti = json_object_get(told, "jti");
	const json_t *name = user != NULL ? user : jti;

	if ((user == NULL) == (jti == NULL) || !json_is_string(name))
		return NULL;
	*ret_kind = user != NULL ? REVOKED_USER : REVOKED_JTI;
	*ret_len = json_string_length(name);
	return json_string_value(name);
}

static bool
parse_for(const json_t *told, uint64_t *ret_for_ms)
{
	const json_t *v = json_object_get(told, "for");
	double s = json_number_value(v);

	*ret_for_ms = EXPEL_FOR_MS;
	if (v == NULL)
		return true;
	if (!json_is_number(v) || !(s >= 0 && s <= (double)EXPEL_FOR_MS_MAX / 1000))
		return false;
	*ret_for_ms = (uint64_t)(s * 1000);
	return true;
}

void
expel_told(struct supervisor *s, const char *text, size_t len)
{
	json_t *told = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *node = json_string_value(json_object_get(told, "node")), *name;
	enum revoked_kind kind;
	uint64_t for_ms, until_ms, record;
	char quoted[160];
	unsigned long missed;
	size_t name_len;

	name = parse_name(told, &kind, &name_len);
	if (name == NULL || !parse_for(told, &for_ms)) {
		if (log_allowed(&s->revoke_limit, supervisor_now_ms(), &missed))
			log_warning(0,
			    "what came on " CHANNEL " revokes nobody: %s; send "
			    "{\"user\":\"…\",\"for\":SECONDS}, or \"jti\"",
			    log_quote(text, len, quoted, sizeof(quoted)));
	} else if (node == NULL || strcmp(node, peers_node(s->peers)) != 0) {
		until_ms = expel_now_ms() + for_ms;
		(void)expel_revoke(s, kind, name, name_len, until_ms, &record);
		/* A backend has told the hosts that are here, and no other. */
		if (node == NULL)
			remember(s, kind, name, name_len, until_ms);
	}
	json_decref(told);
}

/* ---- what was revoked before we were there ---- */

static void
on_learned(void *owner, uint64_t tag, const redisReply *r)
{
	struct supervisor *s = owner;

	if (r == NULL || r->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i + 1 < r->elements; i += 2) {
		const redisReply *member = r->element[i], *score = r->element[i + 1];
		json_t *told;
		enum revoked_kind kind;
		const char *name;
		uint64_t record;
		size_t len;

		if (member->str == NULL || score->str == NULL)
			continue;
		told = json_loadb(member->str, member->len, 0, NULL);
		name = parse_name(told, &kind, &len);
		if (name != NULL)
			(void)expel_revoke(s, kind, name, len,
			    strtoull(score->str, NULL, 10), &record);
		json_decref(told);
	}
}

void
expel_learn(struct supervisor *s)
{
	char now[24];
	const char *forget[4] = {"ZREMRANGEBYSCORE", KEY, "-inf", now};
	const char *ask[5] = {"ZRANGEBYSCORE", KEY, now, "+inf", "WITHSCORES"};
	size_t now_len = (size_t)snprintf(
	    now, sizeof(now), "%llu", (unsigned long long)expel_now_ms());
	size_t forget_lens[4] = {16, strlen(KEY), 4, now_len};
	size_t ask_lens[5] = {13, strlen(KEY), now_len, 4, 10};

	if (peers_command(s->peers, 4, forget, forget_lens, NULL, NULL, 0) < 0 ||
	    peers_command(s->peers, 5, ask, ask_lens, on_learned, s, 0) < 0)
		log_warning(0, "what was revoked before cannot be asked for");
}
