#include "proto/control.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	size_t size = len / 4 * 3 + 3, data_len;
	void *data = malloc(size);

	if (data == NULL)
		return -ENOMEM;
	if (sodium_base642bin(data, size, text, len, NULL, &data_len, NULL,
		sodium_base64_VARIANT_ORIGINAL) != 0) {
		free(data);
		return -EINVAL;
	}
	*ret_data = data;
	*ret_len = data_len;
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

/* NUL-terminated and malloc'd. */
static char *
encode_base64(const void *data, size_t len)
{
	size_t size = sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_ORIGINAL);
	char *text = malloc(size);

	if (text != NULL)
		sodium_bin2base64(
		    text, size, data, len, sodium_base64_VARIANT_ORIGINAL);
	return text;
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

	base64 = encode_base64(data, len);
	if (base64 == NULL)
		return -ENOMEM;
	r = json_object_set_new(request, "base64", json_string(base64));
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

char *
control_error(enum control_code code, size_t *ret_len, const char *fmt, ...)
{
	char text[512];
	json_t *message;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	message = json_string(text);
	if (message == NULL) {
		/* What came from outside, or was cut in the middle of a character. */
		for (char *p = text; *p != '\0'; p++)
			if ((unsigned char)*p >= 0x80)
				*p = '?';
		message = json_string(text);
	}
	return control_line_of(json_pack("{s:{s:s,s:o}}", "error", "code",
				   control_code_name(code), "message", message),
	    ret_len);
}

/* The payload as a member's key and value, malloc'd; *ret_value_len its bytes. */
static char *
message_value(const struct message *m, const char **ret_key, size_t *ret_value_len)
{
	json_t *string = NULL;
	void *value = NULL;

	switch (m->kind) {
	case DATA_JSON:
		*ret_key = "data";
		if (copy_bytes(m->data, m->data_len, &value) < 0)
			return NULL;
		*ret_value_len = m->data_len;
		/* Within a string JSON has no bare newline: these are between tokens.
		 */
		for (char *p = value, *end = p + m->data_len; p < end; p++)
			if (*p == '\n' || *p == '\r')
				*p = ' ';
		return value;
	case DATA_TEXT:
		*ret_key = "text";
		string = json_stringn(m->data, m->data_len);
		break;
	case DATA_BINARY:
		break;
	}
	if (string == NULL) {
		*ret_key = "base64";
		value = encode_base64(m->data, m->data_len);
		if (value != NULL)
			string = json_string(value);
		free(value);
	}
	value = string == NULL ? NULL : json_dumps(string, JSON_ENCODE_ANY);
	json_decref(string);
	if (value != NULL)
		*ret_value_len = strlen(value);
	return value;
}

char *
control_message(const struct message *m, uint64_t time_ns, size_t *ret_len)
{
	json_t *name = json_stringn(m->channel, m->channel_len);
	char *channel = name == NULL ? NULL : json_dumps(name, JSON_ENCODE_ANY);
	char *value = NULL, *line = NULL;
	size_t size, value_len, n;
	const char *key;

	json_decref(name);
	if (channel != NULL)
		value = message_value(m, &key, &value_len);
	if (value != NULL) {
		size = strlen(channel) + value_len + 128;
		line = malloc(size);
	}
	if (line != NULL) {
		n = (size_t)snprintf(line, size,
		    "{\"channel\":%s,\"offset\":%llu,\"time\":%llu.%06llu,\"%s\":",
		    channel, (unsigned long long)m->offset,
		    (unsigned long long)(time_ns / 1000000000u),
		    (unsigned long long)(time_ns % 1000000000u / 1000u), key);
		memcpy(line + n, value, value_len);
		memcpy(line + n + value_len, "}\n", 3);
		*ret_len = n + value_len + 2;
	}
	free(channel);
	free(value);
	return line;
}

/* ---- a tail's line taken apart ---- */

static const char *
skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

/* The end of the value at p: found by its brackets, not by parsing it, so that depth
 * costs no stack and numbers keep their digits. */
static const char *
skip_value(const char *p, const char *end)
{
	size_t depth = 0;

	while (p < end) {
		char c = *p;

		if (depth == 0 && (c == ',' || c == '}' || c == ']'))
			return p;
		p++;
		if (c == '"')
			p = skip_string(p, end);
		else if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
	}
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

/* The next member of the object: its key without quotes, and its value. Returns 1;
 * 0 at the object's end; -EBADMSG. */
static int
next_member(const char **p, const char *end, struct span *key, struct span *value)
{
	const char *at = skip_space(*p, end), *behind;

	if (at < end && *at == '}')
		return 0;
	if (at == end || *at != '"')
		return -EBADMSG;
	behind = skip_string(at + 1, end);
	*key = (struct span){at + 1, (size_t)(behind - at) - 2};
	at = skip_space(behind, end);
	if (at == end || *at != ':')
		return -EBADMSG;
	at = skip_space(at + 1, end);
	behind = skip_value(at, end);
	if (behind == end || *behind == ']' || behind == at)
		return -EBADMSG;
	*value = (struct span){at, (size_t)(behind - at)};
	*p = *behind == ',' ? behind + 1 : behind;
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

	if (span_is(key, "data")) {
		if (e->data != NULL)
			return -EBADMSG;
		e->kind = DATA_JSON;
		e->data_len = value.len;
		return copy_bytes(value.at, value.len, &e->data);
	}
	v = json_loadb(value.at, value.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (v == NULL)
		return -EBADMSG;
	if (span_is(key, "channel"))
		r = event_channel(e, v);
	else if (span_is(key, "text"))
		r = event_string(e, DATA_TEXT, v);
	else if (span_is(key, "base64"))
		r = event_string(e, DATA_BINARY, v);
	else if (span_is(key, "offset"))
		e->offset = (uint64_t)json_integer_value(v);
	else if (span_is(key, "missed"))
		e->missed = (uint64_t)json_integer_value(v);
	else if (span_is(key, "time"))
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
