/* test_upstream.c - a worker's messages to the supervisor, honest and in bad faith. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/upstream.h"

#define SIZE (64u << 10)
#define LONGEST (SIZE / 4)

/* The map as a bad worker sees it: a page of header, then the bytes. */
#define HEAD_AT 128
#define BYTES_AT 4096

struct fixture {
	struct upstream *supervisor, *worker;
	int fd;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL || upstream_create(SIZE, &f->supervisor, &f->fd) < 0 ||
	       upstream_open(f->fd, &f->worker) < 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	upstream_close(f->supervisor);
	upstream_close(f->worker);
	(void)close(f->fd);
	free(f);
	return 0;
}

static bool
send_message(struct upstream *u, uint32_t type, size_t len, int value)
{
	void *room = upstream_room(u, len);

	if (room == NULL)
		return false;
	memset(room, value, len);
	upstream_send(u, type, len);
	return true;
}

static void
assert_next(struct upstream *u, uint32_t type, size_t len, int value)
{
	uint32_t got_type;
	size_t got_len;
	const void *buf;

	assert_int_equal(upstream_next(u, &got_type, &buf, &got_len), 1);
	assert_int_equal(got_type, type);
	assert_int_equal(got_len, len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(((const uint8_t *)buf)[i], (uint8_t)value);
	upstream_consume(u);
}

static int
next_result(struct upstream *u)
{
	uint32_t type;
	size_t len;
	const void *buf;

	return upstream_next(u, &type, &buf, &len);
}

static void
scribble(const struct fixture *f, off_t offset, uint64_t value, size_t len)
{
	assert_int_equal(pwrite(f->fd, &value, len, offset), len);
}

/* ---- making and opening ---- */

static void
test_upstream_create_bad_size_refused(void **state)
{
	struct upstream *u;
	int fd;

	assert_int_equal(upstream_create(SIZE / 2, &u, &fd), -EINVAL);
	assert_int_equal(upstream_create(SIZE + 4096, &u, &fd), -EINVAL);
	assert_int_equal(upstream_create(0, &u, &fd), -EINVAL);
}

static void
test_upstream_create_size_is_sealed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ftruncate(f->fd, 4096), -1);
	assert_int_equal(errno, EPERM);
}

static void
test_upstream_open_no_upstream_refused(void **state)
{
	struct fixture *f = *state;
	struct upstream *u;
	int fd = memfd_create("other", MFD_CLOEXEC);

	assert_int_equal(upstream_open(fd, &u), -EPROTO);
	assert_int_equal(ftruncate(fd, BYTES_AT + SIZE), 0);
	assert_int_equal(upstream_open(fd, &u), -EPROTO);
	(void)close(fd);
	scribble(f, 0, 99, 4); /* the version */
	assert_int_equal(upstream_open(f->fd, &u), -EPROTO);
}

/* ---- messages ---- */

static void
test_upstream_next_empty_is_none(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(next_result(f->supervisor), 0);
}

static void
test_upstream_next_gives_what_was_sent_in_order(void **state)
{
	struct fixture *f = *state;

	assert_true(send_message(f->worker, 3, 10, 'a'));
	assert_true(send_message(f->worker, 4, 0, 0));
	assert_true(send_message(f->worker, 5, 17, 'b'));
	assert_next(f->supervisor, 3, 10, 'a');
	assert_next(f->supervisor, 4, 0, 0);
	assert_next(f->supervisor, 5, 17, 'b');
	assert_int_equal(next_result(f->supervisor), 0);
}

static void
test_upstream_next_unconsumed_comes_again(void **state)
{
	struct fixture *f = *state;

	assert_true(send_message(f->worker, 3, 10, 'a'));
	assert_int_equal(next_result(f->supervisor), 1);
	assert_next(f->supervisor, 3, 10, 'a');
}

static void
test_upstream_room_alone_is_not_seen(void **state)
{
	struct fixture *f = *state;

	assert_non_null(upstream_room(f->worker, 100));
	assert_int_equal(next_result(f->supervisor), 0);
}

static void
test_upstream_room_longest_is_a_quarter(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(upstream_max(f->worker), LONGEST);
	assert_true(send_message(f->worker, 1, LONGEST, 'x'));
	assert_next(f->supervisor, 1, LONGEST, 'x');
	assert_null(upstream_room(f->worker, LONGEST + 1));
	assert_int_equal(errno, EMSGSIZE);
	assert_null(upstream_room(f->worker, SIZE_MAX));
	assert_int_equal(errno, EMSGSIZE);
}

static void
test_upstream_room_full_then_consumed(void **state)
{
	struct fixture *f = *state;
	int n = 0;

	while (send_message(f->worker, 1, 1000, n))
		n++;
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(n, SIZE / 1008);
	for (int i = 0; i < n; i++)
		assert_next(f->supervisor, 1, 1000, i);
	assert_true(send_message(f->worker, 1, 1000, 7));
	assert_next(f->supervisor, 1, 1000, 7);
}

static void
test_upstream_next_any_lengths_over_the_end(void **state)
{
	struct fixture *f = *state;
	unsigned random = (unsigned)time(NULL);

	print_message("seed %u\n", random);
	for (int i = 0; i < 5000; i++) {
		size_t len = (size_t)rand_r(&random) % (i % 50 == 0 ? LONGEST : 300);
		assert_true(send_message(f->worker, (uint32_t)i, len, i));
		assert_next(f->supervisor, (uint32_t)i, len, i);
	}
}

/* ---- other lives ---- */

static void
test_upstream_open_successor_goes_on(void **state)
{
	struct fixture *f = *state;
	struct upstream *next;

	assert_true(send_message(f->worker, 1, 10, 'a'));
	memset(upstream_room(f->worker, 100), 'x', 100); /* never sent */
	assert_int_equal(upstream_open(f->fd, &next), 0);
	assert_true(send_message(next, 2, 20, 'b'));
	assert_next(f->supervisor, 1, 10, 'a');
	assert_next(f->supervisor, 2, 20, 'b');
	upstream_close(next);
}

static void
test_upstream_open_supervisor_goes_on(void **state)
{
	struct fixture *f = *state;
	struct upstream *next;

	assert_true(send_message(f->worker, 1, 10, 'a'));
	assert_true(send_message(f->worker, 2, 20, 'b'));
	assert_next(f->supervisor, 1, 10, 'a');
	assert_int_equal(upstream_open(f->fd, &next), 0);
	assert_next(next, 2, 20, 'b');
	upstream_close(next);
}

/* ---- bad faith ---- */

static void
test_upstream_next_head_out_of_bounds_refused(void **state)
{
	static const uint64_t bad[] = {
	    SIZE + 8, 1ull << 40, UINT64_MAX - 7, UINT64_MAX, 1, 12};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		scribble(f, HEAD_AT, bad[i], 8);
		assert_int_equal(next_result(f->supervisor), -EPROTO);
	}
}

static void
test_upstream_next_length_out_of_bounds_refused(void **state)
{
	static const uint32_t bad[] = {
	    17, 100, LONGEST + 1, SIZE, INT32_MAX, UINT32_MAX - 7, UINT32_MAX};
	struct fixture *f = *state;

	assert_true(send_message(f->worker, 1, 16, 'a'));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		scribble(f, BYTES_AT, bad[i], 4);
		assert_int_equal(next_result(f->supervisor), -EPROTO);
	}
	scribble(f, BYTES_AT, 16, 4);
	assert_next(f->supervisor, 1, 16, 'a');
}

/* What next() gave is what consume() ends, whatever the length says by then. */
static void
test_upstream_consume_heeds_no_second_length(void **state)
{
	struct fixture *f = *state;

	assert_true(send_message(f->worker, 1, 16, 'a'));
	assert_true(send_message(f->worker, 2, 16, 'b'));
	assert_int_equal(next_result(f->supervisor), 1);
	scribble(f, BYTES_AT, UINT32_MAX, 4);
	upstream_consume(f->supervisor);
	assert_next(f->supervisor, 2, 16, 'b');
}

/* The supervisor's own words in the map are not read back. */
static void
test_upstream_next_scribbled_tail_is_ignored(void **state)
{
	struct fixture *f = *state;

	assert_true(send_message(f->worker, 1, 16, 'a'));
	scribble(f, 256, 1ull << 50, 8);
	assert_next(f->supervisor, 1, 16, 'a');
	assert_int_equal(next_result(f->supervisor), 0);
}

static void
test_upstream_reset_forgets_what_waits(void **state)
{
	struct fixture *f = *state;

	assert_true(send_message(f->worker, 1, 16, 'a'));
	upstream_reset(f->supervisor);
	assert_int_equal(next_result(f->supervisor), 0);
	assert_true(send_message(f->worker, 2, 16, 'b'));
	assert_next(f->supervisor, 2, 16, 'b');
}

static void
test_upstream_reset_bad_head_is_put_right(void **state)
{
	struct fixture *f = *state;
	struct upstream *next;

	assert_true(send_message(f->worker, 1, 16, 'a'));
	scribble(f, HEAD_AT, 0xdeadbeef12345677, 8);
	assert_int_equal(next_result(f->supervisor), -EPROTO);
	upstream_reset(f->supervisor);
	assert_int_equal(next_result(f->supervisor), 0);
	assert_int_equal(upstream_open(f->fd, &next), 0);
	assert_true(send_message(next, 2, 16, 'b'));
	assert_next(f->supervisor, 2, 16, 'b');
	upstream_close(next);
}

/* The successor may be there before the reset. */
static void
test_upstream_open_bad_head_starts_at_the_tail(void **state)
{
	struct fixture *f = *state;
	struct upstream *next;

	assert_true(send_message(f->worker, 1, 16, 'a'));
	assert_next(f->supervisor, 1, 16, 'a');
	scribble(f, HEAD_AT, 0xdeadbeef12345677, 8);
	assert_int_equal(upstream_open(f->fd, &next), 0);
	assert_true(send_message(next, 2, 16, 'b'));
	assert_next(f->supervisor, 2, 16, 'b');
	upstream_close(next);
}

/* ---- the doorbell ---- */

static void
test_upstream_sleep_empty_sleeps(void **state)
{
	struct fixture *f = *state;

	assert_true(upstream_sleep(f->supervisor));
	assert_true(upstream_must_ring(f->worker));
}

static void
test_upstream_sleep_more_there_stays_awake(void **state)
{
	struct fixture *f = *state;

	assert_true(send_message(f->worker, 1, 1, 'a'));
	assert_false(upstream_sleep(f->supervisor));
	assert_false(upstream_must_ring(f->worker));
}

static void
test_upstream_must_ring_once_a_sleep(void **state)
{
	struct fixture *f = *state;

	assert_false(upstream_must_ring(f->worker));
	for (int i = 0; i < 3; i++) {
		assert_true(upstream_sleep(f->supervisor));
		assert_true(upstream_must_ring(f->worker));
		assert_false(upstream_must_ring(f->worker));
		upstream_wake(f->supervisor);
		assert_false(upstream_must_ring(f->worker));
	}
}

static void
test_upstream_must_ring_successor_rings_again(void **state)
{
	struct fixture *f = *state;
	struct upstream *next;

	assert_true(upstream_sleep(f->supervisor));
	assert_true(upstream_must_ring(f->worker)); /* and was killed before it did */
	assert_int_equal(upstream_open(f->fd, &next), 0);
	assert_true(upstream_must_ring(next));
	upstream_close(next);
}

static void
test_upstream_sleep_behind_an_exec_is_another(void **state)
{
	struct fixture *f = *state;

	assert_true(upstream_sleep(f->supervisor));
	assert_true(upstream_must_ring(f->worker));
	assert_true(upstream_sleep(f->supervisor)); /* without upstream_wake() */
	assert_true(upstream_must_ring(f->worker));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_upstream_create_bad_size_refused),
	    T(test_upstream_create_size_is_sealed),
	    T(test_upstream_open_no_upstream_refused),
	    T(test_upstream_next_empty_is_none),
	    T(test_upstream_next_gives_what_was_sent_in_order),
	    T(test_upstream_next_unconsumed_comes_again),
	    T(test_upstream_room_alone_is_not_seen),
	    T(test_upstream_room_longest_is_a_quarter),
	    T(test_upstream_room_full_then_consumed),
	    T(test_upstream_next_any_lengths_over_the_end),
	    T(test_upstream_open_successor_goes_on),
	    T(test_upstream_open_supervisor_goes_on),
	    T(test_upstream_next_head_out_of_bounds_refused),
	    T(test_upstream_next_length_out_of_bounds_refused),
	    T(test_upstream_consume_heeds_no_second_length),
	    T(test_upstream_next_scribbled_tail_is_ignored),
	    T(test_upstream_reset_forgets_what_waits),
	    T(test_upstream_reset_bad_head_is_put_right),
	    T(test_upstream_open_bad_head_starts_at_the_tail),
	    T(test_upstream_sleep_empty_sleeps),
	    T(test_upstream_sleep_more_there_stays_awake),
	    T(test_upstream_must_ring_once_a_sleep),
	    T(test_upstream_must_ring_successor_rings_again),
	    T(test_upstream_sleep_behind_an_exec_is_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
