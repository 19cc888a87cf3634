/*
 * wsbench_proto.h - what differs between client protocols, as a table of functions. One
 * file for each: wsbench_proto_raw.c, _v1.c, _socketio.c.
 *
 * The engine (wsbench_clients.h) owns sockets, frames, order and counting. A protocol
 * says what to ask for, and what a message is. It keeps nothing itself: what it must
 * remember of a connection is in the engine's (`pending`, each subscription's order).
 */
#ifndef WSCAST_TOOLS_WSBENCH_PROTO_H
#define WSCAST_TOOLS_WSBENCH_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/wsbench_check.h"
#include "tools/wsbench_options.h"

/* What a protocol sees of a connection. */
struct proto_conn {
	const struct options *options;
	uint64_t index; /* of the client, in all processes */
	struct order
	    *orders; /* of its subscriptions; next != 0: it had messages before */
	char *epoch; /* PROTO_EPOCH_MAX bytes: of this process, kept by v1 */
};
#define PROTO_EPOCH_MAX 64

enum proto_kind {
	PROTO_NOTHING,    /* no concern of ours */
	PROTO_PAYLOAD,    /* a message of ours */
	PROTO_SUBSCRIBED, /* subscription `sub` is confirmed */
	PROTO_GAP,        /* the server says that some of `channel` are gone */
	PROTO_REFUSED,    /* a subscription was refused */
	PROTO_ANSWER,     /* `answer` is to be sent as a text message */
	PROTO_BAD,        /* cannot be: the connection is closed */
};

struct proto_message {
	const char *payload;
	size_t payload_len;
	uint64_t offset;
	unsigned sub;
	uint64_t missed;
	bool recovered;
	const char *answer;
};

struct bench_proto {
	const char *name;
	/* Bytes that stand behind a payload in its WebSocket message. */
	size_t tail;
	/* Request target and further header lines (each with CRLF). Returns false when
	 * they do not fit. */
	bool (*request)(const struct proto_conn *c, char *target, size_t target_size,
	    char *headers, size_t headers_size);
	/* Frames to send after the upgrade; *ret_pending is how many confirmations to
	 * wait for. Returns their length, at most size. */
	size_t (*opened)(const struct proto_conn *c, uint8_t *out, size_t size,
	    unsigned *ret_pending);
	/* A message that this process has not seen before. */
	enum proto_kind (*message)(const struct proto_conn *c, const char *data,
	    size_t len, struct proto_message *ret);
};

extern const struct bench_proto proto_raw;
extern const struct bench_proto proto_v1;
extern const struct bench_proto proto_socketio;

/* NULL: there is none of that name. */
const struct bench_proto *proto_find(const char *name);

/* Fill in a URL's path: %c becomes the first channel's name, and the protocol's own
 * query is added otherwise (all channels, as channel=NAME). */
bool proto_target(
    const struct proto_conn *c, bool with_channels, char *out, size_t size);

#endif
