/*
 * base64.h - base64 into and out of the caller's buffers.
 *
 * Source   RFC 4648 §4: the standard alphabet, padded, no white space; §5: the one for
 *          URLs, which RFC 7515 §2 writes without padding
 */
#ifndef WSCAST_PROTO_BASE64_H
#define WSCAST_PROTO_BASE64_H

#include <stddef.h>

/* Characters for len bytes. */
static inline size_t
base64_len(size_t len)
{
	return (len + 2) / 3 * 4;
}

/* Write base64_len(len) characters, no NUL; returns how many. */
size_t base64_put(const void *buf, size_t len, char *out);

/*
 * Decode.
 *
 * out  room for len / 4 * 3 bytes.
 *
 * Returns 0, or -EBADMSG for a wrong length, character or padding, also when bits
 * that no byte holds are set (so each byte string has one spelling).
 */
int base64_get(const char *s, size_t len, void *out, size_t *ret_len)
    __attribute__((warn_unused_result));

/* The same in the alphabet for URLs, without padding. out of get: room for
 * base64_url_room(len) bytes. */
static inline size_t
base64_url_len(size_t len)
{
	return (len * 4 + 2) / 3;
}
static inline size_t
base64_url_room(size_t len)
{
	return len / 4 * 3 + 2;
}
size_t base64_url_put(const void *buf, size_t len, char *out);
int base64_url_get(const char *s, size_t len, void *out, size_t *ret_len)
    __attribute__((warn_unused_result));

#endif
