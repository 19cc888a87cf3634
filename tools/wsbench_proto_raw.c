/*
 * wsbench_proto_raw.c - a message is its payload, channels are named in the URL.
 * Subscriptions are not confirmed: the engine takes them to work once a message came.
 */
#include <stdio.h>
#include <string.h>

#include "tools/wsbench_proto.h"

bool
proto_target(const struct proto_conn *c, bool with_channels, char *out, size_t size)
{
	const struct options *o = c->options;
	const char *path = o->path, *mark = strstr(path, "%c");
	char name[OPTIONS_NAME_MAX + 12], separator = strchr(path, '?') ? '&' : '?';
	int len;

	if (mark != NULL) {
		(void)options_channel_name(o, options_channel(o, c->index, 0), name);
		len = snprintf(
		    out, size, "%.*s%s%s", (int)(mark - path), path, name, mark + 2);
		return len > 0 && (size_t)len < size;
	}
	len = snprintf(out, size, "%s", path);
	for (unsigned k = 0; with_channels && k < o->subscriptions; k++) {
		if (len < 0 || (size_t)len >= size)
			return false;
		(void)options_channel_name(o, options_channel(o, c->index, k), name);
		len += snprintf(
		    out + len, size - (size_t)len, "%cchannel=%s", separator, name);
		separator = '&';
	}
	return len > 0 && (size_t)len < size;
}

static bool
raw_request(const struct proto_conn *c, char *target, size_t target_size, char *headers,
    size_t headers_size)
{
	headers[0] = '\0';
	return proto_target(c, true, target, target_size);
}

static size_t
raw_opened(const struct proto_conn *c, uint8_t *out, size_t size, unsigned *ret_pending)
{
	*ret_pending = 0;
	return 0;
}

static enum proto_kind
raw_message(
    const struct proto_conn *c, const char *data, size_t len, struct proto_message *ret)
{
	ret->payload = data;
	ret->payload_len = len;
	ret->offset = 0;
	return PROTO_PAYLOAD;
}

const struct bench_proto proto_raw = {
    .name = "raw",
    .tail = 0,
    .request = raw_request,
    .opened = raw_opened,
    .message = raw_message,
};

const struct bench_proto *
proto_find(const char *name)
{
	static const struct bench_proto *const all[] = {
	    &proto_raw, &proto_v1, &proto_socketio};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i]->name, name) == 0)
			return all[i];
	return NULL;
}
