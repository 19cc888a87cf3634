#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "proto/deflate.h"
#include "proto/frame.h"

#define WINDOW_BITS 15 /* ours, in both directions */
#define WINDOW_BITS_MIN 8
#define MEM_LEVEL 8  /* zlib's default */
#define VALUE_MAX 16 /* a parameter's value; none that we know is longer */
#define INFLATER_FIRST (16u << 10)

/* What a message's flush ends with. It is not sent, and put back by who inflates
 * (RFC 7692 §7.2.1, §7.2.2). */
static const uint8_t tail[4] = {0x00, 0x00, 0xff, 0xff};

/* ---- the handshake ---- */

/* What is left of an extension. */
struct scan {
	const char *p, *end;
};

static void
skip_blanks(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'))
		s->p++;
}

/* Step over this character, and the blanks around it. */
static bool
scan_char(struct scan *s, char c)
{
	skip_blanks(s);
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	skip_blanks(s);
	return true;
}

static bool
scan_token(struct scan *s, struct slice *ret)
{
	const char *begin = s->p;

	while (s->p < s->end && http_is_token((struct slice){s->p, 1}))
		s->p++;
	*ret = (struct slice){begin, (size_t)(s->p - begin)};
	return s->p > begin;
}

struct param {
	struct slice name;
	bool has_value;
	char value[VALUE_MAX + 1];
	size_t value_len; /* VALUE_MAX + 1: longer than any that we know */
};

static void
value_add(struct param *p, char c)
{
	if (p->value_len < VALUE_MAX)
		p->value[p->value_len] = c;
	if (p->value_len <= VALUE_MAX)
		p->value_len++;
}

/* A value in quotes; without them it must be a token all the same (RFC 6455 §9.1). */
static bool
scan_quoted(struct scan *s, struct param *p)
{
	while (s->p < s->end && *s->p != '"') {
		if (*s->p == '\\')
			s->p++;
		if (s->p == s->end || !http_is_token((struct slice){s->p, 1}))
			return false;
		value_add(p, *s->p++);
	}
	if (s->p == s->end)
		return false;
	s->p++;
	return p->value_len > 0;
}

static bool
scan_value(struct scan *s, struct param *p)
{
	struct slice token;

	if (s->p < s->end && *s->p == '"') {
		s->p++;
		return scan_quoted(s, p);
	}
	if (!scan_token(s, &token))
		return false;
	for (size_t i = 0; i < token.len; i++)
		value_add(p, token.p[i]);
	return true;
}

/* name [ "=" value ], behind a semicolon. */
static bool
scan_param(struct scan *s, struct param *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!scan_token(s, &ret->name))
		return false;
	ret->has_value = scan_char(s, '=');
	if (ret->has_value && !scan_value(s, ret))
		return false;
	skip_blanks(s);
	return true;
}

/* What an offer asks for; 0: it does not say. */
struct offer {
	bool wrong;
	bool server_reset, client_reset;
	bool server_bits_given, client_bits_given;
	unsigned server_bits, client_bits;
};

/* 8 to 15, without leading zeros (RFC 7692 §7.1.2); 0: it is not. */
static unsigned
window_bits(const struct param *p)
{
	unsigned bits = 0;

	if (p->value_len == 0 || p->value_len > 2 || p->value[0] == '0')
		return 0;
	for (size_t i = 0; i < p->value_len; i++) {
		if (p->value[i] < '0' || p->value[i] > '9')
			return 0;
		bits = bits * 10 + (unsigned)(p->value[i] - '0');
	}
	return bits >= WINDOW_BITS_MIN && bits <= WINDOW_BITS ? bits : 0;
}

/* Returns whether this is the first of its name. */
static bool
mark_given(bool *given)
{
	bool first = !*given;

	*given = true;
	return first;
}

/* Returns false when no such offer can be taken. */
static bool
offer_add(struct offer *o, const struct param *p)
{
	if (slice_is(p->name, "server_no_context_takeover"))
		return mark_given(&o->server_reset) && !p->has_value;
	if (slice_is(p->name, "client_no_context_takeover"))
		return mark_given(&o->client_reset) && !p->has_value;
	if (slice_is(p->name, "server_max_window_bits")) {
		o->server_bits = window_bits(p);
		return mark_given(&o->server_bits_given) &&
		       o->server_bits == WINDOW_BITS;
	}
	if (slice_is(p->name, "client_max_window_bits")) {
		o->client_bits = window_bits(p);
		return mark_given(&o->client_bits_given) &&
		       (!p->has_value || o->client_bits != 0);
	}
	return false;
}

/* Returns false when it breaks the grammar. An offer of another extension is wrong. */
static bool
offer_parse(struct slice item, struct offer *ret)
{
	struct scan s = {item.p, item.p + item.len};
	struct slice name;
	struct param p;

	memset(ret, 0, sizeof(*ret));
	if (!scan_token(&s, &name))
		return false;
	ret->wrong = !slice_is(name, "permessage-deflate");
	while (scan_char(&s, ';')) {
		if (!scan_param(&s, &p))
			return false;
		ret->wrong |= !ret->wrong && !offer_add(ret, &p);
	}
	return s.p == s.end;
}

/* The client resets its window, too, whether it offered that or not (§7.1.1.2): there
 * is one stream for all. A limit of its window is repeated when it has named one. */
static void
respond(const struct offer *o, char *out)
{
	int n = snprintf(out, DEFLATE_RESPONSE_MAX,
	    "permessage-deflate; server_no_context_takeover; "
	    "client_no_context_takeover%s",
	    o->server_bits_given ? "; server_max_window_bits=15" : "");

	if (o->client_bits != 0)
		(void)snprintf(out + n, DEFLATE_RESPONSE_MAX - (size_t)n,
		    "; client_max_window_bits=%u", o->client_bits);
}

enum deflate_agreed
deflate_negotiate(const struct http_request *r, char *ret_response)
{
	enum deflate_agreed agreed = DEFLATE_NONE;
	struct http_list list;
	struct slice item;
	struct offer offer;

	/* A comma within quotes cuts an item in two broken ones: so it is, since what
	 * is quoted must be a token. */
	http_list_begin(&list, r, "Sec-WebSocket-Extensions");
	while (http_list_next(&list, &item)) {
		if (!offer_parse(item, &offer))
			return DEFLATE_BROKEN;
		if (offer.wrong || agreed == DEFLATE_AGREED)
			continue;
		respond(&offer, ret_response);
		agreed = DEFLATE_AGREED;
	}
	return agreed;
}

/* ---- what we send ---- */

struct deflater {
	z_stream zs;
};

int
deflater_new(unsigned level, struct deflater **ret_deflater)
{
	struct deflater *z = calloc(1, sizeof(*z));

	if (z == NULL)
		return -ENOMEM;
	if (deflateInit2(&z->zs, (int)level, Z_DEFLATED, -WINDOW_BITS, MEM_LEVEL,
		Z_DEFAULT_STRATEGY) != Z_OK) {
		free(z);
		return -ENOMEM;
	}
	*ret_deflater = z;
	return 0;
}

void
deflater_free(struct deflater *z)
{
	if (z == NULL)
		return;
	(void)deflateEnd(&z->zs);
	free(z);
}

/* Returns the bytes without their tail, 0 when they do not fit in max with it. */
static size_t
deflate_message(
    struct deflater *z, const void *buf, size_t len, size_t max, uint8_t *out)
{
	assert(len <= UINT_MAX && max <= UINT_MAX);
	(void)deflateReset(&z->zs);
	/* zlib's pointer to its input has no const in older versions. */
	z->zs.next_in = (Bytef *)buf;
	z->zs.avail_in = (uInt)len;
	z->zs.next_out = out;
	z->zs.avail_out = (uInt)max;
	if (deflate(&z->zs, Z_SYNC_FLUSH) != Z_OK || z->zs.avail_out == 0)
		return 0;
	assert(z->zs.avail_in == 0 && max - z->zs.avail_out > sizeof(tail));
	return max - z->zs.avail_out - sizeof(tail);
}

size_t
deflater_frame(struct deflater *z, const void *plain, size_t max, void *out)
{
	uint8_t *frame = out;
	const void *payload;
	enum opcode op;
	size_t len = frame_payload(plain, &op, &payload);
	size_t room = frame_head_len(max), head, n;

	if (max <= room)
		return 0;
	n = deflate_message(z, payload, len, max - room, frame + room);
	if (n == 0)
		return 0;
	head = frame_head_len(n);
	if (head < room)
		memmove(frame + head, frame + room, n);
	(void)frame_head(op, n, frame);
	frame[0] |= FRAME_RSV1;
	return head + n;
}

/* ---- what we receive ---- */

struct inflater {
	z_stream zs;
	uint8_t *out;
	size_t len, cap;
	size_t limit; /* of this message */
};

int
inflater_new(struct inflater **ret_inflater)
{
	struct inflater *z = calloc(1, sizeof(*z));

	if (z == NULL)
		return -ENOMEM;
	if (inflateInit2(&z->zs, -WINDOW_BITS) != Z_OK) {
		free(z);
		return -ENOMEM;
	}
	*ret_inflater = z;
	return 0;
}

void
inflater_free(struct inflater *z)
{
	if (z == NULL)
		return;
	(void)inflateEnd(&z->zs);
	free(z->out);
	free(z);
}

/* Room for more, up to one byte above the limit: that one shows that it is too long. */
static enum inflated
make_room(struct inflater *z)
{
	size_t cap = z->cap == 0 ? INFLATER_FIRST : 2 * z->cap;
	uint8_t *out;

	if (z->len > z->limit)
		return INFLATED_TOO_LONG;
	if (z->len < z->cap)
		return INFLATED_WHOLE;
	if (cap > z->limit + 1)
		cap = z->limit + 1;
	out = realloc(z->out, cap);
	if (out == NULL)
		return INFLATED_NO_MEMORY;
	z->out = out;
	z->cap = cap;
	return INFLATED_WHOLE;
}

/* Inflate all of buf, over the ends of final blocks (§7.2.3.4). *ret_ended: it ends
 * with one. */
static enum inflated
inflate_all(struct inflater *z, const void *buf, size_t len, bool *ret_ended)
{
	int r;

	z->zs.next_in = (Bytef *)buf;
	z->zs.avail_in = (uInt)len;
	do {
		enum inflated room = make_room(z);
		size_t cap = z->cap < z->limit + 1 ? z->cap : z->limit + 1;

		if (room != INFLATED_WHOLE)
			return room;
		z->zs.next_out = z->out + z->len;
		z->zs.avail_out = (uInt)(cap - z->len);
		r = inflate(&z->zs, Z_SYNC_FLUSH);
		z->len = cap - z->zs.avail_out;
		*ret_ended = r == Z_STREAM_END;
		/* The next block may refer to what came before the final one, so that
		 * the window stays, as inflateReset() would not let it. */
		if (r == Z_STREAM_END && z->zs.avail_in > 0)
			r = inflateResetKeep(&z->zs);
		/* Z_BUF_ERROR: all was out already. */
		if (r == Z_MEM_ERROR)
			return INFLATED_NO_MEMORY;
		if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
			return INFLATED_BROKEN;
	} while (z->zs.avail_in > 0 || z->zs.avail_out == 0);
	return z->len > z->limit ? INFLATED_TOO_LONG : INFLATED_WHOLE;
}

/* Whether the stream stands between two blocks, at the beginning of a byte. */
static bool
between_blocks(const struct inflater *z)
{
	return z->zs.data_type == 128; /* inflate() in zlib.h: no bits left over */
}

enum inflated
inflater_message(struct inflater *z, const void *buf, size_t len, size_t limit,
    const uint8_t **ret_message, size_t *ret_len)
{
	enum inflated result;
	bool ended = false;

	assert(len <= UINT_MAX && limit < UINT_MAX);
	if (z->cap > INFLATER_KEEP) {
		free(z->out);
		z->out = NULL;
		z->cap = 0;
	}
	z->len = 0;
	z->limit = limit;
	(void)inflateReset(&z->zs);
	result = inflate_all(z, buf, len, &ended);
	/* Of a final block at the very end, or nothing at all, no tail was cut off:
	 * that is wrong (§7.2.3.4, §7.2.3.6), and clear all the same. */
	if (result == INFLATED_WHOLE && !ended && len > 0) {
		result = inflate_all(z, tail, sizeof(tail), &ended);
		if (result == INFLATED_WHOLE && !between_blocks(z))
			result = INFLATED_BROKEN;
	}
	if (result == INFLATED_WHOLE) {
		*ret_message = z->out;
		*ret_len = z->len;
	}
	return result;
}
