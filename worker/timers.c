/* timers.c - see timers.h */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "proto/frame.h"
#include "worker/client.h"
#include "worker/expiry.h"
#include "worker/out.h"
#include "worker/timers.h"
#include "worker/wheel.h"

#define RESUME_TICKS 50  /* a deadline that came while nobody served */
#define EXPIRIES_MAX 256 /* tokens that are looked at in one turn */

struct timers {
	struct wheel wheel;
	unsigned expiries; /* in this turn, with those that were put off */
	uint64_t random;
};

uint32_t
timer_ticks(uint32_t ms)
{
	return (ms + TICK_MS - 1) / TICK_MS;
}

/* Spreads timers; nobody gains from guessing it. xorshift64 */
static uint32_t
random_below(struct timers *t, uint32_t n)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return n == 0 ? 0 : (uint32_t)(t->random >> 32) % n;
}

/* The sooner of what the slot waits for and its token's end. */
static bool
next_deadline(const struct worker *w, const struct slot *s, uint32_t *ret_tick)
{
	uint32_t tick;

	if (!expiry_tick(w, s, &tick)) {
		*ret_tick = s->deadline;
		return s->timer != TIMER_NONE;
	}
	*ret_tick = tick;
	if (s->timer != TIMER_NONE && (int32_t)(s->deadline - tick) < 0)
		*ret_tick = s->deadline;
	return true;
}

void
timer_renew(struct worker *w, uint32_t slot)
{
	uint32_t tick;

	if (next_deadline(w, worker_slot(w, slot), &tick))
		wheel_set(&w->timers->wheel, slot, tick);
	else
		wheel_clear(&w->timers->wheel, slot);
}

void
timer_set(struct worker *w, uint32_t slot, enum timer timer, uint32_t in_ticks)
{
	struct slot *s = worker_slot(w, slot);

	s->timer = (uint8_t)timer;
	s->deadline = w->tick + in_ticks;
	timer_renew(w, slot);
}

/* An open connection's ordinary state: waiting until the next ping is to go. */
static void
set_ping_timer(struct worker *w, uint32_t slot, uint32_t in_ticks)
{
	if (w->settings->ping_interval_ms == 0)
		timer_set(w, slot, TIMER_NONE, 0);
	else
		timer_set(w, slot, TIMER_PING, in_ticks);
}

static uint32_t
write_ticks_left(const struct worker *w, const struct slot *s)
{
	uint32_t due = s->progress + timer_ticks(w->settings->write_timeout_ms);

	return (int32_t)(due - w->tick) > 0 ? due - w->tick : 0;
}

static void
on_ping_due(struct worker *w, uint32_t slot)
{
	static const uint8_t ping[2] = {0x80 | OPCODE_PING, 0};
	struct slot *s = worker_slot(w, slot);

	if (s->flags & SLOT_LAGGING) {
		/* A ping would wait behind the rest: taking that is sign of life
		 * enough, and not taking it has a deadline of its own. */
		timer_set(w, slot, TIMER_WRITE, write_ticks_left(w, s));
		return;
	}
	s->flags |= SLOT_PINGED;
	timer_set(w, slot, TIMER_PONG, timer_ticks(w->settings->pong_timeout_ms));
	if (out_private(w, slot, ping, sizeof(ping)) < 0)
		client_close(w, slot, CLIENT_END_LIMIT);
}

/* Pings go once in an interval, however soon the last one was answered. */
static void
set_next_ping(struct worker *w, uint32_t slot)
{
	uint32_t sent =
	    worker_slot(w, slot)->deadline - timer_ticks(w->settings->pong_timeout_ms);
	uint32_t due = sent + timer_ticks(w->settings->ping_interval_ms);

	set_ping_timer(w, slot, (int32_t)(due - w->tick) > 0 ? due - w->tick : 1);
}

void
timer_heard(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (!(s->flags & SLOT_PINGED))
		return;
	s->flags &= (uint8_t)~SLOT_PINGED;
	if (s->timer == TIMER_PONG)
		set_next_ping(w, slot);
}

static void
on_pong_due(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t sent = s->deadline - timer_ticks(w->settings->pong_timeout_ms);

	/* Who takes bytes lives, though its answer may be behind them. */
	if (!(s->flags & SLOT_PINGED) ||
	    ((s->flags & SLOT_LAGGING) && (int32_t)(s->progress - sent) > 0)) {
		s->flags &= (uint8_t)~SLOT_PINGED;
		set_next_ping(w, slot);
		return;
	}
	client_close(w, slot, CLIENT_END_TIMEOUT);
}

static void
on_write_due(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (!(s->flags & SLOT_LAGGING))
		on_ping_due(w, slot);
	else if (write_ticks_left(w, s) > 0)
		timer_set(w, slot, TIMER_WRITE, write_ticks_left(w, s));
	else /* no Close frame: it would not be taken either */
		client_close(w, slot, CLIENT_END_SLOW);
}

static void
on_own_due(struct worker *w, uint32_t slot)
{
	switch (worker_slot(w, slot)->timer) {
	case TIMER_HANDSHAKE:
		client_close(w, slot, CLIENT_END_TIMEOUT);
		break;
	case TIMER_PING:
		on_ping_due(w, slot);
		break;
	case TIMER_PONG:
		on_pong_due(w, slot);
		break;
	case TIMER_WRITE:
		on_write_due(w, slot);
		break;
	default:
		client_close(w, slot, CLIENT_END_SERVER);
		break;
	}
}

static bool
is_past(const struct worker *w, uint32_t tick)
{
	return (int32_t)(tick - w->tick) <= 0;
}

static void
on_due(void *owner, uint32_t slot)
{
	struct worker *w = owner;
	struct slot *s = worker_slot(w, slot);
	uint32_t tick, turns;

	/* Many tokens may end in one second: each of the next turns has its share, and
	 * meets no other. */
	if (expiry_tick(w, s, &tick) && is_past(w, tick)) {
		turns = w->timers->expiries++ / EXPIRIES_MAX;
		if (turns > 0) {
			wheel_set(&w->timers->wheel, slot, w->tick + turns);
			if (s->timer == TIMER_NONE || !is_past(w, s->deadline))
				return;
		} else {
			expiry_due(w, slot);
		}
	}
	if (slot_state(s) == SLOT_FREE)
		return;
	if (s->timer != TIMER_NONE && is_past(w, s->deadline))
		on_own_due(w, slot);
	else
		timer_renew(w, slot);
}

static uint32_t
deadline_of(void *owner, uint32_t slot)
{
	uint32_t tick;

	(void)next_deadline(owner, worker_slot(owner, slot), &tick);
	return tick;
}

void
timers_tick(struct worker *w)
{
	w->timers->expiries = 0;
	wheel_advance(&w->timers->wheel, w->tick, deadline_of, on_due, w);
}

/* ---- a connection's life ---- */

void
timer_clear(struct worker *w, uint32_t slot)
{
	wheel_clear(&w->timers->wheel, slot);
}

void
timer_opened(struct worker *w, uint32_t slot)
{
	set_ping_timer(w, slot,
	    1 + random_below(w->timers, timer_ticks(w->settings->ping_interval_ms)));
}

void
timer_lagging(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t left = write_ticks_left(w, s);

	/* It may come before the next ping would look for it. */
	if (s->timer == TIMER_NONE ||
	    (s->timer == TIMER_PING &&
		(int32_t)(s->deadline - w->tick) > (int32_t)left))
		timer_set(w, slot, TIMER_WRITE, left);
}

void
timer_resume(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	/* What came in time may still lie unread in the kernel. */
	if (s->timer != TIMER_NONE && s->timer != TIMER_PING &&
	    (int32_t)(s->deadline - (w->tick + RESUME_TICKS)) < 0)
		s->deadline = w->tick + RESUME_TICKS;
	timer_renew(w, slot);
}

/* ---- reload ---- */

/* A deadline that was `was` ms after something is now `is` ms after it. */
static void
shift(struct worker *w, uint32_t slot, uint32_t was, uint32_t is)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t due = s->deadline - timer_ticks(was) + timer_ticks(is);
	uint32_t left = (int32_t)(due - w->tick) > 0 ? due - w->tick : 0;

	timer_set(w, slot, (enum timer)s->timer, left);
}

/* A ping comes within the new interval; spread, as all of them are asked at once. */
static void
move_ping(struct worker *w, uint32_t slot)
{
	uint32_t left = worker_slot(w, slot)->deadline - w->tick;

	if ((int32_t)left > (int32_t)timer_ticks(w->settings->ping_interval_ms))
		timer_opened(w, slot);
}

static void
move_deadline(struct worker *w, uint32_t slot, const struct settings *old)
{
	const struct settings *set = w->settings;
	struct slot *s = worker_slot(w, slot);

	if (s->timer == TIMER_PING)
		move_ping(w, slot);
	else if (s->timer == TIMER_WRITE)
		timer_set(w, slot, TIMER_WRITE, write_ticks_left(w, s));
	else if (s->timer == TIMER_HANDSHAKE && old != NULL)
		shift(w, slot, old->handshake_timeout_ms, set->handshake_timeout_ms);
	else if (s->timer == TIMER_PONG && old != NULL)
		shift(w, slot, old->pong_timeout_ms, set->pong_timeout_ms);
	/* Its ping may have been the earlier of the two until now. */
	if (s->flags & SLOT_LAGGING)
		timer_lagging(w, slot);
}

void
timers_reload(struct worker *w, const struct settings *old)
{
	uint32_t used = table_slots_used(&w->table);

	for (uint32_t i = 0; i < used; i++)
		if (slot_state(worker_slot(w, i)) != SLOT_FREE)
			move_deadline(w, i, old);
}

/* ---- all of them ---- */

int
timers_new(const struct worker *w, struct timers **ret)
{
	struct timers *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	if (wheel_init(&t->wheel, w->table.header->nslots, w->tick) < 0) {
		free(t);
		return -ENOMEM;
	}
	randombytes_buf(&t->random, sizeof(t->random));
	t->random |= 1; /* xorshift stays at 0 */
	*ret = t;
	return 0;
}

void
timers_free(struct timers *t)
{
	if (t == NULL)
		return;
	wheel_done(&t->wheel);
	free(t);
}
