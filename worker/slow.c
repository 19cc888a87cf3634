#include "worker/slow.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/out.h"
#include "worker/rules.h"
#include "worker/session.h"
#include "worker/subs.h"

/* The strictest policy of the connection's channels; enum slow_policy falls from
 * strict to mild. */
static enum slow_policy
policy_of(struct worker *w, struct slot *s)
{
	const struct sub *sub = slot_subs(w, s);
	enum slow_policy strictest = SLOW_LATEST, slow;

	for (unsigned i = 0; i < s->nsubs; i++) {
		size_t len;
		const char *name;

		if (w->channels->chan[sub[i].channel].latest)
			continue; /* spares a look at the rules */
		name = channels_name(w, sub[i].channel, &len);
		slow = settings_rule(w->settings, name, len)->slow;
		if (slow < strictest)
			strictest = slow;
	}
	return strictest;
}

/* ---- what is counted by rule, once for each connection: sets of rows ---- */

static uint64_t
row_bit(const struct chan *ch)
{
	_Static_assert(RULE_ROWS <= 64, "a bit for each");
	return UINT64_C(1) << ch->rule;
}

static uint64_t
rows_of(const struct worker *w, struct slot *s)
{
	uint64_t rows = 0;

	for (unsigned i = 0; i < s->nsubs; i++)
		rows |= row_bit(&w->channels->chan[slot_subs(w, s)[i].channel]);
	return rows;
}

static void
count_rows(struct worker *w, uint64_t rows, enum rule_counter c)
{
	for (uint8_t row = 0; row < RULE_ROWS; row++)
		if (rows >> row & 1)
			rule_add(&w->page->rules, row, c, 1);
}

/* ---- what leaves the window ---- */

void
slow_leaving(struct worker *w, uint64_t floor)
{
	uint64_t n = fanout_floor(w);

	if (n < ring_oldest(w->ring)) /* which no writer lets happen */
		n = ring_oldest(w->ring);
	for (; n < floor; n++) {
		const struct ring_desc *desc = ring_at(w->ring, n);
		uint32_t channel = channels_of(w, desc->channel);
		struct chan *ch;

		if (desc->type != RING_MESSAGE || channel == CHANNEL_NONE)
			continue;
		ch = &w->channels->chan[channel];
		if (ch->leaving != floor) {
			ch->leaving = floor;
			ch->nleaving = 0;
			ch->lost = 0;
		}
		ch->nleaving++;
		if (!ring_superseded(desc, n, w->done))
			ch->lost = n;
	}
}

/* Whether the newest message of a key is among those that leave from `begin` on. */
static bool
loses(const struct chan *ch, uint64_t begin, uint64_t floor)
{
	return ch->leaving == floor && ch->lost >= begin;
}

/* Of the channel's messages that leave none is the newest of its key: count them. */
static void
pass_over(struct worker *w, uint32_t channel, uint64_t begin, uint64_t floor)
{
	const struct chan *ch = &w->channels->chan[channel];
	uint32_t directory = w->table.channels[channel].directory;
	uint64_t n = ch->leaving == floor ? ch->nleaving : 0;

	/* Some are not its own, if it came to lag since the floor was raised last. */
	for (uint64_t at = fanout_floor(w); n > 0 && at < begin; at++)
		n -= ring_at(w->ring, at)->type == RING_MESSAGE &&
		     ring_at(w->ring, at)->channel == directory;
	page_add(w->page, PAGE_replaced, n);
	rule_add(&w->page->rules, ch->rule, RULE_replaced, n);
}

/* Tell what a subscription misses when it goes on at w->done. */
static void
tell_gap(struct worker *w, uint32_t slot, const struct sub *sub, uint64_t begin)
{
	uint64_t newest, had, last;
	const char *name;
	size_t len;

	had = channels_offset(w, sub->channel, begin, &newest);
	last = channels_offset(w, sub->channel, w->done, &newest);
	name = channels_name(w, sub->channel, &len);
	if (last <= had)
		return;
	page_add(w->page, PAGE_skipped_messages, last - had);
	rule_add(&w->page->rules, w->channels->chan[sub->channel].rule,
	    RULE_skipped_messages, last - had);
	session_gap(w, slot, name, len, had + 1, last);
}

/* ---- moving on ---- */

/*
 * Where a subscription goes on. With slow = latest it is enough to stay within the
 * window, as long as only such leave it for which a newer one stands. Where another
 * does, the client must begin anew with that channel, and is told so once: as with slow
 * = skip. So is one that resumed, whatever leaves: it was told that it gets all.
 */
static uint64_t
move_on(struct worker *w, uint32_t slot, unsigned i, uint64_t cursor, uint64_t floor,
    uint64_t *lost)
{
	struct slot *s = worker_slot(w, slot);
	struct sub *sub = &slot_subs(w, s)[i];
	const struct chan *ch = &w->channels->chan[sub->channel];
	uint64_t begin = cursor;

	if ((int32_t)(sub->from - (uint32_t)cursor) > 0) /* begins behind the cursor */
		begin += sub->from - (uint32_t)cursor;
	if (begin >= floor)
		return begin;
	if (ch->latest && !(s->marks & SLOT_REPLAY) && !loses(ch, begin, floor)) {
		pass_over(w, sub->channel, begin, floor);
		return floor;
	}
	sub->from = (uint32_t)w->done;
	*lost |= row_bit(ch);
	tell_gap(w, slot, sub, begin);
	return w->done;
}

static void
skip(struct worker *w, uint32_t slot, uint64_t floor)
{
	struct slot *s = worker_slot(w, slot);
	uint64_t cursor = slot_cursor(s, w->done), first = w->done;
	uint8_t before = slot_surgery_begin(s);
	uint64_t lost = 0;

	slot_set_pos(s, (uint32_t)w->done, slot_tx(s)); /* what is told comes there */
	/* A notice may close the connection, and with it its subscriptions. */
	for (unsigned i = 0; i < s->nsubs; i++) {
		uint64_t next = move_on(w, slot, i, cursor, floor, &lost);

		if (next < first)
			first = next;
	}
	if (first == w->done) /* nothing is left to be sent again */
		s->marks &= (uint8_t)~SLOT_REPLAY;
	if (slot_state(s) == SLOT_OPEN)
		slot_set_pos(s, (uint32_t)first, slot_tx(s));
	slot_surgery_end(s, before);
	page_add(w->page, PAGE_lapped, lost != 0);
	page_add(w->page, PAGE_skipped, lost != 0);
	count_rows(w, lost, RULE_skipped);
}

void
slow_lapped(struct worker *w, uint32_t slot, uint64_t floor)
{
	struct slot *s = worker_slot(w, slot);

	if (slot_state(s) == SLOT_OPEN && policy_of(w, s) != SLOW_CLOSE &&
	    out_detach(w, slot) == 0) {
		skip(w, slot, floor);
		return;
	}
	page_add(w->page, PAGE_lapped, 1);
	if (slot_state(s) == SLOT_OPEN) {
		count_rows(w, rows_of(w, s), RULE_closed_slow);
		client_end(w, slot, CLIENT_END_SLOW, 1013, "too slow");
	}
	/* Only private frames are left to send, and they lie in the arena. */
	slot_set_pos(s, (uint32_t)w->done, slot_tx(s));
}
