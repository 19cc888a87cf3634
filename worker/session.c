/* session.c - see session.h */
#include <errno.h>

#include "worker/client.h"
#include "worker/identity.h"
#include "worker/limits.h"
#include "worker/out.h"
#include "worker/rates.h"
#include "worker/requests.h"
#include "worker/rules.h"
#include "worker/session.h"

#define WARNINGS_MIN 10  /* that a client may be told in a row that it is too fast */
#define RETRY_MS_MIN 500 /* when clients that are dismissed come back, spread */
#define RETRY_MS_SPREAD 4500

/* Whether a client that is too fast is to be told so. For who goes on at twice the rate
 * and more it is the end. */
static bool
warn(struct worker *w, uint32_t slot, uint32_t rate, uint32_t burst)
{
	if (limits_rate(w->tick, &worker_slot(w, slot)->limited_at, limits_cost(rate),
		burst > WARNINGS_MIN ? burst : WARNINGS_MIN))
		return true;
	client_end(w, slot, CLIENT_END_LIMIT, 4429, "too many messages");
	return false;
}

bool
session_warn(struct worker *w, uint32_t slot)
{
	return warn(w, slot, 1, WARNINGS_MIN);
}

bool
session_may_subscribe(struct worker *w, uint32_t slot, const char *name, size_t len)
{
	if (identity_may_subscribe(w, slot, name, len))
		return true;
	rules_count(w, identity_rule(w, worker_slot(w, slot), name, len),
	    RULE_subscribe_forbidden);
	return false;
}

int
session_may_publish(
    struct worker *w, uint32_t slot, const char *name, size_t name_len, size_t len)
{
	struct slot *s = worker_slot(w, slot);
	const struct rule *rule = identity_rule(w, s, name, name_len);
	int r;

	if (!identity_may_publish(w, slot, name, name_len)) {
		rules_count(w, rule, RULE_publish_forbidden);
		return -EACCES;
	}
	if (rule->max_message_size != 0 && len > rule->max_message_size) {
		rules_count(w, rule, RULE_publish_too_large);
		page_add(w->page, PAGE_limited_size, 1);
		return -EMSGSIZE;
	}
	r = rule->rate == 0 ? 0 : rates_take(w, s, rule);
	if (r == -EAGAIN) {
		rules_count(w, rule, RULE_publish_too_fast);
		page_add(w->page, PAGE_limited_rate, 1);
		if (s->proto == PROTO_V1 && !warn(w, slot, rule->rate, rule->rate))
			return -ECANCELED;
	}
	return r;
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
session_dismiss(struct worker *w, uint32_t slot, enum client_end why, uint16_t code,
    const char *reason)
{
	struct slot *s = worker_slot(w, slot);

	/* All at once would come back all at once. */
	if (s->proto == PROTO_V1 && slot_state(s) == SLOT_OPEN)
		session_v1_bye(w, slot, code,
		    RETRY_MS_MIN + (uint32_t)(s->client % RETRY_MS_SPREAD));
	client_end(w, slot, why, code, reason);
}

/* Whether a message is within limits.message_rate and limits.byte_rate. If not,
 * ret_rate and ret_burst are those of warn(). */
static bool
fits(struct worker *w, struct slot *s, size_t len, uint32_t *ret_rate,
    uint32_t *ret_burst)
{
	const struct settings *set = w->settings;
	uint32_t rate = set->message_rate;
	uint32_t burst = set->message_burst != 0 ? set->message_burst : rate;
	uint32_t bytes = set->byte_rate;
	uint32_t byte_burst = set->byte_burst != 0 ? set->byte_burst : bytes;

	*ret_rate = rate;
	*ret_burst = burst;
	if (rate != 0 &&
	    !limits_rate(w->tick, &s->message_at, limits_cost(rate), burst))
		return false;
	*ret_rate = 1; /* whoever takes no notice is not one who counts messages */
	*ret_burst = WARNINGS_MIN;
	return bytes == 0 ||
	       limits_bytes(w->tick, &s->bytes_at, bytes, byte_burst, len);
}

/* A message that is not within the limits is answered where the protocol has a word for
 * it; where there is no such word, it is the end. */
static bool
within_rate(struct worker *w, uint32_t slot, const uint8_t *buf, size_t len)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t rate, burst;

	if (fits(w, s, len, &rate, &burst))
		return true;
	page_add(w->page, PAGE_limited_rate, 1);
	if (s->proto != PROTO_V1)
		client_end(w, slot, CLIENT_END_LIMIT, 4429, "too many messages");
	else if (warn(w, slot, rate, burst))
		session_v1_too_fast(w, slot, buf, len);
	return false;
}

void
session_message(
    struct worker *w, uint32_t slot, enum opcode op, const uint8_t *buf, size_t len)
{
	struct slot *s = worker_slot(w, slot);

	if (!within_rate(w, slot, buf, len))
		return;
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
	bool is_v1 = worker_slot(w, slot)->proto == PROTO_V1;

	if (is_v1 && (id_len != 1 || id[0] != REQUEST_TOKEN[0]))
		session_v1_error(w, slot, id, id_len, err);
	else if (err == -ECANCELED)
		return; /* whoever ended it tells */
	else if (is_v1)
		session_v1_unsubscribed(w, slot, channel, len, err);
	else
		session_raw_refused(w, slot, err);
}

void
session_unsubscribed(
    struct worker *w, uint32_t slot, const char *channel, size_t len, int err)
{
	if (worker_slot(w, slot)->proto == PROTO_V1)
		session_v1_unsubscribed(w, slot, channel, len, err);
	else if (err == -EACCES)
		client_end(w, slot, CLIENT_END_PROTOCOL, 4403, "forbidden");
	else
		session_raw_refused(w, slot, err);
}

void
session_expires(struct worker *w, uint32_t slot, uint32_t in_s)
{
	if (worker_slot(w, slot)->proto == PROTO_V1)
		session_v1_expires(w, slot, in_s);
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
session_history(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct slice *messages, size_t nmessages, uint64_t offset)
{
	if (worker_slot(w, slot)->proto == PROTO_V1 && id_len > 0)
		session_v1_history(w, slot, id, id_len, messages, nmessages, offset);
}

void
session_presence(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, struct slice page)
{
	if (worker_slot(w, slot)->proto == PROTO_V1 && id_len > 0)
		session_v1_presence(w, slot, id, id_len, page);
}

void
session_gap(struct worker *w, uint32_t slot, const char *channel, size_t len,
    uint64_t from, uint64_t to)
{
	if (worker_slot(w, slot)->proto == PROTO_V1)
		session_v1_gap(w, slot, channel, len, from, to);
}
