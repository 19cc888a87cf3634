/*
 * session_v1.c - wscast.v1: one JSON object in each text message.
 *
 * A request is looked through where it lies, and never copied into a tree: what is
 * published goes on byte for byte, and an id comes back as it was written.
 *
 * Source   INTERFACES: wscast.v1; RFC 8259
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "proto/json.h"
#include "shm/directory.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/session.h"

#define ID_MAX 256   /* bytes of a request's id, as JSON */
#define EPOCH_MAX 64 /* bytes; what is longer is none of ours */
#define REPLY_MAX 2048

/* A piece of the message: one JSON value. */
struct text {
	const char *s;
	size_t len;
};

enum command {
	COMMAND_NONE,
	COMMAND_SUBSCRIBE,
	COMMAND_UNSUBSCRIBE,
	COMMAND_PUBLISH,
	COMMAND_PING,
	COMMAND_HISTORY,
	COMMAND_PRESENCE,
	COMMAND_AUTH,
};

static const char *const command_names[] = {
    [COMMAND_SUBSCRIBE] = "\"subscribe\"",
    [COMMAND_UNSUBSCRIBE] = "\"unsubscribe\"",
    [COMMAND_PUBLISH] = "\"publish\"",
    [COMMAND_PING] = "\"ping\"",
    [COMMAND_HISTORY] = "\"history\"",
    [COMMAND_PRESENCE] = "\"presence\"",
    [COMMAND_AUTH] = "\"auth\"",
};

struct request {
	struct text id; /* len 0: nobody wants an answer */
	enum command command;
	unsigned ncommands;
	struct text arg; /* the command's value */
	struct text since, data;
	char name[CHANNEL_NAME_MAX];
	size_t name_len;
};

/* ---- looking through JSON ---- */

static bool
text_is(struct text t, const char *what)
{
	return t.len == strlen(what) && memcmp(t.s, what, t.len) == 0;
}

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && json_is_space(*p))
		p++;
	return p;
}

/* The members of an object, one after the other. */
struct members {
	const char *p, *end;
	bool first;
	bool broken;
};

static struct members
members_begin(struct text object)
{
	struct members m = {.p = object.s, .end = object.s + object.len, .first = true};

	m.p = skip_space(m.p, m.end);
	if (m.p == m.end || *m.p != '{')
		m.broken = true;
	else
		m.p++;
	return m;
}

static bool
take_char(struct members *m, char c)
{
	m->p = skip_space(m->p, m->end);
	if (m->p == m->end || *m->p != c)
		return false;
	m->p++;
	return true;
}

static bool
take_value(struct members *m, struct text *ret)
{
	size_t len;

	m->p = skip_space(m->p, m->end);
	len = json_value_len(m->p, (size_t)(m->end - m->p));
	if (len == 0)
		return false;
	*ret = (struct text){m->p, len};
	m->p += len;
	return true;
}

/* Returns false at the end, and when it is none of JSON's objects (broken). */
static bool
members_next(struct members *m, struct text *ret_key, struct text *ret_value)
{
	if (m->broken)
		return false;
	if (take_char(m, '}')) {
		/* Whatever lies behind it belongs to no object. */
		m->broken = skip_space(m->p, m->end) != m->end;
		return false;
	}
	m->broken = (!m->first && !take_char(m, ',')) || !take_value(m, ret_key) ||
		    ret_key->s[0] != '"' || !take_char(m, ':') ||
		    !take_value(m, ret_value);
	m->first = false;
	return !m->broken;
}

/* The string that a JSON text stands for, of at most `size` bytes. Returns its length,
 * -EINVAL when it is no string, -EMSGSIZE when it is too long. */
static ssize_t
get_string(struct text t, char *out, size_t size)
{
	json_t *json;
	ssize_t len = -EMSGSIZE;

	if (t.len < 2 || t.s[0] != '"')
		return -EINVAL;
	if (memchr(t.s, '\\', t.len) == NULL) {
		if (t.len - 2 > size)
			return -EMSGSIZE;
		memcpy(out, t.s + 1, t.len - 2);
		return (ssize_t)(t.len - 2);
	}
	if (t.len > 6 * size + 2) /* each byte escaped as \u00NN */
		return -EMSGSIZE;
	json = json_loadb(t.s, t.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (json == NULL) /* lone surrogates are no characters */
		return -EINVAL;
	if (json_string_length(json) <= size) {
		len = (ssize_t)json_string_length(json);
		memcpy(out, json_string_value(json), (size_t)len);
	}
	json_decref(json);
	return len;
}

static bool
get_offset(struct text t, uint64_t *ret)
{
	uint64_t n = 0;

	if (t.len == 0 || t.len > 20)
		return false;
	for (size_t i = 0; i < t.len; i++) {
		uint64_t digit = (uint64_t)(t.s[i] - '0');

		if (t.s[i] < '0' || t.s[i] > '9' || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*ret = n;
	return true;
}

/* ---- what we say ---- */

/* A text frame being written. What does not fit is a fault of ours: nothing that may be
 * long goes in unbounded. */
struct reply {
	char buf[FRAME_HEAD_MAX + REPLY_MAX];
	size_t len;
};

static void
put(struct reply *r, const char *s, size_t len)
{
	if (len > REPLY_MAX - r->len)
		return;
	memcpy(r->buf + FRAME_HEAD_MAX + r->len, s, len);
	r->len += len;
}

static void
puts_text(struct reply *r, const char *s)
{
	put(r, s, strlen(s));
}

static void
put_number(struct reply *r, uint64_t n)
{
	char buf[24];

	put(r, buf, (size_t)snprintf(buf, sizeof(buf), "%" PRIu64, n));
}

static void
put_string(struct reply *r, const char *s, size_t len)
{
	if (json_string_len(s, len) <= REPLY_MAX - r->len)
		r->len += json_put_string(s, len, r->buf + FRAME_HEAD_MAX + r->len);
}

static void
put_id(struct reply *r, const char *id, size_t id_len)
{
	puts_text(r, "{");
	if (id_len > 0) {
		puts_text(r, "\"id\":");
		put(r, id, id_len);
		puts_text(r, ",");
	}
}

/* The frame, whole and in place; returns its first byte. */
static const uint8_t *
reply_frame(struct reply *r, size_t *ret_len)
{
	size_t head = frame_head_len(r->len);
	uint8_t *at = (uint8_t *)r->buf + FRAME_HEAD_MAX - head;

	(void)frame_head(OPCODE_TEXT, r->len, at);
	*ret_len = head + r->len;
	return at;
}

static void
reply_send(struct worker *w, uint32_t slot, struct reply *r)
{
	size_t len;
	const uint8_t *frame = reply_frame(r, &len);

	session_send(w, slot, frame, len);
}

static void
send_error(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const char *code, const char *message)
{
	struct reply r = {.len = 0};

	page_add(w->page, PAGE_errors_sent, 1);
	put_id(&r, id, id_len);
	puts_text(&r, "\"error\":{\"code\":\"");
	puts_text(&r, code);
	puts_text(&r, "\",\"message\":\"");
	puts_text(&r, message);
	puts_text(&r, "\"}}");
	reply_send(w, slot, &r);
}

void
session_v1_error(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, int err)
{
	const char *code = "internal", *message = "it could not be done";

	switch (err) {
	case -EACCES:
	case -EPERM:
		code = "forbidden";
		message = "the channel's rule does not allow it";
		break;
	case -EMSGSIZE:
		code = "too_large";
		message = "the message is too large";
		break;
	case -EAGAIN:
		code = "rate_limited";
		message = "too many messages";
		break;
	case -EMFILE:
		code = "limit";
		message = "too many channels on this connection";
		break;
	case -ENOBUFS:
	case -ENOSPC:
	case -ENOMEM:
		code = "limit";
		message = "the server has no room for it now";
		break;
	case -ENOTCONN:
		code = "feed_down";
		message = "the feed is down";
		break;
	case -ENOENT:
		code = "not_found";
		message = "not subscribed";
		break;
	default:
		break;
	}
	if (id_len > 0)
		send_error(w, slot, id, id_len, code, message);
}

void
session_v1_ok(struct worker *w, uint32_t slot, const char *id, size_t id_len)
{
	struct reply r = {.len = 0};

	if (id_len == 0)
		return;
	put_id(&r, id, id_len);
	puts_text(&r, "\"ok\":{}}");
	reply_send(w, slot, &r);
}

size_t
session_v1_hello(struct worker *w, uint32_t slot, uint8_t *out)
{
	struct reply r = {.len = 0};
	char client[20];
	const uint8_t *frame;
	size_t len;

	(void)snprintf(
	    client, sizeof(client), "%016" PRIx64, worker_slot(w, slot)->client);
	puts_text(&r, "{\"hello\":{\"client\":\"");
	puts_text(&r, client);
	puts_text(&r, "\",\"epoch\":\"");
	puts_text(&r, ring_epoch(w->ring));
	puts_text(&r, "\",\"ping\":");
	put_number(&r, (w->settings->ping_interval_ms + 999) / 1000);
	puts_text(&r, "}}");
	frame = reply_frame(&r, &len);
	memcpy(out, frame, len);
	return len;
}

void
session_v1_bye(struct worker *w, uint32_t slot, uint16_t code, uint32_t retry_ms)
{
	struct reply r = {.len = 0};

	puts_text(&r, "{\"bye\":{\"code\":");
	put_number(&r, code);
	puts_text(&r, ",\"retry_ms\":");
	put_number(&r, retry_ms);
	puts_text(&r, "}}");
	reply_send(w, slot, &r);
}

void
session_v1_subscribed(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct sub_result *res)
{
	struct reply r = {.len = 0};

	put_id(&r, id, id_len);
	puts_text(&r, "\"ok\":{\"channel\":");
	put_string(&r, res->channel, res->len);
	puts_text(&r, ",\"epoch\":\"");
	puts_text(&r, ring_epoch(w->ring));
	puts_text(&r, "\",\"offset\":");
	put_number(&r, res->offset);
	if (res->asked_since && res->recovered) {
		puts_text(&r, ",\"recovered\":true");
	} else if (res->asked_since) {
		puts_text(&r, ",\"recovered\":false,\"missed\":");
		if (res->missed_known)
			put_number(&r, res->missed);
		else
			puts_text(&r, "null");
	}
	puts_text(&r, "}}");
	reply_send(w, slot, &r);
}

void
session_v1_gap(struct worker *w, uint32_t slot, const char *channel, size_t len,
    uint64_t from, uint64_t to)
{
	struct reply r = {.len = 0};

	puts_text(&r, "{\"gap\":{\"channel\":");
	put_string(&r, channel, len);
	puts_text(&r, ",\"from\":");
	put_number(&r, from);
	puts_text(&r, ",\"to\":");
	put_number(&r, to);
	puts_text(&r, "}}");
	reply_send(w, slot, &r);
}

/* ---- what they ask ---- */

static void
bad_request(
    struct worker *w, uint32_t slot, const struct request *q, const char *message)
{
	if (q->id.len > 0)
		send_error(w, slot, q->id.s, q->id.len, "bad_request", message);
}

static void
answer(struct worker *w, uint32_t slot, const struct request *q, int err)
{
	if (err < 0)
		session_v1_error(w, slot, q->id.s, q->id.len, err);
	else
		session_v1_ok(w, slot, q->id.s, q->id.len);
}

/* since: {"epoch":…,"offset":…}. Returns false when it is something else. */
static bool
get_since(struct text t, struct since *ret, char *epoch)
{
	struct members m = members_begin(t);
	struct text key, value;
	bool has_offset = false;

	ret->epoch = NULL;
	while (members_next(&m, &key, &value)) {
		if (text_is(key, "\"offset\"")) {
			if (!get_offset(value, &ret->offset))
				return false;
			has_offset = true;
		} else if (text_is(key, "\"epoch\"")) {
			ssize_t len = get_string(value, epoch, EPOCH_MAX);

			if (len == -EINVAL)
				return false;
			ret->epoch = epoch;
			/* None of ours is as long: it is unknown, whatever it is. */
			ret->epoch_len = len < 0 ? EPOCH_MAX : (size_t)len;
			if (len < 0)
				memset(epoch, '?', EPOCH_MAX);
		}
	}
	return !m.broken && has_offset;
}

static void
do_subscribe(struct worker *w, uint32_t slot, const struct request *q)
{
	struct since since = {0};
	char epoch[EPOCH_MAX];
	int r;

	if (q->since.len > 0 && !text_is(q->since, "null") &&
	    !get_since(q->since, &since, epoch)) {
		bad_request(w, slot, q, "since needs an epoch and an offset");
		return;
	}
	if (!session_may_subscribe(w, q->name, q->name_len)) {
		answer(w, slot, q, -EACCES);
		return;
	}
	r = channels_subscribe(w, slot, q->name, q->name_len,
	    q->since.len > 0 && !text_is(q->since, "null") ? &since : NULL, q->id.s,
	    q->id.len);
	if (r < 0)
		answer(w, slot, q, r);
}

static void
do_publish(struct worker *w, uint32_t slot, const struct request *q)
{
	int r;

	if (q->data.len == 0) {
		bad_request(w, slot, q, "data is missing");
		return;
	}
	r = session_may_publish(w, slot, q->name, q->name_len, q->data.len);
	if (r == 0)
		r = channels_publish(w, slot, q->name, q->name_len, q->data.s,
		    q->data.len, q->id.s, q->id.len);
	if (r < 0)
		answer(w, slot, q, r);
}

static void
add_member(struct request *q, struct text key, struct text value)
{
	if (text_is(key, "\"id\"")) {
		q->id = value;
		return;
	}
	if (text_is(key, "\"since\"")) {
		q->since = value;
		return;
	}
	if (text_is(key, "\"data\"")) {
		q->data = value;
		return;
	}
	for (int i = COMMAND_SUBSCRIBE; i <= COMMAND_AUTH; i++) {
		if (text_is(key, command_names[i])) {
			q->command = (enum command)i;
			q->arg = value;
			q->ncommands++;
		}
	}
}

static bool
id_ok(struct text id)
{
	return id.len == 0 ||
	       (id.len <= ID_MAX && (id.s[0] == '"' || id.s[0] == '-' ||
					(id.s[0] >= '0' && id.s[0] <= '9')));
}

static bool
get_channel(struct request *q)
{
	ssize_t len = get_string(q->arg, q->name, sizeof(q->name));

	if (len < 0 || !name_ok(q->name, (size_t)len))
		return false;
	q->name_len = (size_t)len;
	return true;
}

static void
execute(struct worker *w, uint32_t slot, struct request *q)
{
	switch (q->command) {
	case COMMAND_PING:
		answer(w, slot, q, 0);
		return;
	case COMMAND_HISTORY:
		bad_request(w, slot, q, "history is not available on this server");
		return;
	case COMMAND_PRESENCE:
		bad_request(w, slot, q, "presence is not available on this server");
		return;
	case COMMAND_AUTH:
		bad_request(w, slot, q, "auth is not available on this server");
		return;
	default:
		break;
	}
	if (!get_channel(q)) {
		bad_request(w, slot, q,
		    "a channel's name is 1 to 200 bytes without control characters");
		return;
	}
	if (q->command == COMMAND_SUBSCRIBE)
		do_subscribe(w, slot, q);
	else if (q->command == COMMAND_UNSUBSCRIBE)
		answer(w, slot, q, channels_unsubscribe(w, slot, q->name, q->name_len));
	else
		do_publish(w, slot, q);
}

void
session_v1_message(struct worker *w, uint32_t slot, const uint8_t *buf, size_t len)
{
	struct members m = members_begin((struct text){(const char *)buf, len});
	struct request q = {.command = COMMAND_NONE};
	struct text key, value;

	while (members_next(&m, &key, &value))
		add_member(&q, key, value);
	if (m.broken || !id_ok(q.id)) {
		/* Its id is not known, and a sender of such needs to be told the more.
		 */
		send_error(w, slot, NULL, 0, "bad_request",
		    m.broken ? "not a JSON object"
			     : "id must be a number or a string, of 256 bytes at most");
		return;
	}
	if (q.ncommands != 1) {
		bad_request(w, slot, &q, "exactly one command is needed");
		return;
	}
	execute(w, slot, &q);
}
