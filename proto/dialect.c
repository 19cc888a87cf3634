#include <assert.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/dialect.h"
#include "proto/frame.h"
#include "proto/json.h"

/* {"channel":C,"offset":N,"data":D} or "base64":"…" in place of data. */
#define V1_CHANNEL "{\"channel\":"
#define V1_OFFSET ",\"offset\":"
#define V1_DATA ",\"data\":"
#define V1_BASE64 ",\"base64\":\""
#define LITERAL_LEN(s) (sizeof(s) - 1)
#define U64_DIGITS_MAX 20

void
message_classify(struct message *m)
{
	m->quoted_len = 0;
	if (json_valid(m->data, m->data_len))
		m->kind = DATA_JSON;
	else if (json_string_measure(m->data, m->data_len, &m->quoted_len))
		m->kind = DATA_TEXT;
	else
		m->kind = DATA_BINARY;
}

/* Digits of n, from the end of a buffer of U64_DIGITS_MAX; returns how many. */
static size_t
digits_put(uint64_t n, char *buf)
{
	size_t len = 0;

	do {
		buf[U64_DIGITS_MAX - ++len] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	return len;
}

static size_t
v1_data_len(const struct message *m)
{
	switch (m->kind) {
	case DATA_JSON:
		return LITERAL_LEN(V1_DATA) + m->data_len;
	case DATA_TEXT:
		return LITERAL_LEN(V1_DATA) +
		       (m->quoted_len > 0 ? m->quoted_len
					  : json_string_len(m->data, m->data_len));
	case DATA_BINARY:
		break;
	}
	return LITERAL_LEN(V1_BASE64) + base64_len(m->data_len) + 1;
}

static size_t
v1_len(const struct message *m)
{
	char digits[U64_DIGITS_MAX];

	return LITERAL_LEN(V1_CHANNEL) + json_string_len(m->channel, m->channel_len) +
	       LITERAL_LEN(V1_OFFSET) + digits_put(m->offset, digits) + v1_data_len(m) +
	       1;
}

static char *
put(char *out, const void *buf, size_t len)
{
	/* An empty payload may be NULL, which memcpy() must not see. */
	if (len > 0)
		memcpy(out, buf, len);
	return out + len;
}

static char *
v1_put_data(const struct message *m, char *out)
{
	if (m->kind == DATA_BINARY) {
		out = put(out, V1_BASE64, LITERAL_LEN(V1_BASE64));
		out += base64_put(m->data, m->data_len, out);
		return put(out, "\"", 1);
	}
	out = put(out, V1_DATA, LITERAL_LEN(V1_DATA));
	if (m->kind == DATA_JSON)
		return put(out, m->data, m->data_len);
	if (m->quoted_len == m->data_len + 2) { /* there is nothing to escape */
		out = put(out, "\"", 1);
		out = put(out, m->data, m->data_len);
		return put(out, "\"", 1);
	}
	return out + json_put_string(m->data, m->data_len, out);
}

static size_t
v1_frame(const struct message *m, char *out)
{
	char digits[U64_DIGITS_MAX];
	size_t ndigits = digits_put(m->offset, digits);
	size_t len = v1_len(m);
	char *o = out + frame_head(OPCODE_TEXT, len, (uint8_t *)out);
	char *begin = o;

	o = put(o, V1_CHANNEL, LITERAL_LEN(V1_CHANNEL));
	o += json_put_string(m->channel, m->channel_len, o);
	o = put(o, V1_OFFSET, LITERAL_LEN(V1_OFFSET));
	o = put(o, digits + U64_DIGITS_MAX - ndigits, ndigits);
	o = v1_put_data(m, o);
	o = put(o, "}", 1);
	assert((size_t)(o - begin) == len);
	return (size_t)(o - out);
}

size_t
dialect_frame_max(enum dialect d, const struct message *m)
{
	size_t len = d == DIALECT_RAW ? m->data_len : v1_len(m);

	return frame_head_len(len) + len;
}

size_t
dialect_frame(enum dialect d, const struct message *m, void *out)
{
	enum opcode op = m->kind == DATA_BINARY ? OPCODE_BINARY : OPCODE_TEXT;
	size_t head;

	if (d == DIALECT_V1)
		return v1_frame(m, out);
	head = frame_head(op, m->data_len, out);
	(void)put((char *)out + head, m->data, m->data_len);
	return head + m->data_len;
}
