/* expel.c - see expel.h */
#include <time.h>

#include "proto/uplink.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/expel.h"
#include "worker/identity.h"
#include "worker/requests.h"

#define LOOKS 2048 /* slots looked at in one go: under a millisecond */

static uint64_t
realtime_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

enum revoked_kind
expel_revoked(const struct worker *w, struct slice subject, struct slice jti)
{
	const struct revoked *r = ring_revoked(w->ring);
	struct revoked_id id;
	uint64_t now_ms;

	if (revoked_live(r) == 0)
		return 0;
	now_ms = realtime_ms();
	if (revoked_id(r, REVOKED_USER, subject.p, subject.len, &id) &&
	    revoked_has(r, &id, now_ms))
		return REVOKED_USER;
	if (revoked_id(r, REVOKED_JTI, jti.p, jti.len, &id) &&
	    revoked_has(r, &id, now_ms))
		return REVOKED_JTI;
	return 0;
}

static bool
is_named(const struct worker *w, enum revoked_kind kind, struct slice text,
    const struct ring_desc *desc)
{
	struct revoked_id id;

	return revoked_id(ring_revoked(w->ring), kind, text.p, text.len, &id) &&
	       id.hash[0] == desc->offset && id.hash[1] == desc->arg;
}

/* The code to close a connection with, or 0. */
static uint16_t
verdict(const struct worker *w, const struct slot *s, const struct ring_desc *desc)
{
	uint32_t channel;

	switch ((enum ring_expel)desc->data_kind) {
	case EXPEL_REVOKED:
		switch (expel_revoked(w, identity_subject(w, s), identity_jti(w, s))) {
		case REVOKED_USER:
			return 4403;
		case REVOKED_JTI:
			return 4401; /* it may come again with another */
		}
		return 0;
	case EXPEL_USER:
		return is_named(w, REVOKED_USER, identity_subject(w, s), desc) ? 4403
									       : 0;
	case EXPEL_JTI:
		return is_named(w, REVOKED_JTI, identity_jti(w, s), desc) ? 4401 : 0;
	case EXPEL_CLIENT:
		return s->client == desc->offset ? 4403 : 0;
	case EXPEL_CHANNEL:
		channel = channels_of(w, desc->channel);
		return channel != CHANNEL_NONE && slot_sub(w, s, channel) != NULL ? 4403
										  : 0;
	}
	return 0;
}

static void
expel(struct worker *w, uint32_t slot, uint16_t code)
{
	page_add(w->page, PAGE_expelled, 1);
	client_end(w, slot, CLIENT_END_SERVER, code,
	    code == 4401 ? "token revoked" : "expelled");
}

/* All slots were looked at. */
static void
finish(struct worker *w)
{
	struct expel *e = &w->expel;
	struct uplink u = {
	    .type = UPLINK_EXPELLED, .token = e->number, .cookie = e->closed};

	if (channels_ask(w, &u) < 0)
		e->untold++; /* whoever asked does without the number */
	if (e->covers > e->covered)
		e->covered = e->covers;
	e->number = 0;
}

bool
expel_record(struct worker *w, const struct ring_desc *desc, unsigned *budget)
{
	struct expel *e = &w->expel;
	uint32_t used = table_slots_used(&w->table);

	if (e->number != w->done) {
		e->number = w->done;
		e->slot = 0;
		e->closed = 0;
		e->covers = 0;
		/* What was revoked until the last walk began was in the table then. */
		if (desc->data_kind == EXPEL_REVOKED && w->done < e->covered)
			e->slot = used;
		else if (desc->data_kind == EXPEL_REVOKED)
			e->covers = ring_head(w->ring);
	}
	for (unsigned looks = 0; e->slot < used; looks++, e->slot++) {
		const struct slot *s = worker_slot(w, e->slot);
		uint16_t code;

		if (looks == LOOKS || *budget == 0) {
			*budget = 0;
			return false;
		}
		if (slot_state(s) == SLOT_FREE || slot_state(s) == SLOT_CLOSING)
			continue;
		code = verdict(w, s, desc);
		if (code == 0)
			continue;
		expel(w, e->slot, code);
		e->closed++;
		(*budget)--;
	}
	finish(w);
	return true;
}
