/*
 * utf8.h - whether bytes are UTF-8.
 *
 * Source   RFC 3629 §4: shortest forms only, no surrogates, nothing above U+10FFFF
 */
#ifndef WSCAST_PROTO_UTF8_H
#define WSCAST_PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Whether all len bytes are valid UTF-8; no bytes at all are. */
bool utf8_valid(const void *buf, size_t len);

/* Bytes of the character that begins at p (1 to 4), or 0 when none is whole and valid
 * within len bytes. */
size_t utf8_char_len(const unsigned char *p, size_t len);

/* The longest prefix of at most max bytes of valid UTF-8 that cuts no character. */
size_t utf8_cut(const char *s, size_t len, size_t max);

/* Whether a valid character of n bytes is a control character (C0, DEL, C1). */
static inline bool
utf8_is_control(const unsigned char *p, size_t n)
{
	if (n == 1)
		return p[0] < 0x20 || p[0] == 0x7f;
	return n == 2 && p[0] == 0xc2 && p[1] < 0xa0;
}

#endif
