/*
 * out_private.c - what goes to one connection alone; see out.h
 *
 * A frame lies in the arena as a block of the slot's list, in the order of the places
 * where they go out. What is linked is whole, and what is unlinked is free: at whatever
 * store its process dies, a successor finds a list that is one.
 */
#include <errno.h>
#include <string.h>

#include "worker/out.h"
#include "worker/reader.h"

#define BLOCK_MAX ((1u << 20) - 64) /* bytes of a private frame in one block */
#define CORK_BLOCK 4000             /* bytes for the answers to one read */

bool
out_private_begun(const struct worker *w, const struct slot *s)
{
	return s->out != 0 && ((struct out *)arena_at(w->arena, s->out))->begun;
}

void
out_unlink(struct worker *w, struct slot *s)
{
	arena_ref ref = s->out;
	const struct out *o = arena_at(w->arena, ref);

	s->out_bytes -= o->len;
	s->out = o->next;
	atomic_signal_fence(memory_order_seq_cst); /* unlinked before it is free */
	arena_free(w->arena, ref);
}

/* Behind those of the same place, and never before one that has begun. first to last:
 * a list of blocks for the same place. */
static void
private_link(struct worker *w, struct slot *s, arena_ref first, struct out *last)
{
	arena_ref *at = &s->out;

	while (*at != 0) {
		struct out *next = arena_at(w->arena, *at);

		if (!next->begun && (int32_t)(next->at - last->at) > 0)
			break;
		at = &next->next;
	}
	last->next = *at;
	atomic_signal_fence(memory_order_seq_cst); /* whole before it is linked */
	*at = first;
}

/* A list of blocks like head that hold buf, the last of them with room for `room` bytes
 * at least; only /echo needs more than one. Returns its first, and the last in
 * *ret_last, or 0 when the arena has no room. */
static arena_ref
private_blocks(struct worker *w, const uint8_t *buf, size_t len, size_t room,
    struct out *head, struct out **ret_last)
{
	arena_ref first = 0, ref, *at = &first;

	do {
		size_t n = len < BLOCK_MAX ? len : BLOCK_MAX;

		ref = arena_alloc(w->arena, sizeof(*head) + (n > room ? n : room));
		if (ref == 0)
			break;
		*ret_last = arena_at(w->arena, ref);
		head->len = (uint32_t)n;
		**ret_last = *head;
		memcpy((*ret_last)->bytes, buf, n);
		*at = ref;
		at = &(*ret_last)->next;
		w->cork_tail = ref;
		buf += n;
		len -= n;
	} while (len > 0);
	while (ref == 0 && first != 0) {
		arena_ref next = ((struct out *)arena_at(w->arena, first))->next;

		arena_free(w->arena, first);
		first = next;
	}
	return first;
}

static size_t
private_max(const struct worker *w, const struct slot *s)
{
	if (s->proto != PROTO_ECHO)
		return OUT_PRIVATE_MAX;
	/* It is not read from while something waits: the answers to one read. */
	return w->settings->max_message_size + 2 * READER_BUFFER;
}

/* Put bytes into the block that was queued last, while nothing can be sent in between:
 * the answers to many short requests are few blocks and few sends. */
static bool
cork_append(struct worker *w, uint32_t slot, const void *buf, size_t len, uint32_t at)
{
	struct slot *s = worker_slot(w, slot);
	struct out *o;

	if (w->corked != slot + 1 || w->cork_tail == 0)
		return false;
	o = arena_at(w->arena, w->cork_tail);
	if (o->pong || o->begun || o->next != 0 || o->at != at ||
	    sizeof(*o) + o->len + len > arena_len(w->arena, w->cork_tail))
		return false;
	memcpy(o->bytes + o->len, buf, len);
	atomic_signal_fence(memory_order_seq_cst); /* whole before it counts */
	o->len += (uint32_t)len;
	s->out_bytes += (uint32_t)len;
	return true;
}

static int
private_add(struct worker *w, uint32_t slot, const void *buf, size_t len, bool pong)
{
	struct slot *s = worker_slot(w, slot);
	uint64_t cursor = out_cursor(w, slot);
	struct out head = {.pong = pong}, *last;
	size_t max = private_max(w, s), room = 0;
	arena_ref first;

	if (slot_state(s) == SLOT_FREE)
		return 0;
	if (len > max || s->out_bytes + len > max) {
		page_add(w->page, PAGE_limited_private, 1);
		return -ENOBUFS;
	}
	if (w->place != 0)
		head.at = (uint32_t)w->place;
	else
		head.at = (uint32_t)(cursor > w->done ? cursor : w->done);
	/* Behind the record that has begun, also for a successor. */
	if (s->part > 0 && !out_private_begun(w, s) &&
	    (int32_t)(head.at - (uint32_t)cursor) <= 0)
		head.at = (uint32_t)cursor + 1;
	if (!pong && cork_append(w, slot, buf, len, head.at))
		return 0;
	if (w->corked == slot + 1 && w->cork_tail != 0 && !pong)
		room = CORK_BLOCK;
	first = private_blocks(w, buf, len, room, &head, &last);
	if (first == 0)
		return -ENOBUFS;
	if (!(s->flags & SLOT_LAGGING))
		slot_set_pos(s, (uint32_t)cursor, slot_tx(s));
	private_link(w, s, first, last);
	s->out_bytes += (uint32_t)len;
	if (!(s->flags & SLOT_LAGGING) && w->corked != slot + 1)
		out_writable(w, slot);
	return 0;
}

int
out_private(struct worker *w, uint32_t slot, const void *buf, size_t len)
{
	return private_add(w, slot, buf, len, false);
}

int
out_pong(struct worker *w, uint32_t slot, const void *buf, size_t len)
{
	struct slot *s = worker_slot(w, slot);

	for (arena_ref *at = &s->out, ref; (ref = *at) != 0;) {
		struct out *o = arena_at(w->arena, ref);

		if (!o->pong || o->begun) {
			at = &o->next;
			continue;
		}
		s->out_bytes -= o->len;
		*at = o->next;
		w->cork_tail = 0; /* it may have been this one */
		atomic_signal_fence(memory_order_seq_cst); /* as out_unlink() */
		arena_free(w->arena, ref);
	}
	return private_add(w, slot, buf, len, true);
}

uint32_t
out_cork(struct worker *w, uint32_t slot)
{
	uint32_t before = w->corked;

	w->corked = slot + 1;
	w->cork_tail = 0;
	return before;
}

void
out_uncork(struct worker *w, uint32_t slot, uint32_t before)
{
	struct slot *s = worker_slot(w, slot);

	w->corked = before;
	w->cork_tail = 0;
	if (before != slot + 1 && slot_state(s) != SLOT_FREE && s->out != 0 &&
	    !(s->flags & SLOT_LAGGING))
		out_writable(w, slot);
}
