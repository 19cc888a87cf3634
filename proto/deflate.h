/*
 * deflate.h - permessage-deflate: what a handshake agrees on, and messages deflated and
 * inflated one by one.
 *
 * No window outlives a message, in neither direction: so a frame is deflated once for
 * all clients of a host, and one stream inflates for all connections of a process.
 *
 * Source   RFC 7692 §5, §7; RFC 6455 §9.1; RFC 1951
 * Memory   a deflater is 260 KiB; an inflater 40 KiB and what it inflated last, of
 * which it keeps INFLATER_KEEP. A connection has none of either.
 */
#ifndef WSCAST_PROTO_DEFLATE_H
#define WSCAST_PROTO_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/http.h"

/* ---- the handshake ---- */

#define DEFLATE_RESPONSE_MAX 160

enum deflate_agreed {
	DEFLATE_NONE,   /* not offered, or in no form that we can serve */
	DEFLATE_AGREED, /* the response is set */
	DEFLATE_BROKEN, /* the header breaks the grammar of RFC 6455 §9.1: answer 400 */
};

/*
 * Choose among the offers of Sec-WebSocket-Extensions: the first that we can serve. An
 * offer is passed over when a parameter is unknown, there twice, or has a wrong value,
 * and when it wants a window of ours below 15 bits: the one frame for all is made
 * with 15.
 *
 * ret_response  DEFLATE_RESPONSE_MAX bytes: the header's value in our answer.
 */
enum deflate_agreed deflate_negotiate(const struct http_request *r, char *ret_response)
    __attribute__((warn_unused_result));

/* ---- what we send ---- */

struct deflater;

/* level: 1 (fast) to 9 (small). Returns 0 or -ENOMEM. */
int deflater_new(unsigned level, struct deflater **ret_deflater)
    __attribute__((warn_unused_result));
void deflater_free(struct deflater *z);

/*
 * Deflate a whole message.
 *
 * plain  one of our own frames, whole, not deflated.
 * out    max bytes.
 *
 * Returns the length of the deflated frame; 0 when it does not fit.
 */
size_t deflater_frame(struct deflater *z, const void *plain, size_t max, void *out)
    __attribute__((warn_unused_result));

/* ---- what we receive ---- */

#define INFLATER_KEEP (64u << 10)

struct inflater;

enum inflated {
	INFLATED_WHOLE,
	INFLATED_TOO_LONG,  /* it would become longer than the limit */
	INFLATED_BROKEN,    /* no deflated message, or not all of one */
	INFLATED_NO_MEMORY, /* for the limit's bytes */
};

/* Returns 0 or -ENOMEM. */
int inflater_new(struct inflater **ret_inflater) __attribute__((warn_unused_result));
void inflater_free(struct inflater *z);

/*
 * Inflate a whole message.
 *
 * buf          len bytes: the payloads of its frames, joined.
 * limit        bytes that it may become; no more than that and one are ever held.
 * ret_message  the inflater's, until its next call.
 */
enum inflated inflater_message(struct inflater *z, const void *buf, size_t len,
    size_t limit, const uint8_t **ret_message, size_t *ret_len)
    __attribute__((warn_unused_result));

#endif
