/* session.c - see session.h */
#include <errno.h>

#include "worker/client.h"
#include "worker/out.h"
#include "worker/session.h"

#define RATE_UNIT 64 /* of a millisecond */

/*
 * A leaky bucket as one word (GCRA): the time at which it will be empty again. A
 * message puts 1/rate s into it; more than `burst` of these do not fit. Returns false
 * then, and changes nothing. Idle for longer than the word can tell, it may look full:
 * what could not have come about by messages counts as empty.
 */
static bool
rate_take(const struct worker *w, uint32_t *at, uint32_t rate, uint32_t burst)
{
	uint32_t now = w->tick * TICK_MS * RATE_UNIT;
	uint32_t cost = 1000 * RATE_UNIT / rate;
	uint64_t room = (uint64_t)cost * (burst == 0 ? rate : burst);
	int32_t ahead = (int32_t)(*at - now);

	if (room > INT32_MAX / 2)
		room = INT32_MAX / 2;
	/* The tick is coarse: what is due within one may come at any time of it. */
	room += TICK_MS * RATE_UNIT;
	if (ahead < 0 || (uint64_t)ahead > room + cost)
		ahead = 0;
	if ((uint64_t)ahead + cost > room)
		return false;
	*at = now + (uint32_t)ahead + cost;
	return true;
}

int
session_may_publish(
    struct worker *w, uint32_t slot, const char *name, size_t name_len, size_t len)
{
	const struct rule *rule = settings_rule(w->settings, name, name_len);

	/* Nobody has an identity yet: only what anyone may do is done. */
	if (rule->publish != WHO_ANYONE)
		return -EACCES;
	if (rule->max_message_size != 0 && len > rule->max_message_size)
		return -EMSGSIZE;
	if (rule->rate != 0 &&
	    !rate_take(w, &worker_slot(w, slot)->publish_at, rule->rate, 0))
		return -EAGAIN;
	return 0;
}

bool
session_may_subscribe(const struct worker *w, const char *name, size_t len)
{
	return settings_rule(w->settings, name, len)->subscribe == WHO_ANYONE;
}

void
session_send(struct worker *w, uint32_t slot, const uint8_t *frame, size_t len)
{
	if (out_private(w, slot, frame, len) < 0)
		client_end(w, slot, CLIENT_END_SLOW, 1013, "too slow");
}

size_t
session_hello(struct worker *w, uint32_t slot, uint8_t *out)
{
	return worker_slot(w, slot)->proto == PROTO_V1 ? session_v1_hello(w, slot, out)
						       : 0;
}

void
session_bye(struct worker *w, uint32_t slot, uint16_t code, uint32_t retry_ms)
{
	if (worker_slot(w, slot)->proto == PROTO_V1)
		session_v1_bye(w, slot, code, retry_ms);
}

void
session_message(
    struct worker *w, uint32_t slot, enum opcode op, const uint8_t *buf, size_t len)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t rate = w->settings->message_rate;

	if (rate != 0 &&
	    !rate_take(w, &s->message_at, rate, w->settings->message_burst)) {
		client_end(w, slot, CLIENT_END_LIMIT, 4429, "too many messages");
		return;
	}
	if (s->proto == PROTO_ECHO)
		session_echo_message(w, slot, op, buf, len);
	else if (s->proto == PROTO_RAW)
		session_raw_message(w, slot, op, buf, len);
	else if (op == OPCODE_TEXT)
		session_v1_message(w, slot, buf, len);
	else
		client_end(w, slot, CLIENT_END_PROTOCOL, 1003, "text only");
}

/* ---- answers to what waits ---- */

void
session_subscribed(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct sub_result *res)
{
	if (worker_slot(w, slot)->proto == PROTO_V1 && id_len > 0)
		session_v1_subscribed(w, slot, id, id_len, res);
}

void
session_refused(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const char *channel, size_t len, int err)
{
	if (worker_slot(w, slot)->proto == PROTO_V1)
		session_v1_error(w, slot, id, id_len, err);
	else
		session_raw_refused(w, slot, err);
}

void
session_published(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, int err)
{
	if (worker_slot(w, slot)->proto != PROTO_V1)
		session_raw_published(w, slot, err);
	else if (err == 0)
		session_v1_ok(w, slot, id, id_len);
	else
		session_v1_error(w, slot, id, id_len, err);
}

void
session_gap(struct worker *w, uint32_t slot, const char *channel, size_t len,
    uint64_t from, uint64_t to)
{
	if (worker_slot(w, slot)->proto == PROTO_V1)
		session_v1_gap(w, slot, channel, len, from, to);
}
