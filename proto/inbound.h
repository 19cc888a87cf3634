/*
 * inbound.h - a client's frames to whole messages.
 *
 * Bytes are given as they come, cut anywhere; what they hold is taken out one by one.
 * A breach of the protocol is told at its first wrong byte, that of UTF-8 too.
 *
 *    inbound_begin(in, …);
 *    inbound_give(in, buf, len);
 *    while ((event = inbound_next(in, &item)) != INBOUND_MORE)
 *            …
 *
 * Source   RFC 6455 §5, §7.4, §8.1; RFC 7692 §6 for RSV1
 * Memory   9 KiB, and as much of a message as has come
 */
#ifndef WSCAST_PROTO_INBOUND_H
#define WSCAST_PROTO_INBOUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"

struct inbound;

enum inbound_event {
	INBOUND_MORE,    /* all bytes were used */
	INBOUND_MESSAGE, /* op, deflated, payload */
	INBOUND_PING,    /* payload */
	INBOUND_PONG,    /* payload */
	INBOUND_CLOSE,   /* code: to answer with */
	INBOUND_BROKEN,  /* code: to close with */
};

struct inbound_item {
	enum opcode op; /* OPCODE_TEXT or OPCODE_BINARY */
	bool deflated;  /* it is to be inflated, and text not yet known to be UTF-8 */
	const uint8_t *payload; /* len bytes, until the next call of any function */
	size_t len;
	uint16_t code; /* of a Close frame */
};

/* Returns 0 or -ENOMEM. */
int inbound_new(struct inbound **ret_in) __attribute__((warn_unused_result));
void inbound_free(struct inbound *in);

/*
 * Begin with a connection, at the first byte of a frame.
 *
 * in            new, or idle: it holds nothing of another connection.
 * max           bytes of a message, its fragments joined; above that 1009.
 * deflated_max  the same of a deflated one, as it comes; 0: RSV1 was not agreed on.
 */
void inbound_begin(struct inbound *in, size_t max, size_t deflated_max);

/* What came. Borrowed until inbound_next() says INBOUND_MORE, which it must have said
 * of the bytes before. */
void inbound_give(struct inbound *in, const uint8_t *buf, size_t len);

/* The next thing. Behind INBOUND_CLOSE and INBOUND_BROKEN nothing may follow but
 * inbound_free(). */
enum inbound_event inbound_next(struct inbound *in, struct inbound_item *ret_item)
    __attribute__((warn_unused_result));

/* Whether it stands between two messages, and holds no byte. */
bool inbound_is_idle(const struct inbound *in);

/* Whether a message has begun and not ended. */
bool inbound_in_message(const struct inbound *in);

#endif
