#include "worker/slow.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/out.h"
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
	if (cursor >= number)
		return;
	had = channels_offset(w, sub->channel, cursor, &newest);
	last = channels_offset(w, sub->channel, number, &newest);
	name = channels_name(w, sub->channel, &len);
	if (last > had && settings_rule(w->settings, name, len)->slow == SLOW_SKIP)
		session_gap(w, slot, name, len, had + 1, last);
}

static void
skip(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint64_t cursor = slot_cursor(s, w->done);
	uint8_t before = slot_surgery_begin(s);

	slot_set_pos(s, (uint32_t)w->done, slot_tx(s));
	/* A notice may close the connection, and with it its subscriptions. */
	for (unsigned i = 0; i < s->nsubs; i++)
		tell_gap(w, slot, &slot_subs(w, s)[i], cursor, w->done);
	slot_surgery_end(s, before);
}

void
slow_lapped(struct worker *w, uint32_t slot, uint64_t floor)
{
	struct slot *s = worker_slot(w, slot);

	page_add(w->page, PAGE_lapped, 1);
	if (slot_state(s) == SLOT_OPEN && policy_of(w, s) != SLOW_CLOSE &&
	    out_detach(w, slot) == 0) {
		skip(w, slot);
		return;
	}
	if (slot_state(s) == SLOT_OPEN)
		client_end(w, slot, CLIENT_END_SLOW, 1013, "too slow");
	/* Only private frames are left to send, and they lie in the arena. */
	slot_set_pos(s, (uint32_t)w->done, slot_tx(s));
}
