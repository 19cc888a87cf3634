#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/journal.h"
#include "proto/json.h"
#include "proto/settings.h"
#include "proto/utf8.h"
#include "proto/v1.h"

#define MESSAGE_MAX 240 /* bytes of an error's message */

/* ---- commands ---- */

enum member {
	MEMBER_SUBSCRIBE, /* these first: in the order of enum v1_kind */
	MEMBER_UNSUBSCRIBE,
	MEMBER_PUBLISH,
	MEMBER_HISTORY,
	MEMBER_PRESENCE,
	MEMBER_AUTH,
	MEMBER_PING,
	MEMBER_ID,
	MEMBER_SINCE,
	MEMBER_DATA,
	MEMBER_LIMIT,
	MEMBER_BEFORE,
	MEMBER_AFTER,
	MEMBER_KEY,
	MEMBER_COUNT
};
#define NKINDS MEMBER_ID

static const char *const member_names[] = {"subscribe", "unsubscribe", "publish",
    "history", "presence", "auth", "ping", "id", "since", "data", "limit", "before",
    "after", "key"};
_Static_assert(
    sizeof(member_names) / sizeof(member_names[0]) == MEMBER_COUNT, "a name for each");

/* The values of a message's members, absent where there is none. */
struct members {
	struct slice of[MEMBER_COUNT];
};

static int bad(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int
bad(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, V1_WHY_MAX, fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

static bool
is_string(struct slice value)
{
	return value.len >= 2 && value.p[0] == '"';
}

static bool
is_number(struct slice value)
{
	return value.len > 0 &&
	       (value.p[0] == '-' || (value.p[0] >= '0' && value.p[0] <= '9'));
}

static bool
id_ok(struct slice id)
{
	return id.len <= V1_ID_MAX && (is_string(id) || is_number(id));
}

static int
put_member(struct members *m, struct slice name, struct slice value, char *why)
{
	char quoted[64];

	for (int i = 0; i < MEMBER_COUNT; i++) {
		if (!slice_is(name, member_names[i]))
			continue;
		if (m->of[i].p != NULL)
			return bad(why, "\"%s\" came twice", member_names[i]);
		m->of[i] = value;
		return 0;
	}
	return bad(why, "there is no member \"%s\"",
	    log_quote(name.p, name.len, quoted, sizeof(quoted)));
}

/* Go through all members also after a fault, so that an id behind it is found. */
static int
take_members(struct slice text, struct members *m, char *why)
{
	struct json_members it;
	struct slice name, value;
	int r = 0;

	if (!json_valid(text.p, text.len))
		return bad(why, "a message must be one JSON object in UTF-8");
	if (!json_members_begin(&it, text))
		return bad(why, "a message must be a JSON object, like "
				"{\"id\":1,\"subscribe\":\"news\"}");
	while (json_members_next(&it, &name, &value)) {
		if (r == 0 || slice_is(name, "id")) {
			char other[V1_WHY_MAX];
			int n = put_member(m, name, value, r == 0 ? why : other);

			r = r == 0 ? n : r;
		}
	}
	return r;
}

/* The one command among the members. */
static int
take_kind(const struct members *m, enum v1_kind *ret_kind, char *why)
{
	int found = -1;

	for (int i = 0; i < NKINDS; i++) {
		if (m->of[i].p == NULL)
			continue;
		if (found >= 0)
			return bad(why,
			    "\"%s\" and \"%s\" are two commands: send two "
			    "messages",
			    member_names[found], member_names[i]);
		found = i;
	}
	if (found < 0)
		return bad(why, "a message needs one of: subscribe, unsubscribe, "
				"publish, history, presence, auth, ping");
	*ret_kind = (enum v1_kind)found;
	return 0;
}

/* Members that only one command has. */
static int
check_belongs(const struct members *m, enum v1_kind kind, char *why)
{
	static const struct {
		enum member member;
		enum v1_kind kind;
	} own[] = {{MEMBER_SINCE, V1_SUBSCRIBE}, {MEMBER_DATA, V1_PUBLISH},
	    {MEMBER_BEFORE, V1_HISTORY}, {MEMBER_AFTER, V1_PRESENCE},
	    {MEMBER_KEY, V1_PUBLISH}};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (m->of[own[i].member].p != NULL && own[i].kind != kind)
			return bad(why, "\"%s\" goes with \"%s\" only",
			    member_names[own[i].member], member_names[own[i].kind]);
	}
	if (m->of[MEMBER_LIMIT].p != NULL && kind != V1_HISTORY && kind != V1_PRESENCE)
		return bad(
		    why, "\"limit\" goes with \"history\" and \"presence\" only");
	return 0;
}

static int
take_channel(struct slice value, struct v1_command *c, char *why)
{
	ptrdiff_t len = -EBADMSG;

	if (is_string(value))
		len = json_get_string(value, c->channel, sizeof(c->channel));
	if (len < 0 || !name_ok(c->channel, (size_t)len))
		return bad(why, "a channel's name must be a string of 1 to 200 bytes "
				"without control characters, the first no '!'");
	c->channel_len = (size_t)len;
	return 0;
}

static int
take_since(struct slice value, struct v1_command *c, char *why)
{
	bool has_epoch = false, has_offset = false;
	struct slice name, item;
	struct json_members it;

	if (value.p == NULL)
		return 0;
	if (!json_members_begin(&it, value))
		goto fail;
	while (json_members_next(&it, &name, &item)) {
		if (slice_is(name, "epoch") && !has_epoch && is_string(item))
			has_epoch =
			    json_get_string(item, c->epoch, sizeof(c->epoch)) >= 0;
		else if (slice_is(name, "offset") && !has_offset)
			has_offset = json_get_u64(item, &c->offset);
		else
			goto fail;
	}
	if (!has_epoch || !has_offset)
		goto fail;
	c->has_since = true;
	return 0;
fail:
	return bad(why,
	    "\"since\" must be {\"epoch\":STRING,\"offset\":NUMBER}, as the "
	    "server gave them");
}

static bool
is_compact(struct slice value)
{
	bool in_string = false;

	for (size_t i = 0; i < value.len; i++) {
		if (value.p[i] == '"')
			in_string = !in_string;
		else if (value.p[i] == '\\')
			i++;
		else if (!in_string && json_is_space(value.p[i]))
			return false;
	}
	return true;
}

static int
take_data(struct slice value, struct v1_command *c, char *why)
{
	if (value.p == NULL)
		return bad(why, "\"publish\" needs \"data\": any JSON value");
	c->data = value;
	if (is_compact(value))
		return 0;
	c->owned = malloc(value.len);
	if (c->owned == NULL)
		return -ENOMEM;
	c->data.p = c->owned;
	c->data.len = json_compact(value.p, value.len, c->owned);
	return 0;
}

static int
take_key(struct slice value, struct v1_command *c, char *why)
{
	ptrdiff_t len = 0;

	if (value.p == NULL)
		return 0;
	if (is_string(value))
		len = json_get_string(value, c->key, sizeof(c->key));
	if (len < 1)
		return bad(why, "\"key\" must be a string of 1 to 200 bytes");
	c->key_len = (size_t)len;
	return 0;
}

static int
take_limit(struct slice value, struct v1_command *c, char *why)
{
	uint64_t n = 0;

	if (value.p == NULL)
		return 0;
	if (!json_get_u64(value, &n) || n == 0 || n > V1_HISTORY_MAX)
		return bad(why, "\"limit\" must be a number of 1 to 1000");
	c->limit = (uint32_t)n;
	return 0;
}

static int
take_before(struct slice value, struct v1_command *c, char *why)
{
	if (value.p == NULL)
		return 0;
	if (!json_get_u64(value, &c->before) || c->before == 0)
		return bad(why, "\"before\" must be an offset: a number from 1 up");
	return 0;
}

static int
take_after(struct slice value, struct v1_command *c, char *why)
{
	if (value.p != NULL && !json_get_u64(value, &c->after))
		return bad(why, "\"after\" must be the \"next\" of the answer before");
	return 0;
}

/* A token is letters, digits and a few marks: nothing that needs an escape. */
static int
take_token(struct slice value, struct v1_command *c, char *why)
{
	if (!is_string(value) || memchr(value.p, '\\', value.len) != NULL)
		return bad(why, "\"auth\" must be a token: a string without escapes");
	c->token = (struct slice){value.p + 1, value.len - 2};
	return 0;
}

static int
take_command(const struct members *m, struct v1_command *c, char *why)
{
	struct slice value;
	int r = take_kind(m, &c->kind, why);

	if (r == 0)
		r = check_belongs(m, c->kind, why);
	if (r < 0)
		return r;
	value = m->of[c->kind];
	switch (c->kind) {
	case V1_PING:
		return 0;
	case V1_AUTH:
		return take_token(value, c, why);
	default:
		r = take_channel(value, c, why);
	}
	if (r == 0 && c->kind == V1_SUBSCRIBE)
		r = take_since(m->of[MEMBER_SINCE], c, why);
	if (r == 0)
		r = take_limit(m->of[MEMBER_LIMIT], c, why);
	if (r == 0 && c->kind == V1_PRESENCE)
		r = take_after(m->of[MEMBER_AFTER], c, why);
	if (r == 0 && c->kind == V1_HISTORY)
		r = take_before(m->of[MEMBER_BEFORE], c, why);
	if (r == 0)
		r = take_key(m->of[MEMBER_KEY], c, why);
	if (r == 0 && c->kind == V1_PUBLISH)
		r = take_data(m->of[MEMBER_DATA], c, why);
	return r;
}

int
v1_parse(const char *text, size_t len, struct v1_command *ret_command, char *why)
{
	struct members m = {.of = {{.p = NULL}}};
	struct slice *id = &m.of[MEMBER_ID];
	int r;

	*ret_command = (struct v1_command){.kind = V1_PING};
	r = take_members((struct slice){text, len}, &m, why);
	if (id->p != NULL && !id_ok(*id)) {
		id->p = NULL;
		id->len = 0;
		if (r == 0)
			r = bad(why, "\"id\" must be a number or a string, of at most "
				     "64 bytes");
	}
	ret_command->id = *id;
	return r < 0 ? r : take_command(&m, ret_command, why);
}

void
v1_command_done(struct v1_command *c)
{
	if (c == NULL)
		return;
	free(c->owned);
	c->owned = NULL;
}

/* ---- frames ---- */

/* Text gathered in the caller's buffer. What each frame holds is bounded, so that it
 * fits; see the assertions of the bounds below. */
struct text {
	char *p;
	size_t len;
};

static void add(struct text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void
add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p + t->len, V1_FRAME_MAX - FRAME_HEAD_MAX - t->len, fmt, ap);
	va_end(ap);
	t->len += n > 0 ? (size_t)n : 0;
}

static void
add_string(struct text *t, struct slice s)
{
	t->len += json_put_string(s.p, s.len, t->p + t->len);
}

/* An error is the longest: every byte of its message might be escaped as \u00XX, and
 * an id comes with it. A channel's name has no control characters: 2 for 1. */
_Static_assert(FRAME_HEAD_MAX + V1_ID_MAX + 6 * MESSAGE_MAX + 2 * V1_CHANNEL_MAX <
		   V1_FRAME_MAX - 128,
    "room for the frames");

/* Leave room for the head before the text: it depends on the length. */
static struct text
frame_begin(char *out)
{
	return (struct text){.p = out + FRAME_HEAD_MAX};
}

static size_t
frame_end(struct text *t, char *out)
{
	uint8_t head[FRAME_HEAD_MAX];
	size_t head_len = frame_head(OPCODE_TEXT, t->len, head);

	memmove(out + head_len, t->p, t->len);
	memcpy(out, head, head_len);
	return head_len + t->len;
}

/* {"id":ID, or { */
static void
add_id(struct text *t, struct slice id)
{
	if (id.len > 0)
		add(t, "{\"id\":%.*s,", (int)id.len, id.p);
	else
		add(t, "{");
}

const char *
v1_code_name(enum v1_code code)
{
	static const char *const names[] = {"bad_request", "forbidden", "unauthorized",
	    "not_found", "too_large", "rate_limited", "limit", "feed_down", "internal"};

	return names[code];
}

size_t
v1_hello(const char *client, const char *epoch, uint32_t ping_s, char *out)
{
	struct text t = frame_begin(out);

	add(&t, "{\"hello\":{\"client\":\"%.64s\",\"epoch\":\"%.64s\",\"ping\":%u}}",
	    client, epoch, ping_s);
	return frame_end(&t, out);
}

size_t
v1_ok(struct slice id, char *out)
{
	struct text t = frame_begin(out);

	add_id(&t, id);
	add(&t, "\"ok\":{}}");
	return frame_end(&t, out);
}

size_t
v1_subscribed(struct slice id, const struct v1_subscribed *s, char *out)
{
	struct text t = frame_begin(out);

	add_id(&t, id);
	add(&t, "\"ok\":{\"channel\":");
	add_string(&t, s->channel);
	add(&t, ",\"epoch\":\"%.64s\",\"offset\":%" PRIu64, s->epoch, s->offset);
	if (s->asked_since)
		add(&t, ",\"recovered\":%s", s->recovered ? "true" : "false");
	if (s->asked_since && !s->recovered && s->missed_known)
		add(&t, ",\"missed\":%" PRIu64, s->missed);
	else if (s->asked_since && !s->recovered)
		add(&t, ",\"missed\":null");
	add(&t, "}}");
	return frame_end(&t, out);
}

size_t
v1_push_subscribed(const struct v1_subscribed *s, char *out)
{
	struct text t = frame_begin(out);

	add(&t, "{\"subscribed\":{\"channel\":");
	add_string(&t, s->channel);
	add(&t, ",\"epoch\":\"%.64s\",\"offset\":%" PRIu64 "}}", s->epoch, s->offset);
	return frame_end(&t, out);
}

size_t
v1_auth(struct slice id, int64_t expires_s, char *out)
{
	struct text t = frame_begin(out);

	add_id(&t, id);
	if (expires_s != 0)
		add(&t, "\"ok\":{\"expires\":%" PRId64 "}}", expires_s);
	else
		add(&t, "\"ok\":{\"expires\":null}}");
	return frame_end(&t, out);
}

size_t
v1_expires_in(uint32_t in_s, char *out)
{
	struct text t = frame_begin(out);

	add(&t, "{\"expires_in\":%u}", in_s);
	return frame_end(&t, out);
}

size_t
v1_error(struct slice id, enum v1_code code, const char *message, char *out)
{
	size_t len = utf8_cut(message, strlen(message), MESSAGE_MAX);
	struct text t = frame_begin(out);
	char text[MESSAGE_MAX];

	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_char_len((const unsigned char *)message + i, len - i);
		if (n > 0)
			memcpy(text + i, message + i, n);
		else
			text[i] = '?';
		n = n > 0 ? n : 1;
	}
	add_id(&t, id);
	add(&t, "\"error\":{\"code\":\"%s\",\"message\":", v1_code_name(code));
	add_string(&t, (struct slice){text, len});
	add(&t, "}}");
	return frame_end(&t, out);
}

size_t
v1_gap(struct slice channel, uint64_t from, uint64_t to, char *out)
{
	struct text t = frame_begin(out);

	add(&t, "{\"gap\":{\"channel\":");
	add_string(&t, channel);
	add(&t, ",\"from\":%" PRIu64 ",\"to\":", from);
	if (to == UINT64_MAX)
		add(&t, "null}}");
	else
		add(&t, "%" PRIu64 "}}", to);
	return frame_end(&t, out);
}

size_t
v1_unsubscribed(struct slice channel, enum v1_code code, const char *message, char *out)
{
	struct text t = frame_begin(out);

	add(&t, "{\"unsubscribed\":{\"channel\":");
	add_string(&t, channel);
	add(&t, ",\"code\":\"%s\",\"message\":", v1_code_name(code));
	add_string(&t, (struct slice){message, strlen(message)});
	add(&t, "}}");
	return frame_end(&t, out);
}

size_t
v1_bye(uint16_t code, uint32_t retry_ms, char *out)
{
	struct text t = frame_begin(out);

	add(&t, "{\"bye\":{\"code\":%u,\"retry_ms\":%u}}", code, retry_ms);
	return frame_end(&t, out);
}

char *
v1_history(struct slice id, const struct slice *messages, size_t nmessages,
    const char *epoch, uint64_t offset, size_t *ret_len)
{
	/* id, names, epoch, offset and brackets; a comma for each message */
	size_t size = V1_FRAME_MAX + nmessages, head_len;
	char tail[160], head[V1_FRAME_MAX];
	struct text t = {.p = head};
	char *buf, *p;
	int tail_len;

	for (size_t i = 0; i < nmessages; i++)
		size += messages[i].len;
	buf = malloc(size);
	if (buf == NULL)
		return NULL;
	add_id(&t, id);
	add(&t, "\"ok\":{\"messages\":[");
	tail_len = snprintf(tail, sizeof(tail),
	    "],\"epoch\":\"%.64s\",\"offset\":%" PRIu64 "}}", epoch, offset);
	size = t.len + (size_t)tail_len + (nmessages > 0 ? nmessages - 1 : 0);
	for (size_t i = 0; i < nmessages; i++)
		size += messages[i].len;
	head_len = frame_head(OPCODE_TEXT, size, (uint8_t *)buf);
	p = buf + head_len;
	p = mempcpy(p, t.p, t.len);
	for (size_t i = 0; i < nmessages; i++) {
		if (i > 0)
			*p++ = ',';
		p = mempcpy(p, messages[i].p, messages[i].len);
	}
	memcpy(p, tail, (size_t)tail_len);
	*ret_len = head_len + size;
	return buf;
}

char *
v1_presence(struct slice id, struct slice page, size_t *ret_len)
{
	char head[V1_FRAME_MAX];
	struct text t = {.p = head};
	char *buf, *p;
	size_t size;

	add_id(&t, id);
	add(&t, "\"ok\":");
	size = t.len + page.len + 1;
	buf = malloc(FRAME_HEAD_MAX + size);
	if (buf == NULL)
		return NULL;
	p = buf + frame_head(OPCODE_TEXT, size, (uint8_t *)buf);
	p = mempcpy(p, head, t.len);
	p = mempcpy(p, page.p, page.len);
	*p++ = '}';
	*ret_len = (size_t)(p - buf);
	return buf;
}
