/* reader.c - see reader.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/deflate.h"
#include "proto/dialect.h"
#include "proto/inbound.h"
#include "proto/utf8.h"
#include "worker/client.h"
#include "worker/out.h"
#include "worker/reader.h"
#include "worker/session.h"
#include "worker/timers.h"
#include "worker/transport.h"

#define DEFLATED_MORE 1024 /* bytes that a short message may grow by */
#define PONG_MAX (2 + FRAME_CONTROL_MAX)
#define PONGS_MAX (32 * PONG_MAX)
#define INVALID_DATA 1007
#define TOO_BIG 1009
#define TRY_LATER 1013

/* One parser: of a connection, or idle and spare. */
struct reader {
	struct inbound *in;
	struct reader *next; /* spare; or busy, and younger */
	struct reader *prev; /* busy, and older */
	uint32_t slot;
	uint32_t since; /* tick at which its message began */
};

struct readers {
	struct worker *w;
	struct reader *spare;
	struct reader *oldest, *youngest; /* busy, in the order of `since` */
	unsigned nspare, nbusy;
	uint8_t *buffer; /* READER_BUFFER */
	struct inflater *inflater;
	/* Pongs that are due: those to Pings one right behind the other go as one. */
	uint8_t pongs[PONGS_MAX];
	size_t pongs_len;
	size_t last_pong; /* where the newest begins */
};

/* ---- what was said ---- */

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

/* Inflate a message in place of its payload. Returns 0, or the code to close with. */
static uint16_t
inflate_message(struct worker *w, struct inbound_item *m)
{
	enum inflated inflated = inflater_message(w->readers->inflater, m->payload,
	    m->len, w->settings->max_message_size, &m->payload, &m->len);

	page_add(w->page, PAGE_inflated, 1);
	if (inflated != INFLATED_WHOLE)
		page_add(w->page, PAGE_inflate_errors, 1);
	switch (inflated) {
	case INFLATED_WHOLE:
		/* Other text is checked as it comes. */
		if (m->op != OPCODE_TEXT || utf8_valid(m->payload, m->len))
			return 0;
		break;
	case INFLATED_TOO_LONG:
		return TOO_BIG;
	case INFLATED_BROKEN:
		break;
	case INFLATED_NO_MEMORY:
		return TRY_LATER;
	}
	return INVALID_DATA;
}

/* What ends with this code, counted. */
static enum client_end
end_of_code(struct worker *w, uint16_t code)
{
	if (code == TOO_BIG)
		page_add(w->page, PAGE_limited_size, 1);
	return code == TOO_BIG || code == TRY_LATER ? CLIENT_END_LIMIT
						    : CLIENT_END_PROTOCOL;
}

static void
take_message(struct worker *w, uint32_t slot, struct inbound_item *m)
{
	uint16_t code = 0;

	send_pongs(w, slot); /* what is said first is answered first */
	if (slot_state(worker_slot(w, slot)) != SLOT_OPEN)
		return;
	worker_slot(w, slot)->received++;
	page_add(w->page, PAGE_received, 1);
	if (m->deflated)
		code = inflate_message(w, m);
	if (code == 0)
		session_message(w, slot, m->op, m->payload, m->len);
	else
		client_end(w, slot, end_of_code(w, code), code, "");
}

/* ---- the pool ---- */

static void
reader_free(struct reader *r)
{
	inbound_free(r->in);
	free(r);
}

static struct reader *
reader_new(void)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	if (inbound_new(&r->in) < 0) {
		free(r);
		return NULL;
	}
	return r;
}

static void
busy_remove(struct readers *rs, struct reader *r)
{
	if (r->prev != NULL)
		r->prev->next = r->next;
	else
		rs->oldest = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	else
		rs->youngest = r->prev;
}

/* Its message begins now: the youngest of all. */
static void
busy_add(struct worker *w, struct reader *r)
{
	struct readers *rs = w->readers;

	r->since = w->tick;
	r->next = NULL;
	r->prev = rs->youngest;
	if (r->prev != NULL)
		r->prev->next = r;
	else
		rs->oldest = r;
	rs->youngest = r;
}

static void
begin_anew(struct worker *w, struct reader *r)
{
	busy_remove(w->readers, r);
	busy_add(w, r);
}

/* Begin with a connection, by what it has agreed to. A deflated message may be longer
 * than what it holds: by an eighth, with zlib's fixed codes, and some bytes for each
 * block. */
static void
reader_begin(struct worker *w, struct reader *r, uint32_t slot)
{
	size_t max = w->settings->max_message_size;
	bool deflates = dialect_is_deflated(worker_slot(w, slot)->dialect);

	r->slot = slot;
	busy_add(w, r);
	inbound_begin(r->in, max, deflates ? max + max / 8 + DEFLATED_MORE : 0);
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
		r = reader_new();
		if (r == NULL)
			return NULL;
	}
	rs->nbusy++;
	reader_begin(w, r, slot);
	client_set_reader(w, slot, r);
	return r;
}

static void
reader_give(struct worker *w, struct reader *r, bool clean)
{
	struct readers *rs = w->readers;

	client_set_reader(w, r->slot, NULL);
	busy_remove(rs, r);
	rs->nbusy--;
	if (!clean || rs->nspare >= READERS_SPARE) {
		reader_free(r);
		return;
	}
	r->next = rs->spare;
	rs->spare = r;
	rs->nspare++;
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

void
readers_tick(struct worker *w)
{
	struct readers *rs = w->readers;

	while (rs->oldest != NULL &&
	       (int32_t)(w->tick - rs->oldest->since) > READER_STUCK_TICKS) {
		struct reader *r = rs->oldest;

		/* It may say more until it is gone: so it is looked at again. */
		begin_anew(w, r);
		client_end(
		    w, r->slot, CLIENT_END_TIMEOUT, 1008, "message took too long");
	}
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

/* The peer closes, or broke the protocol: close, too. */
static void
close_after(struct worker *w, uint32_t slot, enum client_end why, uint16_t code)
{
	struct slot *s = worker_slot(w, slot);

	deafen(w, slot);
	if (slot_state(s) == SLOT_OPEN)
		client_end(w, slot, why, code, "");
	else if (s->out == 0 && !out_lagging(w, slot)) /* ours was sent before */
		client_flushed(w, slot);
}

/* Take out what was given. Returns whether the connection goes on. */
static bool
take_all(struct worker *w, struct reader *r)
{
	const struct slot *s = worker_slot(w, r->slot);
	struct inbound_item item;
	enum inbound_event event;

	/* Closed by what it said: nothing further of it is looked at. */
	while (slot_state(s) != SLOT_FREE && !(s->flags & SLOT_DEAF)) {
		event = inbound_next(r->in, &item);
		switch (event) {
		case INBOUND_MORE:
			send_pongs(w, r->slot);
			return slot_state(s) != SLOT_FREE;
		case INBOUND_MESSAGE:
			begin_anew(w, r);
			take_message(w, r->slot, &item);
			break;
		case INBOUND_PING:
			add_pong(w, r->slot, item.payload, item.len);
			/* fall through */
		case INBOUND_PONG:
			if (!inbound_in_message(r->in))
				begin_anew(w, r);
			break;
		case INBOUND_CLOSE:
			send_pongs(w, r->slot);
			close_after(w, r->slot, CLIENT_END_PEER, item.code);
			return false;
		case INBOUND_BROKEN:
			send_pongs(w, r->slot);
			close_after(w, r->slot, end_of_code(w, item.code), item.code);
			return false;
		}
	}
	w->readers->pongs_len = 0;
	return false;
}

static void
feed(struct worker *w, struct reader *r, const uint8_t *buf, size_t len)
{
	struct slot *s = worker_slot(w, r->slot);
	bool goes_on;

	inbound_give(r->in, buf, len);
	goes_on = take_all(w, r);
	if (slot_state(s) == SLOT_FREE)
		return; /* reader_drop() comes */
	if (goes_on && !inbound_is_idle(r->in))
		return;
	reader_give(w, r, goes_on);
	flag_clear(s, SLOT_READING);
}

/* err: 0 at the end of what the client sends. */
static void
read_ended(struct worker *w, uint32_t slot, int err)
{
	if (err == EAGAIN || err == EWOULDBLOCK || err == EINTR) {
		if (client_reader(w, slot) == NULL)
			flag_clear(worker_slot(w, slot), SLOT_READING);
		return;
	}
	client_close(w, slot, err == EPROTO ? CLIENT_END_PROTOCOL : CLIENT_END_PEER);
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
	n = transport_recv(w, slot, rs->buffer, READER_BUFFER);
	if (n <= 0) {
		read_ended(w, slot, (int)-n);
		return;
	}
	page_add(w->page, PAGE_received_bytes, (uint64_t)n);
	if (deaf)
		return;
	timer_heard(w, slot);
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
