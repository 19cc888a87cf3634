#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "proto/json.h"
#include "proto/utf8.h"

/* As many bytes as any machine has an instruction for. */
typedef signed char bytes16 __attribute__((vector_size(16)));

/* One bit for each level: set = object, clear = array. */
struct scan {
	const unsigned char *p, *end;
	unsigned depth;
	uint64_t objects[JSON_DEPTH_MAX / 64];
};

/* Whether one of the 16 bytes ends a run of plain characters: a quote, a backslash, a
 * control character, or the start of something that is not ASCII, which as a signed
 * number is below a space, too. */
static bool
has_special(const unsigned char *p)
{
	const bytes16 space = {0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20,
	    0x20, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20};
	const bytes16 quote = space + ('"' - 0x20), slash = space + ('\\' - 0x20);
	bytes16 v;
	uint64_t found[2];

	memcpy(&v, p, sizeof(v));
	v = (v < space) | (v == quote) | (v == slash);
	memcpy(found, &v, sizeof(v));
	return (found[0] | found[1]) != 0;
}

static const unsigned char *
skip_plain(const unsigned char *p, const unsigned char *end)
{
	while ((size_t)(end - p) >= sizeof(bytes16) && !has_special(p))
		p += sizeof(bytes16);
	while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\')
		p++;
	return p;
}

static bool
is_hex(unsigned char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static bool
is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

static void
skip_space(struct scan *s)
{
	while (s->p < s->end && json_is_space((char)*s->p))
		s->p++;
}

/* At a backslash. */
static bool
scan_escape(struct scan *s)
{
	size_t left = (size_t)(s->end - s->p);

	if (left < 2)
		return false;
	if (s->p[1] != 'u') {
		if (s->p[1] == '\0' || strchr("\"\\/bfnrt", s->p[1]) == NULL)
			return false;
		s->p += 2;
		return true;
	}
	if (left < 6 || !is_hex(s->p[2]) || !is_hex(s->p[3]) || !is_hex(s->p[4]) ||
	    !is_hex(s->p[5]))
		return false;
	s->p += 6;
	return true;
}

static bool
scan_string(struct scan *s)
{
	size_t n;

	if (s->p == s->end || *s->p != '"')
		return false;
	s->p++;
	for (;;) {
		s->p = skip_plain(s->p, s->end);
		if (s->p == s->end)
			return false;
		if (*s->p == '"') {
			s->p++;
			return true;
		}
		if (*s->p == '\\') {
			if (!scan_escape(s))
				return false;
			continue;
		}
		n = *s->p < 0x20 ? 0 : utf8_char_len(s->p, (size_t)(s->end - s->p));
		if (n == 0)
			return false;
		s->p += n;
	}
}

static bool
scan_digits(struct scan *s)
{
	const unsigned char *from = s->p;

	while (s->p < s->end && is_digit(*s->p))
		s->p++;
	return s->p > from;
}

/* §6: no leading zeros, digits on both sides of a point. */
static bool
scan_number(struct scan *s)
{
	if (s->p < s->end && *s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!scan_digits(s))
		return false;
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!scan_digits(s))
			return false;
	}
	if (s->p < s->end && (*s->p | 0x20) == 'e') {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		return scan_digits(s);
	}
	return true;
}

static bool
scan_word(struct scan *s, const char *word, size_t len)
{
	if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return false;
	s->p += len;
	return true;
}

static bool
scan_scalar(struct scan *s)
{
	switch (*s->p) {
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true", 4);
	case 'f':
		return scan_word(s, "false", 5);
	case 'n':
		return scan_word(s, "null", 4);
	default:
		return scan_number(s);
	}
}

static bool
in_object(const struct scan *s)
{
	return s->objects[(s->depth - 1) / 64] >> ((s->depth - 1) % 64) & 1;
}

static bool
enter(struct scan *s, bool object)
{
	uint64_t bit;

	if (s->depth == JSON_DEPTH_MAX)
		return false;
	bit = (uint64_t)1 << (s->depth % 64);
	if (bit == 1) /* the word's first level: what is above it says nothing yet */
		s->objects[s->depth / 64] = 0;
	if (object)
		s->objects[s->depth / 64] |= bit;
	else
		s->objects[s->depth / 64] &= ~bit;
	s->depth++;
	s->p++;
	return true;
}

/* A member's name and its colon. */
static bool
scan_name(struct scan *s)
{
	skip_space(s);
	if (!scan_string(s))
		return false;
	skip_space(s);
	return scan_word(s, ":", 1);
}

/* What comes after a value: leave what it ends, up to the next value's place.
 * Returns false when that is none of JSON. */
static bool
scan_after(struct scan *s)
{
	while (s->depth > 0) {
		bool object = in_object(s);

		skip_space(s);
		if (s->p == s->end)
			return false;
		if (*s->p == ',') {
			s->p++;
			return !object || scan_name(s);
		}
		if (*s->p != (object ? '}' : ']'))
			return false;
		s->p++;
		s->depth--;
	}
	return true;
}

/* One value, from its first byte to its last. An array or object is entered, its
 * values are looked at in turn, and scan_after() leaves it: no recursion. */
static bool
scan_value(struct scan *s)
{
	for (;;) {
		bool open;

		skip_space(s);
		if (s->p == s->end)
			return false;
		open = *s->p == '{' || *s->p == '[';
		if (open) {
			bool object = *s->p == '{';

			if (!enter(s, object))
				return false;
			skip_space(s);
			if (s->p == s->end)
				return false;
			if (*s->p != (object ? '}' : ']')) {
				if (object && !scan_name(s))
					return false;
				continue;
			}
			s->p++;
			s->depth--;
		} else if (!scan_scalar(s)) {
			return false;
		}
		if (s->depth == 0)
			return true;
		if (!scan_after(s))
			return false;
		if (s->depth == 0)
			return true;
	}
}

static void
scan_init(struct scan *s, const void *buf, size_t len)
{
	/* The bits are set when a level is entered: not cleared here, on the hot path.
	 */
	s->p = buf;
	s->end = s->p + len;
	s->depth = 0;
}

bool
json_valid(const void *buf, size_t len)
{
	struct scan s;

	scan_init(&s, buf, len);
	if (!scan_value(&s))
		return false;
	skip_space(&s);
	return s.p == s.end;
}

size_t
json_value_len(const void *buf, size_t len)
{
	struct scan s;

	if (len == 0 || json_is_space(*(const char *)buf))
		return 0;
	scan_init(&s, buf, len);
	return scan_value(&s) ? (size_t)(s.p - (const unsigned char *)buf) : 0;
}

/* The letter behind the backslash, for those that have a short form. */
static char
short_escape(unsigned char c)
{
	switch (c) {
	case '"':
	case '\\':
		return (char)c;
	case '\b':
		return 'b';
	case '\f':
		return 'f';
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	default:
		return 0;
	}
}

/* The first byte that a string cannot hold as it is, or end. */
static const unsigned char *
skip_unescaped(const unsigned char *p, const unsigned char *end)
{
	for (p = skip_plain(p, end); p < end && *p >= 0x80; p = skip_plain(p, end))
		while (p < end && *p >= 0x80)
			p++;
	return p;
}

size_t
json_string_len(const void *s, size_t len)
{
	const unsigned char *p = s, *end = p + len;
	size_t n = len + 2;

	for (p = skip_unescaped(p, end); p < end; p = skip_unescaped(p + 1, end))
		n += short_escape(*p) ? 1 : 5;
	return n;
}

bool
json_string_measure(const void *s, size_t len, size_t *ret_len)
{
	const unsigned char *p = s, *end = p + len;
	size_t n = len + 2, c;

	for (p = skip_plain(p, end); p < end; p = skip_plain(p + c, end)) {
		c = utf8_char_len(p, (size_t)(end - p));
		if (c == 0)
			return false;
		if (c == 1)
			n += short_escape(*p) ? 1 : 5;
	}
	*ret_len = n;
	return true;
}

/* What stands for a byte that must be escaped; returns where it ends. */
static char *
put_escape(unsigned char byte, char *o)
{
	static const char hex[] = "0123456789abcdef";
	char c = short_escape(byte);

	*o++ = '\\';
	if (c) {
		*o++ = c;
		return o;
	}
	memcpy(o, "u00", 3);
	o[3] = hex[byte >> 4];
	o[4] = hex[byte & 15];
	return o + 5;
}

size_t
json_put_string(const void *s, size_t len, char *out)
{
	const unsigned char *p = s, *end = p + len;
	char *o = out;

	*o++ = '"';
	while (p < end) {
		const unsigned char *next = skip_unescaped(p, end);

		o = mempcpy(o, p, (size_t)(next - p));
		p = next;
		if (p < end)
			o = put_escape(*p++, o);
	}
	*o++ = '"';
	return (size_t)(o - out);
}

static uint32_t
hex_digit(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

/* What the four hexadecimal digits behind a \u say. */
static uint32_t
hex4(const char *p)
{
	return hex_digit(p[0]) << 12 | hex_digit(p[1]) << 8 | hex_digit(p[2]) << 4 |
	       hex_digit(p[3]);
}

/* The character that an escape of 6 or 12 bytes at p names; 0 when it names none that
 * UTF-8 has. *ret_len: bytes of the escape. */
static uint32_t
unescape_u(const char *p, size_t len, size_t *ret_len)
{
	uint32_t c = hex4(p + 2), low;

	*ret_len = 6;
	if (c < 0xd800 || c > 0xdfff)
		return c;
	if (c > 0xdbff || len < 12 || p[6] != '\\' || p[7] != 'u')
		return 0;
	low = hex4(p + 8);
	if (low < 0xdc00 || low > 0xdfff)
		return 0;
	*ret_len = 12;
	return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

static size_t
put_utf8(uint32_t c, char *out)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

static uint32_t
unescape_short(char c)
{
	switch (c) {
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return (uint32_t)c;
	}
}

ptrdiff_t
json_get_string(struct slice string, char *out, size_t size)
{
	const char *p = string.p + 1, *end = string.p + string.len - 1;
	size_t len = 0, taken;
	char one[4];

	while (p < end) {
		size_t n = 1;

		taken = 1;
		one[0] = *p;
		if (*p == '\\') {
			uint32_t c = p[1] == 'u'
					 ? unescape_u(p, (size_t)(end - p), &taken)
					 : unescape_short(p[1]);

			if (c == 0)
				return -EBADMSG;
			taken = p[1] == 'u' ? taken : 2;
			n = put_utf8(c, one);
		}
		if (len + n >= size)
			return -EMSGSIZE;
		memcpy(out + len, one, n);
		len += n;
		p += taken;
	}
	if (size == 0)
		return -EMSGSIZE;
	out[len] = '\0';
	return (ptrdiff_t)len;
}

bool
json_get_u64(struct slice value, uint64_t *ret_n)
{
	uint64_t n = 0;

	for (size_t i = 0; i < value.len; i++) {
		if (!is_digit((unsigned char)value.p[i]) ||
		    __builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(value.p[i] - '0'), &n))
			return false;
	}
	if (value.len == 0)
		return false;
	*ret_n = n;
	return true;
}

static const char *
after_space(const char *p, const char *end)
{
	while (p < end && json_is_space(*p))
		p++;
	return p;
}

bool
json_members_begin(struct json_members *m, struct slice text)
{
	m->end = text.p + text.len;
	m->p = after_space(text.p, m->end);
	return m->p < m->end && *m->p++ == '{';
}

bool
json_members_next(
    struct json_members *m, struct slice *ret_name, struct slice *ret_value)
{
	size_t len;

	m->p = after_space(m->p, m->end);
	if (m->p < m->end && *m->p == ',')
		m->p = after_space(m->p + 1, m->end);
	len = json_value_len(m->p, (size_t)(m->end - m->p));
	if (len == 0) /* the closing brace */
		return false;
	*ret_name = (struct slice){m->p + 1, len - 2};
	m->p = after_space(m->p + len, m->end) + 1; /* the colon */
	m->p = after_space(m->p, m->end);
	len = json_value_len(m->p, (size_t)(m->end - m->p));
	*ret_value = (struct slice){m->p, len};
	m->p += len;
	return true;
}

size_t
json_compact(const char *text, size_t len, char *out)
{
	bool in_string = false;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (!in_string && json_is_space(text[i]))
			continue;
		out[n++] = text[i];
		if (text[i] == '"')
			in_string = !in_string;
		else if (text[i] == '\\' && i + 1 < len) /* only in strings */
			out[n++] = text[++i];
	}
	return n;
}
