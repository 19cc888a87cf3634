#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/control.h"
#include "proto/json.h"
#include "proto/utf8.h"

#define LINE_FIRST 16384u /* bytes of a line's first buffer */

/* ---- bytes to lines ---- */

void
control_line_init(struct control_line *l, size_t max)
{
	*l = (struct control_line){.max = max};
}

void
control_line_done(struct control_line *l)
{
	if (l == NULL)
		return;
	free(l->buf);
	control_line_init(l, l->max);
}

/* Give the buffer room behind what waits: move that to the front, or grow. */
static int
line_grow(struct control_line *l)
{
	size_t size = l->size == 0 ? LINE_FIRST : l->size * 2;
	char *buf;

	if (l->start >= l->size / 2 && l->start > 0) {
		memmove(l->buf, l->buf + l->start, l->len);
		l->start = 0;
		return 0;
	}
	if (size > l->start + l->max + 1)
		size = l->start + l->max + 1;
	if (size <= l->size)
		return -EMSGSIZE;
	buf = realloc(l->buf, size);
	if (buf == NULL)
		return -ENOMEM;
	l->buf = buf;
	l->size = size;
	return 0;
}

void *
control_line_room(struct control_line *l, size_t *ret_len)
{
	int r;

	if (l->len == 0) {
		l->start = 0;
		/* Hundreds of idle connections shall not each keep their longest line.
		 */
		if (l->size > LINE_FIRST)
			control_line_done(l);
	}
	if (l->len > l->max) {
		errno = EMSGSIZE;
		return NULL;
	}
	if (l->start + l->len == l->size) {
		r = line_grow(l);
		if (r < 0) {
			errno = -r;
			return NULL;
		}
	}
	*ret_len = l->size - l->start - l->len;
	return l->buf + l->start + l->len;
}

void
control_line_fed(struct control_line *l, size_t len)
{
	l->len += len;
}

int
control_line_next(struct control_line *l, char **ret_line, size_t *ret_len)
{
	char *line, *end;
	size_t len;

	if (l->len == l->scanned)
		return l->len > l->max ? -EMSGSIZE : 0;
	line = l->buf + l->start;
	end = memchr(line + l->scanned, '\n', l->len - l->scanned);
	if (end == NULL) {
		l->scanned = l->len;
		return l->len > l->max ? -EMSGSIZE : 0;
	}
	len = (size_t)(end - line);
	if (len > l->max)
		return -EMSGSIZE;
	l->start += len + 1;
	l->len -= len + 1;
	l->scanned = 0;
	*end = '\0';
	*ret_line = line;
	*ret_len = len;
	return 1;
}

/* ---- requests ---- */

/* The end of a string that begins behind p's quote: behind the closing quote, or end.
 */
static const char *
skip_string(const char *p, const char *end)
{
	while (p < end && *p != '"')
		p += *p == '\\' && p + 1 < end ? 2 : 1;
	return p < end ? p + 1 : end;
}

/* Whether depth and number of values are within bounds. Broken JSON may be taken for
 * anything, since the parser refuses it afterwards; what it can make the parser
 * allocate is bounded all the same, for each value needs its bracket or comma. */
static bool
within_bounds(const char *p, const char *end)
{
	unsigned depth = 0, values = 0;

	while (p < end) {
		switch (*p++) {
		case '"':
			p = skip_string(p, end);
			break;
		case '{':
		case '[':
			if (++depth > CONTROL_DEPTH_MAX)
				return false;
			/* fall through */
		case ',':
			if (++values > CONTROL_VALUES_MAX)
				return false;
			break;
		case '}':
		case ']':
			if (depth > 0)
				depth--;
			break;
		}
	}
	return true;
}

int
control_request_parse(
    const char *line, size_t len, json_t **ret_request, char *why, size_t why_size)
{
	json_error_t error;
	json_t *request;

	if (!within_bounds(line, line + len)) {
		snprintf(
		    why, why_size, "the request is nested too deeply or too large");
		return -EBADMSG;
	}
	request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	if (request == NULL) {
		snprintf(why, why_size, "not a line of JSON: %s", error.text);
		return -EBADMSG;
	}
	if (!json_is_string(json_object_get(request, "cmd"))) {
		snprintf(why, why_size, "a request is an object with a string \"cmd\"");
		json_decref(request);
		return -EBADMSG;
	}
	*ret_request = request;
	return 0;
}

static int
decode_base64(const char *text, size_t len, void **ret_data, size_t *ret_len)
{
	void *data = malloc(len / 4 * 3 + 1);

	if (data == NULL)
		return -ENOMEM;
	if (base64_get(text, len, data, ret_len) < 0) {
		free(data);
		return -EINVAL;
	}
	*ret_data = data;
	return 0;
}

/* malloc'd and never NULL for len 0, unlike malloc(0) might be. */
static int
copy_bytes(const void *data, size_t len, void **ret_copy)
{
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return -ENOMEM;
	if (len > 0)
		memcpy(copy, data, len);
	copy[len] = '\0';
	*ret_copy = copy;
	return 0;
}

int
control_payload(const json_t *request, void **ret_data, size_t *ret_len)
{
	const json_t *text = json_object_get(request, "data");
	const json_t *base64 = json_object_get(request, "base64");
	int r;

	if (json_is_string(base64) && text == NULL)
		return decode_base64(json_string_value(base64),
		    json_string_length(base64), ret_data, ret_len);
	if (!json_is_string(text) || base64 != NULL)
		return -EINVAL;
	r = copy_bytes(json_string_value(text), json_string_length(text), ret_data);
	if (r == 0)
		*ret_len = json_string_length(text);
	return r;
}

int
control_put_payload(json_t *request, const void *data, size_t len)
{
	json_t *text = NULL;
	char *base64;
	int r;

	/* A NUL could be said in JSON, but a string in C would be cut there. */
	if (memchr(data, '\0', len) == NULL)
		text = json_stringn(data, len); /* NULL for broken UTF-8, too */
	if (text != NULL)
		return json_object_set_new(request, "data", text) < 0 ? -ENOMEM : 0;

	base64 = malloc(base64_len(len) + 1);
	if (base64 == NULL)
		return -ENOMEM;
	r = json_object_set_new(
	    request, "base64", json_stringn(base64, base64_put(data, len, base64)));
	free(base64);
	return r < 0 ? -ENOMEM : 0;
}

/* ---- lines to send ---- */

const char *
control_code_name(enum control_code code)
{
	static const char *const names[] = {
	    [CONTROL_BAD_REQUEST] = "bad_request",
	    [CONTROL_FORBIDDEN] = "forbidden",
	    [CONTROL_NOT_FOUND] = "not_found",
	    [CONTROL_FEED_DOWN] = "feed_down",
	    [CONTROL_INTERNAL] = "internal",
	};

	return names[code];
}

char *
control_line_of(json_t *object, size_t *ret_len)
{
	size_t len, written;
	char *line = NULL;

	if (object == NULL)
		return NULL;
	/* Asked for the length first: half as much memory as json_dumps() takes. */
	len = json_dumpb(object, NULL, 0, JSON_COMPACT);
	if (len > 0)
		line = malloc(len + 2);
	if (line != NULL) {
		written = json_dumpb(object, line, len, JSON_COMPACT);
		line[written] = '\n';
		line[written + 1] = '\0';
		*ret_len = written + 1;
	}
	json_decref(object);
	return line;
}

char *
control_ok(json_t *ok, size_t *ret_len)
{
	if (ok == NULL)
		return NULL;
	return control_line_of(json_pack("{s:o}", "ok", ok), ret_len);
}

/* Text that may have come from outside, or was cut in the middle of a character. */
static json_t *
string_of(char *text)
{
	json_t *string = json_string(text);

	if (string != NULL)
		return string;
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	return json_string(text);
}

char *
control_error(enum control_code code, size_t *ret_len, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	return control_line_of(json_pack("{s:{s:s,s:o}}", "error", "code",
				   control_code_name(code), "message", string_of(text)),
	    ret_len);
}

char *
control_faults(char *const *line, unsigned n, size_t *ret_len)
{
	char message[80];
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		(void)json_array_append_new(list, string_of(line[i]));
	(void)snprintf(message, sizeof(message),
	    "nothing was changed: %u fault%s in the settings", n, n == 1 ? "" : "s");
	return control_line_of(json_pack("{s:{s:s,s:s,s:o}}", "error", "code",
				   control_code_name(CONTROL_BAD_REQUEST), "message",
				   message, "faults", list),
	    ret_len);
}

/* The member with the payload, and how many bytes its value may take. */
static const char *
payload_key(const struct message *m, enum data_kind *ret_kind, size_t *ret_max)
{
	*ret_kind = m->kind;
	/* A wrong kind must not make a wrong line. */
	if (m->kind == DATA_TEXT && !utf8_valid(m->data, m->data_len))
		*ret_kind = DATA_BINARY;
	switch (*ret_kind) {
	case DATA_JSON:
		*ret_max = m->data_len;
		return "data";
	case DATA_TEXT:
		*ret_max = json_string_len(m->data, m->data_len);
		return "text";
	default:
		*ret_max = base64_len(m->data_len) + 2;
		return "base64";
	}
}

static size_t
put_payload(const struct message *m, enum data_kind kind, char *out)
{
	size_t n;

	switch (kind) {
	case DATA_JSON:
		/* Within a string JSON has no bare newline: these are between tokens.
		 */
		for (size_t i = 0; i < m->data_len; i++) {
			char c = ((const char *)m->data)[i];

			out[i] = c == '\n' || c == '\r' ? ' ' : c;
		}
		return m->data_len;
	case DATA_TEXT:
		return json_put_string(m->data, m->data_len, out);
	default:
		n = base64_put(m->data, m->data_len, out + 1);
		out[0] = out[n + 1] = '"';
		return n + 2;
	}
}

char *
control_message(const struct message *m, uint64_t time_ns, size_t *ret_len)
{
	static const char begin[] = "{\"channel\":";
	enum data_kind kind;
	size_t max, n = sizeof(begin) - 1;
	const char *key = payload_key(m, &kind, &max);
	char *line = malloc(json_string_len(m->channel, m->channel_len) + max + 160);

	if (line == NULL)
		return NULL;
	memcpy(line, begin, n);
	n += json_put_string(m->channel, m->channel_len, line + n);
	n += (size_t)sprintf(line + n, ",\"offset\":%llu,\"time\":%llu.%06llu,\"%s\":",
	    (unsigned long long)m->offset, (unsigned long long)(time_ns / 1000000000u),
	    (unsigned long long)(time_ns % 1000000000u / 1000u), key);
	n += put_payload(m, kind, line + n);
	memcpy(line + n, "}\n", 3);
	*ret_len = n + 2;
	return line;
}

/* ---- a tail's line taken apart ---- */

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && json_is_space(*p))
		p++;
	return p;
}

struct span {
	const char *at;
	size_t len;
};

static bool
span_is(struct span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* The next member of the object: its key in quotes, and its value as it stands there
 * with the white space around it, so that a payload comes out as it went in. Returns 1;
 * 0 at the object's end; -EBADMSG. */
static int
next_member(const char **p, const char *end, struct span *key, struct span *value)
{
	const char *at = skip_space(*p, end), *from;
	size_t len;

	if (at < end && *at == '}')
		return 0;
	*key = (struct span){at, json_value_len(at, (size_t)(end - at))};
	at = skip_space(at + key->len, end);
	if (key->len == 0 || at == end || *at != ':')
		return -EBADMSG;
	from = at + 1;
	at = skip_space(from, end);
	len = json_value_len(at, (size_t)(end - at));
	at = skip_space(at + len, end);
	if (len == 0 || at == end || (*at != ',' && *at != '}'))
		return -EBADMSG;
	*value = (struct span){from, (size_t)(at - from)};
	*p = *at == ',' ? at + 1 : at;
	return 1;
}

/* Take over a text or base64 payload. */
static int
event_string(struct control_event *e, enum data_kind kind, const json_t *v)
{
	const char *text = json_string_value(v);
	int r;

	if (text == NULL || e->data != NULL)
		return -EBADMSG;
	e->kind = kind;
	e->data_len = json_string_length(v);
	if (kind == DATA_TEXT)
		return copy_bytes(text, e->data_len, &e->data);
	r = decode_base64(text, e->data_len, &e->data, &e->data_len);
	return r == -EINVAL ? -EBADMSG : r;
}

static int
event_channel(struct control_event *e, const json_t *v)
{
	const char *name = json_string_value(v);

	if (name == NULL || strlen(name) != json_string_length(v) || e->channel != NULL)
		return -EBADMSG;
	e->channel = strdup(name);
	return e->channel == NULL ? -ENOMEM : 0;
}

static int
event_member(struct control_event *e, struct span key, struct span value)
{
	json_t *v;
	int r = 0;

	if (span_is(key, "\"data\"")) {
		if (e->data != NULL)
			return -EBADMSG;
		e->kind = DATA_JSON;
		e->data_len = value.len;
		return copy_bytes(value.at, value.len, &e->data);
	}
	v = json_loadb(value.at, value.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (v == NULL)
		return -EBADMSG;
	if (span_is(key, "\"channel\""))
		r = event_channel(e, v);
	else if (span_is(key, "\"text\""))
		r = event_string(e, DATA_TEXT, v);
	else if (span_is(key, "\"base64\""))
		r = event_string(e, DATA_BINARY, v);
	else if (span_is(key, "\"offset\""))
		e->offset = (uint64_t)json_integer_value(v);
	else if (span_is(key, "\"missed\""))
		e->missed = (uint64_t)json_integer_value(v);
	else if (span_is(key, "\"time\""))
		e->time = json_number_value(v);
	json_decref(v);
	return r;
}

int
control_event_parse(const char *line, size_t len, struct control_event *ret_event)
{
	const char *end = line + len, *p = skip_space(line, end);
	struct control_event e = {0};
	struct span key, value;
	int r;

	if (p == end || *p++ != '{')
		return -EBADMSG;
	while ((r = next_member(&p, end, &key, &value)) > 0) {
		r = event_member(&e, key, value);
		if (r < 0)
			break;
	}
	if (r == 0 && e.missed == 0 && (e.channel == NULL || e.data == NULL))
		r = -EBADMSG;
	if (r < 0) {
		control_event_done(&e);
		return r;
	}
	*ret_event = e;
	return 0;
}

void
control_event_done(struct control_event *e)
{
	if (e == NULL)
		return;
	free(e->channel);
	free(e->data);
	*e = (struct control_event){0};
}
