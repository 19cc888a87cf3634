#include "worker/slow.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/out.h"
#include "worker/requests.h"
#include "worker/rules.h"
#include "worker/session.h"

/* The strictest policy of the connection's channels; enum slow_policy falls from
 * strict to mild. */
static enum slow_policy
policy_of(struct worker *w, struct slot *s)
{
	const struct sub *sub = slot_subs(w, s);
	enum slow_policy strictest = SLOW_LATEST;

	for (unsigned i = 0; i < s->nsubs; i++) {
		size_t len;
		const char *name = channels_name(w, sub[i].channel, &len);
		enum slow_policy slow = settings_rule(w->settings, name, len)->slow;

		if (slow < strictest)
			strictest = slow;
	}
	return strictest;
}

/* Where a subscription goes on: slow = latest has its newest message still to come, as
 * long as that may be looked at; all others go on with what comes next. */
static uint64_t
next_of(const struct worker *w, const struct sub *sub, uint64_t cursor, uint64_t floor)
{
	uint64_t newest;

	if (!w->channels->chan[sub->channel].latest)
		return w->done;
	(void)channels_offset(w, sub->channel, w->done, &newest);
	if (newest < floor || newest < cursor ||
	    (int32_t)((uint32_t)newest - sub->from) < 0) /* it had that one */
		return w->done;
	return newest;
}

/* Tell what a subscription misses when the connection goes on at `number`. */
static void
tell_gap(struct worker *w, uint32_t slot, const struct sub *sub, uint64_t cursor,
    uint64_t number)
{
	uint64_t newest, had, last;
	const char *name;
	size_t len;

	if ((int32_t)(sub->from - (uint32_t)cursor) > 0) /* begins behind the cursor */
		cursor += sub->from - (uint32_t)cursor;
	/* Who wants the latest alone misses nothing as long as it comes. */
	if (cursor >= number || number < w->done)
		return;
	had = channels_offset(w, sub->channel, cursor, &newest);
	last = channels_offset(w, sub->channel, number, &newest);
	name = channels_name(w, sub->channel, &len);
	if (last <= had)
		return;
	page_add(w->page, PAGE_skipped_messages, last - had);
	rule_add(&w->page->rules, w->channels->chan[sub->channel].rule,
	    RULE_skipped_messages, last - had);
	session_gap(w, slot, name, len, had + 1, last);
}

static void
skip(struct worker *w, uint32_t slot, uint64_t floor)
{
	struct slot *s = worker_slot(w, slot);
	uint64_t cursor = slot_cursor(s, w->done), first = w->done;
	uint8_t before = slot_surgery_begin(s);

	slot_set_pos(s, (uint32_t)w->done, slot_tx(s));
	/* A notice may close the connection, and with it its subscriptions. */
	for (unsigned i = 0; i < s->nsubs; i++) {
		uint64_t next = next_of(w, &slot_subs(w, s)[i], cursor, floor);

		if (next < first)
			first = next;
		tell_gap(w, slot, &slot_subs(w, s)[i], cursor, next);
		if (i < s->nsubs)
			slot_subs(w, s)[i].from = (uint32_t)next;
	}
	if (slot_state(s) == SLOT_OPEN)
		slot_set_pos(s, (uint32_t)first, slot_tx(s));
	slot_surgery_end(s, before);
}

/* Once for each rule that the connection's channels have. */
static void
count_lapped(struct worker *w, struct slot *s, enum rule_counter c)
{
	const struct sub *sub = slot_subs(w, s);
	uint64_t seen = 0;

	_Static_assert(RULE_ROWS <= 64, "a bit for each");
	for (unsigned i = 0; i < s->nsubs; i++) {
		uint8_t row = w->channels->chan[sub[i].channel].rule;

		if (!(seen & UINT64_C(1) << row))
			rule_add(&w->page->rules, row, c, 1);
		seen |= UINT64_C(1) << row;
	}
}

void
slow_lapped(struct worker *w, uint32_t slot, uint64_t floor)
{
	struct slot *s = worker_slot(w, slot);

	page_add(w->page, PAGE_lapped, 1);
	if (slot_state(s) == SLOT_OPEN && policy_of(w, s) != SLOW_CLOSE &&
	    out_detach(w, slot) == 0) {
		page_add(w->page, PAGE_skipped, 1);
		count_lapped(w, s, RULE_skipped);
		skip(w, slot, floor);
		return;
	}
	if (slot_state(s) == SLOT_OPEN) {
		count_lapped(w, s, RULE_closed_slow);
		client_end(w, slot, CLIENT_END_SLOW, 1013, "too slow");
	}
	/* Only private frames are left to send, and they lie in the arena. */
	slot_set_pos(s, (uint32_t)w->done, slot_tx(s));
}
