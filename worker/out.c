#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/out.h"
#include "worker/requests.h"
#include "worker/rules.h"
#include "worker/side.h"
#include "worker/transport.h"

/* Each may be a built frame, and the next is asked for before it is known to fit. */
#define OUT_IOV (SIDE_FRAMES - 1)
#define OUT_FRAMES 256            /* frames in one send */
#define OUT_SEND_MAX (256u << 10) /* bytes in one send, but for a longer frame */
#define OUT_SENDS 4               /* sends for one connection in one go */
#define OUT_SCAN 65536            /* records looked at in one go */

enum flush {
	FLUSH_DONE,    /* all that is due was sent */
	FLUSH_BLOCKED, /* the socket took no more */
	FLUSH_MORE,    /* more is due, and the socket may take it: others first */
	FLUSH_DEAD,    /* the connection was closed */
};

/* Frames of the ring for one send, and the records that they belong to. */
struct batch {
	struct iovec iov[OUT_IOV];
	int niov;
	struct {
		uint64_t number;
		size_t len;
	} frame[OUT_FRAMES];
	int nframes;
	size_t len;      /* of the frames, from the first one's start */
	uint64_t end;    /* the records below were looked at */
	bool any_passed; /* over, of those */
};

/* The full number of a position kept modulo 2^32. */
static uint64_t
full_number(const struct worker *w, uint32_t low)
{
	return w->done + (uint64_t)(int64_t)(int32_t)(low - (uint32_t)w->done);
}

uint64_t
out_cursor(const struct worker *w, uint32_t slot)
{
	const struct slot *s = &w->table.slots[slot];
	uint64_t cursor = slot_cursor(s, w->done);

	if (s->flags & SLOT_LAGGING)
		return cursor;
	/* It had all below `done`; what is beyond the head is an old position whose low
	 * half came round. */
	return cursor > w->done && cursor <= ring_head(w->ring) ? cursor : w->done;
}

bool
out_lagging(const struct worker *w, uint32_t slot)
{
	return w->table.slots[slot].flags & SLOT_LAGGING;
}

/* The channel by which a record concerns a connection, or CHANNEL_NONE. */
static uint32_t
channel_for(const struct worker *w, const struct slot *s, uint64_t number, bool lagging)
{
	const struct ring_desc *desc = ring_at(w->ring, number);
	const struct sub *sub;
	uint32_t channel;

	if (!fanout_goes_to(desc, s))
		return CHANNEL_NONE;
	channel = channels_of(w, desc->channel);
	if (channel == CHANNEL_NONE)
		return CHANNEL_NONE;
	sub = slot_sub(w, s, channel);
	if (sub == NULL || (lagging && (int32_t)((uint32_t)number - sub->from) < 0))
		return CHANNEL_NONE;
	return channel;
}

/*
 * Whether a newer message stands for one that is still to be sent (slow = latest): one
 * of the same key, among those that this worker has read. That is known of a record for
 * good (K2), and w->done is the page's `done` at each send: so a successor passes over
 * what its predecessor did.
 */
static bool
is_passed_over(
    const struct worker *w, const struct slot *s, uint32_t channel, uint64_t number)
{
	return w->channels->chan[channel].latest && !(s->marks & SLOT_REPLAY) &&
	       ring_superseded(ring_at(w->ring, number), number, w->done);
}

bool
out_next(const struct worker *w, const struct slot *s, uint64_t end, bool lagging,
    struct out_walk *at)
{
	if (s->nsubs == 0 || slot_state(s) != SLOT_OPEN)
		at->number = end;
	for (; at->number < end; at->number++) {
		at->channel = channel_for(w, s, at->number, lagging);
		if (at->channel == CHANNEL_NONE)
			continue;
		if (!lagging || !is_passed_over(w, s, at->channel, at->number))
			break;
		at->any_passed = true;
	}
	return at->number < end;
}

/* `pos` has moved from one record to another: what was passed over between is counted,
 * so that each is once. */
static void
count_passed(struct worker *w, const struct slot *s, uint64_t from, uint64_t end)
{
	for (uint64_t number = from; number < end; number++) {
		uint32_t channel = channel_for(w, s, number, true);

		if (channel == CHANNEL_NONE || !is_passed_over(w, s, channel, number))
			continue;
		page_add(w->page, PAGE_replaced, 1);
		rule_add(
		    &w->page->rules, w->channels->chan[channel].rule, RULE_replaced, 1);
	}
}

/* Add a frame. Returns false when it does not fit any more. */
static bool
batch_add(struct batch *b, const struct out_walk *at, const void *frame, size_t len)
{
	struct iovec *last = b->niov > 0 ? &b->iov[b->niov - 1] : NULL;

	if (last != NULL && (const char *)last->iov_base + last->iov_len == frame)
		last->iov_len += len;
	else if (b->niov < OUT_IOV)
		b->iov[b->niov++] = (struct iovec){(void *)frame, len};
	else
		return false;
	b->frame[b->nframes].number = at->number;
	b->frame[b->nframes++].len = len;
	b->len += len;
	return true;
}

/* Collect what is meant for a connection in [number, end). Returns 0 or -ENOMEM. */
static int
batch_collect(struct worker *w, const struct slot *s, uint64_t number, uint64_t end,
    bool lagging, struct batch *b)
{
	struct out_walk at = {.number = number};

	b->niov = b->nframes = 0;
	b->len = 0;
	while (b->nframes < OUT_FRAMES && b->len < OUT_SEND_MAX) {
		/* What has begun is finished, whatever holds of its record by now. */
		bool begun = s->part > 0 && b->nframes == 0;
		const void *frame;
		size_t len;

		if (!out_next(w, s, end, lagging && !begun, &at))
			break;
		len = side_frame(w, s->dialect, at.number, at.channel, &frame);
		if (len == 0)
			return -ENOMEM;
		if (!batch_add(b, &at, frame, len))
			break;
		at.number++;
	}
	b->end = at.number;
	b->any_passed = at.any_passed;
	return 0;
}

static ssize_t
batch_send(struct worker *w, uint32_t slot, struct batch *b)
{
	const struct slot *s = worker_slot(w, slot);

	page_add(w->page, PAGE_sends, 1);
	b->iov[0].iov_base = (char *)b->iov[0].iov_base + s->part;
	b->iov[0].iov_len -= s->part;
	if (b->niov == 1)
		return transport_send(w, slot, b->iov[0].iov_base, b->iov[0].iov_len);
	return transport_sendv(w, slot, b->iov, b->niov);
}

/* The socket took n bytes. The one store of `pos` is what a successor goes by; `part`
 * it asks of the kernel. Returns whether that was all. */
static bool
batch_commit(struct worker *w, struct slot *s, const struct batch *b, size_t n)
{
	size_t left = s->part + n;
	uint32_t tx = slot_tx(s);
	int i;

	for (i = 0; i < b->nframes && left >= b->frame[i].len; i++) {
		left -= b->frame[i].len;
		tx += (uint32_t)b->frame[i].len;
	}
	slot_set_pos(s, (uint32_t)(i == b->nframes ? b->end : b->frame[i].number), tx);
	s->part = (uint32_t)left;
	s->sent += (uint32_t)i;
	s->progress = w->tick;
	page_add(w->page, PAGE_sent, (uint64_t)i);
	page_add(w->page, PAGE_sent_bytes, n);
	return i == b->nframes;
}

bool
out_would_block(struct worker *w, uint32_t slot, int err)
{
	if (err == EAGAIN || err == EWOULDBLOCK || err == ENOBUFS || err == EINTR) {
		page_add(w->page, PAGE_blocked, 1);
		return true;
	}
	client_close(w, slot, CLIENT_END_PEER);
	return false;
}

/*
 * Between the two, a successor cannot know what the socket took, where the kernel does
 * not count. All that is noted of a send comes before the end.
 */
static void
sending_begin(struct slot *s)
{
	if (s->marks & SLOT_UNCOUNTED)
		s->marks |= SLOT_SENDING;
	atomic_signal_fence(memory_order_seq_cst); /* a successor sees program order */
}

static void
sending_end(struct slot *s)
{
	atomic_signal_fence(memory_order_seq_cst);
	s->marks &= (uint8_t)~SLOT_SENDING;
}

static enum flush
send_failed(struct worker *w, uint32_t slot, int err)
{
	return out_would_block(w, slot, err) ? FLUSH_BLOCKED : FLUSH_DEAD;
}

static enum flush
send_batch(struct worker *w, uint32_t slot, struct batch *b)
{
	struct slot *s = worker_slot(w, slot);
	ssize_t n = batch_send(w, slot, b);

	if (n < 0)
		return send_failed(w, slot, (int)-n);
	if (batch_commit(w, s, b, (size_t)n) && !transport_is_holding(w, slot))
		return FLUSH_MORE;
	page_add(w->page, PAGE_blocked, 1);
	return FLUSH_BLOCKED;
}

/* Send from the ring, up to `end`. */
static enum flush
flush_records(struct worker *w, uint32_t slot, uint64_t end)
{
	struct slot *s = worker_slot(w, slot);
	bool lagging = s->flags & SLOT_LAGGING, begun = s->part > 0;
	uint64_t cursor = slot_cursor(s, w->done);
	struct batch b;
	enum flush f;

	if (end > cursor + OUT_SCAN)
		end = cursor + OUT_SCAN;
	if (batch_collect(w, s, cursor, end, lagging, &b) < 0) {
		client_close(w, slot, CLIENT_END_SERVER);
		return FLUSH_DEAD;
	}
	if (b.nframes == 0) {
		slot_set_pos(s, (uint32_t)b.end, slot_tx(s));
		if (b.any_passed)
			count_passed(w, s, cursor, b.end);
		return FLUSH_MORE;
	}
	/* What has begun of a connection that lags is the record at `pos`: a successor
	 * finds it there, though a newer one may stand for it by then. */
	if (lagging)
		slot_set_pos(s, (uint32_t)b.frame[0].number, slot_tx(s));
	sending_begin(s);
	f = send_batch(w, slot, &b);
	sending_end(s);
	if (b.any_passed && f != FLUSH_DEAD) /* what had begun was sent */
		count_passed(w, s, cursor + begun, slot_cursor(s, w->done));
	return f;
}

/* Send the first private frame. What a successor finds: begun, and tx at its begin or
 * already at its end; the bytes between it learns from the kernel. */
static enum flush
send_private(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	struct out *o = arena_at(w->arena, s->out);
	uint32_t tx = slot_tx(s);
	ssize_t n;

	if (!o->begun) {
		o->tx_begin = tx;
		atomic_signal_fence(memory_order_seq_cst);
		o->begun = 1;
	}
	page_add(w->page, PAGE_sends, 1);
	n = transport_send(w, slot, o->bytes + s->part, o->len - s->part);
	if (n < 0)
		return send_failed(w, slot, (int)-n);
	page_add(w->page, PAGE_sent_bytes, (uint64_t)n);
	s->progress = w->tick;
	if (s->part + (size_t)n < o->len) {
		s->part += (uint32_t)n;
		page_add(w->page, PAGE_blocked, 1);
		return FLUSH_BLOCKED;
	}
	slot_set_pos(s, (uint32_t)slot_cursor(s, w->done), tx + o->len);
	s->part = 0;
	out_unlink(w, s);
	return transport_is_holding(w, slot) ? FLUSH_BLOCKED : FLUSH_MORE;
}

static enum flush
flush_private(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	enum flush f;

	sending_begin(s);
	f = send_private(w, slot);
	sending_end(s);
	return f;
}

/* Send what is due, in the order of its places. */
static enum flush
flush(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (transport_is_holding(w, slot)) {
		int r = tls_flush(w, slot);

		if (r < 0)
			return send_failed(w, slot, -r);
	}
	for (int i = 0; i < OUT_SENDS; i++) {
		uint64_t cursor = slot_cursor(s, w->done), end;
		const struct out *o = s->out != 0 ? arena_at(w->arena, s->out) : NULL;
		enum flush f;

		end = fanout_limit(w);
		if (o != NULL &&
		    (o->begun || (s->part == 0 && full_number(w, o->at) <= cursor))) {
			f = flush_private(w, slot);
		} else {
			if (o == NULL && cursor >= end)
				return FLUSH_DONE;
			if (o != NULL && full_number(w, o->at) < end)
				end = full_number(w, o->at);
			/* A frame that has begun is finished, whatever comes next. */
			if (s->part > 0 && end <= cursor)
				end = cursor + 1;
			f = flush_records(w, slot, end);
		}
		if (f != FLUSH_MORE)
			return f;
	}
	return FLUSH_MORE;
}

void
out_set_lagging(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t cursor = (uint32_t)slot_cursor(s, w->done);
	struct sub *sub = slot_subs(w, s);

	if (s->flags & SLOT_LAGGING)
		return;
	/* Where it was not heeded, `from` may be older than its 32 bits can tell. */
	for (unsigned i = 0; i < s->nsubs; i++)
		sub[i].from = cursor;
	s->progress = w->tick;
	atomic_signal_fence(memory_order_seq_cst); /* the flag makes them count */
	s->flags |= SLOT_LAGGING;
	page_add(w->page, PAGE_lagging, 1);
	fanout_lagging(w, slot);
	client_want_write(w, slot, true);
}

void
out_renew(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint64_t cursor = out_cursor(w, slot);
	struct sub *sub = slot_subs(w, s);

	if (!(s->flags & SLOT_LAGGING)) {
		slot_set_pos(s, (uint32_t)cursor, slot_tx(s));
		return;
	}
	for (unsigned i = 0; i < s->nsubs; i++)
		if ((int32_t)((uint32_t)cursor - sub[i].from) > 0)
			sub[i].from = (uint32_t)cursor;
}

static void
clear_lagging(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (s->flags & SLOT_LAGGING) {
		s->flags &= (uint8_t)~SLOT_LAGGING;
		s->marks &= (uint8_t)~SLOT_REPLAY;
		page_add(w->page, PAGE_lagging, (uint64_t)-1);
		client_want_write(w, slot, false);
	}
	if ((s->flags & SLOT_HANGUP) || slot_state(s) == SLOT_CLOSING)
		client_flushed(w, slot);
}

void
out_writable(struct worker *w, uint32_t slot)
{
	switch (flush(w, slot)) {
	case FLUSH_DONE:
		clear_lagging(w, slot);
		break;
	case FLUSH_BLOCKED:
	case FLUSH_MORE:
		out_set_lagging(w, slot);
		break;
	case FLUSH_DEAD:
		break;
	}
}

void
out_records(struct worker *w, uint32_t slot, uint64_t number, uint64_t end)
{
	struct slot *s = worker_slot(w, slot);

	slot_set_pos(s, (uint32_t)number, slot_tx(s));
	switch (flush_records(w, slot, end)) {
	case FLUSH_BLOCKED:
		out_set_lagging(w, slot);
		break;
	case FLUSH_DONE:
	case FLUSH_MORE:
	case FLUSH_DEAD:
		break;
	}
}

int
out_detach(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint64_t number = slot_cursor(s, w->done);
	uint32_t channel = CHANNEL_NONE;
	const void *frame;
	struct out *o;
	arena_ref ref;
	uint8_t before;
	size_t len;

	if (s->part == 0)
		return 0;
	if (out_private_begun(w, s))
		return 0; /* it is one already */
	channel = channels_of(w, ring_at(w->ring, number)->channel);
	len = side_frame(w, s->dialect, number, channel, &frame);
	if (len == 0)
		return -ENOBUFS;
	ref = arena_alloc(w->arena, sizeof(*o) + len);
	if (ref == 0)
		return -ENOBUFS;
	o = arena_at(w->arena, ref);
	*o = (struct out){.next = s->out,
	    .at = (uint32_t)number,
	    .tx_begin = slot_tx(s),
	    .len = (uint32_t)len,
	    .begun = 1};
	memcpy(o->bytes, frame, len);
	before = slot_surgery_begin(s);
	s->out = ref;
	s->out_bytes += (uint32_t)len;
	slot_set_pos(s, (uint32_t)(number + 1), slot_tx(s));
	slot_surgery_end(s, before);
	return 0;
}

void
out_cut(struct worker *w, uint32_t slot)
{
	int r = out_detach(w, slot);

	requests_leave(w, slot);
	if (r < 0) /* no room to finish the frame that has begun */
		client_close(w, slot, CLIENT_END_SERVER);
}

void
out_drop(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	while (s->out != 0)
		out_unlink(w, s);
	s->part = 0;
	if (s->flags & SLOT_LAGGING) {
		s->flags &= (uint8_t)~SLOT_LAGGING;
		page_add(w->page, PAGE_lagging, (uint64_t)-1);
	}
}

void
out_cut_short(
    struct worker *w, uint32_t slot, uint64_t cursor, uint32_t tx, uint32_t part)
{
	struct slot *s = worker_slot(w, slot);

	slot_set_pos(s, (uint32_t)cursor, tx);
	s->part = part;
	out_set_lagging(w, slot);
}
