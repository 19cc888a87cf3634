#include <errno.h>
#include <stdint.h>

#include "proto/base64.h"

#define COMMON "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
static const char standard[] = COMMON "+/", for_urls[] = COMMON "-_";

/* Returns how many characters, without padding. */
static size_t
put_digits(const char *alphabet, const void *buf, size_t len, char *out)
{
	const uint8_t *p = buf;
	char *o = out;
	uint32_t v;

	for (; len >= 3; len -= 3, p += 3) {
		v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
		*o++ = alphabet[v >> 18];
		*o++ = alphabet[v >> 12 & 63];
		*o++ = alphabet[v >> 6 & 63];
		*o++ = alphabet[v & 63];
	}
	if (len > 0) {
		v = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
		*o++ = alphabet[v >> 18];
		*o++ = alphabet[v >> 12 & 63];
		if (len == 2)
			*o++ = alphabet[v >> 6 & 63];
	}
	return (size_t)(o - out);
}

/* Value of a character, 64 for one that is none of the alphabet. */
static uint32_t
digit(const char *alphabet, char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint32_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint32_t)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (uint32_t)(c - '0') + 52;
	return c == alphabet[62] ? 62 : c == alphabet[63] ? 63 : 64;
}

static int
get_digits(const char *alphabet, const char *s, size_t len, void *out, size_t *ret_len)
{
	uint8_t *o = out;
	size_t nbits = 0;
	uint32_t v = 0, d;

	for (size_t i = 0; i < len; i++) {
		d = digit(alphabet, s[i]);
		if (d == 64)
			return -EBADMSG;
		v = v << 6 | d;
		nbits += 6;
		if (nbits >= 8) {
			nbits -= 8;
			*o++ = (uint8_t)(v >> nbits);
			v &= (1u << nbits) - 1;
		}
	}
	if (v != 0 || nbits == 6)
		return -EBADMSG;
	*ret_len = (size_t)(o - (uint8_t *)out);
	return 0;
}

size_t
base64_put(const void *buf, size_t len, char *out)
{
	size_t n = put_digits(standard, buf, len, out);

	while (n % 4 != 0)
		out[n++] = '=';
	return n;
}

int
base64_get(const char *s, size_t len, void *out, size_t *ret_len)
{
	size_t npad = 0;

	if (len % 4 != 0)
		return -EBADMSG;
	while (npad < 2 && npad < len && s[len - 1 - npad] == '=')
		npad++;
	return get_digits(standard, s, len - npad, out, ret_len);
}

size_t
base64_url_put(const void *buf, size_t len, char *out)
{
	return put_digits(for_urls, buf, len, out);
}

int
base64_url_get(const char *s, size_t len, void *out, size_t *ret_len)
{
	return get_digits(for_urls, s, len, out, ret_len);
}
