/*
 * wslay takes frames apart and off their masks. Its layer above that, which joins
 * messages, is not used: it answers by itself, a Ping behind what came after it; its
 * check of a Close frame's reason depends on how the frame was cut; and it does not
 * know the close codes from 1012 on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <wslay/wslay.h>

#include "proto/inbound.h"
#include "proto/utf8.h"

#define HEAD_MAX 14             /* bytes of a client's frame before its payload */
#define BUFFER_MIN 4096         /* of a message's first bytes */
#define BUFFER_KEEP (16u << 10) /* of the memory that a message took */
#define NO_MEMORY 1013          /* try again later */
#define TOO_LONG WSLAY_CODE_MESSAGE_TOO_BIG
#define NOT_UTF8 WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA

struct inbound {
	wslay_frame_context_ptr ctx;
	size_t max, deflated_max;
	const uint8_t *given_end;
	const uint8_t *next;       /* of what was given: wslay has not taken it */
	uint64_t taken, accounted; /* bytes: by wslay, by frames that it told of */

	/* the frame */
	bool in_frame, fin;
	enum opcode frame_op;
	uint64_t frame_left;    /* bytes of its payload that have not come */
	uint8_t head[HEAD_MAX]; /* what has come of the next one's head */
	size_t head_len;
	uint8_t control[FRAME_CONTROL_MAX];
	size_t control_len;

	/* the message */
	bool in_message, deflated;
	enum opcode op;
	struct utf8_check utf8;
	uint8_t *message;
	size_t len, cap;
	bool told; /* its memory is free again */
};

static ssize_t
on_recv(uint8_t *buf, size_t len, int flags, void *data)
{
	struct inbound *in = data;

	size_t left = (size_t)(in->given_end - in->next);

	if (len > left)
		len = left;
	if (len == 0)
		return -1;
	memcpy(buf, in->next, len);
	in->next += len;
	in->taken += len;
	return (ssize_t)len;
}

int
inbound_new(struct inbound **ret_in)
{
	static const struct wslay_frame_callbacks callbacks = {
	    .recv_callback = on_recv};
	struct inbound *in = calloc(1, sizeof(*in));

	if (in == NULL)
		return -ENOMEM;
	if (wslay_frame_context_init(&in->ctx, &callbacks, in) != 0) {
		free(in);
		return -ENOMEM;
	}
	*ret_in = in;
	return 0;
}

void
inbound_free(struct inbound *in)
{
	if (in == NULL)
		return;
	wslay_frame_context_free(in->ctx);
	free(in->message);
	free(in);
}

void
inbound_begin(struct inbound *in, size_t max, size_t deflated_max)
{
	in->max = max;
	in->deflated_max = deflated_max;
	in->taken = in->accounted = 0;
	in->head_len = 0;
}

void
inbound_give(struct inbound *in, const uint8_t *buf, size_t len)
{
	in->next = buf;
	in->given_end = buf + len;
}

bool
inbound_is_idle(const struct inbound *in)
{
	return !in->in_frame && !in->in_message && in->taken == in->accounted;
}

bool
inbound_in_message(const struct inbound *in)
{
	return in->in_message;
}

/* ---- heads ---- */

static bool
is_control(enum opcode op)
{
	return op & 0x8;
}

/* Bytes of a frame's head. wslay refuses lengths that are not written the shortest way,
 * so it follows from the length. */
static size_t
head_len(uint64_t payload_len)
{
	size_t ext = payload_len < 126 ? 0 : payload_len <= UINT16_MAX ? 2 : 8;

	return 2 + ext + 4;
}

/* Whether a data frame of len bytes makes its message too long. */
static bool
too_long(const struct inbound *in, bool deflated, uint64_t len)
{
	size_t max = deflated ? in->deflated_max : in->max;

	return len > max || (in->in_message && in->len > max - len);
}

/* Judge a frame by its head: 0, or the code to close with. */
static uint16_t
head_code(
    const struct inbound *in, bool masked, unsigned rsv, unsigned op, uint64_t len)
{
	bool first = op == OPCODE_TEXT || op == OPCODE_BINARY;
	bool rsv1_ok = first && in->deflated_max > 0;

	if (!masked || (rsv & ~(rsv1_ok ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE)))
		return WSLAY_CODE_PROTOCOL_ERROR;
	switch (op) {
	case OPCODE_CLOSE:
	case OPCODE_PING:
	case OPCODE_PONG:
		return 0;
	case OPCODE_TEXT:
	case OPCODE_BINARY:
	case OPCODE_CONTINUATION:
		if (first == in->in_message)
			return WSLAY_CODE_PROTOCOL_ERROR;
		return too_long(in, first ? rsv != WSLAY_RSV_NONE : in->deflated, len)
			   ? TOO_LONG
			   : 0;
	default:
		return WSLAY_CODE_PROTOCOL_ERROR;
	}
}

/* Returns 0, or the code to close with. */
static uint16_t
frame_begin(struct inbound *in, const struct wslay_frame_iocb *f)
{
	uint16_t code = head_code(in, f->mask, f->rsv, f->opcode, f->payload_length);

	in->in_frame = true;
	in->fin = f->fin;
	in->frame_op = (enum opcode)f->opcode;
	in->frame_left = f->payload_length;
	in->accounted += head_len(f->payload_length);
	in->head_len = 0;
	if (code != 0)
		return code;
	if (is_control(in->frame_op)) {
		in->control_len = 0;
		return 0;
	}
	if (in->frame_op != OPCODE_CONTINUATION) {
		in->op = in->frame_op;
		in->deflated = f->rsv != WSLAY_RSV_NONE;
		in->len = 0;
		in->utf8 = (struct utf8_check){0};
	}
	in->in_message = true;
	return 0;
}

/* Note what came of the next frame's head: the bytes that no frame accounts for. */
static void
note_head(struct inbound *in)
{
	size_t have = in->in_frame ? 0 : (size_t)(in->taken - in->accounted);
	size_t fresh = have - in->head_len;

	if (have <= in->head_len || have > HEAD_MAX)
		return;
	memcpy(in->head + in->head_len, in->given_end - fresh, fresh);
	in->head_len = have;
}

/*
 * What is wrong with the next frame once its length is known, or 0. wslay tells of a
 * frame with the first byte of its payload only, and a client that says it will send
 * too much, and never does, would be waited for. So all that its head is judged by is
 * judged here: which code a client gets must not depend on how its bytes were cut.
 */
static uint16_t
next_head_code(const struct inbound *in)
{
	const uint8_t *h = in->head;
	size_t ext = in->head_len < 2 ? 0 : (h[1] & 0x7f) == 126 ? 2 : 8;
	uint64_t n = 0;

	if (in->head_len < 2 || (h[1] & 0x7f) < 126 || in->head_len < 2 + ext)
		return 0;
	for (size_t i = 0; i < ext; i++)
		n = n << 8 | h[2 + i];
	return head_code(in, h[1] & 0x80, h[0] >> 4 & 7, h[0] & 0xf, n);
}

/* ---- payloads ---- */

static bool
message_add(struct inbound *in, const uint8_t *buf, size_t len)
{
	size_t cap = in->cap < BUFFER_MIN ? BUFFER_MIN : in->cap;
	uint8_t *message;

	while (cap < in->len + len)
		cap *= 2;
	if (cap > in->cap) {
		message = realloc(in->message, cap);
		if (message == NULL)
			return false;
		in->message = message;
		in->cap = cap;
	}
	if (len > 0)
		memcpy(in->message + in->len, buf, len);
	in->len += len;
	return true;
}

/* What was told of is no longer looked at: keep little of its memory. */
static void
message_forget(struct inbound *in)
{
	in->told = false;
	in->len = 0;
	if (in->cap <= BUFFER_KEEP)
		return;
	free(in->message);
	in->message = NULL;
	in->cap = 0;
}

/* Take a part of a frame's payload. Returns 0, or the code to close with. */
static uint16_t
payload_add(struct inbound *in, const uint8_t *buf, size_t len)
{
	in->accounted += len;
	in->frame_left -= len;
	if (is_control(in->frame_op)) {
		memcpy(in->control + in->control_len, buf, len);
		in->control_len += len;
		return 0;
	}
	if (in->op == OPCODE_TEXT && !in->deflated &&
	    !utf8_check_add(&in->utf8, buf, len))
		return NOT_UTF8;
	return message_add(in, buf, len) ? 0 : NO_MEMORY;
}

/* ---- what is whole ---- */

static enum inbound_event
broken(struct inbound_item *item, uint16_t code)
{
	item->code = code;
	return INBOUND_BROKEN;
}

/* RFC 6455 §5.5.1, §7.4 */
static enum inbound_event
close_end(const struct inbound *in, struct inbound_item *item)
{
	const uint8_t *p = in->control;
	size_t len = in->control_len;

	item->code = WSLAY_CODE_NORMAL_CLOSURE;
	if (len == 0)
		return INBOUND_CLOSE;
	item->code = len < 2 ? 0 : (uint16_t)(p[0] << 8 | p[1]);
	if (len < 2 || !frame_close_code_ok(item->code))
		return broken(item, WSLAY_CODE_PROTOCOL_ERROR);
	return utf8_valid(p + 2, len - 2) ? INBOUND_CLOSE : broken(item, NOT_UTF8);
}

/* All of a frame has come. INBOUND_MORE: nothing is to be told. */
static enum inbound_event
frame_end(struct inbound *in, struct inbound_item *item)
{
	in->in_frame = false;
	if (is_control(in->frame_op)) {
		item->payload = in->control;
		item->len = in->control_len;
		if (in->frame_op == OPCODE_CLOSE)
			return close_end(in, item);
		return in->frame_op == OPCODE_PING ? INBOUND_PING : INBOUND_PONG;
	}
	if (!in->fin)
		return INBOUND_MORE;
	in->in_message = false;
	if (in->op == OPCODE_TEXT && !in->deflated && !utf8_check_done(&in->utf8))
		return broken(item, NOT_UTF8);
	in->told = true;
	item->op = in->op;
	item->deflated = in->deflated;
	item->payload = in->message;
	item->len = in->len;
	return INBOUND_MESSAGE;
}

enum inbound_event
inbound_next(struct inbound *in, struct inbound_item *ret_item)
{
	uint16_t code;

	if (in->told)
		message_forget(in);
	for (;;) {
		struct wslay_frame_iocb f = {0};
		ssize_t n = wslay_frame_recv(in->ctx, &f);
		enum inbound_event event;

		code = 0;
		if (n == WSLAY_ERR_WANT_READ)
			break;
		if (n < 0)
			return broken(ret_item, WSLAY_CODE_PROTOCOL_ERROR);
		if (!in->in_frame)
			code = frame_begin(in, &f);
		if (code == 0)
			code = payload_add(in, f.data, f.data_length);
		if (code != 0)
			return broken(ret_item, code);
		if (in->frame_left > 0)
			continue;
		event = frame_end(in, ret_item);
		if (event != INBOUND_MORE)
			return event;
	}
	note_head(in);
	code = next_head_code(in);
	return code != 0 ? broken(ret_item, code) : INBOUND_MORE;
}
