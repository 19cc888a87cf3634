/* wheel.c - see wheel.h */
#include <string.h>

#include "shm/map.h"
#include "worker/wheel.h"

#define WHEEL_FIRST 0x80000000u

int
wheel_init(struct wheel *w, uint32_t len, uint32_t now)
{
	void *links;
	int r = map_private((size_t)(len + 1) * sizeof(struct wheel_link), &links);

	if (r < 0)
		return r;
	memset(w, 0, sizeof(*w));
	w->links = links;
	w->len = len;
	w->now = now;
	return 0;
}

void
wheel_done(struct wheel *w)
{
	map_close(w->links, (size_t)(w->len + 1) * sizeof(struct wheel_link));
	w->links = NULL;
}

void
wheel_clear(struct wheel *w, uint32_t number)
{
	struct wheel_link *l = &w->links[number];

	if (l->prev == 0)
		return;
	if (w->at == number + 1)
		w->at = l->next;
	if (l->prev & WHEEL_FIRST)
		w->bucket[l->prev & ~WHEEL_FIRST] = l->next;
	else
		w->links[l->prev - 1].next = l->next;
	if (l->next != 0)
		w->links[l->next - 1].prev = l->prev;
	l->next = l->prev = 0;
}

static void
put(struct wheel *w, uint32_t number, uint32_t deadline)
{
	struct wheel_link *l = &w->links[number];
	uint32_t b = deadline % WHEEL_BUCKETS;

	l->next = w->bucket[b];
	l->prev = WHEEL_FIRST | b;
	if (l->next != 0)
		w->links[l->next - 1].prev = number + 1;
	w->bucket[b] = number + 1;
}

void
wheel_set(struct wheel *w, uint32_t number, uint32_t deadline)
{
	wheel_clear(w, number);
	if ((int32_t)(deadline - w->now) <= 0)
		deadline = w->now + 1;
	put(w, number, deadline);
}

static void
empty_bucket(struct wheel *w, wheel_deadline_fn deadline, wheel_due_fn due, void *owner)
{
	w->at = w->bucket[w->now % WHEEL_BUCKETS];
	while (w->at != 0) {
		uint32_t number = w->at - 1;

		w->at = w->links[number].next;
		/* Those of a later round stay. */
		if ((int32_t)(deadline(owner, number) - w->now) > 0)
			continue;
		wheel_clear(w, number);
		due(owner, number);
	}
}

void
wheel_advance(struct wheel *w, uint32_t now, wheel_deadline_fn deadline,
    wheel_due_fn due, void *owner)
{
	/* After a long stop one round is enough to meet everything. */
	if ((int32_t)(now - w->now) > WHEEL_BUCKETS)
		w->now = now - WHEEL_BUCKETS;
	while ((int32_t)(now - w->now) > 0) {
		w->now++;
		empty_bucket(w, deadline, due, owner);
	}
}
