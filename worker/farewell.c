/* farewell.c - see farewell.h */
#include <time.h>

#include "worker/accept.h"
#include "worker/client.h"
#include "worker/farewell.h"
#include "worker/session.h"
#include "worker/tls.h"

#define TOLD_MAX 256   /* connections told in one turn of the loop */
#define LOOKS_MAX 4096 /* slots looked at */

static uint64_t
now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void
begin(struct worker *w, enum farewell_why why, uint64_t end_us)
{
	w->farewell =
	    (struct farewell){.why = why, .next_us = now_us(), .end_us = end_us};
}

void
farewell_begin(struct worker *w, enum farewell_why why, uint64_t over_ms)
{
	begin(w, why, now_us() + over_ms * 1000);
}

void
farewell_resume(struct worker *w)
{
	uint64_t begin_ms, end_ms;
	bool on = page_drain(w->page, &begin_ms, &end_ms);

	begin(w, on ? FAREWELL_DRAIN : FAREWELL_NONE, end_ms * 1000);
	page_set_state(w->page, on ? WORKER_DRAINING : WORKER_SERVING);
}

void
farewell_record(struct worker *w, const struct ring_desc *desc)
{
	if (desc->worker != w->index)
		return;
	page_set_drain(w->page, desc->arg, desc->offset);
	/* Who stops or restarts tells them already, and its successor looks again. */
	if (w->farewell.why == FAREWELL_NONE || w->farewell.why == FAREWELL_DRAIN)
		farewell_resume(w);
}

bool
farewell_refuses(const struct worker *w)
{
	return ring_draining(w->ring) || w->farewell.why == FAREWELL_DRAIN ||
	       w->farewell.why == FAREWELL_STOP;
}

/* Whether this connection is one to be told. */
static bool
is_meant(const struct worker *w, const struct slot *s)
{
	switch (w->farewell.why) {
	case FAREWELL_NONE:
		return false;
	case FAREWELL_RESTART: /* its keys are in our memory alone */
		return slot_is_bound(s) &&
		       (slot_state(s) == SLOT_OPEN || slot_state(s) == SLOT_HANDSHAKE);
	case FAREWELL_DRAIN:
		return slot_state(s) == SLOT_OPEN;
	case FAREWELL_STOP: /* a request is answered, unless it comes too late */
		return slot_state(s) == SLOT_OPEN ||
		       (w->farewell.last && slot_state(s) == SLOT_HANDSHAKE);
	}
	return false;
}

static void
send_away(struct worker *w, uint32_t slot)
{
	switch (w->farewell.why) {
	case FAREWELL_NONE:
		break;
	case FAREWELL_RESTART:
		page_add(w->page, PAGE_tls_restarted, 1);
		session_dismiss(w, slot, CLIENT_END_SERVER, 1012, "restarting");
		break;
	case FAREWELL_DRAIN:
		page_add(w->page, PAGE_drained, 1);
		session_dismiss(w, slot, CLIENT_END_SERVER, 1012, "draining");
		break;
	case FAREWELL_STOP:
		session_dismiss(w, slot, CLIENT_END_SERVER, 1001, "going away");
		break;
	}
}

/* The time that is left, for those who are left. Some of them may be closing: then it
 * ends a little early. */
static void
pace(struct worker *w)
{
	struct farewell *f = &w->farewell;
	uint64_t left = f->why == FAREWELL_RESTART
			    ? tls_connections(w)
			    : page_get(w->page, PAGE_connections);

	if (f->next_us < f->end_us && left > 0)
		f->next_us += (f->end_us - f->next_us) / left;
}

/* All were told. At a stop nobody is let in any more, and who came meanwhile is told as
 * well, at once. */
static bool
come_to_end(struct worker *w)
{
	struct farewell *f = &w->farewell;

	if (f->why != FAREWELL_STOP || f->last)
		return false;
	acceptor_run(w, false);
	farewell_begin(w, FAREWELL_STOP, 0);
	f->last = true;
	return true;
}

bool
farewell_turn(struct worker *w)
{
	struct farewell *f = &w->farewell;
	uint32_t used = table_slots_used(&w->table);
	uint64_t now = f->why == FAREWELL_NONE ? 0 : now_us();
	unsigned told = 0, looks = 0;

	if (f->why == FAREWELL_NONE)
		return false;
	for (; f->slot < used; f->slot++) {
		if (now < f->next_us)
			return false; /* the tick looks again */
		if (told == TOLD_MAX || looks++ == LOOKS_MAX)
			return true;
		if (!is_meant(w, worker_slot(w, f->slot)))
			continue;
		pace(w);
		send_away(w, f->slot);
		told++;
	}
	return come_to_end(w);
}
