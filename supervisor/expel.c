/* expel.c - see expel.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "proto/revocation.h"
#include "supervisor/expel.h"
#include "supervisor/peers.h"
#include "supervisor/supervisor.h"

#define LEARNED_MAX "65536"
#define SOON_MS 5000 /* before then, each worker has looked */

_Static_assert(REVOKED_SETS *REVOKED_WAYS == 65536, "as many as LEARNED_MAX");
_Static_assert(REVOKED_TEXT_MAX == REVOCATION_NAME_MAX, "what is told fits");

/* ---- here ---- */

bool
expel_id(
    const struct supervisor *s, const struct revocation *rev, struct revoked_id *ret_id)
{
	return revoked_id(ring_revoked(s->ring),
	    rev->is_user ? REVOKED_USER : REVOKED_JTI, rev->name, rev->len, ret_id);
}

/* Whom workers are to look for: all who are in the table then. */
static const struct ring_desc table_desc = {
    .type = RING_EXPEL, .channel = RING_NO_CHANNEL, .data_kind = EXPEL_REVOKED};

/* This one alone, whatever the table says then. */
static struct ring_desc
name_desc(const struct revocation *rev, const struct revoked_id *id)
{
	struct ring_desc desc = table_desc;

	desc.data_kind = rev->is_user ? EXPEL_USER : EXPEL_JTI;
	desc.offset = id->hash[0];
	desc.arg = id->hash[1];
	return desc;
}

static int
remember(struct supervisor *s, const struct revoked_id *id, uint64_t until_ms,
    uint64_t now_ms)
{
	int r = revoked_add(ring_revoked(s->ring), id, until_ms, now_ms);

	if (r < 0) {
		s->expelled.full++;
		(void)log_limited(&s->expel_limit, supervisor_now_ms(), LOG_ERROR, r,
		    "too many users and tokens are revoked: one more is not "
		    "remembered, and may come in again");
	}
	return r;
}

/* As expel_revoke() does. */
static int
revoke_here(struct supervisor *s, const struct revocation *rev, uint64_t until_ms,
    uint64_t *ret_record)
{
	struct ring_desc desc = table_desc;
	uint64_t now_ms = supervisor_real_ms();
	struct revoked_id id;
	int r;

	if (!expel_id(s, rev, &id))
		return -EINVAL;
	r = remember(s, &id, until_ms, now_ms);
	if (r < 0 || until_ms <= now_ms + SOON_MS)
		desc = name_desc(rev, &id);
	*ret_record = publisher_control(&s->publisher, &desc);
	return *ret_record == 0 ? -ENOMEM : r;
}

int
expel_revoke(struct supervisor *s, const struct revocation *rev, uint64_t until_ms,
    uint64_t *ret_record)
{
	int r = revoke_here(s, rev, until_ms, ret_record);

	s->expelled.revocations += until_ms != 0;
	s->expelled.kicks += until_ms == 0;
	return r;
}

uint64_t
expel_client(struct supervisor *s, uint64_t client)
{
	struct ring_desc desc = {.type = RING_EXPEL,
	    .channel = RING_NO_CHANNEL,
	    .data_kind = EXPEL_CLIENT,
	    .offset = client};

	s->expelled.kicks++;
	return publisher_control(&s->publisher, &desc);
}

uint64_t
expel_channel(struct supervisor *s, uint32_t channel)
{
	struct ring_desc desc = {
	    .type = RING_EXPEL, .channel = channel, .data_kind = EXPEL_CHANNEL};

	s->expelled.kicks++;
	return publisher_control(&s->publisher, &desc);
}

void
expel_tick(struct supervisor *s)
{
	revoked_tick(ring_revoked(s->ring), supervisor_real_ms());
	expel_tell_tick(s);
}

/* ---- all hosts ---- */

void
expel_told(struct supervisor *s, const char *text, size_t len)
{
	struct revocation rev;
	uint64_t record, until_ms;

	if (revocation_parse(text, len, &rev) < 0) {
		s->expelled.malformed++;
		(void)log_limited(&s->expel_limit, supervisor_now_ms(), LOG_WARNING, 0,
		    "%zu bytes on " PEERS_REVOKE " revoke nobody; send "
		    "{\"user\":\"…\",\"for\":SECONDS}, or \"jti\"",
		    len);
		return;
	}
	if (strcmp(rev.node, peers_node(s->peers)) == 0)
		return; /* our own */
	until_ms = supervisor_real_ms() + rev.for_ms;
	(void)expel_revoke(s, &rev, until_ms, &record);
	/* A backend has told the hosts that are here, and no other. */
	if (rev.node[0] == '\0')
		expel_keep(s, &rev, until_ms);
}

/* ---- what was revoked before we were there ---- */

/* Returns whether it is news. */
static bool
learn(struct supervisor *s, const redisReply *member, const redisReply *score)
{
	uint64_t now_ms = supervisor_real_ms(), until_ms;
	struct revocation rev;
	struct revoked_id id;
	struct ring_desc desc;

	if (member->str == NULL || score->str == NULL ||
	    revocation_parse(member->str, member->len, &rev) < 0 ||
	    !expel_id(s, &rev, &id))
		return false;
	until_ms = strtoull(score->str, NULL, 10);
	if (until_ms <= now_ms || until_ms <= revoked_until(ring_revoked(s->ring), &id))
		return false;
	if (remember(s, &id, until_ms, now_ms) == 0)
		return true;
	desc = name_desc(&rev, &id);
	(void)publisher_control(&s->publisher, &desc);
	return false;
}

/* One record is enough for all: there may be as many as the index of the ring has. */
static void
on_learned(void *owner, uint64_t tag, const redisReply *r)
{
	struct supervisor *s = owner;
	bool news = false;

	if (r == NULL || r->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i + 1 < r->elements; i += 2)
		news = learn(s, r->element[i], r->element[i + 1]) || news;
	if (news && publisher_control(&s->publisher, &table_desc) == 0)
		log_error(-ENOMEM, "who was revoked meanwhile is not closed");
}

void
expel_learn(struct supervisor *s)
{
	static const char count[] = LEARNED_MAX;
	char now[24];
	const char *forget[4] = {"ZREMRANGEBYSCORE", EXPEL_TELL_KEY, "-inf", now};
	/* Those that hold longest, and no more than there is room for. */
	const char *ask[8] = {
	    /* NOLINTNEXTLINE(bugprone-suspicious-missing-comma): it is two literals */
	    "ZREVRANGEBYSCORE", EXPEL_TELL_KEY, "+inf", now, "WITHSCORES", "LIMIT", "0",
	    count};
	size_t now_len = (size_t)snprintf(
	    now, sizeof(now), "%llu", (unsigned long long)supervisor_real_ms());
	size_t forget_lens[4] = {16, strlen(EXPEL_TELL_KEY), 4, now_len};
	size_t ask_lens[8] = {
	    16, strlen(EXPEL_TELL_KEY), 4, now_len, 10, 5, 1, strlen(count)};

	if (peers_command(s->peers, 4, forget, forget_lens, NULL, NULL, 0) < 0 ||
	    peers_command(s->peers, 8, ask, ask_lens, on_learned, s, 0) < 0)
		log_warning(0, "what was revoked before cannot be asked for");
	/* Behind that, since as many may wait as the link takes at once. */
	expel_tell_again(s);
}
