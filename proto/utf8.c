#include <string.h>

#include "proto/utf8.h"

#define HIGH_BITS 0x8080808080808080u

static bool
is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* RFC 3629 §4, UTF8-3: E0 and ED narrow what may follow, against long forms and
 * surrogates. */
static bool
is_three(const unsigned char *p)
{
	if (!is_tail(p[1]) || !is_tail(p[2]))
		return false;
	if (p[0] == 0xe0)
		return p[1] >= 0xa0;
	if (p[0] == 0xed)
		return p[1] < 0xa0;
	return true;
}

/* UTF8-4: likewise F0, and F4 against what is above U+10FFFF. */
static bool
is_four(const unsigned char *p)
{
	if (!is_tail(p[1]) || !is_tail(p[2]) || !is_tail(p[3]))
		return false;
	if (p[0] == 0xf0)
		return p[1] >= 0x90;
	if (p[0] == 0xf4)
		return p[1] < 0x90;
	return true;
}

size_t
utf8_char_len(const unsigned char *p, size_t len)
{
	if (len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		return len >= 2 && is_tail(p[1]) ? 2 : 0;
	if (p[0] >= 0xe0 && p[0] <= 0xef)
		return len >= 3 && is_three(p) ? 3 : 0;
	if (p[0] >= 0xf0 && p[0] <= 0xf4)
		return len >= 4 && is_four(p) ? 4 : 0;
	return 0;
}

bool
utf8_valid(const void *buf, size_t len)
{
	const unsigned char *p = buf, *end = p + len;
	uint64_t word;
	size_t n;

	while (p < end) {
		if ((size_t)(end - p) >= sizeof(word)) {
			memcpy(&word, p, sizeof(word));
			if ((word & HIGH_BITS) == 0) {
				p += sizeof(word);
				continue;
			}
		}
		n = utf8_char_len(p, (size_t)(end - p));
		if (n == 0)
			return false;
		p += n;
	}
	return true;
}

bool
utf8_is_text(const void *buf, size_t len)
{
	const unsigned char *p = buf;
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_char_len(p + i, len - i);
		if (n == 0 || utf8_is_control(p + i, n))
			return false;
	}
	return true;
}

size_t
utf8_cut(const char *s, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && is_tail((unsigned char)s[max]))
		max--;
	return max;
}

/* RFC 3629 §4: what may follow the first byte of a character. */
static bool
check_first(struct utf8_check *u, unsigned char c)
{
	if (c < 0xc2 || c > 0xf4)
		return false;
	u->need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	u->lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	u->hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	return true;
}

bool
utf8_check_add(struct utf8_check *u, const void *buf, size_t len)
{
	const unsigned char *p = buf, *end = p + len;
	uint64_t word;

	while (p < end) {
		if (u->need > 0) {
			if (*p < u->lo || *p > u->hi)
				return false;
			u->need--;
			u->lo = 0x80;
			u->hi = 0xbf;
			p++;
		} else if (*p >= 0x80) {
			if (!check_first(u, *p++))
				return false;
		} else {
			/* Most text is ASCII: eight bytes at a time. */
			for (; end - p >= 8; p += 8) {
				memcpy(&word, p, 8);
				if (word & HIGH_BITS)
					break;
			}
			while (p < end && *p < 0x80)
				p++;
		}
	}
	return true;
}
