/*
 * arena.c - a buddy allocator whose books are private; see arena.h.
 *
 * Numbers are units of 32 bytes. For each order a bitset holds the free blocks of
 * 1 << order units: block i of an order lies at unit i << order, and its buddy is
 * block i ^ 1. The lowest free block is taken first, which keeps the memory in use
 * together. An allocated block is in no bitset, and its order stands in its head, in
 * the map, where a successor finds it.
 */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shm/arena.h"
#include "shm/bitset.h"
#include "shm/map.h"

#define ORDERS 20 /* 32 bytes to 16 MiB */
_Static_assert((uint64_t)ARENA_UNIT << (ORDERS - 1) == ARENA_BLOCK_MAX, "orders");

/* Memory goes back to the kernel in chunks of 64 KiB, once so many are free and may
 * have been written to: else a block that comes and goes alone would cost a system
 * call and a fault each time. */
#define CHUNK_ORDER 11
#define CHUNK_LEN ((size_t)ARENA_UNIT << CHUNK_ORDER)
#define CHUNKS_KEPT 16

/* In the map before each allocated block's bytes. */
struct block_head {
	uint32_t order;
	uint32_t check; /* check_value() */
};
_Static_assert(sizeof(struct block_head) == ARENA_HEAD, "what arena.h says");

struct arena {
	uint8_t *base;
	uint64_t nunits;
	size_t used; /* bytes */
	struct bitset free[ORDERS];
	uint32_t orders;     /* bit k: free[k] is not empty */
	struct bitset stale; /* chunks that are free and may have been written to */
	unsigned nstale;
	uint64_t *words; /* of all the bitsets */
};

/* ---- free blocks ---- */

static void
free_add(struct arena *a, unsigned order, uint64_t i)
{
	bitset_add(&a->free[order], i);
	a->orders |= 1u << order;
}

static void
free_remove(struct arena *a, unsigned order, uint64_t i)
{
	bitset_remove(&a->free[order], i);
	if (bitset_first(&a->free[order]) == BITSET_NONE)
		a->orders &= ~(1u << order);
}

/* The free block `at` of order `from` shrinks to its part of order `to` that holds
 * the unit, which is taken; the rest stays free. */
static void
carve(struct arena *a, unsigned from, unsigned to, uint64_t unit)
{
	free_remove(a, from, unit >> from);
	while (from-- > to)
		free_add(a, from, (unit >> from) ^ 1);
}

/* ---- memory back to the kernel ---- */

static void
chunks_taken(struct arena *a, uint64_t unit, unsigned order)
{
	uint64_t first = unit >> CHUNK_ORDER;
	uint64_t end =
	    first + (order > CHUNK_ORDER ? 1ull << (order - CHUNK_ORDER) : 1);

	for (uint64_t i = first; i < end && a->nstale > 0; i++) {
		if (bitset_has(&a->stale, i)) {
			bitset_remove(&a->stale, i);
			a->nstale--;
		}
	}
}

static void
chunks_return(struct arena *a)
{
	while (a->nstale > 0) {
		uint64_t first = bitset_first(&a->stale);
		uint64_t end = first;

		/* At most as many as were added: the bitset's end is not met. */
		for (; a->nstale > 0 && bitset_has(&a->stale, end); end++, a->nstale--)
			bitset_remove(&a->stale, end);
		/* A kernel that refuses leaves us the memory: no harm. */
		(void)madvise(a->base + first * CHUNK_LEN, (end - first) * CHUNK_LEN,
		    MADV_REMOVE);
	}
}

/* A block of this order was freed, and lies now within a free block of order
 * `merged`: note the chunks that became free with it. */
static void
chunks_freed(struct arena *a, uint64_t unit, unsigned order, unsigned merged)
{
	uint64_t first = unit >> CHUNK_ORDER;
	uint64_t end =
	    first + (order > CHUNK_ORDER ? 1ull << (order - CHUNK_ORDER) : 1);

	if (merged < CHUNK_ORDER)
		return;
	for (uint64_t i = first; i < end; i++) {
		bitset_add(&a->stale, i);
		a->nstale++;
	}
	if (a->nstale > CHUNKS_KEPT)
		chunks_return(a);
}

/* ---- heads ---- */

static uint64_t
unit_of(arena_ref ref)
{
	return (uint64_t)ref - 1;
}

static struct block_head *
head_at(const struct arena *a, uint64_t unit)
{
	return (struct block_head *)(a->base + unit * ARENA_UNIT);
}

/* Depends on the place: the bytes of a block that was copied are no head. */
static uint32_t
check_value(uint64_t unit, uint32_t order)
{
	return ((uint32_t)unit * 32 + order) * 2654435761u ^ 0x77736361u;
}

static bool
head_ok(const struct arena *a, uint64_t unit)
{
	const struct block_head *h = head_at(a, unit);

	return h->order < ORDERS && h->check == check_value(unit, h->order) &&
	       (unit & ((1ull << h->order) - 1)) == 0 &&
	       unit + (1ull << h->order) <= a->nunits;
}

/* ---- the handle ---- */

static size_t
set_up_words(struct arena *a, uint64_t *words)
{
	size_t total = 0;

	for (unsigned k = 0; k < ORDERS; k++) {
		if (words != NULL)
			bitset_init(&a->free[k], a->nunits >> k, words + total);
		total += bitset_words(a->nunits >> k);
	}
	/* One more than there are: the end of a run can be asked for. */
	uint64_t chunks = (a->nunits >> CHUNK_ORDER) + 2;
	if (words != NULL)
		bitset_init(&a->stale, chunks, words + total);
	return total + bitset_words(chunks);
}

/* All of it, as the fewest blocks: each as large as its place and the end allow. */
static void
free_everything(struct arena *a)
{
	for (uint64_t unit = 0; unit < a->nunits;) {
		unsigned order = ORDERS - 1;

		while ((unit & ((1ull << order) - 1)) != 0 ||
		       unit + (1ull << order) > a->nunits)
			order--;
		free_add(a, order, unit >> order);
		unit += 1ull << order;
	}
}

int
arena_new(void *base, size_t len, struct arena **ret_arena)
{
	struct arena *a;

	if ((uintptr_t)base % MAP_PAGE != 0 || len / ARENA_UNIT == 0 ||
	    len > ARENA_LEN_MAX)
		return -EINVAL;
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return -ENOMEM;
	a->base = base;
	a->nunits = len / ARENA_UNIT;
	a->words = calloc(set_up_words(a, NULL), sizeof(*a->words));
	if (a->words == NULL) {
		free(a);
		return -ENOMEM;
	}
	(void)set_up_words(a, a->words);
	free_everything(a);
	*ret_arena = a;
	return 0;
}

void
arena_free_all(struct arena *a)
{
	if (a == NULL)
		return;
	free(a->words);
	free(a);
}

/* ---- blocks ---- */

static unsigned
order_for(size_t len)
{
	uint64_t units = (len + ARENA_HEAD + ARENA_UNIT - 1) / ARENA_UNIT;

	return units <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(units - 1);
}

static void
take(struct arena *a, unsigned from, unsigned order, uint64_t unit)
{
	carve(a, from, order, unit);
	chunks_taken(a, unit, order);
	a->used += (size_t)ARENA_UNIT << order;
}

/*
 * A1 the head, then the reference in the table  |  A2 the reference, then its head
 * A3 the reference away, then the head          |  (in arena_mark(), a successor)
 *    A process that is killed leaves all the stores that it made, in its program's
 *    order: so a block that is referred to has its head. Only the compiler could
 *    break that, and the signal fences forbid it.
 */
arena_ref
arena_alloc(struct arena *a, size_t len)
{
	unsigned order, from;
	uint64_t unit;

	if (len > ARENA_BLOCK_MAX - ARENA_HEAD)
		return 0;
	order = order_for(len);
	if (a->orders >> order == 0)
		return 0;
	from = order + (unsigned)__builtin_ctz(a->orders >> order);
	unit = bitset_first(&a->free[from]) << from;
	take(a, from, order, unit);
	*head_at(a, unit) =
	    (struct block_head){.order = order, .check = check_value(unit, order)};
	atomic_signal_fence(memory_order_seq_cst); /* A1 */
	return (arena_ref)(unit + 1);
}

void
arena_free(struct arena *a, arena_ref ref)
{
	uint64_t unit;
	unsigned order, merged;

	if (ref == 0)
		return;
	unit = unit_of(ref);
	assert(unit < a->nunits && head_ok(a, unit));
	order = head_at(a, unit)->order;
	atomic_signal_fence(memory_order_seq_cst); /* A3 */
	*head_at(a, unit) = (struct block_head){0};
	a->used -= (size_t)ARENA_UNIT << order;

	merged = order;
	while (merged < ORDERS - 1) {
		uint64_t buddy = (unit >> merged) ^ 1;

		/* A buddy that the end cuts off is in no bitset, nor has it room there.
		 */
		if (buddy >= a->nunits >> merged ||
		    !bitset_has(&a->free[merged], buddy))
			break;
		free_remove(a, merged, buddy);
		merged++;
	}
	free_add(a, merged, unit >> merged);
	chunks_freed(a, unit, order, merged);
}

void *
arena_at(const struct arena *a, arena_ref ref)
{
	assert(ref != 0 && unit_of(ref) < a->nunits);
	return a->base + unit_of(ref) * ARENA_UNIT + ARENA_HEAD;
}

size_t
arena_len(const struct arena *a, arena_ref ref)
{
	assert(ref != 0 && unit_of(ref) < a->nunits && head_ok(a, unit_of(ref)));
	return ((size_t)ARENA_UNIT << head_at(a, unit_of(ref))->order) - ARENA_HEAD;
}

size_t
arena_used(const struct arena *a)
{
	return a->used;
}

int
arena_mark(struct arena *a, arena_ref ref)
{
	uint64_t unit = unit_of(ref);
	unsigned order, from;

	if (ref == 0 || unit >= a->nunits || !head_ok(a, unit)) /* A2 */
		return -EINVAL;
	order = head_at(a, unit)->order;
	/* The free block that it is a part of; without one, some of it is taken. */
	for (from = order; from < ORDERS; from++) {
		if (unit >> from >= a->nunits >> from)
			return -EINVAL;
		if (bitset_has(&a->free[from], unit >> from))
			break;
	}
	if (from == ORDERS)
		return -EINVAL;
	take(a, from, order, unit);
	return 0;
}
