/* history.c - see history.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/dialect.h"
#include "proto/v1.h"
#include "shm/directory.h"
#include "worker/channels.h"
#include "worker/fanout.h"
#include "worker/history.h"
#include "worker/requests.h"
#include "worker/session.h"
#include "worker/side.h"

#define TRIES 8 /* each looks less far back: the last one at nothing */

/* A request that waits for its walk. */
struct walker {
	struct walker *next;
	uint32_t slot;
	arena_ref wait;   /* 0 = it is gone */
	uint32_t channel; /* held */
	unsigned tries;
	bool begun;
	struct walk walk;
};

struct history {
	struct walker *first, **last; /* in the order of their coming */
};

/* ---- walks ---- */

void
walk_init(struct worker *w, uint64_t begin, uint64_t offset, struct walk *walk)
{
	walk->directory = w->table.channels[walk->channel].directory;
	walk->first = begin;
	walk->had = offset;
	walk->last = 0;
	walk->start = directory_start(ring_directory(w->ring), walk->directory);
	(void)channels_offset(w, walk->channel, begin, &walk->next);
}

static uint64_t
record_before(const struct worker *w, uint64_t number)
{
	uint32_t prev = ring_at(w->ring, number)->prev;

	return prev != 0 ? number - prev : 0;
}

bool
walk_on(const struct worker *w, struct walk *walk, unsigned *steps)
{
	const uint64_t floor = fanout_floor(w);
	const uint64_t low = walk->low > floor ? walk->low : floor;

	while (walk->next != 0 && *steps > 0) {
		const uint64_t number = walk->next;

		if (number < low || walk->had <= walk->until) {
			walk->next = 0;
			break;
		}
		walk->first = number;
		walk->had = ring_at(w->ring, number)->offset - 1;
		if (walk->last == 0 && walk->had < walk->upto)
			walk->last = number;
		walk->next = record_before(w, number);
		(*steps)--;
	}
	return walk->next == 0 || walk->had <= walk->until;
}

bool
walk_holds(const struct worker *w, const struct walk *walk)
{
	const struct channel *c = &w->table.channels[walk->channel];

	/* All between the two are newer than `first`. */
	return walk->first >= fanout_floor(w) && c->directory == walk->directory &&
	       directory_start(ring_directory(w->ring), walk->directory) == walk->start;
}

/* ---- the row of those that wait ---- */

int
history_new(struct worker *w, struct history **ret)
{
	struct history *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return -ENOMEM;
	h->last = &h->first;
	*ret = h;
	return 0;
}

void
history_free(struct history *h)
{
	while (h != NULL && h->first != NULL) {
		struct walker *next = h->first->next;

		free(h->first);
		h->first = next;
	}
	free(h);
}

int
history_wait(struct worker *w, uint32_t slot, arena_ref wait, const struct walk *walk)
{
	struct wait *request = arena_at(w->arena, wait);
	struct walker *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return -ENOMEM;
	k->slot = slot;
	k->wait = wait;
	k->channel = request->channel;
	k->begun = walk != NULL;
	if (walk != NULL)
		k->walk = *walk;
	request->walks = 1;
	channels_hold(w, k->channel);
	*w->history->last = k;
	w->history->last = &k->next;
	return 0;
}

/* The first of the row is done with. */
static void
walker_end(struct worker *w)
{
	struct history *h = w->history;
	struct walker *k = h->first;

	h->first = k->next;
	if (h->first == NULL)
		h->last = &h->first;
	channels_unhold(w, k->channel);
	free(k);
}

void
history_forget(struct worker *w, arena_ref wait)
{
	for (struct walker *k = w->history->first; k != NULL; k = k->next)
		if (k->wait == wait)
			k->wait = 0;
}

void
history_refuse(struct worker *w, uint32_t channel, int err)
{
	for (struct walker *k = w->history->first; k != NULL; k = k->next)
		if (k->channel == channel && k->wait != 0)
			requests_walked(w, k->slot, k->wait, &k->walk, err);
}

/* A slice for the first of the row. Returns whether it is done with. */
static bool
walker_step(struct worker *w, struct walker *k, unsigned *steps)
{
	const uint64_t floor = fanout_floor(w);

	if (k->wait == 0)
		return true; /* nobody wants to know any more */
	if (!k->begun) {
		requests_walk(w, k->slot, arena_at(w->arena, k->wait), &k->walk);
		k->walk.low = floor + (w->done - floor) * k->tries / TRIES;
		k->begun = true;
	}
	if (!walk_on(w, &k->walk, steps))
		return false;
	if (walk_holds(w, &k->walk)) {
		requests_walked(w, k->slot, k->wait, &k->walk, 0);
		return true;
	}
	/* The ring came round while we walked: what is nearest to its end may go next.
	 */
	k->tries += k->tries < TRIES;
	k->begun = false;
	return false;
}

bool
history_turn(struct worker *w)
{
	struct history *h = w->history;
	unsigned steps = HISTORY_STEPS_TURN;

	while (h->first != NULL && steps > 0) {
		steps--; /* an answer costs, too */
		if (walker_step(w, h->first, &steps))
			walker_end(w);
	}
	return h->first != NULL;
}

/* ---- the last messages ---- */

int
history_answer(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct walk *walk, uint64_t offset)
{
	struct slice messages[V1_HISTORY_MAX];
	size_t at = V1_HISTORY_MAX, left = HISTORY_BYTES;
	char *text = malloc(HISTORY_BYTES);
	uint64_t number = walk->last;

	if (text == NULL)
		return -ENOMEM;
	/* From the newest back, and written from the end: so what does not fit is the
	 * oldest, and what fits lies in order. */
	for (; number != 0 && number >= walk->first && at > 0;
	     number = record_before(w, number)) {
		const void *frame, *payload;
		enum opcode op;
		size_t len = side_frame(w, DIALECT_V1, number, walk->channel, &frame);

		if (len > 0)
			len = frame_payload(frame, &op, &payload);
		if (len == 0 || len > left)
			break;
		left -= len;
		memcpy(text + left, payload, len);
		messages[--at] = (struct slice){text + left, len};
	}
	if (at == V1_HISTORY_MAX && number != 0 && number >= walk->first) {
		free(text);
		return -EMSGSIZE; /* not even one */
	}
	session_history(
	    w, slot, id, id_len, messages + at, V1_HISTORY_MAX - at, offset);
	free(text);
	return 0;
}
