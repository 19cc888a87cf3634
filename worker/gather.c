/*
 * gather.c - see gather.h
 *
 * First all records are looked at, and of each connection is noted what it is to get;
 * then each is sent its share. Nothing else happens in between: what is noted is true
 * until it is sent. A connection that has had its share stands behind all of these
 * records, the others still before them, and w->done is raised when all have had it: so
 * a successor goes on exactly there.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/gather.h"
#include "worker/out.h"
#include "worker/side.h"
#include "worker/transport.h"
#include "worker/uring.h"

#define RECORDS 4096  /* looked at in a pass */
#define DUES 512      /* connections served in a pass */
#define MESSAGES 4096 /* noted in a pass */
#define NONE UINT16_MAX
#define BUCKETS 1024            /* twice as many as dues */
#define COPY_LEN (256u << 10)   /* frames side by side, of all who wait to be sent */
#define COPY_ONE (COPY_LEN / 4) /* of one connection */
#define URING_FEW 4             /* sends that io_uring is not worth */

/* A connection, and what it is to get. */
struct due {
	uint32_t slot;
	uint16_t first, last; /* messages */
	uint16_t next;        /* due of the same bucket */
	uint16_t n;
	const uint8_t *base;
	size_t len;
};

struct gather {
	unsigned few; /* subscribers of a channel; more are fanout.c's */
	uint64_t end; /* the records below are in it */
	unsigned ndues, nmessages;
	struct due due[DUES];
	struct {
		uint64_t number;
		uint16_t next; /* of the same connection */
	} message[MESSAGES];
	uint16_t bucket[BUCKETS];
	unsigned nqueued;
	size_t copied;
	uint8_t copy[COPY_LEN];
	struct worker *w;
};

_Static_assert(DUES < NONE && MESSAGES < NONE, "indexes of 16 bits");

int
gather_new(struct gather **ret)
{
	struct gather *g = malloc(sizeof(*g)); /* touched when used */

	if (g == NULL)
		return -ENOMEM;
	g->few = GATHER_FEW;
	*ret = g;
	return 0;
}

void
gather_set_few(struct gather *g, unsigned few)
{
	g->few = few;
}

void
gather_free(struct gather *g)
{
	free(g);
}

/* ---- what each is to get ---- */

static struct due *
due_of(struct gather *g, uint32_t slot)
{
	uint16_t *at = &g->bucket[slot % BUCKETS];
	struct due *d;

	for (uint16_t i = *at; i != NONE; i = g->due[i].next)
		if (g->due[i].slot == slot)
			return &g->due[i];
	d = &g->due[g->ndues];
	*d = (struct due){.slot = slot, .first = NONE, .last = NONE, .next = *at};
	*at = (uint16_t)g->ndues++;
	return d;
}

static void
note(struct gather *g, uint32_t slot, uint64_t number)
{
	struct due *d = due_of(g, slot);
	uint16_t i = (uint16_t)g->nmessages++;

	g->message[i].number = number;
	g->message[i].next = NONE;
	if (d->n++ == 0)
		d->first = i;
	else
		g->message[d->last].next = i;
	d->last = i;
}

/* Returns false when the record must wait for another pass. */
static bool
note_record(struct worker *w, struct gather *g, uint64_t number, unsigned budget)
{
	const struct ring_desc *desc = ring_at(w->ring, number);
	uint32_t channel = channels_of(w, desc->channel);
	struct chan *ch;

	if (channel == CHANNEL_NONE)
		return true;
	ch = &w->channels->chan[channel];
	if (ch->nslots > g->few || g->ndues + ch->nslots > budget ||
	    g->nmessages + ch->nslots > MESSAGES)
		return false;
	ch->offset = desc->offset;
	ch->newest = number;
	for (uint32_t i = 0; i < ch->nslots; i++) {
		const struct slot *s = worker_slot(w, ch->slots[i]);

		/* Who lags goes on by itself; who is further had it with another. */
		if (!(s->flags & SLOT_LAGGING) && slot_state(s) == SLOT_OPEN &&
		    out_cursor(w, ch->slots[i]) <= number)
			note(g, ch->slots[i], number);
	}
	return true;
}

static void
note_records(struct worker *w, struct gather *g, unsigned budget)
{
	uint64_t head = ring_head(w->ring);

	if (budget > DUES)
		budget = DUES;
	if (head > w->done + RECORDS)
		head = w->done + RECORDS;
	g->ndues = g->nmessages = g->nqueued = 0;
	g->copied = 0;
	memset(g->bucket, 0xff, sizeof(g->bucket)); /* NONE */
	for (g->end = w->done; g->end < head; g->end++)
		if (ring_at(w->ring, g->end)->type != RING_MESSAGE ||
		    !note_record(w, g, g->end, budget))
			break;
}

/* ---- a connection's frames, side by side ---- */

static size_t
frame_of(struct worker *w, unsigned dialect, uint64_t number, const void **ret,
    bool *ret_built)
{
	size_t len = side_ring_frame(w, dialect, number, ret);

	*ret_built = len == 0;
	if (len == 0)
		len = side_frame(w, dialect, number,
		    channels_of(w, ring_at(w->ring, number)->channel), ret);
	return len;
}

/* Behind what the connection has: as it lies in the ring, or in the copy. Returns false
 * when that has no room. */
static bool
join(struct gather *g, struct due *d, const void *frame, size_t len, bool built)
{
	uint8_t *end = g->copy + g->copied;
	bool copied = d->base != NULL && d->base + d->len == end;

	if (d->base == NULL && !built) {
		d->base = frame;
	} else if (built || copied || d->base + d->len != frame) {
		size_t move = copied || d->base == NULL ? 0 : d->len;

		if (d->len + len > COPY_ONE || g->copied + move + len > COPY_LEN)
			return false;
		if (move > 0)
			memcpy(end, d->base, move);
		memcpy(end + move, frame, len);
		if (!copied)
			d->base = end;
		g->copied += move + len;
	}
	d->len += len;
	return true;
}

static bool
join_all(struct worker *w, struct gather *g, struct due *d)
{
	unsigned dialect = worker_slot(w, d->slot)->dialect;
	size_t before = g->copied;

	d->base = NULL;
	d->len = 0;
	for (uint16_t i = d->first; i != NONE; i = g->message[i].next) {
		const void *frame;
		bool built;
		size_t len = frame_of(w, dialect, g->message[i].number, &frame, &built);

		if (len == 0 || !join(g, d, frame, len, built)) {
			g->copied = before;
			return false;
		}
	}
	return true;
}

/* ---- sending ---- */

/* The socket took n bytes, less than all. */
static void
cut(struct worker *w, struct gather *g, const struct due *d, size_t n)
{
	struct slot *s = worker_slot(w, d->slot);
	uint32_t tx = slot_tx(s), whole = 0;
	size_t left = n;
	uint16_t i = d->first;

	for (;; i = g->message[i].next, whole++) {
		const void *frame;
		bool built;
		size_t len =
		    frame_of(w, s->dialect, g->message[i].number, &frame, &built);

		if (left < len)
			break;
		if (len == 0) { /* no memory to say where it stands */
			client_close(w, d->slot, CLIENT_END_SERVER);
			return;
		}
		left -= len;
		tx += (uint32_t)len;
	}
	s->sent += whole;
	page_add(w->page, PAGE_sent, whole);
	page_add(w->page, PAGE_sent_bytes, n);
	page_add(w->page, PAGE_blocked, 1);
	out_cut_short(w, d->slot, g->message[i].number, tx, (uint32_t)left);
}

static void
sent(struct worker *w, struct gather *g, const struct due *d, ssize_t n)
{
	struct slot *s = worker_slot(w, d->slot);

	page_add(w->page, PAGE_sends, 1);
	if (n == (ssize_t)d->len) {
		slot_set_pos(s, (uint32_t)g->end, slot_tx(s) + (uint32_t)n);
		s->sent += d->n;
		page_add(w->page, PAGE_sent, d->n);
		page_add(w->page, PAGE_sent_bytes, (uint64_t)n);
		if (transport_is_holding(w, d->slot))
			out_set_lagging(w, d->slot);
	} else if (n >= 0) {
		cut(w, g, d, (size_t)n);
	} else if (out_would_block(w, d->slot, (int)-n)) {
		out_cut_short(w, d->slot, g->message[d->first].number, slot_tx(s), 0);
	}
}

static void
on_sent(void *owner, uint64_t tag, ssize_t n)
{
	struct gather *g = owner;

	sent(g->w, g, &g->due[tag], n);
}

static void
flush(struct worker *w, struct gather *g)
{
	if (w->uring != NULL)
		fanout_submit(w, on_sent, g);
	g->nqueued = 0;
	g->copied = 0;
}

static bool
takes_more(const struct slot *s)
{
	return slot_state(s) == SLOT_OPEN && !(s->flags & SLOT_LAGGING);
}

/* More than fits side by side, or no memory: by its records alone. */
static void
send_apart(struct worker *w, struct gather *g, uint32_t slot)
{
	const struct slot *s = worker_slot(w, slot);
	/* One that was adopted may have had some of these from a predecessor. */
	uint64_t from = out_cursor(w, slot);

	while (from < g->end && takes_more(s)) {
		out_records(w, slot, from, g->end);
		from = slot_cursor(s, w->done);
	}
}

static void
send_due(struct worker *w, struct gather *g, struct due *d)
{
	const struct slot *s = worker_slot(w, d->slot);
	bool whole;

	if (s->marks & SLOT_UNCOUNTED) { /* which out.c marks around each send */
		send_apart(w, g, d->slot);
		return;
	}
	whole = join_all(w, g, d);
	if (!whole && g->nqueued + g->copied > 0) { /* with all the room there is */
		flush(w, g);
		whole = join_all(w, g, d);
	}
	if (!whole) {
		send_apart(w, g, d->slot);
	} else if (w->uring == NULL || g->ndues < URING_FEW || (s->flags & SLOT_TLS)) {
		sent(w, g, d, transport_send(w, d->slot, d->base, d->len));
		if (g->nqueued == 0) /* theirs lies there, too */
			g->copied = 0;
	} else {
		uring_put(w->uring, s->fd, d->base, d->len, (uint64_t)(d - g->due));
		if (++g->nqueued == URING_BATCH)
			flush(w, g);
	}
}

unsigned
gather_pass(struct worker *w, struct gather *g, unsigned *budget)
{
	unsigned passed;

	note_records(w, g, *budget);
	passed = (unsigned)(g->end - w->done);
	if (passed == 0)
		return 0;
	g->w = w;
	for (unsigned i = 0; i < g->ndues; i++)
		send_due(w, g, &g->due[i]);
	flush(w, g);
	*budget -= g->ndues;
	w->done = g->end;
	page_set_done(w->page, w->done);
	return passed;
}
