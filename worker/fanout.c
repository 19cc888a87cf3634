#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "proto/dialect.h"
#include "proto/journal.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/expel.h"
#include "worker/fanout.h"
#include "worker/farewell.h"
#include "worker/gather.h"
#include "worker/out.h"
#include "worker/reload.h"
#include "worker/rules.h"
#include "worker/side.h"
#include "worker/slow.h"
#include "worker/transport.h"
#include "worker/uring.h"

#define TURN_SENDS 512       /* sockets served in a turn: about 2 ms */
#define TURN_RECORDS 4096    /* records looked at in a turn */
#define RUN_FRAMES 512       /* messages that leave in one send */
#define RUN_MAX (256u << 10) /* bytes in one send, but for a longer frame */
#define RUN_MISSES 64        /* other channels' records looked at to extend a run */
#define MERGE_RECORDS 64     /* how far ahead a socket of several channels is served */
#define FLOOR_STEPS 64       /* the floor rises by this part of the ring at a time */
#define PREFETCH 4           /* slots ahead */
#define RENEW_RECORDS (1u << 29) /* out_renew() all, far before 2^31 */

/*
 * The messages of one channel in one dialect from a record on, side by side: the ring's
 * own bytes while they are contiguous, a copy made once for all subscribers otherwise.
 */
struct run {
	uint32_t channel;
	uint64_t first; /* record; 0 = nothing here */
	uint64_t end;   /* the records below were looked at */
	const uint8_t *base;
	size_t len;
	unsigned nframes;
	unsigned nmisses;
	bool full;
	uint8_t *copy; /* RUN_MAX bytes and one frame, grown on demand */
	size_t copy_cap;
	struct {
		uint64_t number;
		size_t start; /* of the frame, from base */
	} frame[RUN_FRAMES];
};

struct fanout {
	struct gather *gather;
	struct run run[DIALECT_COUNT];
	uint64_t clear;    /* the records below it need no handling in place */
	uint64_t floor;    /* as published */
	uint64_t floor_at; /* w->done when it was */
	uint64_t renewed;  /* w->done when all positions were brought up to date */
	/* Last one served of the record w->done; SLOT_NONE = none. */
	uint32_t middle_slot;
	bool in_middle;
	uint64_t begun_ns; /* the record w->done: CLOCK_REALTIME; 0 = unknown */
	uint64_t pass_min; /* least cursor of those served of the record w->done */
	/* Connections that lag, or did: looked through when the floor rises. */
	uint32_t *lagging;
	uint8_t *listed; /* a bit for each slot */
	uint32_t nlagging;
};

int
fanout_new(struct worker *w, struct fanout **ret)
{
	struct fanout *f = calloc(1, sizeof(*f));
	uint32_t nslots = w->table.header->nslots;
	struct page_now now;

	if (f == NULL)
		return -ENOMEM;
	f->lagging = malloc(nslots * sizeof(*f->lagging));
	f->listed = calloc(1, nslots / 8 + 1);
	if (f->lagging == NULL || f->listed == NULL || gather_new(&f->gather) < 0) {
		fanout_free(f);
		return -ENOMEM;
	}
	/* What a predecessor left is believed within what the ring still holds. */
	page_look(w->page, &now);
	if (w->done < ring_oldest(w->ring) || w->done > ring_head(w->ring))
		w->done = ring_head(w->ring);
	f->clear = w->done;
	f->floor = now.floor;
	if (f->floor < ring_oldest(w->ring) || f->floor > w->done)
		f->floor = ring_retain(w->ring, w->done);
	f->floor_at = w->done;
	f->renewed = w->done; /* adoption does */
	f->middle_slot = SLOT_NONE;
	*ret = f;
	return 0;
}

void
fanout_free(struct fanout *f)
{
	if (f == NULL)
		return;
	for (unsigned d = 0; d < DIALECT_COUNT; d++)
		free(f->run[d].copy);
	gather_free(f->gather);
	free(f->lagging);
	free(f->listed);
	free(f);
}

void
fanout_set_few(struct worker *w, unsigned few)
{
	gather_set_few(w->fanout->gather, few);
}

uint64_t
fanout_floor(const struct worker *w)
{
	return w->fanout->floor;
}

/* A gap is told between what came before it and what comes after; who is expelled gets
 * nothing that comes after. */
static bool
has_its_place(const struct ring_desc *desc)
{
	return desc->type == RING_GAP || desc->type == RING_EXPEL;
}

uint64_t
fanout_limit(struct worker *w)
{
	struct fanout *f = w->fanout;
	uint64_t head = ring_head(w->ring);

	if (f->clear < w->done)
		f->clear = w->done;
	while (f->clear < head && !has_its_place(ring_at(w->ring, f->clear)))
		f->clear++;
	return f->clear;
}

uint64_t
fanout_middle(const struct worker *w, uint32_t *ret_channel)
{
	if (!w->fanout->in_middle)
		return 0;
	*ret_channel = channels_of(w, ring_at(w->ring, w->done)->channel);
	return w->done;
}

/* ---- runs ---- */

/* From here on the run's bytes lie in its copy. Returns 0 or -ENOMEM. */
static int
run_copy(struct run *run, const void *frame, size_t len)
{
	size_t need = run->len + len;

	if (need > run->copy_cap) {
		size_t cap = need < RUN_MAX ? RUN_MAX : need;
		uint8_t *copy = realloc(run->copy, cap);

		if (copy == NULL)
			return -ENOMEM;
		if (run->base == run->copy)
			run->base = copy;
		run->copy = copy;
		run->copy_cap = cap;
	}
	if (run->len > 0 && run->base != run->copy)
		memcpy(run->copy, run->base, run->len);
	memcpy(run->copy + run->len, frame, len);
	run->base = run->copy;
	return 0;
}

/* Take in the frame of a record. Returns false when the run is full. */
static bool
run_add(struct worker *w, struct run *run, unsigned dialect, uint64_t number)
{
	const void *frame;
	size_t len = side_ring_frame(w, dialect, number, &frame);
	bool first = run->nframes == 0;
	bool built = len == 0;

	if (built)
		len = side_frame(w, dialect, number, run->channel, &frame);
	if (len == 0 || run->nframes == RUN_FRAMES ||
	    (!first && run->len + len > RUN_MAX))
		return false;
	/* A built frame is not the ring's: it may be replaced while the run lasts. */
	if (first && !built)
		run->base = frame;
	else if (built || run->base == run->copy || run->base + run->len != frame)
		if (run_copy(run, frame, len) < 0)
			return false;
	run->frame[run->nframes].number = number;
	run->frame[run->nframes++].start = run->len;
	run->len += len;
	return true;
}

/* Bring the run that starts with the record up to `limit`. */
static struct run *
run_extend(struct worker *w, unsigned dialect, uint64_t number, uint32_t channel,
    uint64_t limit)
{
	struct run *run = &w->fanout->run[dialect];
	uint32_t directory = w->table.channels[channel].directory;

	if (run->first != number) {
		run->first = run->end = number;
		run->channel = channel;
		run->base = NULL;
		run->len = 0;
		run->nframes = 0;
		run->nmisses = 0;
		run->full = false;
	}
	while (run->end < limit && !run->full) {
		const struct ring_desc *desc = ring_at(w->ring, run->end);

		if (desc->channel == directory &&
		    fanout_goes_in(desc, (enum dialect)dialect))
			run->full = !run_add(w, run, dialect, run->end);
		else
			run->full = ++run->nmisses == RUN_MISSES;
		if (!run->full)
			run->end++;
	}
	return run;
}

/* The socket took n bytes of a run, less than all. */
static void
run_cut(struct worker *w, uint32_t slot, const struct run *run, size_t n)
{
	struct slot *s = worker_slot(w, slot);
	unsigned i = run->nframes - 1;

	while (run->frame[i].start > n)
		i--;
	s->sent += i;
	page_add(w->page, PAGE_sent, i);
	page_add(w->page, PAGE_sent_bytes, n);
	out_cut_short(w, slot, run->frame[i].number,
	    slot_tx(s) + (uint32_t)run->frame[i].start,
	    (uint32_t)(n - run->frame[i].start));
}

/* ---- one record ---- */

/* What this connection has been passed counts for all: see struct chan's `served`. */
static void
note_served(struct worker *w, uint32_t slot)
{
	uint64_t cursor = out_cursor(w, slot);

	if (!out_lagging(w, slot) && cursor < w->fanout->pass_min)
		w->fanout->pass_min = cursor;
}

/* The kernel took n bytes of a run for a connection of this channel alone, or -errno.
 */
static void
run_sent(struct worker *w, uint32_t slot, const struct run *run, ssize_t n)
{
	struct slot *s = worker_slot(w, slot);

	page_add(w->page, PAGE_sends, 1);
	if (n == (ssize_t)run->len) {
		slot_set_pos(s, (uint32_t)run->end, slot_tx(s) + (uint32_t)n);
		s->sent += run->nframes;
		page_add(w->page, PAGE_sent, run->nframes);
		page_add(w->page, PAGE_sent_bytes, (uint64_t)n);
		if (transport_is_holding(w, slot))
			out_set_lagging(w, slot);
		note_served(w, slot);
	} else if (n >= 0) {
		page_add(w->page, PAGE_blocked, 1);
		run_cut(w, slot, run, (size_t)n);
	} else if (out_would_block(w, slot, (int)-n)) {
		out_cut_short(w, slot, run->first, slot_tx(s), 0);
	}
}

static void
on_uring_result(void *owner, uint64_t tag, ssize_t n)
{
	struct worker *w = owner;
	uint32_t slot = (uint32_t)tag;

	run_sent(w, slot, &w->fanout->run[worker_slot(w, slot)->dialect], n);
}

void
fanout_submit(struct worker *w, uring_result_fn on_result, void *owner)
{
	int r = uring_submit(w->uring, on_result, owner);

	if (r == 0)
		return;
	/* What it sent only the kernel knows, and a successor that asks it. */
	log_error(r, "worker %u: io_uring failed, going on with send(2)", w->index);
	page_set_sending(w->page, SENDING_URING_FAILED);
	(void)raise(SIGKILL);
}

static void
flush_uring(struct worker *w)
{
	fanout_submit(w, on_uring_result, w);
}

static void
deliver_run(struct worker *w, uint32_t slot, uint64_t number, uint32_t channel)
{
	const struct slot *s = worker_slot(w, slot);
	const struct run *run = &w->fanout->run[s->dialect];

	/* A run that sends are queued of stays as it is; else the head is read again
	 * just before each send. */
	if (w->uring == NULL || uring_queued(w->uring) == 0 || run->first != number)
		run = run_extend(w, s->dialect, number, channel, fanout_limit(w));
	if (run->nframes == 0) { /* no memory to build its frame */
		client_close(w, slot, CLIENT_END_SERVER);
	} else if (w->uring == NULL || (s->flags & SLOT_TLS)) {
		run_sent(w, slot, run, transport_send(w, slot, run->base, run->len));
	} else {
		uring_put(w->uring, s->fd, run->base, run->len, slot);
		if (uring_queued(w->uring) == URING_BATCH)
			flush_uring(w);
	}
}

static void
deliver(struct worker *w, uint32_t slot, uint64_t number, uint32_t channel)
{
	struct slot *s = worker_slot(w, slot);

	if ((s->flags & SLOT_LAGGING) || slot_state(s) != SLOT_OPEN)
		return; /* it goes on by itself when its socket is writable */
	if (out_cursor(w, slot) > number ||
	    !fanout_goes_to(ring_at(w->ring, number), s)) {
		note_served(w, slot); /* it had this one together with an earlier one */
	} else if (s->nsubs > 1 || (s->marks & SLOT_UNCOUNTED)) {
		uint64_t limit = fanout_limit(w);

		out_records(w, slot, number,
		    limit > number + MERGE_RECORDS ? number + MERGE_RECORDS : limit);
		note_served(w, slot);
	} else {
		deliver_run(w, slot, number, channel);
	}
}

/* Index of the first subscriber behind `slot` (SLOT_NONE: of all). */
static uint32_t
subscriber_after(const struct chan *ch, uint32_t slot)
{
	uint32_t lo = 0, hi = ch->nslots;

	if (slot == SLOT_NONE)
		return 0;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (ch->slots[mid] <= slot)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* What is done for a subscriber of the record w->done. */
typedef void subscriber_turn(
    struct worker *w, uint32_t slot, uint64_t number, uint32_t channel);

/* Give each subscriber behind f->middle_slot its turn, at most *budget of them. Returns
 * false when there are more. */
static bool
each_subscriber(
    struct worker *w, uint32_t channel, unsigned *budget, subscriber_turn *turn)
{
	struct fanout *f = w->fanout;
	const struct chan *ch = &w->channels->chan[channel];
	uint32_t i = subscriber_after(ch, f->middle_slot);

	while (*budget > 0 && i < ch->nslots) {
		uint32_t slot = ch->slots[i];

		if (i + PREFETCH < ch->nslots)
			__builtin_prefetch(worker_slot(w, ch->slots[i + PREFETCH]));
		f->middle_slot = slot;
		turn(w, slot, w->done, channel);
		(*budget)--;
		/* Closing it may have taken it, and others, out of the list. */
		if (i < ch->nslots && ch->slots[i] == slot)
			i++;
		else
			i = subscriber_after(ch, slot);
	}
	return i >= ch->nslots;
}

/* Pass the record w->done on to its channel's subscribers. Returns false when it is to
 * be continued. */
static bool
pass_on(struct worker *w, uint32_t channel, unsigned *budget)
{
	struct fanout *f = w->fanout;
	struct chan *ch = &w->channels->chan[channel];
	const struct ring_desc *desc = ring_at(w->ring, w->done);
	bool all;

	if (!f->in_middle) {
		if (desc->type == RING_MESSAGE) {
			ch->offset = desc->offset;
			ch->newest = w->done;
		}
		if (ch->served > w->done)
			return true; /* it went together with an earlier one */
		f->in_middle = true;
		/* Whoever lags now will not stop before this either. */
		f->pass_min = fanout_limit(w);
		ch->joined = false;
	}
	all = each_subscriber(w, channel, budget, deliver);
	if (w->uring != NULL)
		flush_uring(w);
	if (all && !ch->joined)
		ch->served = f->pass_min;
	return all;
}

/* Tell the subscribers of a gap. Returns false when it is to be continued. */
static bool
pass_gap(struct worker *w, uint32_t channel, unsigned *budget)
{
	struct fanout *f = w->fanout;

	if (!f->in_middle)
		channels_gap_begin(w, channel, w->done, &f->middle_slot);
	f->in_middle = true;
	return each_subscriber(w, channel, budget, channels_gap_tell);
}

/* ---- the floor ---- */

void
fanout_lagging(struct worker *w, uint32_t slot)
{
	struct fanout *f = w->fanout;

	if (f->listed[slot / 8] & (1u << slot % 8))
		return;
	f->listed[slot / 8] |= (uint8_t)(1u << slot % 8);
	f->lagging[f->nlagging++] = slot;
}

/* Whoever lags below the new floor is dealt with, whoever lags no more is forgotten. */
static void
lap(struct worker *w, uint64_t floor)
{
	struct fanout *f = w->fanout;
	uint32_t n = f->nlagging;

	slow_leaving(w, floor);
	f->nlagging = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = f->lagging[i];

		f->listed[slot / 8] &= (uint8_t) ~(1u << slot % 8);
		if (!out_lagging(w, slot))
			continue;
		if (out_cursor(w, slot) < floor)
			slow_lapped(w, slot, floor);
		if (out_lagging(w, slot))
			fanout_lagging(w, slot); /* fills up behind what was read */
	}
}

/* Whether `done` moved by a step since the floor was last raised. */
static bool
floor_due(const struct worker *w)
{
	const struct fanout *f = w->fanout;
	const struct ring_desc *now = ring_at(w->ring, w->done);
	const struct ring_desc *then = ring_at(w->ring, f->floor_at);
	uint32_t step = ring_frames_size(w->ring) / FLOOR_STEPS;

	if (w->done - f->floor_at >= ring_index_len(w->ring) / FLOOR_STEPS)
		return true;
	for (unsigned d = 0; d < DIALECT_COUNT; d++)
		if (now->begin[d] - then->begin[d] >= step)
			return true;
	return false;
}

static void
raise_floor(struct worker *w)
{
	struct fanout *f = w->fanout;
	uint64_t floor;

	if (!floor_due(w))
		return;
	floor = ring_retain(w->ring, w->done);
	f->floor_at = w->done;
	if (floor <= f->floor)
		return;
	if (f->nlagging > 0)
		lap(w, floor);
	f->floor = floor;
	page_set_floor(w->page, floor);
}

/* A pass over all slots, once in 2^29 records. */
static void
renew_positions(struct worker *w)
{
	uint32_t used = table_slots_used(&w->table);

	if (w->done - w->fanout->renewed < RENEW_RECORDS)
		return;
	w->fanout->renewed = w->done;
	for (uint32_t i = 0; i < used; i++)
		if (slot_state(worker_slot(w, i)) != SLOT_FREE)
			out_renew(w, i);
}

/* ---- a turn ---- */

static uint64_t
realtime_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A message has been passed on: note to how many, and how long that took. begun_ns: 0
 * when a predecessor began. A clock that was set back tells nothing. */
static void
note_passed(struct worker *w, uint64_t number, uint32_t channel, uint64_t begun_ns)
{
	const struct chan *ch = &w->channels->chan[channel];
	const struct ring_desc *desc = ring_at(w->ring, number);
	uint64_t now = realtime_ns();

	rules_passed(w, ch->rule, number, ch->nslots);
	if (now >= desc->time_ns)
		page_time_add(w->page, PAGE_TIME_latency, now - desc->time_ns);
	if (begun_ns != 0 && now >= begun_ns)
		page_time_add(w->page, PAGE_TIME_fanout, now - begun_ns);
}

/* Pass on a message. The clock is read twice for it, whatever the number of its
 * subscribers. */
static bool
pass_timed(struct worker *w, uint32_t channel, unsigned *budget)
{
	struct fanout *f = w->fanout;

	if (!f->in_middle)
		f->begun_ns = realtime_ns();
	if (!pass_on(w, channel, budget))
		return false;
	note_passed(w, w->done, channel, f->begun_ns);
	return true;
}

/* Pass on several records at once. Returns how many. */
static unsigned
pass_gathered(struct worker *w, unsigned *budget)
{
	uint64_t begun_ns = realtime_ns(), number = w->done;
	unsigned passed = gather_pass(w, w->fanout->gather, budget);

	for (; number < w->done; number++) {
		const struct ring_desc *desc = ring_at(w->ring, number);
		uint32_t channel = channels_of(w, desc->channel);

		if (desc->type == RING_MESSAGE && channel != CHANNEL_NONE)
			note_passed(w, number, channel, begun_ns);
	}
	return passed;
}

/* Handle the record w->done. Returns false when its fanout is to be continued. */
static bool
handle(struct worker *w, unsigned *budget)
{
	const struct ring_desc *desc = ring_at(w->ring, w->done);
	uint32_t channel = channels_of(w, desc->channel);
	bool all = true;

	if (desc->type == RING_MESSAGE)
		all = channel == CHANNEL_NONE || pass_timed(w, channel, budget);
	else if (desc->type == RING_PUSH)
		all = channel == CHANNEL_NONE || pass_on(w, channel, budget);
	else if (desc->type == RING_GAP)
		all = channel == CHANNEL_NONE || pass_gap(w, channel, budget);
	else if (desc->type == RING_REVOKED)
		all = channels_revoked(w, desc, budget);
	else if (desc->type == RING_SETTINGS)
		reload_record(w, desc);
	else if (desc->type == RING_EXPEL)
		all = expel_record(w, desc, budget);
	else if (desc->type == RING_DRAIN)
		farewell_record(w, desc);
	else
		channels_record(w, w->done, desc);
	if (!all)
		return false;
	w->fanout->in_middle = false;
	w->fanout->middle_slot = SLOT_NONE;
	w->done++;
	page_set_done(w->page, w->done);
	return true;
}

enum fanout_turn
fanout_turn(struct worker *w)
{
	unsigned budget = TURN_SENDS, passed;
	enum fanout_turn turn = FANOUT_MORE;

	for (unsigned i = 0; i < TURN_RECORDS && budget > 0; i++) {
		if (w->done == ring_head(w->ring)) {
			if (page_sleep(w->page, w->ring, w->done)) {
				turn = FANOUT_IDLE;
				break;
			}
		} else if (!w->fanout->in_middle &&
			   (passed = pass_gathered(w, &budget)) > 0) {
			i += passed - 1;
		} else if (!handle(w, &budget)) {
			break;
		}
	}
	raise_floor(w);
	renew_positions(w);
	channels_turn(w);
	return turn;
}
