/* test_ring_floors.c - how far back a ring reaches: what its workers' floors hold, what
 * has gone, and how much a worker may keep. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/small_ring.h"

/* ---- floors ---- */

static void
test_ring_room_without_workers_never_full(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 1000; n++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, 'x'), n);
}

/* Records of an eighth: eight fill the ring, and the floor holds the first. */
static void
test_ring_room_full_names_laggard(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 5, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_null(ring_room(f->writer, 0, 1));
	assert_int_equal(errno, ENOBUFS);
	assert_int_equal(ring_laggard(f->writer), 5);
	for (int i = 1; i <= 8; i++)
		assert_frame(f->reader, 0, (uint64_t)i, FRAME_MAX, i);
}

static void
test_ring_room_risen_floor_makes_room(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	page_set_floor(f->page, 2);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 9), 9);
	assert_null(ring_room(f->writer, 0, 1));
	for (int i = 2; i <= 9; i++)
		assert_frame(f->reader, 0, (uint64_t)i, FRAME_MAX, i);
}

static void
test_ring_room_every_dialect_counts(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(
		    publish(f->writer, RING_DIALECTS - 1, FRAME_MAX, i), i);
	assert_non_null(ring_room(f->writer, 0, 1));
	assert_null(ring_room(f->writer, RING_DIALECTS - 1, 1));
	assert_int_equal(errno, ENOBUFS);
}

/* The descriptor behind the newest record needs its place too. */
static void
test_ring_commit_full_index_refused(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 3, f->page);
	for (uint64_t n = 1; n < INDEX; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(commit(f->writer), 0);
	assert_int_equal(errno, ENOBUFS);
	assert_int_equal(ring_laggard(f->writer), 3);
	assert_int_equal(ring_head(f->reader), INDEX);
}

static void
test_ring_commit_refused_can_be_tried_again(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (uint64_t n = 1; n < INDEX; n++)
		assert_int_equal(commit(f->writer), n);
	assert_true(put(f->writer, 0, 50, 'w'));
	assert_int_equal(commit(f->writer), 0);
	page_set_floor(f->page, 2);
	assert_int_equal(commit(f->writer), INDEX);
	assert_frame(f->reader, 0, INDEX, 50, 'w');
}

static void
test_ring_laggard_is_the_lowest_of_many(void **state)
{
	struct fixture *f = *state;
	struct page *other;
	int fd;

	assert_int_equal(page_create(1, &other, &fd), 0);
	ring_set_worker(f->writer, 0, f->page);
	ring_set_worker(f->writer, RING_WORKERS_MAX - 1, other);
	page_set_floor(f->page, 2);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_int_equal(publish(f->writer, 0, 1, 9), 0);
	assert_int_equal(ring_laggard(f->writer), RING_WORKERS_MAX - 1);
	ring_set_worker(f->writer, RING_WORKERS_MAX - 1, NULL);
	page_close(other);
	(void)close(fd);
}

static void
test_ring_set_worker_null_lets_go(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_int_equal(publish(f->writer, 0, 1, 9), 0);
	ring_set_worker(f->writer, 0, NULL);
	assert_int_equal(publish(f->writer, 0, 1, 9), 9);
}

/* The writer has a minimum of its own in mind, which the newcomer's floor is below. */
static void
test_ring_set_worker_late_is_heeded_at_once(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 20; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	page_set_floor(f->page, ring_oldest(f->writer));
	ring_set_worker(f->writer, 0, f->page);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 21), 0);
	assert_frame(f->reader, 0, ring_oldest(f->reader), FRAME_MAX,
	    (int)ring_oldest(f->reader));
}

static void
test_ring_floor_above_head_counts_as_head(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	page_set_floor(f->page, UINT64_MAX);
	for (uint64_t n = 1; n <= 100; n++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, 'x'), n);
}

/* What has gone cannot be held; what is left can, and the worker is the laggard. */
static void
test_ring_floor_going_back_holds_what_is_left(void **state)
{
	struct fixture *f = *state;
	uint64_t oldest;

	ring_set_worker(f->writer, 0, f->page);
	page_set_floor(f->page, 50);
	for (uint64_t n = 1; n <= 57; n++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, (int)n), n);
	oldest = ring_oldest(f->writer);
	page_set_floor(f->page, 0);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 58), 0);
	assert_int_equal(ring_laggard(f->writer), 0);
	assert_int_equal(ring_oldest(f->writer), oldest);
	page_set_floor(f->page, 58);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 58), 58);
}

/* ---- what is whole ---- */

/* Eight fill the ring; one byte more, and the first has gone: before it is written. */
static void
test_ring_oldest_rises_before_the_bytes_go(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_int_equal(ring_oldest(f->reader), 1);
	assert_non_null(ring_room(f->writer, 0, 1));
	assert_int_equal(ring_oldest(f->reader), 2);
	assert_frame(f->reader, 0, 1, FRAME_MAX, 1);
}

static void
test_ring_oldest_counts_descriptors(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 1000; n++) {
		assert_int_equal(commit(f->writer), n);
		assert_int_equal(
		    ring_oldest(f->reader), n + 2 > INDEX ? n + 2 - INDEX : 1);
		assert_int_equal(ring_at(f->reader, ring_oldest(f->reader))->number,
		    ring_oldest(f->reader));
	}
}

static void
test_ring_at_overwritten_has_another_number(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= INDEX; n++) {
		assert_int_equal(ring_at(f->reader, 1)->number, n == 1 ? 0 : 1);
		assert_int_equal(commit(f->writer), n);
	}
	assert_int_not_equal(ring_at(f->reader, 1)->number, 1);
}

/* ---- how far back ---- */

static void
test_ring_retain_young_ring_keeps_all(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ring_retain(f->reader, 1), 1);
	for (int i = 0; i < 10; i++)
		(void)!publish(f->writer, 0, 1000, 'x');
	assert_int_equal(ring_retain(f->reader, 11), 1);
}

static void
test_ring_retain_three_quarters_of_the_index(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 60; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_retain(f->reader, 61), 61 - 48);
	assert_int_equal(ring_retain(f->reader, 50), 2);
	assert_int_equal(ring_retain(f->reader, 48), 1);
}

static void
test_ring_retain_three_quarters_of_the_bytes(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 8; n++)
		assert_int_equal(publish(f->writer, 4, FRAME_MAX, 'x'), n);
	assert_int_equal(ring_retain(f->reader, 9), 3);
	assert_int_equal(ring_retain(f->reader, 8), 2);
}

static void
test_ring_retain_bounds_what_is_asked(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 200; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_retain(f->reader, UINT64_MAX), 201 - 48);
	assert_int_equal(ring_retain(f->reader, 1), ring_oldest(f->reader));
	assert_int_equal(ring_retain(f->reader, 150), ring_oldest(f->reader));
}

/* A worker that has read all and keeps what it may never stands in the way. */
static void
test_ring_retain_leaves_room_for_a_quarter(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (uint64_t n = 1; n <= 500; n++) {
		size_t len = n % 3 == 0 ? FRAME_MAX : n * 37 % 5000;
		assert_int_equal(publish(f->writer, n % 2, len, 'x'), n);
		page_set_floor(f->page, ring_retain(f->reader, n + 1));
	}
}

static void
test_ring_distance_by_what_is_furthest(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 4; n++)
		assert_int_equal(publish(f->writer, 1, FRAME_MAX, 'x'), n);
	assert_int_equal(ring_distance(f->reader, 1), 512); /* half the bytes */
	assert_int_equal(ring_distance(f->reader, 3), 256);
	for (uint64_t n = 5; n <= 44; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_distance(f->reader, 13), 512); /* half the descriptors */
	assert_int_equal(ring_distance(f->reader, 1), 44 * 1024 / 64);
}

static void
test_ring_distance_is_bounded(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 200; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_distance(f->reader, 201), 0);
	assert_int_equal(ring_distance(f->reader, UINT64_MAX), 0);
	assert_int_equal(ring_distance(f->reader, 0), 1024);
	assert_int_equal(ring_distance(f->reader, 1), 1024);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_ring_room_without_workers_never_full),
	    T(test_ring_room_full_names_laggard),
	    T(test_ring_room_risen_floor_makes_room),
	    T(test_ring_room_every_dialect_counts),
	    T(test_ring_commit_full_index_refused),
	    T(test_ring_commit_refused_can_be_tried_again),
	    T(test_ring_laggard_is_the_lowest_of_many),
	    T(test_ring_set_worker_null_lets_go),
	    T(test_ring_set_worker_late_is_heeded_at_once),
	    T(test_ring_floor_above_head_counts_as_head),
	    T(test_ring_floor_going_back_holds_what_is_left),
	    T(test_ring_oldest_rises_before_the_bytes_go),
	    T(test_ring_oldest_counts_descriptors),
	    T(test_ring_at_overwritten_has_another_number),
	    T(test_ring_retain_young_ring_keeps_all),
	    T(test_ring_retain_three_quarters_of_the_index),
	    T(test_ring_retain_three_quarters_of_the_bytes),
	    T(test_ring_retain_bounds_what_is_asked),
	    T(test_ring_retain_leaves_room_for_a_quarter),
	    T(test_ring_distance_by_what_is_furthest),
	    T(test_ring_distance_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
