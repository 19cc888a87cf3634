/*
 * http.h - HTTP/1.1 as far as an opening handshake needs it: the request's head,
 * strictly. What is answered: http_reply.h.
 *
 * Nothing is allocated: a request is slices of the bytes that were peeked at, and
 * lives as long as they do. What two servers could read differently is refused: bare
 * LF, NUL, folded lines, blanks before a colon, a second Host, both lengths.
 *
 * Source   RFC 9112 §2, §3, §5; RFC 9110 §5.6, §7.8; RFC 6455 §4.2; RFC 3986 §2.1
 */
#ifndef WSCAST_PROTO_HTTP_H
#define WSCAST_PROTO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

#define HTTP_HEAD_MAX 8192  /* bytes of a request's head; a buffer to peek into */
#define HTTP_LINE_MAX 4096  /* ... of its first line, without CRLF */
#define HTTP_HEADERS_MAX 64 /* ... header lines */
#define HTTP_KEY_LEN 24

enum http_method { HTTP_GET = 1, HTTP_HEAD = 2, HTTP_POST = 4 };

struct http_header {
	struct slice name, value; /* value: without blanks around it */
};

struct http_request {
	size_t len; /* bytes of the head, its empty line included */
	enum http_method method;
	struct slice path;  /* begins with '/', still percent-encoded */
	struct slice query; /* what follows the '?', or absent */
	struct slice host;  /* of an absolute target, else the Host header */
	struct slice origin, authorization;
	struct slice key, version, extensions; /* Sec-WebSocket-...; extensions: the
						* first line of them, raw */
	uint64_t content_length;
	bool upgrade; /* Connection: upgrade and Upgrade: websocket */
	unsigned nheaders;
	struct http_header header[HTTP_HEADERS_MAX];
};

/* Why a request is refused: all of its reply. */
struct http_fault {
	unsigned status;
	const char *message; /* one line, for people: what to do */
	unsigned allow;      /* 405: methods (enum http_method) */
	bool bad_token;      /* 401: it had one, and the message says what is wrong */
	unsigned retry_s;    /* 429, 503: when to try again; 0 = not said */
};

enum http_result {
	HTTP_MORE,  /* the head is not whole, and right so far */
	HTTP_WHOLE, /* ret_request is set */
	HTTP_BAD,   /* ret_fault is set: answer, and close. Further bytes change nothing
		     */
};

/*
 * Parse a request's head.
 *
 * buf      all bytes so far, from the first; those behind the head are not looked at.
 * methods  those that are served here (enum http_method); only a POST may have a body,
 *          with Content-Length.
 */
enum http_result http_parse(const char *buf, size_t len, unsigned methods,
    struct http_request *ret_request, struct http_fault *ret_fault)
    __attribute__((warn_unused_result));

/* Whether a whole request is a right opening handshake: GET, Upgrade, version, key,
 * protocols that are tokens. False: ret_fault is set. */
bool http_is_handshake(const struct http_request *r, struct http_fault *ret_fault)
    __attribute__((warn_unused_result));

/* Value of the first header of this name (any case); p NULL when there is none. */
struct slice http_header(const struct http_request *r, const char *name);

/* Whether it is a token of RFC 9110 §5.6.2: at least one character. */
bool http_is_token(struct slice s);

/* The items of a header that is a list separated by commas, over all its lines. */
struct http_list {
	const struct http_request *request;
	const char *name;
	unsigned line;
	const char *p, *end;
};
void http_list_begin(
    struct http_list *l, const struct http_request *r, const char *name);
bool http_list_next(struct http_list *l, struct slice *ret_item);

/* The parameters of a query, name=value&..., still encoded. Empty ones are passed over;
 * without '=' the value is empty. */
struct http_query {
	const char *p, *end;
};
void http_query_begin(struct http_query *q, const struct http_request *r);
bool http_query_next(
    struct http_query *q, struct slice *ret_name, struct slice *ret_value);

/*
 * Percent-decode. http_parse() has seen to it that the encoding is right and holds no
 * NUL.
 *
 * plus  '+' is a blank, as in a query.
 * out   size bytes; NUL-terminated on success.
 *
 * Returns the number of bytes, or -EMSGSIZE.
 */
ptrdiff_t http_decode(struct slice s, bool plus, char *out, size_t size)
    __attribute__((warn_unused_result));

/* Whether a query's name is this one when decoded. */
bool http_name_is(struct slice name, const char *text);

/*
 * Who the client is: the peer, or when that is a trusted proxy, the last address in
 * X-Forwarded-For that is no trusted proxy's.
 *
 * trusted  the setting server.trusted_proxies.
 * family, addr  the peer's (4 or 16 bytes of addr count) on entry, the client's after.
 */
void http_client_address(const struct http_request *r, const char *trusted, int *family,
    unsigned char addr[16]);

#endif
