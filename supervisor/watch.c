/*
 * watch.c - workers that stopped moving.
 *
 * A worker holds the ring by its floor: one that stands still would, in the end, stand
 * in everyone's way. It is replaced before that, which costs its clients nothing. Three
 * signs, each counted from when we last saw it move, so that a supervisor that was
 * itself stopped blames nobody:
 *
 *   - the ring advanced by a quarter, and for a while it did nothing (a quarter of a
 *     small ring can pass before a worker on a busy host gets its CPU);
 *   - its last heartbeat is old, and it is not asleep;
 *   - it was rung, and still sleeps.
 */
#include <signal.h>

#include "proto/journal.h"
#include "supervisor/keeper_link.h"

#define QUARTER 256 /* of ring_distance()'s 1024 */
#define QUARTER_MIN_MS 500
#define STILL_MAX_MS 10000
#define STEP_MS 2000      /* for the keeper to act, before we do */
#define BACKOFF_MS 2000   /* that a worker in its back-off may hold a full ring */
#define HELPLESS_MS 15000 /* a process that does not even die */

enum { STEP_NONE, STEP_ASKED, STEP_KEEPER, STEP_ALL };

void
watch_begin(struct keeper_link *k)
{
	k->kill_step = STEP_NONE;
	k->seen_ms = k->rung_ms = supervisor_now_ms();
	k->seen_head = ring_head(k->all->s->ring);
}

static bool
moved(struct keeper_link *k, const struct page_now *now, uint64_t now_ms)
{
	if (now->heartbeat == k->seen_heartbeat && now->done == k->seen_done)
		return false;
	k->seen_heartbeat = now->heartbeat;
	k->seen_done = now->done;
	k->seen_head = ring_head(k->all->s->ring);
	k->seen_ms = now_ms;
	return true;
}

/* Whether the feed waits for this worker's floor. */
static bool
in_the_way(const struct keeper_link *k)
{
	const struct supervisor *s = k->all->s;

	return s->publisher.blocked && ring_laggard(s->ring) == k->index;
}

/* Returns why it must go, or NULL. */
static const char *
fault(const struct keeper_link *k, const struct page_now *now, uint64_t now_ms)
{
	const struct supervisor *s = k->all->s;
	uint64_t still_ms = now_ms - k->seen_ms;

	/* The record for which a quarter would be full is the one that is blocked. */
	if (still_ms >= QUARTER_MIN_MS &&
	    (ring_distance(s->ring, k->seen_head) >= QUARTER || in_the_way(k)))
		return "a quarter of the ring passed";
	if (still_ms < STILL_MAX_MS)
		return NULL;
	if (now->asleep % 2 == 0)
		return "its heartbeat stopped";
	if (now->asleep == k->rung && now_ms - k->rung_ms >= STILL_MAX_MS)
		return "it was woken and did not wake";
	return NULL;
}

static void
escalate(struct keeper_link *k, uint64_t now_ms)
{
	if (now_ms - k->kill_ms < STEP_MS)
		return;
	k->kill_ms = now_ms;
	if (k->kill_step == STEP_ASKED && k->keeper > 1) {
		k->kill_step = STEP_KEEPER;
		log_error(0,
		    "worker %u: its keeper (pid %d) does not act; killing the keeper",
		    k->index, (int)k->keeper);
		(void)kill(k->keeper, SIGKILL);
		/* Its spare may have missed the request with it. */
		keeper_tell(k, LAUNCH_KILL, 0);
		return;
	}
	k->kill_step = STEP_ALL;
	log_error(0, "worker %u: killing all of it", k->index);
	keeper_kill_all(k);
}

/* A worker whose serving processes die at once is not moving, and nobody is to blame
 * but it: it must not stop the others for long. */
static void
watch_backoff(struct keeper_link *k, uint64_t now_ms)
{
	if (!in_the_way(k)) {
		k->seen_ms = now_ms;
		return;
	}
	if (now_ms - k->seen_ms < BACKOFF_MS)
		return;
	k->seen_ms = now_ms;
	log_error(0,
	    "worker %u cannot be started and holds the ring: its connections are "
	    "given up",
	    k->index);
	keeper_kill_all(k);
}

void
watch_keeper(struct keeper_link *k, uint64_t now_ms)
{
	struct page_now now;
	const char *why;

	if (k->control < 0 || k->all->stopping)
		return;
	page_look(k->page, &now);
	if (k->kill_step != STEP_NONE) {
		escalate(k, now_ms);
		return;
	}
	if (k->state == KEEPER_BACKOFF) {
		watch_backoff(k, now_ms);
		return;
	}
	if (moved(k, &now, now_ms))
		return;
	why = fault(k, &now, now_ms);
	if (why == NULL)
		return;
	k->stuck++;
	k->kill_step = STEP_ASKED;
	k->kill_ms = k->fault_ms = now_ms;
	log_error(0, "worker %u does not move: %s; replacing its serving process",
	    k->index, why);
	keeper_tell(k, LAUNCH_KILL, 0);
}

bool
keeper_moves(const struct keeper_link *k, uint64_t now_ms)
{
	return k->control < 0 || k->kill_step == STEP_NONE ||
	       now_ms - k->fault_ms < HELPLESS_MS;
}
