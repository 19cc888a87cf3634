/*
 * dialect.h - how a published message is framed for the clients of each protocol.
 *
 * A frame depends on the message alone (channel, offset, payload), so that the
 * supervisor frames it once for all, and a worker that finds none in the ring
 * builds the same bytes.
 *
 * Source   RFC 6455 §5.2; wscast(7)
 */
#ifndef WSCAST_PROTO_DIALECT_H
#define WSCAST_PROTO_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dialect {
	DIALECT_RAW = 0, /* the payload: text if valid UTF-8, else binary */
	DIALECT_V1 = 1,  /* text {"channel":"c","offset":n,"data":…} */
	/* The same deflated (deflate.h), for clients that agreed to it. A record has
	 * such a frame only where it is smaller; else the plain one counts for them.
	 * What they get is decided by whether the ring has it, and never by anyone
	 * else: only so a successor finds what its predecessor sent. */
	DIALECT_RAW_DEFLATE = 2,
	DIALECT_V1_DEFLATE = 3,
	DIALECT_COUNT
};
#define DIALECT_PLAIN_COUNT 2

static inline bool
dialect_is_deflated(enum dialect d)
{
	return d >= DIALECT_PLAIN_COUNT;
}

/* The dialect that a deflated one is made from; a plain one is its own. */
static inline enum dialect
dialect_plain(enum dialect d)
{
	return dialect_is_deflated(d) ? (enum dialect)(d - DIALECT_PLAIN_COUNT) : d;
}

static inline enum dialect
dialect_deflated(enum dialect plain)
{
	return (enum dialect)(plain + DIALECT_PLAIN_COUNT);
}

/* What a payload is, found once, when it is published. */
enum data_kind {
	DATA_JSON = 0,   /* one JSON text of RFC 8259 (v1: goes in as it is) */
	DATA_TEXT = 1,   /* other valid UTF-8 (v1: a string) */
	DATA_BINARY = 2, /* anything else (v1: "base64":"…" in place of "data") */
};

/* Bytes of a key that a message may be published with; Redis may bring longer ones. */
#define MESSAGE_KEY_MAX 200

struct message {
	const char *channel; /* channel_len bytes of UTF-8, no control characters */
	size_t channel_len;
	uint64_t offset;
	const void *data;
	size_t data_len;
	enum data_kind kind;
	size_t quoted_len; /* TEXT: of the payload as a JSON string; 0 = not known */
};

/* Find what its payload is, by as few looks as will do: kind and quoted_len. */
void message_classify(struct message *m);

/* Most bytes that the frame of this message can take in this plain dialect. */
size_t dialect_frame_max(enum dialect d, const struct message *m);

/* Write the frame of a plain dialect to out, which has room for dialect_frame_max().
 * Returns its length. Allocates nothing. */
size_t dialect_frame(enum dialect d, const struct message *m, void *out);

#endif
