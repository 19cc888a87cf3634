/* expiry.c - see expiry.h */
#include <time.h>

#include "shm/arena.h"
#include "worker/client.h"
#include "worker/expiry.h"
#include "worker/session.h"
#include "worker/timers.h"

#define NOTICE_MS (60 * 1000)
/* A clock that was set meanwhile is noticed within the hour, in either direction. */
#define LOOK_MS (3600 * 1000)

static int64_t
wall_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The identity, for its clockwork to be set; NULL: it does not end. */
static struct identity *
mortal(const struct worker *w, const struct slot *s)
{
	struct identity *i = s->identity == 0 ? NULL : arena_at(w->arena, s->identity);

	return i == NULL || i->ends_s == 0 ? NULL : i;
}

/* left_ms: until its end. */
static void
set_due(struct worker *w, uint32_t slot, struct identity *i, int64_t left_ms)
{
	int64_t in_ms = i->told ? left_ms : left_ms - NOTICE_MS;

	if (in_ms < 0)
		in_ms = 0;
	if (in_ms > LOOK_MS)
		in_ms = LOOK_MS;
	/* Never before its time: a tick more than rounding up would give. */
	i->due = w->tick + (uint32_t)(in_ms / TICK_MS) + 1;
	timer_renew(w, slot);
}

void
expiry_begin(struct worker *w, uint32_t slot)
{
	struct identity *i = mortal(w, worker_slot(w, slot));

	if (i == NULL)
		timer_renew(w, slot);
	else
		set_due(w, slot, i, i->ends_s * 1000 - wall_ms());
}

bool
expiry_tick(const struct worker *w, const struct slot *s, uint32_t *ret_tick)
{
	const struct identity *i = mortal(w, s);

	if (i == NULL || slot_state(s) == SLOT_CLOSING)
		return false;
	*ret_tick = i->due;
	return true;
}

void
expiry_due(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	struct identity *i = mortal(w, s);
	int64_t left_ms = i->ends_s * 1000 - wall_ms();

	if (left_ms <= 0) {
		session_dismiss(w, slot, CLIENT_END_EXPIRED, 4401, "token expired");
		return;
	}
	if (!i->told && left_ms <= NOTICE_MS) {
		i->told = 1;
		session_expires(w, slot, (uint32_t)((left_ms + 999) / 1000));
	}
	if (slot_state(s) == SLOT_OPEN)
		set_due(w, slot, i, left_ms);
}
