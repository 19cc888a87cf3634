/*
 * fuzz_presence.c - what other hosts write to Redis of their members: a message ('m'),
 * or a field of a hash and its value ('v', and a line end between them).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"
#include "proto/presence.h"
#include "proto/settings.h"
#include "tests/fuzz/target.h"

/* What is taken is told to clients as one frame, and fits where it is put. */
static void
check_shown(const struct presence_member *m)
{
	char *member = malloc(PRESENCE_MEMBER_MAX);
	uint8_t *frame = malloc(PRESENCE_FRAME_MAX);
	size_t len;

	must(member != NULL && frame != NULL);
	len = presence_put_member(m, member);
	must(len <= PRESENCE_MEMBER_MAX && json_valid(member, len));
	for (int join = 0; join < 2; join++) {
		len = presence_push(m, join, frame);
		must(len <= PRESENCE_FRAME_MAX && frame[len - 1] == '}');
	}
	free(member);
	free(frame);
}

static int
same(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

/* What we tell of it is read as the same. */
static void
check_told_again(const struct presence_member *m)
{
	char field[PRESENCE_FIELD_MAX];
	struct slice text = {field, presence_field(m->channel, m->client, field)};
	json_t *value = presence_value(m);
	struct presence_member again;

	must(value != NULL && text.len <= sizeof(field));
	must(presence_parse(text, value, &again) == 0);
	must(again.client == m->client && again.shown == m->shown &&
	     again.away == m->away && same(again.channel, m->channel) &&
	     same(again.user, m->user) && same(again.info, m->info));
	json_decref(value);
}

static void
check_member(struct slice field, const json_t *value)
{
	struct presence_member m;

	if (presence_parse(field, value, &m) < 0)
		return;
	must(m.shown != 0 && name_ok(m.channel.p, m.channel.len));
	must(m.user.len <= PRESENCE_USER_MAX && m.info.len <= PRESENCE_INFO_MAX);
	check_shown(&m);
	check_told_again(&m);
}

static void
check_message(const char *text, size_t len)
{
	struct presence_told told;
	const char *field;
	const json_t *item;
	json_t *value;
	size_t i;

	if (presence_told_parse(text, len, &told) < 0)
		return;
	must(strlen(told.node) == PRESENCE_CLIENT_LEN);
	json_object_foreach((json_t *)told.set, field, value)
	    check_member((struct slice){field, strlen(field)}, value);
	json_array_foreach(told.del, i, item)
	{
		struct slice name = {json_string_value(item), json_string_length(item)};
		struct slice channel;
		uint64_t client;

		if (name.p != NULL &&
		    presence_parse_field(name, &channel, &client) == 0)
			must(name_ok(channel.p, channel.len));
	}
	presence_told_done(&told);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *rest = (const char *)data + 1, *line;
	json_t *value;

	if (len == 0)
		return 0;
	line = memchr(rest, '\n', len - 1);
	if (data[0] == 'm') {
		check_message(rest, len - 1);
	} else if (line != NULL) {
		value = json_loadb(line + 1, len - 2 - (size_t)(line - rest), 0, NULL);
		check_member((struct slice){rest, (size_t)(line - rest)}, value);
		json_decref(value);
	}
	return 0;
}
