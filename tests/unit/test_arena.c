/* test_arena.c - the allocator within a table's map, and its rebuilding by marks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/arena.h"
#include "shm/map.h"

/* No power of two: the end is made of blocks of many sizes. */
#define LEN (8u * 1024 * 1024 + 5 * 4096)

struct fixture {
	struct arena *arena;
	uint8_t *base;
	int fd;
};

static uint64_t random_state;

static uint32_t
random_below(uint32_t bound)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)((random_state >> 33) % bound);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL || map_memfd("arena", LEN, &f->fd) < 0 ||
	       map_open(f->fd, LEN, true, (void **)&f->base) < 0 ||
	       arena_new(f->base, LEN, &f->arena) < 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	arena_free_all(f->arena);
	map_close(f->base, LEN);
	(void)close(f->fd);
	free(f);
	return 0;
}

static size_t
resident(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

/* ---- allocating ---- */

static void
test_arena_new_bad_range_refused(void **state)
{
	struct fixture *f = *state;
	struct arena *a;

	assert_int_equal(arena_new(f->base + 8, 4096, &a), -EINVAL);
	assert_int_equal(arena_new(f->base, 16, &a), -EINVAL);
	assert_int_equal(arena_new(f->base, ARENA_LEN_MAX + 1, &a), -EINVAL);
}

static void
test_arena_new_is_sparse(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(arena_used(f->arena), 0);
	assert_int_equal(resident(f), 0);
}

static void
test_arena_alloc_gives_at_least_what_was_asked(void **state)
{
	struct fixture *f = *state;

	for (size_t len = 0; len < 3000; len += 1 + len / 7) {
		arena_ref ref = arena_alloc(f->arena, len);
		assert_int_not_equal(ref, 0);
		assert_true(arena_len(f->arena, ref) >= len);
		assert_true(arena_len(f->arena, ref) < 2 * (len + ARENA_UNIT));
		assert_int_equal((uintptr_t)arena_at(f->arena, ref) % 8, 0);
	}
}

static void
test_arena_alloc_one_unit_holds_24_bytes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(arena_len(f->arena, arena_alloc(f->arena, 24)), 24);
	assert_int_equal(arena_used(f->arena), 32);
	assert_int_equal(arena_len(f->arena, arena_alloc(f->arena, 25)), 56);
	assert_int_equal(arena_used(f->arena), 96);
}

static void
test_arena_alloc_too_long_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(arena_alloc(f->arena, ARENA_BLOCK_MAX), 0);
	assert_int_equal(arena_alloc(f->arena, SIZE_MAX), 0);
	assert_int_equal(arena_alloc(f->arena, ARENA_BLOCK_MAX - ARENA_HEAD), 0);
	assert_int_equal(arena_used(f->arena), 0);
}

static void
test_arena_alloc_full_refused_then_freed(void **state)
{
	struct fixture *f = *state;
	arena_ref big = arena_alloc(f->arena, 8 * 1024 * 1024 - ARENA_HEAD), last = 0;
	unsigned n = 0;

	assert_int_not_equal(big, 0);
	for (arena_ref ref; (ref = arena_alloc(f->arena, 4000)) != 0; n++)
		last = ref;
	assert_int_equal(n, 5); /* the pages at the end */
	assert_int_equal(arena_used(f->arena), LEN);
	assert_int_equal(arena_alloc(f->arena, 1), 0);
	arena_free(f->arena, last);
	assert_int_equal(arena_alloc(f->arena, 4000), last);
}

static void
test_arena_free_all_makes_whole_again(void **state)
{
	struct fixture *f = *state;
	static arena_ref refs[LEN / ARENA_UNIT + 1]; /* and the 0 that ends it */
	unsigned n = 0;

	while ((refs[n] = arena_alloc(f->arena, 1)) != 0)
		n++;
	assert_int_equal(n, LEN / ARENA_UNIT);
	for (unsigned i = n; i > 1; i--) { /* in any order */
		unsigned j = random_below(i);
		arena_ref ref = refs[j];
		refs[j] = refs[i - 1];
		arena_free(f->arena, ref);
	}
	arena_free(f->arena, refs[0]);
	assert_int_equal(arena_used(f->arena), 0);
	assert_int_not_equal(arena_alloc(f->arena, 8 * 1024 * 1024 - ARENA_HEAD), 0);
}

static void
test_arena_free_none_is_fine(void **state)
{
	struct fixture *f = *state;

	arena_free(f->arena, 0);
	arena_free_all(NULL);
}

/* ---- memory ---- */

static void
test_arena_free_large_gives_memory_back(void **state)
{
	struct fixture *f = *state;
	arena_ref ref = arena_alloc(f->arena, 4 * 1024 * 1024 - ARENA_HEAD);

	memset(arena_at(f->arena, ref), 'x', arena_len(f->arena, ref));
	assert_true(resident(f) >= 4 * 1024 * 1024);
	arena_free(f->arena, ref);
	assert_int_equal(resident(f), 0);
}

static void
test_arena_free_many_small_gives_memory_back(void **state)
{
	struct fixture *f = *state;
	static arena_ref refs[4000];

	for (unsigned i = 0; i < 4000; i++) {
		refs[i] = arena_alloc(f->arena, 1000);
		memset(arena_at(f->arena, refs[i]), 'x', 1000);
	}
	assert_true(resident(f) >= 4000000);
	for (unsigned i = 0; i < 4000; i++)
		arena_free(f->arena, refs[i]);
	assert_true(resident(f) <= 16 * 65536);
}

static void
test_arena_free_leaves_neighbours_alone(void **state)
{
	struct fixture *f = *state;
	arena_ref refs[40];

	for (unsigned i = 0; i < 40; i++) {
		refs[i] = arena_alloc(f->arena, 65536 - ARENA_HEAD);
		memset(arena_at(f->arena, refs[i]), (int)i, 65536 - ARENA_HEAD);
	}
	for (unsigned i = 0; i < 40; i += 2)
		arena_free(f->arena, refs[i]);
	for (unsigned i = 1; i < 40; i += 2) {
		const uint8_t *bytes = arena_at(f->arena, refs[i]);
		for (size_t k = 0; k < 65536 - ARENA_HEAD; k++)
			assert_int_equal(bytes[k], i);
	}
}

/* ---- marks ---- */

static void
test_arena_mark_takes_the_block_again(void **state)
{
	struct fixture *f = *state;
	arena_ref one = arena_alloc(f->arena, 100), two = arena_alloc(f->arena, 5000);
	struct arena *next;

	memcpy(arena_at(f->arena, two), "still here", sizeof("still here"));
	assert_int_equal(arena_new(f->base, LEN, &next), 0);
	assert_int_equal(arena_mark(next, two), 0);
	assert_int_equal(arena_used(next), 8192);
	assert_string_equal(arena_at(next, two), "still here");
	assert_int_equal(arena_alloc(next, 100), one); /* was not marked: free */
	arena_free_all(next);
}

static void
test_arena_mark_twice_refused(void **state)
{
	struct fixture *f = *state;
	arena_ref ref = arena_alloc(f->arena, 100);
	struct arena *next;

	assert_int_equal(arena_mark(f->arena, ref), -EINVAL);
	assert_int_equal(arena_new(f->base, LEN, &next), 0);
	assert_int_equal(arena_mark(next, ref), 0);
	assert_int_equal(arena_mark(next, ref), -EINVAL);
	arena_free_all(next);
}

static void
test_arena_mark_no_block_refused(void **state)
{
	struct fixture *f = *state;
	arena_ref ref = arena_alloc(f->arena, 100);
	arena_ref freed = arena_alloc(f->arena, 100);
	struct arena *next;

	arena_free(f->arena, freed);
	assert_int_equal(arena_new(f->base, LEN, &next), 0);
	assert_int_equal(arena_mark(next, 0), -EINVAL);
	assert_int_equal(arena_mark(next, freed), -EINVAL);
	assert_int_equal(arena_mark(next, ref + 1), -EINVAL);
	assert_int_equal(arena_mark(next, LEN / ARENA_UNIT + 1), -EINVAL);
	assert_int_equal(arena_mark(next, UINT32_MAX), -EINVAL);
	assert_int_equal(arena_used(next), 0);
	arena_free_all(next);
}

/* A block whose head was copied into another's bytes is none. */
static void
test_arena_mark_copied_head_refused(void **state)
{
	struct fixture *f = *state;
	arena_ref big = arena_alloc(f->arena, 4000), small = arena_alloc(f->arena, 20);
	uint8_t *inside = (uint8_t *)arena_at(f->arena, big) + 64 - ARENA_HEAD;
	struct arena *next;

	memcpy(inside, (uint8_t *)arena_at(f->arena, small) - ARENA_HEAD, ARENA_HEAD);
	assert_int_equal(arena_new(f->base, LEN, &next), 0);
	assert_int_equal(arena_mark(next, big + 2), -EINVAL);
	arena_free_all(next);
}

/* Heads of a predecessor's unreferenced blocks may still lie in what is marked. */
static void
test_arena_mark_overlap_refused(void **state)
{
	struct fixture *f = *state;
	arena_ref first = arena_alloc(f->arena, 20);
	arena_ref inner = arena_alloc(f->arena, 20), outer;
	struct arena *next, *third;

	/* Neither is referenced; the successor gives their place out in a large block,
	 * whose owner leaves the old head of `inner` behind. */
	assert_int_equal(arena_new(f->base, LEN, &next), 0);
	outer = arena_alloc(next, 4000);
	assert_int_equal(outer, first);
	assert_int_equal(arena_mark(next, inner), -EINVAL);
	assert_int_equal(arena_new(f->base, LEN, &third), 0);
	assert_int_equal(arena_mark(third, inner), 0);
	assert_int_equal(arena_mark(third, outer), -EINVAL);
	arena_free_all(next);
	arena_free_all(third);
}

/* ---- against a model ---- */

#define LIVE_MAX 3000

struct model {
	struct {
		arena_ref ref;
		size_t len;
		uint8_t value;
	} live[LIVE_MAX];
	unsigned nlive;
};

static size_t
random_len(void)
{
	uint32_t kind = random_below(100);

	return kind < 70   ? random_below(200)
	       : kind < 95 ? random_below(5000)
	       : kind < 99 ? random_below(100000)
			   : random_below(1500000);
}

static void
model_alloc(struct model *m, struct arena *a)
{
	size_t len = random_len();
	arena_ref ref = m->nlive < LIVE_MAX ? arena_alloc(a, len) : 0;

	if (ref == 0)
		return;
	m->live[m->nlive].ref = ref;
	m->live[m->nlive].len = len;
	m->live[m->nlive].value = (uint8_t)random_below(256);
	memset(arena_at(a, ref), m->live[m->nlive].value, len);
	m->nlive++;
}

static void
model_free(struct model *m, struct arena *a)
{
	unsigned i = random_below(m->nlive);
	const uint8_t *bytes = arena_at(a, m->live[i].ref);

	for (size_t k = 0; k < m->live[i].len; k++) {
		if (bytes[k] != m->live[i].value)
			fail_msg("block of %zu bytes: byte %zu is another's",
			    m->live[i].len, k);
	}
	arena_free(a, m->live[i].ref);
	m->live[i] = m->live[--m->nlive];
}

static size_t
model_used(const struct model *m, const struct arena *a)
{
	size_t used = 0;

	for (unsigned i = 0; i < m->nlive; i++)
		used += arena_len(a, m->live[i].ref) + ARENA_HEAD;
	return used;
}

/* The second handle knows what is free exactly as the first does: both give out the
 * same blocks until neither has any. */
static void
compare_what_is_free(struct arena *a, struct arena *b)
{
	assert_int_equal(arena_used(a), arena_used(b));
	for (size_t len = 4 * 1024 * 1024; len > 0; len /= 2) {
		arena_ref one, two;
		do {
			one = arena_alloc(a, len);
			two = arena_alloc(b, len);
			assert_int_equal(one, two);
		} while (one != 0);
	}
	assert_int_equal(arena_used(a), LEN);
	assert_int_equal(arena_used(b), LEN);
}

static void
test_arena_random_use_then_marks_rebuild_it(void **state)
{
	struct fixture *f = *state;
	struct model *m = calloc(1, sizeof(*m));
	struct arena *next;

	assert_non_null(m);
	for (unsigned i = 0; i < 60000; i++) {
		/* It fills for a while, and empties for a while. */
		if (m->nlive == 0 || random_below(100) < (i / 5000 % 2 == 0 ? 60 : 40))
			model_alloc(m, f->arena);
		else
			model_free(m, f->arena);
		if (i % 1000 == 0)
			assert_int_equal(arena_used(f->arena), model_used(m, f->arena));
	}
	assert_int_equal(arena_new(f->base, LEN, &next), 0);
	for (unsigned i = 0; i < m->nlive; i++)
		assert_int_equal(arena_mark(next, m->live[i].ref), 0);
	compare_what_is_free(f->arena, next);
	while (m->nlive > 0) /* what was given out meanwhile is not among them */
		model_free(m, next);
	arena_free_all(next);
	free(m);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_arena_new_bad_range_refused),
	    T(test_arena_new_is_sparse),
	    T(test_arena_alloc_gives_at_least_what_was_asked),
	    T(test_arena_alloc_one_unit_holds_24_bytes),
	    T(test_arena_alloc_too_long_refused),
	    T(test_arena_alloc_full_refused_then_freed),
	    T(test_arena_free_all_makes_whole_again),
	    T(test_arena_free_none_is_fine),
	    T(test_arena_free_large_gives_memory_back),
	    T(test_arena_free_many_small_gives_memory_back),
	    T(test_arena_free_leaves_neighbours_alone),
	    T(test_arena_mark_takes_the_block_again),
	    T(test_arena_mark_twice_refused),
	    T(test_arena_mark_no_block_refused),
	    T(test_arena_mark_copied_head_refused),
	    T(test_arena_mark_overlap_refused),
	    T(test_arena_random_use_then_marks_rebuild_it),
	};
	const char *given = getenv("WSCAST_TEST_SEED");

	random_state = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	print_message("WSCAST_TEST_SEED=%lu\n", (unsigned long)random_state);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
