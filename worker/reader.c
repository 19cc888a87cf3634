/* reader.c - see reader.h */
#include "worker/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "worker/client.h"
#include "worker/out.h"
#include "worker/session.h"

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
	bool frame_fin, frame_control;
	bool half_code; /* a Close frame of one byte: wslay takes it for none */
	bool scratch_full;
};

struct readers {
	struct worker *w;
	struct reader *spare;
	unsigned nspare, nbusy;
	uint8_t *buffer;  /* READER_BUFFER */
	uint8_t *scratch; /* control frames that wslay answers with */
	size_t scratch_len;
};

#define SCRATCH_MAX OUT_PRIVATE_MAX

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

static ssize_t
on_send(
    wslay_event_context_ptr ctx, const uint8_t *buf, size_t len, int flags, void *data)
{
	struct reader *r = data;
	struct readers *rs = r->w->readers;

	if (rs->scratch_len + len > SCRATCH_MAX) {
		r->scratch_full = true;
		wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
		return -1;
	}
	memcpy(rs->scratch + rs->scratch_len, buf, len);
	rs->scratch_len += len;
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
	r->frame_control = wslay_is_ctrl_frame(arg->opcode);
	r->half_code =
	    arg->opcode == WSLAY_CONNECTION_CLOSE && arg->payload_length == 1;
	r->accounted += head_len(arg->payload_length);
}

static void
on_frame_chunk(wslay_event_context_ptr ctx,
    const struct wslay_event_on_frame_recv_chunk_arg *arg, void *data)
{
	struct reader *r = data;

	r->accounted += arg->data_length;
}

static void
on_frame_end(wslay_event_context_ptr ctx, void *data)
{
	struct reader *r = data;

	r->in_frame = false;
	if (!r->frame_control)
		r->in_message = !r->frame_fin;
}

static void
on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
    void *data)
{
	struct reader *r = data;
	struct worker *w = r->w;
	struct slot *s = worker_slot(w, r->slot);

	if (!r->in_message)
		r->since = w->tick;
	if (!wslay_is_ctrl_frame(arg->opcode) && slot_state(s) == SLOT_OPEN) {
		s->received++;
		page_add(w->page, PAGE_received, 1);
		session_message(
		    w, r->slot, (enum opcode)arg->opcode, arg->msg, arg->msg_length);
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
	wslay_event_config_set_max_recv_msg_length(
	    r->ctx, w->settings->max_message_size);
	return r;
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
	r->in_frame = r->in_message = false;
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

/* The peer broke the protocol, or closes: close, too. */
static void
close_after(struct worker *w, struct reader *r)
{
	struct slot *s = worker_slot(w, r->slot);
	uint16_t code = wslay_event_get_status_code_sent(r->ctx);

	if (wslay_event_get_close_received(r->ctx)) {
		s->flags |= SLOT_PEER_CLOSED | SLOT_DEAF;
		if (code < 1000 || code == WSLAY_CODE_NO_STATUS_RCVD ||
		    code == WSLAY_CODE_ABNORMAL_CLOSURE)
			code = r->half_code ? WSLAY_CODE_PROTOCOL_ERROR
					    : WSLAY_CODE_NORMAL_CLOSURE;
		if (slot_state(s) == SLOT_OPEN)
			client_end(w, r->slot, CLIENT_END_PEER, code, "");
		else if (!out_lagging(w, r->slot)) /* ours was sent before */
			client_close(w, r->slot, CLIENT_END_PEER);
		return;
	}
	deafen(w, r->slot);
	if (code < 1000 || code == WSLAY_CODE_NO_STATUS_RCVD ||
	    code == WSLAY_CODE_ABNORMAL_CLOSURE)
		code = WSLAY_CODE_PROTOCOL_ERROR;
	client_end(w, r->slot,
	    code == WSLAY_CODE_MESSAGE_TOO_BIG ? CLIENT_END_LIMIT : CLIENT_END_PROTOCOL,
	    code, "");
}

/* Bytes of pongs before the Close frame, if there is one. */
static size_t
pongs_len(const uint8_t *buf, size_t len)
{
	size_t at = 0;

	while (at < len && (buf[at] & 0x0f) != OPCODE_CLOSE)
		at += 2 + (size_t)buf[at + 1];
	return at;
}

/* Pongs go as they are; a Close frame we make ourselves, in its place in the stream. */
static void
answer(struct worker *w, struct reader *r)
{
	struct readers *rs = w->readers;
	size_t len;

	rs->scratch_len = 0;
	r->scratch_full = false;
	if (wslay_event_want_write(r->ctx))
		(void)wslay_event_send(r->ctx);
	len = pongs_len(rs->scratch, rs->scratch_len);
	if (r->scratch_full ||
	    (len > 0 && slot_state(worker_slot(w, r->slot)) == SLOT_OPEN &&
		out_private(w, r->slot, rs->scratch, len) < 0))
		client_close(w, r->slot, CLIENT_END_LIMIT);
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
	if (result != WSLAY_ERR_NOMEM)
		answer(w, r);
	if (slot_state(s) == SLOT_FREE)
		return; /* reader_drop() comes */
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
		return;
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
	flag_clear(s, SLOT_PINGED); /* whatever it is, it is a sign of life */
	if (r == NULL)
		r = reader_take(w, slot);
	if (r == NULL) {
		deafen(w, slot);
		flag_clear(s, SLOT_READING);
		client_end(
		    w, slot, CLIENT_END_LIMIT, 1013, "too many messages at once");
		return;
	}
	feed(w, r, rs->buffer, (size_t)n);
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
	rs->scratch = malloc(SCRATCH_MAX);
	if (rs->buffer == NULL || rs->scratch == NULL) {
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
	free(rs->buffer);
	free(rs->scratch);
	free(rs);
}
