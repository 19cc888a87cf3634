#include <errno.h>
#include <stdint.h>

#include "proto/base64.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t
base64_put(const void *buf, size_t len, char *out)
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
		*o++ = len == 2 ? alphabet[v >> 6 & 63] : '=';
		*o++ = '=';
	}
	return (size_t)(o - out);
}

/* Value of a character, 64 for one that is none of the alphabet. */
static uint32_t
digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint32_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint32_t)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (uint32_t)(c - '0') + 52;
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

int
base64_get(const char *s, size_t len, void *out, size_t *ret_len)
{
	uint8_t *o = out;
	size_t npad = 0, nbits = 0;
	uint32_t v = 0, d;

	if (len % 4 != 0)
		return -EBADMSG;
	while (npad < 2 && npad < len && s[len - 1 - npad] == '=')
		npad++;
	for (size_t i = 0; i < len - npad; i++) {
		d = digit(s[i]);
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
	if (v != 0)
		return -EBADMSG;
	*ret_len = (size_t)(o - (uint8_t *)out);
	return 0;
}
