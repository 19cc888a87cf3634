/*
 * resp.h - what a subscriber of Redis gets all day, read where it lies.
 *
 *   *3\r\n  $7\r\nmessage\r\n  $4\r\nnews\r\n  $5\r\nhello\r\n
 *   >3\r\n  ...                                              the same in RESP3
 *
 * Only replies of this shape, an array or push of a few strings and integers. All
 * others are for a reader of the whole protocol.
 *
 * Source   the Redis serialization protocol, RESP2 and RESP3
 */
#ifndef WSCAST_PROTO_RESP_H
#define WSCAST_PROTO_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESP_PARTS_MAX 4

struct resp_part {
	const char *str; /* len bytes in the buffer, with \r\n behind; NULL: a number */
	size_t len;
	uint32_t number;
};

struct resp_flat {
	bool push;
	unsigned nparts;
	struct resp_part part[RESP_PARTS_MAX];
};

enum resp_result {
	RESP_WHOLE,
	RESP_CUT,   /* it may become one when more has come */
	RESP_OTHER, /* a reply of another shape, or none at all */
};

/*
 * Read the reply that begins at buf.
 *
 * ret_flat  set when it is WHOLE; its strings are in buf.
 * ret_len   WHOLE: bytes of it. CUT: bytes of which it has at least so many: with less
 *           there is no use in trying again.
 */
enum resp_result resp_flat(const char *buf, size_t len, struct resp_flat *ret_flat,
    size_t *ret_len) __attribute__((warn_unused_result));

#endif
