/*
 * fuzz_v1.c - a message of wscast.v1, and the answer to it.
 */
#include <stdint.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/json.h"
#include "proto/settings.h"
#include "proto/v1.h"
#include "tests/fuzz/target.h"

static void
check_frame(const char *frame, size_t len)
{
	const void *payload;
	enum opcode op;
	size_t n = frame_payload(frame, &op, &payload);

	must(len <= V1_FRAME_MAX && op == OPCODE_TEXT && frame_head_len(n) + n == len);
	must(json_valid(payload, n));
}

static void
check_command(const struct v1_command *c)
{
	char out[V1_FRAME_MAX];
	struct v1_subscribed s = {.channel = {c->channel, c->channel_len},
	    .epoch = "k3f",
	    .offset = c->offset,
	    .asked_since = c->has_since};

	if (c->kind != V1_AUTH && c->kind != V1_PING) {
		must(name_ok(c->channel, c->channel_len));
		must(strlen(c->channel) == c->channel_len);
		check_frame(out, v1_subscribed(c->id, &s, out));
		check_frame(out, v1_gap(s.channel, 1, c->offset, out));
	}
	if (c->kind == V1_PUBLISH)
		must(json_value_len(c->data.p, c->data.len) == c->data.len);
	must(c->limit <= V1_HISTORY_MAX);
	check_frame(out, v1_ok(c->id, out));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char why[V1_WHY_MAX], out[V1_FRAME_MAX];
	struct v1_command c;
	int r = v1_parse((const char *)data, len, &c, why);

	must(c.id.len <= V1_ID_MAX && (c.id.len == 0 || json_valid(c.id.p, c.id.len)));
	if (r < 0) {
		must(strnlen(why, sizeof(why)) < sizeof(why));
		check_frame(out, v1_error(c.id, V1_BAD_REQUEST, why, out));
		return 0;
	}
	check_command(&c);
	v1_command_done(&c);
	return 0;
}
