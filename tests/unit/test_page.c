/* test_page.c - a worker's page, and how it goes to sleep without missing anything. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/page.h"
#include "shm/ring.h"

struct fixture {
	struct page *page;
	struct ring *ring;
	int page_fd, ring_fd;
	uint32_t rung; /* the supervisor's word */
};

static int
setup(void **state)
{
	const struct ring_config cfg = {
	    .frames_size = RING_FRAMES_MIN, .index_len = 64, .channels_max = 1};
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL || page_create(7, &f->page, &f->page_fd) < 0 ||
	       ring_create(&cfg, &f->ring, &f->ring_fd) < 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	page_close(f->page);
	ring_close(f->ring);
	(void)close(f->page_fd);
	(void)close(f->ring_fd);
	free(f);
	return 0;
}

static void
publish(struct fixture *f)
{
	assert_int_not_equal(
	    ring_commit(f->ring, &(struct ring_desc){.type = RING_DRAIN}), 0);
}

static void
test_page_create_is_done_with_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->page->version, PAGE_VERSION);
	assert_int_equal(f->page->index, 7);
	assert_int_equal(f->page->done, 1);
	assert_int_equal(f->page->floor, 1);
	assert_int_equal(f->page->cpu, -1);
	assert_int_equal(f->page->state, WORKER_STARTING);
}

static void
test_page_create_size_is_sealed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ftruncate(f->page_fd, 0), -1);
	assert_int_equal(errno, EPERM);
}

static void
test_page_open_counts_on(void **state)
{
	struct fixture *f = *state;
	struct page *next;

	page_add(f->page, PAGE_accepted, 5);
	page_set_done(f->page, 10);
	page_set_floor(f->page, 4);
	assert_int_equal(page_open(f->page_fd, true, &next), 0);
	page_add(next, PAGE_accepted, 2);
	assert_int_equal(page_get(f->page, PAGE_accepted), 7);
	assert_int_equal(next->done, 10);
	assert_int_equal(next->floor, 4);
	page_close(next);
}

static void
test_page_open_no_page_refused(void **state)
{
	struct fixture *f = *state;
	struct page *p;

	assert_int_equal(page_open(f->ring_fd, false, &p), -EPROTO);
	assert_int_equal(page_open(-1, false, &p), -EBADF);
	f->page->version++;
	assert_int_equal(page_open(f->page_fd, false, &p), -EPROTO);
}

static void
test_page_set_gauge_goes_both_ways(void **state)
{
	struct fixture *f = *state;

	page_set(f->page, PAGE_connections, 9);
	page_set(f->page, PAGE_connections, 3);
	assert_int_equal(page_get(f->page, PAGE_connections), 3);
	assert_int_equal(page_get(f->page, PAGE_subscriptions), 0);
}

static void
test_page_counters_are_named_gauges_last(void **state)
{
	bool gauge = false;

	for (int c = 0; c < PAGE_COUNTER_COUNT; c++) {
		assert_true(strlen(page_counter_name(c)) > 0);
		assert_true(strlen(page_counter_help(c)) > 0);
		assert_true(page_counter_is_gauge(c) || !gauge);
		gauge = page_counter_is_gauge(c);
	}
	assert_string_equal(page_counter_name(PAGE_closed_slow), "closed_slow");
	assert_false(page_counter_is_gauge(PAGE_errors_sent));
	assert_true(page_counter_is_gauge(PAGE_connections));
}

static void
test_page_beat_rises_and_says_when(void **state)
{
	struct fixture *f = *state;

	page_beat(f->page, 1000);
	page_beat(f->page, 1000);
	assert_int_equal(f->page->heartbeat, 2);
	assert_int_equal(f->page->beat_ms, 1000);
}

/* ---- sleeping ---- */

static void
test_page_sleep_all_read_sleeps(void **state)
{
	struct fixture *f = *state;

	publish(f);
	assert_true(page_sleep(f->page, f->ring, 2));
	assert_int_equal(f->page->asleep % 2, 1);
}

static void
test_page_sleep_more_there_stays_awake(void **state)
{
	struct fixture *f = *state;

	publish(f);
	assert_false(page_sleep(f->page, f->ring, 1));
	assert_int_equal(f->page->asleep % 2, 0);
	assert_false(page_must_ring(f->page, &f->rung));
}

static void
test_page_must_ring_awake_never(void **state)
{
	struct fixture *f = *state;

	assert_false(page_must_ring(f->page, &f->rung));
	assert_true(page_sleep(f->page, f->ring, 1));
	page_wake(f->page);
	assert_false(page_must_ring(f->page, &f->rung));
}

static void
test_page_must_ring_once_a_sleep(void **state)
{
	struct fixture *f = *state;

	/* Two records each time. */
	for (uint64_t done = 1; done < 5; done += 2) {
		assert_true(page_sleep(f->page, f->ring, done));
		publish(f);
		assert_true(page_must_ring(f->page, &f->rung));
		publish(f);
		assert_false(page_must_ring(f->page, &f->rung));
		page_wake(f->page);
	}
}

/* A worker that is killed asleep, and rung for, leaves the flag up. */
static void
test_page_sleep_successor_is_rung_for_again(void **state)
{
	struct fixture *f = *state;

	assert_true(page_sleep(f->page, f->ring, 1));
	publish(f);
	assert_true(page_must_ring(f->page, &f->rung));
	assert_true(page_sleep(f->page, f->ring, 2)); /* without page_wake() */
	publish(f);
	assert_true(page_must_ring(f->page, &f->rung));
}

/* A supervisor behind an exec does not know for which sleep it rang. */
static void
test_page_must_ring_forgotten_word_rings_again(void **state)
{
	struct fixture *f = *state;
	uint32_t fresh = 0;

	assert_true(page_sleep(f->page, f->ring, 1));
	assert_true(page_must_ring(f->page, &f->rung));
	assert_true(page_must_ring(f->page, &fresh));
}

static void
test_page_wake_twice_is_awake(void **state)
{
	struct fixture *f = *state;

	assert_true(page_sleep(f->page, f->ring, 1));
	page_wake(f->page);
	page_wake(f->page);
	assert_int_equal(f->page->asleep % 2, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void
test_page_times_fall_into_their_buckets(void **state)
{
	struct page *p, *next;
	struct page_times_now now;
	int fd, next_fd;

	assert_int_equal(page_create(0, &p, &fd), 0);
	for (unsigned i = 0; i < PAGE_TIME_BUCKETS - 1; i++) {
		page_time_add(p, PAGE_TIME_fanout, page_time_bound_ns(i));
		page_time_add(p, PAGE_TIME_fanout, page_time_bound_ns(i) + 1);
	}
	page_time_add(p, PAGE_TIME_fanout, 0);
	page_add(p, PAGE_sent, 7);
	page_set(p, PAGE_connections, 7);
	assert_int_equal(page_create(0, &next, &next_fd), 0);
	page_continue(next, p);
	page_times_look(next, PAGE_TIME_fanout, &now);
	for (unsigned i = 0; i < PAGE_TIME_BUCKETS - 1; i++)
		assert_int_equal(now.bucket[i], 2);
	assert_int_equal(now.bucket[PAGE_TIME_BUCKETS - 1], 1);
	page_times_look(next, PAGE_TIME_latency, &now);
	assert_int_equal(now.sum_ns, 0);
	assert_int_equal(page_get(next, PAGE_sent), 7);
	assert_int_equal(page_get(next, PAGE_connections), 0);
	page_close(p);
	page_close(next);
	(void)close(fd);
	(void)close(next_fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_page_times_fall_into_their_buckets),
	    T(test_page_create_is_done_with_nothing),
	    T(test_page_create_size_is_sealed),
	    T(test_page_open_counts_on),
	    T(test_page_open_no_page_refused),
	    T(test_page_set_gauge_goes_both_ways),
	    cmocka_unit_test(test_page_counters_are_named_gauges_last),
	    T(test_page_beat_rises_and_says_when),
	    T(test_page_sleep_all_read_sleeps),
	    T(test_page_sleep_more_there_stays_awake),
	    T(test_page_must_ring_awake_never),
	    T(test_page_must_ring_once_a_sleep),
	    T(test_page_sleep_successor_is_rung_for_again),
	    T(test_page_must_ring_forgotten_word_rings_again),
	    T(test_page_wake_twice_is_awake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
