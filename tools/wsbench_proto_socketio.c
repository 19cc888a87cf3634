/*
 * wsbench_proto_socketio.c - a Socket.IO client over WebSocket, in the namespace "/",
 * without rooms: there is one channel, and a message is an event with one argument.
 *
 *   ← 0{…}   → 40   ← 40{"sid":…}   ← 42["m",["filler…facts"]]   ← 2   → 3
 *
 * Source   Engine.IO protocol v4, Socket.IO protocol v5
 */
#include <stdio.h>
#include <string.h>

#include "tools/wsbench_proto.h"

static bool
sio_request(const struct proto_conn *c, char *target, size_t target_size, char *headers,
    size_t headers_size)
{
	const char *path = c->options->path;
	int len;

	headers[0] = '\0';
	if (strcmp(path, "/") != 0)
		return proto_target(c, false, target, target_size);
	len = snprintf(target, target_size, "/socket.io/?EIO=4&transport=websocket");
	return len > 0 && (size_t)len < target_size;
}

static size_t
sio_opened(const struct proto_conn *c, uint8_t *out, size_t size, unsigned *ret_pending)
{
	*ret_pending = 1; /* the answer to 40; the server speaks first */
	return 0;
}

static enum proto_kind
sio_packet(const char *data, size_t len, struct proto_message *ret)
{
	const char *comma;

	switch (data[0]) {
	case '0': /* connect; "44" is the refusal */
		ret->sub = 0;
		return PROTO_SUBSCRIBED;
	case '2': /* ["event",argument] */
		comma = memchr(data, ',', len);
		if (comma == NULL || data[len - 1] != ']')
			return PROTO_BAD;
		ret->payload = comma + 1;
		ret->payload_len = (size_t)(data + len - 1 - ret->payload);
		return PROTO_PAYLOAD;
	case '4':
		return PROTO_REFUSED;
	default:
		return PROTO_NOTHING;
	}
}

static enum proto_kind
sio_message(
    const struct proto_conn *c, const char *data, size_t len, struct proto_message *ret)
{
	if (len == 0)
		return PROTO_BAD;
	switch (data[0]) {
	case '0':
		ret->answer = "40";
		return PROTO_ANSWER;
	case '2':
		ret->answer = "3";
		return PROTO_ANSWER;
	case '4':
		return len < 2 ? PROTO_BAD : sio_packet(data + 1, len - 1, ret);
	default:
		return PROTO_NOTHING;
	}
}

const struct bench_proto proto_socketio = {
    .name = "socketio",
    .tail = 1,
    .request = sio_request,
    .opened = sio_opened,
    .message = sio_message,
};
