/*
 * http_reply.h - what a request is answered with: 101, an error with its one line, or a
 * whole reply. The connection closes behind all but the first.
 *
 * Source   RFC 6455 §4.2.2; RFC 9110 §7.8, §15; RFC 6750 §3
 */
#ifndef WSCAST_PROTO_HTTP_REPLY_H
#define WSCAST_PROTO_HTTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/http.h"
#include "proto/slice.h"

#define HTTP_REPLY_MAX 1024 /* bytes of a reply below, its body aside */
/* ... that names a subprotocol of the request */
#define HTTP_UPGRADE_MAX (HTTP_REPLY_MAX + HTTP_HEAD_MAX)
#define HTTP_ACCEPT_LEN 28

/* Sec-WebSocket-Accept for a key of HTTP_KEY_LEN characters, NUL-terminated.
 * Returns 0 or -EIO when libcrypto has no SHA-1. */
int http_accept_key(struct slice key, char out[HTTP_ACCEPT_LEN + 1])
    __attribute__((warn_unused_result));

/*
 * 101 Switching Protocols.
 *
 * protocol    absent: none.
 * extensions  NULL: none; at most HTTP_REPLY_MAX / 2 bytes.
 * out         HTTP_UPGRADE_MAX bytes.
 *
 * Returns its length, -EMSGSIZE or -EIO.
 */
ptrdiff_t http_upgrade_reply(const struct http_request *r, struct slice protocol,
    const char *extensions, char *out) __attribute__((warn_unused_result));

/* The reply to a refused request, with its message as body. out: HTTP_REPLY_MAX bytes.
 * Returns its length; a message too long is cut. */
size_t http_error_reply(const struct http_fault *f, char *out);

/* The head of a reply whose body of body_len bytes follows. out: HTTP_REPLY_MAX bytes.
 * Returns its length. The connection closes behind it. */
size_t http_reply_head(unsigned status, const char *type, size_t body_len, char *out);

/*
 * A whole reply, e.g. of "application/json".
 *
 * head  the request was HEAD: its body stays out.
 * size  bytes of out.
 *
 * Returns its length or -EMSGSIZE.
 */
ptrdiff_t http_text_reply(unsigned status, const char *type, const void *body,
    size_t body_len, bool head, char *out, size_t size)
    __attribute__((warn_unused_result));

#endif
