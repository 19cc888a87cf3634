/*
 * wsbench_proto_v1.c - the JSON protocol wscast.v1. Subscribes by command, resumes with
 * `since` after a loss, and believes what the server says of gaps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsbench_proto.h"
#include "tools/wsbench_wire.h"

static bool
v1_request(const struct proto_conn *c, char *target, size_t target_size, char *headers,
    size_t headers_size)
{
	int len =
	    snprintf(headers, headers_size, "Sec-WebSocket-Protocol: wscast.v1\r\n");

	return len > 0 && (size_t)len < headers_size &&
	       proto_target(c, false, target, target_size);
}

static size_t
v1_opened(const struct proto_conn *c, uint8_t *out, size_t size, unsigned *ret_pending)
{
	const struct options *o = c->options;
	char name[OPTIONS_NAME_MAX + 12], since[128], text[512];
	size_t n = 0;
	int len;

	for (unsigned k = 0; k < o->subscriptions; k++) {
		since[0] = '\0';
		if (c->orders[k].next != 0 && c->epoch[0] != '\0')
			snprintf(since, sizeof(since),
			    ",\"since\":{\"epoch\":\"%s\",\"offset\":%llu}", c->epoch,
			    (unsigned long long)c->orders[k].offset);
		(void)options_channel_name(o, options_channel(o, c->index, k), name);
		len = snprintf(text, sizeof(text), "{\"id\":%u,\"subscribe\":\"%s\"%s}",
		    k, name, since);
		if (len < 0 || n + WIRE_HEAD_MAX + (size_t)len > size)
			break;
		n += wire_masked(1, text, (size_t)len, 0x55aa33cc + k, out + n);
	}
	*ret_pending = o->subscriptions;
	return n;
}

/* What follows `"key":` in a message; NULL: it has none. Keys that we look for do not
 * occur inside our channels' names, and payloads stand last. */
static const char *
find_value(const char *data, size_t len, const char *key)
{
	size_t key_len = strlen(key);
	const char *at = memmem(data, len, key, key_len);

	return at == NULL ? NULL : at + key_len;
}

static uint64_t
find_number(const char *data, size_t len, const char *key)
{
	const char *at = find_value(data, len, key), *end = data + len;
	uint64_t n = 0;

	for (; at != NULL && at < end && *at >= '0' && *at <= '9'; at++)
		n = n * 10 + (uint64_t)(*at - '0');
	return n;
}

static bool
begins(const char *data, size_t len, const char *with)
{
	return len >= strlen(with) && memcmp(data, with, strlen(with)) == 0;
}

static enum proto_kind
read_answer(
    const struct proto_conn *c, const char *data, size_t len, struct proto_message *ret)
{
	const char *epoch = find_value(data, len, "\"epoch\":\"");
	size_t n = 0;

	ret->sub = (unsigned)find_number(data, len, "\"id\":");
	if (ret->sub >= c->options->subscriptions)
		return PROTO_BAD;
	if (find_value(data, len, "\"error\":{") != NULL)
		return PROTO_REFUSED;
	if (find_value(data, len, "\"ok\":{") == NULL)
		return PROTO_NOTHING;
	if (epoch != NULL) {
		while (epoch + n < data + len && epoch[n] != '"' &&
		       n < PROTO_EPOCH_MAX - 1)
			n++;
		memcpy(c->epoch, epoch, n);
		c->epoch[n] = '\0';
	}
	ret->offset = find_number(data, len, "\"offset\":");
	ret->recovered = find_value(data, len, "\"recovered\":true") != NULL;
	ret->missed = find_number(data, len, "\"missed\":");
	return PROTO_SUBSCRIBED;
}

/* {"gap":{"channel":"bench:3","from":18,"to":41}} */
static enum proto_kind
read_gap(
    const struct proto_conn *c, const char *data, size_t len, struct proto_message *ret)
{
	const struct options *o = c->options;
	char name[OPTIONS_NAME_MAX + 12];
	const char *channel = find_value(data, len, "\"channel\":\"");
	uint64_t from = find_number(data, len, "\"from\":");
	uint64_t to = find_number(data, len, "\"to\":");

	ret->missed = to >= from ? to - from + 1 : 0;
	for (unsigned k = 0; channel != NULL && k < o->subscriptions; k++) {
		size_t n =
		    options_channel_name(o, options_channel(o, c->index, k), name);

		if ((size_t)(data + len - channel) > n &&
		    memcmp(channel, name, n) == 0 && channel[n] == '"') {
			ret->sub = k;
			return PROTO_GAP;
		}
	}
	return PROTO_BAD;
}

static enum proto_kind
v1_message(
    const struct proto_conn *c, const char *data, size_t len, struct proto_message *ret)
{
	const char *payload;

	if (begins(data, len, "{\"channel\":")) {
		payload = find_value(data, len, "\"data\":");
		if (payload == NULL || data[len - 1] != '}')
			return PROTO_BAD;
		ret->payload = payload;
		ret->payload_len = (size_t)(data + len - 1 - payload);
		ret->offset =
		    find_number(data, (size_t)(payload - data), "\"offset\":");
		return PROTO_PAYLOAD;
	}
	if (begins(data, len, "{\"id\":"))
		return read_answer(c, data, len, ret);
	if (begins(data, len, "{\"gap\":"))
		return read_gap(c, data, len, ret);
	return len > 0 && data[0] == '{' ? PROTO_NOTHING : PROTO_BAD;
}

const struct bench_proto proto_v1 = {
    .name = "v1",
    .tail = 1,
    .request = v1_request,
    .opened = v1_opened,
    .message = v1_message,
};
