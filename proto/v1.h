/*
 * v1.h - the protocol wscast.v1: a client's commands taken apart, and the frames that
 * answer them.
 *
 * Commands are read by our own scanner and not by a library: the data of a publish is
 * passed on byte for byte (also numbers that no C type holds), an id is echoed as it
 * was written, and a client cannot make us allocate a tree many times its message.
 *
 * Source   wscast(7)
 */
#ifndef WSCAST_PROTO_V1_H
#define WSCAST_PROTO_V1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/dialect.h"
#include "proto/slice.h"

#define V1_PROTOCOL "wscast.v1"
#define V1_ID_MAX 64       /* bytes of an id as JSON */
#define V1_CHANNEL_MAX 200 /* bytes of a channel's name */
#define V1_EPOCH_MAX 63
#define V1_HISTORY_MAX 1000 /* messages that one request may ask for */
#define V1_HISTORY_DEFAULT 10
#define V1_WHY_MAX 240
#define V1_FRAME_MAX 2048 /* bytes of any frame below */

/* ---- commands ---- */

enum v1_kind {
	V1_SUBSCRIBE,
	V1_UNSUBSCRIBE,
	V1_PUBLISH,
	V1_HISTORY,
	V1_PRESENCE,
	V1_AUTH,
	V1_PING,
};

struct v1_command {
	enum v1_kind kind;
	struct slice id; /* as it was written; absent: no answer is wanted */
	char channel[V1_CHANNEL_MAX + 1];
	size_t channel_len;
	/* subscribe */
	bool has_since;
	char epoch[V1_EPOCH_MAX + 1];
	uint64_t offset;
	char key[MESSAGE_KEY_MAX + 1]; /* publish */
	size_t key_len;                /* 0 = none */
	struct slice data;             /* publish: one value, compact JSON */
	uint32_t limit;     /* history, presence: 1 to V1_HISTORY_MAX, 0 = not given */
	uint64_t before;    /* history: an offset, 0 = not given */
	uint64_t after;     /* presence: the `next` of an answer, 0 = not given */
	struct slice token; /* auth */
	char *owned;        /* where data lies if it had to be made compact */
};

/*
 * Parse one text message. Slices point into text (or into `owned`).
 *
 * ret_command  to be v1_command_done() after success. On failure only its id is set:
 *              that of the broken command, when it can be known.
 * why          V1_WHY_MAX bytes: what to do, for the client.
 *
 * Returns 0; -EBADMSG with why filled; -ENOMEM.
 */
int v1_parse(const char *text, size_t len, struct v1_command *ret_command, char *why)
    __attribute__((warn_unused_result));
void v1_command_done(struct v1_command *c);

/* ---- frames: whole ones, into V1_FRAME_MAX bytes; their length comes back ---- */

enum v1_code {
	V1_BAD_REQUEST,
	V1_FORBIDDEN,
	V1_UNAUTHORIZED,
	V1_NOT_FOUND,
	V1_TOO_LARGE,
	V1_RATE_LIMITED,
	V1_LIMIT,
	V1_FEED_DOWN,
	V1_INTERNAL,
};
const char *v1_code_name(enum v1_code code);

/* The first message. client, epoch: without characters to escape. */
size_t v1_hello(const char *client, const char *epoch, uint32_t ping_s, char *out);

/* {"id":…,"ok":{}}: unsubscribe, publish, ping. */
size_t v1_ok(struct slice id, char *out);

struct v1_subscribed {
	struct slice channel;
	const char *epoch;
	uint64_t offset; /* of the newest message */
	bool asked_since;
	/* when asked: */
	bool recovered;
	bool missed_known; /* not recovered: `missed` messages cannot be had */
	uint64_t missed;
};
size_t v1_subscribed(struct slice id, const struct v1_subscribed *s, char *out);

/* Nobody asked: a channel that the token names. */
size_t v1_push_subscribed(const struct v1_subscribed *s, char *out);

/* The answer to auth. expires_s: seconds since 1970; 0: never. */
size_t v1_auth(struct slice id, int64_t expires_s, char *out);

/* The token expires in so many seconds. */
size_t v1_expires_in(uint32_t in_s, char *out);

/* message: cut to what fits; broken UTF-8 in it becomes '?'. */
size_t v1_error(struct slice id, enum v1_code code, const char *message, char *out);

/* A subscription was ended by the server. message: short, of ours. */
size_t v1_unsubscribed(
    struct slice channel, enum v1_code code, const char *message, char *out);

/* The messages from..to of a channel cannot be had any more; UINT64_MAX: nobody knows
 * how many came behind `from`. */
size_t v1_gap(struct slice channel, uint64_t from, uint64_t to, char *out);

/* The server will close: reconnect, after retry_ms. */
size_t v1_bye(uint16_t code, uint32_t retry_ms, char *out);

/*
 * The answer to history: a frame in memory of its own.
 *
 * messages  payloads of DIALECT_V1's frames, oldest first.
 *
 * Returns a frame for the caller to free(), NULL: no memory.
 */
char *v1_history(struct slice id, const struct slice *messages, size_t nmessages,
    const char *epoch, uint64_t offset, size_t *ret_len);

/* The answer to presence: page is an object (proto/presence.h). Returns as v1_history()
 * does. */
char *v1_presence(struct slice id, struct slice page, size_t *ret_len);

#endif
