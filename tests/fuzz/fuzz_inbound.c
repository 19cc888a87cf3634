/*
 * fuzz_inbound.c - a client's frames. Fed whole and in parts they must tell the same.
 *
 * The first byte says how they are cut and whether RSV1 is agreed on; the rest is what
 * comes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/inbound.h"
#include "proto/utf8.h"
#include "tests/fuzz/target.h"

#define MAX 3000
#define DEFLATED_MAX 4000

/* What was told, as a sum that differs when anything does (FNV-1a). */
struct sum {
	uint64_t hash;
	int ended;
};

static void
add(struct sum *s, const void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s->hash = (s->hash ^ ((const uint8_t *)buf)[i]) * 0x100000001b3u;
}

static void
check_item(enum inbound_event event, const struct inbound_item *item)
{
	switch (event) {
	case INBOUND_MESSAGE:
		must(item->op == OPCODE_TEXT || item->op == OPCODE_BINARY);
		must(item->len <= (item->deflated ? DEFLATED_MAX : MAX));
		if (item->op == OPCODE_TEXT && !item->deflated)
			must(utf8_valid(item->payload, item->len));
		break;
	case INBOUND_PING:
	case INBOUND_PONG:
		must(item->len <= FRAME_CONTROL_MAX);
		break;
	default:
		must(frame_close_code_ok(item->code));
		break;
	}
}

static void
take(struct inbound *in, struct sum *s, const uint8_t *buf, size_t len)
{
	struct inbound_item item = {.op = OPCODE_TEXT};
	enum inbound_event event;
	uint8_t *copy;

	if (s->ended || len == 0)
		return;
	copy = malloc(len); /* so that a byte read beyond it is seen */
	must(copy != NULL);
	memcpy(copy, buf, len);
	inbound_give(in, copy, len);
	while ((event = inbound_next(in, &item)) != INBOUND_MORE) {
		check_item(event, &item);
		add(s, &event, sizeof(event));
		if (event == INBOUND_CLOSE || event == INBOUND_BROKEN) {
			add(s, &item.code, sizeof(item.code));
			s->ended = 1;
			break;
		}
		if (event == INBOUND_MESSAGE)
			add(s, &item.op, sizeof(item.op));
		add(s, &item.len, sizeof(item.len));
		add(s, item.payload, item.len);
	}
	free(copy);
}

static struct sum
run(const uint8_t *data, size_t len, size_t step, int deflates)
{
	struct sum s = {.hash = 0xcbf29ce484222325u};
	struct inbound *in;

	must(inbound_new(&in) == 0);
	inbound_begin(in, MAX, deflates ? DEFLATED_MAX : 0);
	for (size_t at = 0; at < len; at += step)
		take(in, &s, data + at, len - at < step ? len - at : step);
	inbound_free(in);
	return s;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sum whole, parts;
	size_t step;

	if (len < 2)
		return 0;
	step = 1 + (data[0] & 0x7f);
	whole = run(data + 1, len - 1, len, data[0] & 0x80);
	parts = run(data + 1, len - 1, step, data[0] & 0x80);
	must(whole.ended == parts.ended && whole.hash == parts.hash);
	return 0;
}
