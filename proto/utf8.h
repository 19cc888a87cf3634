/*
 * utf8.h - whether bytes are UTF-8.
 *
 * Source   RFC 3629 §4: shortest forms only, no surrogates, nothing above U+10FFFF
 */
#ifndef WSCAST_PROTO_UTF8_H
#define WSCAST_PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether all len bytes are valid UTF-8; no bytes at all are. */
bool utf8_valid(const void *buf, size_t len);

/* A check of text that comes in parts; all zero at its begin. */
struct utf8_check {
	uint8_t need;   /* continuation bytes of the character that has begun */
	uint8_t lo, hi; /* bounds of the next of them */
};

/* Whether the text so far can be the begin of valid UTF-8; when not, it is at the first
 * wrong byte that this is told. */
bool utf8_check_add(struct utf8_check *u, const void *buf, size_t len)
    __attribute__((warn_unused_result));

/* Whether no character is cut. */
static inline bool
utf8_check_done(const struct utf8_check *u)
{
	return u->need == 0;
}

/* Bytes of the character that begins at p (1 to 4), or 0 when none is whole and valid
 * within len bytes. */
size_t utf8_char_len(const unsigned char *p, size_t len);

/* Whether it is valid UTF-8 without control characters. */
bool utf8_is_text(const void *buf, size_t len);

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
