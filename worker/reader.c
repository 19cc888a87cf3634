/* reader.c - see reader.h */
#include "worker/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "proto/deflate.h"
#include "proto/dialect.h"
#include "proto/utf8.h"
#include "worker/client.h"
#include "worker/out.h"
#include "worker/session.h"

#define DEFLATED_MORE 1024 /* bytes that a short message may grow by */
#define HEAD_MAX 14        /* bytes of a client's frame before its payload */

/*
 * One parser. wslay takes up to 4 KiB ahead of what it parses, so that the end of a
 * message is where three things hold: no frame is open, no message is open, and as many
 * bytes were accounted for by frames as were fed. At that point a context holds nothing
 * of its connection, and serves the next: its flags of a closed connection are set
 * by a Close frame or an error only, and then it is freed.
 */
struct reader {
	wslay_event_context_ptr ctx;
	struct worker *w;
	struct reader *next; /* spare */
	uint32_t slot;
	uint32_t since; /* tick at which its message began */
	const uint8_t *in;
	size_t in_len;
	uint64_t fed, accounted;
	bool in_frame, in_message;
	bool frame_fin;
	enum opcode frame_op;
	bool frame_bad;    /* RSV1 where it cannot be */
	bool deflated;     /* the message that it is in */
	uint64_t wire_max; /* bytes of a message as it comes */
	bool close_whole;  /* a Close frame has come: its payload's length and code */
	size_t close_len;
	uint8_t close_code[2];
	uint8_t head[HEAD_MAX]; /* what is here of the next frame's head */
	size_t head_have;
};

#define PONG_MAX (2 + FRAME_CONTROL_MAX)
#define PONGS_MAX (32 * PONG_MAX)

struct readers {
	struct worker *w;
	struct reader *spare;
	unsigned nspare, nbusy;
	uint8_t *buffer; /* READER_BUFFER */
	struct inflater *inflater;
	/* Pongs that are due: those to Pings one right behind the other go as one. */
	uint8_t pongs[PONGS_MAX];
	size_t pongs_len;
	size_t last_pong; /* where the newest begins */
};

/* ---- wslay's callbacks ---- */

static ssize_t
on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *data)
{
	struct reader *r = data;

	if (r->in_len == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (len > r->in_len)
		len = r->in_len;
	memcpy(buf, r->in, len);
	r->in += len;
	r->in_len -= len;
	r->fed += len;
	return (ssize_t)len;
}

/* wslay's own answers are not sent: it would put a Pong behind the answer to a message
 * that came after the Ping, and it takes some good close codes for bad ones. */
static ssize_t
on_send(
    wslay_event_context_ptr ctx, const uint8_t *buf, size_t len, int flags, void *data)
{
	return (ssize_t)len;
}

/* Bytes of a client's frame before its payload. wslay refuses lengths that are not
 * written the shortest way, so it follows from the length. */
static size_t
head_len(uint64_t payload_len)
{
	size_t ext = payload_len < 126 ? 0 : payload_len < 65536 ? 2 : 8;

	return 2 + ext + 4;
}

static void
on_frame_start(wslay_event_context_ptr ctx,
    const struct wslay_event_on_frame_recv_start_arg *arg, void *data)
{
	struct reader *r = data;

	r->in_frame = true;
	r->frame_fin = arg->fin;
	r->frame_op = (enum opcode)arg->opcode;
	r->close_len = 0;
	r->accounted += head_len(arg->payload_length);
	/* RFC 7692 §6.1: a message's first frame says it for all. wslay allows RSV1 for
	 * all frames or for none. */
	if (arg->opcode == WSLAY_TEXT_FRAME || arg->opcode == WSLAY_BINARY_FRAME) {
		r->deflated = wslay_get_rsv1(arg->rsv);
	} else if (wslay_get_rsv1(arg->rsv)) {
		r->frame_bad = true;
		wslay_event_shutdown_read(ctx);
	}
}

static void
on_frame_chunk(wslay_event_context_ptr ctx,
    const struct wslay_event_on_frame_recv_chunk_arg *arg, void *data)
{
	struct reader *r = data;

	r->accounted += arg->data_length;
	if (r->frame_op != OPCODE_CLOSE)
		return;
	for (size_t i = 0; i < arg->data_length; i++, r->close_len++)
		if (r->close_len < sizeof(r->close_code))
			r->close_code[r->close_len] = arg->data[i];
}

static void
on_frame_end(wslay_event_context_ptr ctx, void *data)
{
	struct reader *r = data;

	r->in_frame = false;
	r->close_whole = r->frame_op == OPCODE_CLOSE;
	if (!wslay_is_ctrl_frame(r->frame_op))
		r->in_message = !r->frame_fin;
}

/*
 * Send the Pongs that are due. Only the newest goes where others wait already: RFC 6455
 * §5.5.3 has it that a client which does not read costs one, not all that it asked for.
 */
static void
send_pongs(struct worker *w, uint32_t slot)
{
	struct readers *rs = w->readers;
	size_t len = rs->pongs_len;
	int r = 0;

	rs->pongs_len = 0;
	if (len == 0 || slot_state(worker_slot(w, slot)) != SLOT_OPEN)
		return;
	if (out_lagging(w, slot))
		r = out_pong(w, slot, rs->pongs + rs->last_pong, len - rs->last_pong);
	else
		r = out_private(w, slot, rs->pongs, len);
	if (r < 0)
		client_close(w, slot, CLIENT_END_LIMIT);
}

static void
add_pong(struct worker *w, uint32_t slot, const uint8_t *payload, size_t len)
{
	struct readers *rs = w->readers;

	if (rs->pongs_len + PONG_MAX > PONGS_MAX)
		send_pongs(w, slot);
	rs->last_pong = rs->pongs_len;
	rs->pongs_len += frame_head(OPCODE_PONG, len, rs->pongs + rs->pongs_len);
	if (len > 0)
		memcpy(rs->pongs + rs->pongs_len, payload, len);
	rs->pongs_len += len;
}

/* Returns 0, or the code to close with. */
static uint16_t
inflate_message(struct reader *r, enum opcode op, const uint8_t **msg, size_t *len)
{
	struct worker *w = r->w;
	enum inflated inflated = inflater_message(
	    w->readers->inflater, *msg, *len, w->settings->max_message_size, msg, len);

	page_add(w->page, PAGE_inflated, 1);
	if (inflated != INFLATED_WHOLE)
		page_add(w->page, PAGE_inflate_errors, 1);
	switch (inflated) {
	case INFLATED_WHOLE:
		/* What is not deflated wslay checks as it comes. */
		if (op != OPCODE_TEXT || utf8_valid(*msg, *len))
			return 0;
		break;
	case INFLATED_TOO_LONG:
		return WSLAY_CODE_MESSAGE_TOO_BIG;
	case INFLATED_BROKEN:
		break;
	case INFLATED_NO_MEMORY:
		return 1013;
	}
	return WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA;
}

static void
take_message(struct reader *r, enum opcode op, const uint8_t *msg, size_t len)
{
	struct worker *w = r->w;
	uint16_t code = 0;

	worker_slot(w, r->slot)->received++;
	page_add(w->page, PAGE_received, 1);
	if (r->deflated)
		code = inflate_message(r, op, &msg, &len);
	else if (len > w->settings->max_message_size)
		code = WSLAY_CODE_MESSAGE_TOO_BIG;
	if (code == 0)
		session_message(w, r->slot, op, msg, len);
	else
		client_end(w, r->slot,
		    code == WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA ? CLIENT_END_PROTOCOL
								  : CLIENT_END_LIMIT,
		    code, "");
}

static void
on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
    void *data)
{
	struct reader *r = data;
	struct worker *w = r->w;
	struct slot *s = worker_slot(w, r->slot);

	if (r->frame_bad)
		return;
	if (!r->in_message)
		r->since = w->tick;
	if (arg->opcode == WSLAY_PING) {
		add_pong(w, r->slot, arg->msg, arg->msg_length);
	} else if (!wslay_is_ctrl_frame(arg->opcode) && slot_state(s) == SLOT_OPEN) {
		send_pongs(w, r->slot); /* what is said first is answered first */
		take_message(r, (enum opcode)arg->opcode, arg->msg, arg->msg_length);
	}
	/* Closed by what it said: nothing further of it is looked at. */
	if (slot_state(s) == SLOT_FREE || (s->flags & SLOT_DEAF))
		wslay_event_shutdown_read(ctx);
}

static const struct wslay_event_callbacks callbacks = {
    .recv_callback = on_recv,
    .send_callback = on_send,
    .on_frame_recv_start_callback = on_frame_start,
    .on_frame_recv_chunk_callback = on_frame_chunk,
    .on_frame_recv_end_callback = on_frame_end,
    .on_msg_recv_callback = on_message,
};

/* ---- the pool ---- */

static void
reader_free(struct reader *r)
{
	wslay_event_context_free(r->ctx);
	free(r);
}

static struct reader *
reader_new(struct worker *w)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->w = w;
	if (wslay_event_context_server_init(&r->ctx, &callbacks, r) != 0) {
		free(r);
		return NULL;
	}
	return r;
}

/* Set what the connection has agreed to. A deflated message may be longer than what it
 * holds: by an eighth, with zlib's fixed codes, and some bytes for each block. */
static void
reader_configure(struct reader *r, const struct slot *s)
{
	bool deflates = dialect_is_deflated(s->dialect);

	r->wire_max = r->w->settings->max_message_size;
	if (deflates)
		r->wire_max += r->wire_max / 8 + DEFLATED_MORE;
	wslay_event_config_set_allowed_rsv_bits(
	    r->ctx, deflates ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE);
	/* wslay holds control frames to it, too; take_message() to the letter. */
	wslay_event_config_set_max_recv_msg_length(
	    r->ctx, r->wire_max < FRAME_CONTROL_MAX ? FRAME_CONTROL_MAX : r->wire_max);
}

/* A parser for a connection that is about to begin a message, or NULL. */
static struct reader *
reader_take(struct worker *w, uint32_t slot)
{
	struct readers *rs = w->readers;
	struct reader *r = rs->spare;

	if (rs->nbusy >= READERS_MAX)
		return NULL;
	if (r != NULL) {
		rs->spare = r->next;
		rs->nspare--;
	} else {
		r = reader_new(w);
		if (r == NULL)
			return NULL;
	}
	rs->nbusy++;
	r->slot = slot;
	r->since = w->tick;
	r->fed = r->accounted = 0;
	r->in_frame = r->in_message = r->close_whole = r->frame_bad = false;
	r->head_have = 0;
	reader_configure(r, worker_slot(w, slot));
	client_set_reader(w, slot, r);
	return r;
}

static void
reader_give(struct worker *w, struct reader *r, bool clean)
{
	struct readers *rs = w->readers;

	client_set_reader(w, r->slot, NULL);
	rs->nbusy--;
	if (!clean || rs->nspare >= READERS_SPARE) {
		reader_free(r);
		return;
	}
	r->next = rs->spare;
	rs->spare = r;
	rs->nspare++;
}

static bool
between_messages(const struct reader *r)
{
	return !r->in_frame && !r->in_message && r->fed == r->accounted;
}

void
reader_drop(struct worker *w, uint32_t slot)
{
	struct reader *r = client_reader(w, slot);

	if (r != NULL)
		reader_give(w, r, false);
}

unsigned
readers_busy(const struct worker *w)
{
	return w->readers->nbusy;
}

bool
reader_stuck(struct worker *w, uint32_t slot, uint32_t tick)
{
	const struct reader *r = client_reader(w, slot);

	return r != NULL && (int32_t)(r->since - tick) < 0;
}

uint8_t *
readers_buffer(struct worker *w)
{
	return w->readers->buffer;
}

/* ---- what was read ---- */

static void
flag_clear(struct slot *s, enum slot_flag flag)
{
	s->flags &= (uint8_t)~flag;
}

/* Nothing that comes can be parsed any more. */
static void
deafen(struct worker *w, uint32_t slot)
{
	worker_slot(w, slot)->flags |= SLOT_DEAF;
}

/* How to answer the peer's Close frame. RFC 6455 §5.5.1, §7.4 */
static uint16_t
close_answer(const struct reader *r)
{
	uint16_t code = (uint16_t)(r->close_code[0] << 8 | r->close_code[1]);

	if (r->close_len == 0)
		return WSLAY_CODE_NORMAL_CLOSURE;
	return r->close_len >= sizeof(r->close_code) && frame_close_code_ok(code)
		   ? code
		   : WSLAY_CODE_PROTOCOL_ERROR;
}

/* The peer broke the protocol, or closes: close, too. */
static void
close_after(struct worker *w, struct reader *r)
{
	struct slot *s = worker_slot(w, r->slot);
	uint16_t code = wslay_event_get_status_code_sent(r->ctx);
	enum client_end why = CLIENT_END_PROTOCOL;

	deafen(w, r->slot);
	if (r->close_whole && !r->frame_bad) {
		s->flags |= SLOT_PEER_CLOSED;
		code = close_answer(r);
		if (code != WSLAY_CODE_PROTOCOL_ERROR)
			why = CLIENT_END_PEER;
	} else if (code == WSLAY_CODE_MESSAGE_TOO_BIG) {
		why = CLIENT_END_LIMIT;
	} else if (code != WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA) {
		code = WSLAY_CODE_PROTOCOL_ERROR;
	}
	if (slot_state(s) == SLOT_OPEN)
		client_end(w, r->slot, why, code, "");
	else if (s->out == 0 && !out_lagging(w, r->slot)) /* ours was sent before */
		client_flushed(w, r->slot);
}

/* Note what came of the next frame's head: the bytes that no frame accounts for. */
static void
note_head(struct reader *r, const uint8_t *buf, size_t len)
{
	size_t have = r->in_frame ? 0 : (size_t)(r->fed - r->accounted);
	size_t fresh = have < len ? have : len, old;

	if (have > HEAD_MAX) /* the reading was given up before its end */
		have = fresh = 0;
	old = have - fresh;
	if (old > r->head_have)
		old = r->head_have;
	memmove(r->head, r->head + r->head_have - old, old);
	memcpy(r->head + old, buf + len - fresh, fresh);
	r->head_have = old + fresh;
}

/*
 * Whether the next frame says that it will be too long. wslay tells of a frame with the
 * first byte of its payload only, and a client that never sends one would hold a
 * parser.
 */
static bool
head_too_long(const struct reader *r)
{
	const uint8_t *h = r->head;
	size_t ext = r->head_have < 2 ? 0 : (h[1] & 0x7f) == 126 ? 2 : 8;
	uint64_t n = 0;

	if (r->head_have < 2 || (h[1] & 0x7f) < 126 || r->head_have < 2 + ext)
		return false;
	for (size_t i = 0; i < ext; i++)
		n = n << 8 | h[2 + i];
	return n > r->wire_max;
}

static void
feed(struct worker *w, struct reader *r, const uint8_t *buf, size_t len)
{
	uint32_t slot = r->slot;
	struct slot *s = worker_slot(w, slot);
	int result;

	r->in = buf;
	r->in_len = len;
	result = wslay_event_recv(r->ctx);
	send_pongs(w, slot);
	if (slot_state(s) == SLOT_FREE)
		return; /* reader_drop() comes */
	/* Nothing is sent: it empties wslay's queue, and says why it stopped. */
	if (result != WSLAY_ERR_NOMEM && wslay_event_want_write(r->ctx))
		(void)wslay_event_send(r->ctx);
	if (result == WSLAY_ERR_NOMEM) {
		deafen(w, slot);
		client_end(w, slot, CLIENT_END_LIMIT, 1013, "out of memory");
	} else if (!wslay_event_get_read_enabled(r->ctx)) {
		close_after(w, r);
	} else if (between_messages(r)) {
		reader_give(w, r, true);
		flag_clear(s, SLOT_READING);
		return;
	} else {
		note_head(r, buf, len);
		if (!head_too_long(r))
			return;
		deafen(w, slot);
		client_end(w, slot, CLIENT_END_LIMIT, WSLAY_CODE_MESSAGE_TOO_BIG, "");
	}
	if (slot_state(s) != SLOT_FREE) {
		reader_give(w, r, false);
		flag_clear(s, SLOT_READING);
	}
}

static void
read_ended(struct worker *w, uint32_t slot, ssize_t n, int err)
{
	if (n < 0 && (err == EAGAIN || err == EWOULDBLOCK || err == EINTR)) {
		if (client_reader(w, slot) == NULL)
			flag_clear(worker_slot(w, slot), SLOT_READING);
		return;
	}
	client_close(w, slot, CLIENT_END_PEER);
}

void
reader_readable(struct worker *w, uint32_t slot)
{
	struct readers *rs = w->readers;
	struct slot *s = worker_slot(w, slot);
	struct reader *r = client_reader(w, slot);
	bool deaf = s->flags & SLOT_DEAF;
	uint32_t corked;
	ssize_t n;

	/* What is thrown away needs no care. */
	if (!deaf)
		s->flags |= SLOT_READING;
	/* A successor must see the flag if it finds the bytes gone: a system call is
	 * no store, but the compiler may not move one behind it either. */
	n = recv(s->fd, rs->buffer, READER_BUFFER, MSG_DONTWAIT);
	if (n <= 0) {
		read_ended(w, slot, n, n < 0 ? errno : 0);
		return;
	}
	page_add(w->page, PAGE_received_bytes, (uint64_t)n);
	if (deaf)
		return;
	client_heard(w, slot);
	if (r == NULL)
		r = reader_take(w, slot);
	if (r == NULL) {
		deafen(w, slot);
		flag_clear(s, SLOT_READING);
		client_end(
		    w, slot, CLIENT_END_LIMIT, 1013, "too many messages at once");
		return;
	}
	corked = out_cork(w, slot);
	feed(w, r, rs->buffer, (size_t)n);
	out_uncork(w, slot, corked);
}

/* ---- all of them ---- */

int
readers_new(struct worker *w, struct readers **ret)
{
	struct readers *rs = calloc(1, sizeof(*rs));

	if (rs == NULL)
		return -ENOMEM;
	rs->w = w;
	rs->buffer = malloc(READER_BUFFER);
	if (rs->buffer == NULL || inflater_new(&rs->inflater) < 0) {
		readers_free(rs);
		return -ENOMEM;
	}
	*ret = rs;
	return 0;
}

void
readers_free(struct readers *rs)
{
	struct reader *next;

	if (rs == NULL)
		return;
	for (struct reader *r = rs->spare; r != NULL; r = next) {
		next = r->next;
		reader_free(r);
	}
	inflater_free(rs->inflater);
	free(rs->buffer);
	free(rs);
}
