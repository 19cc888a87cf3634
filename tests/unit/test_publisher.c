/* test_publisher.c - what the supervisor writes into the ring, and when it must wait.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/directory.h"
#include "supervisor/publisher.h"

#define INDEX_LEN 64

struct fixture {
	struct ring *ring;
	struct page *pages[2];
	int ring_fd, page_fds[2];
	struct publisher p;
	unsigned told; /* calls of on_message */
	uint64_t told_offset;
};

static int
setup(void **state)
{
	const struct ring_config cfg = {
	    .frames_size = RING_FRAMES_MIN, .index_len = INDEX_LEN, .channels_max = 4};
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (f == NULL || ring_create(&cfg, &f->ring, &f->ring_fd) < 0 ||
	    page_create(0, &f->pages[0], &f->page_fds[0]) < 0 ||
	    page_create(1, &f->pages[1], &f->page_fds[1]) < 0)
		return 1;
	publisher_init(&f->p, f->ring, f->pages, 2);
	directory_set(ring_directory(f->ring), 2, "news", 4, ring_head(f->ring) - 1);
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	publisher_done(&f->p);
	ring_close(f->ring);
	(void)close(f->ring_fd);
	for (int i = 0; i < 2; i++) {
		page_close(f->pages[i]);
		(void)close(f->page_fds[i]);
	}
	free(f);
	return 0;
}

static void
want(struct fixture *f, unsigned worker, enum dialect d)
{
	atomic_store(&f->pages[worker]->demand[d], 1);
}

static void
assert_frame(struct fixture *f, enum dialect d, uint64_t number, const char *expected)
{
	const void *frame;
	size_t len = ring_frames(f->ring, d, number, number + 1, &frame);

	assert_int_equal(len, strlen(expected));
	if (len > 0)
		assert_memory_equal(frame, expected, len);
}

/* Worker 0 reads nothing: the ring fills up, and the publisher is blocked. */
static unsigned
fill(struct fixture *f)
{
	unsigned n = 0;

	ring_set_worker(f->ring, 0, f->pages[0]);
	while (publisher_message(&f->p, 2, "x", 1) == 0)
		n++;
	return n;
}

static void
test_publisher_message_has_its_place(void **state)
{
	struct fixture *f = *state;
	const struct ring_desc *first, *second;

	assert_int_equal(publisher_message(&f->p, 2, "a", 1), 0);
	assert_int_equal(publisher_message(&f->p, 2, "{}", 2), 0);
	first = ring_at(f->ring, 1);
	second = ring_at(f->ring, 2);
	assert_int_equal(first->type, RING_MESSAGE);
	assert_int_equal(first->channel, 2);
	assert_int_equal(first->offset, 1);
	assert_int_equal(first->prev, 0);
	assert_int_equal(first->data_kind, DATA_TEXT);
	assert_int_equal(second->offset, 2);
	assert_int_equal(second->prev, 1);
	assert_int_equal(second->data_kind, DATA_JSON);
	assert_true(second->time_ns >= first->time_ns);
	assert_int_equal(directory_newest(ring_directory(f->ring), 2), 2);
}

static void
test_publisher_raw_is_framed_without_demand(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(publisher_message(&f->p, 2, "hi", 2), 0);
	assert_frame(f, DIALECT_RAW, 1, "\x81\x02hi");
	assert_frame(f, DIALECT_V1, 1, "");
}

static void
test_publisher_dialect_is_framed_on_demand_of_any(void **state)
{
	struct fixture *f = *state;

	want(f, 1, DIALECT_V1);
	assert_int_equal(publisher_message(&f->p, 2, "hi", 2), 0);
	assert_frame(f, DIALECT_RAW, 1, "\x81\x02hi");
	assert_frame(f, DIALECT_V1, 1,
	    "\x81\x29{\"channel\":\"news\",\"offset\":1,\"data\":\"hi\"}");
}

static void
test_publisher_too_long_is_refused_and_counted(void **state)
{
	struct fixture *f = *state;
	size_t len = ring_frame_max(f->ring) + 1;
	char *data = calloc(1, len);

	assert_non_null(data);
	assert_int_equal(publisher_message(&f->p, 2, data, len), -EMSGSIZE);
	assert_int_equal(f->p.too_long, 1);
	assert_false(f->p.blocked);
	assert_int_equal(ring_head(f->ring), 1);
	free(data);
}

/* Escaping makes it too long for one dialect: the workers build that one. */
static void
test_publisher_dialect_too_long_is_left_out(void **state)
{
	struct fixture *f = *state;
	size_t len = ring_frame_max(f->ring) - 64;
	char *data = malloc(len);

	assert_non_null(data);
	memset(data, 1, len);
	want(f, 0, DIALECT_V1);
	assert_int_equal(publisher_message(&f->p, 2, data, len), 0);
	assert_frame(f, DIALECT_V1, 1, "");
	free(data);
}

static void
test_publisher_full_publishes_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned n = fill(f);

	assert_true(n > 0);
	assert_int_equal(publisher_message(&f->p, 2, "x", 1), -ENOBUFS);
	assert_true(f->p.blocked);
	assert_int_equal(ring_head(f->ring), n + 1);
	assert_int_equal(directory_offset(ring_directory(f->ring), 2), n);
	assert_int_equal(ring_laggard(f->ring), 0);
}

static void
test_publisher_full_goes_on_when_a_floor_rises(void **state)
{
	struct fixture *f = *state;
	unsigned n = fill(f);

	page_set_floor(f->pages[0], n);
	assert_true(publisher_retry(&f->p));
	assert_false(f->p.blocked);
	assert_int_equal(publisher_message(&f->p, 2, "x", 1), 0);
	assert_int_equal(directory_offset(ring_directory(f->ring), 2), n + 1);
}

/* What was written first is published first, also when it had to wait. */
static void
test_publisher_control_that_waits_stays_in_front(void **state)
{
	struct fixture *f = *state;
	unsigned n = fill(f);

	for (uint64_t i = 0; i < 200; i++)
		assert_int_equal(publisher_control(&f->p,
				     &(struct ring_desc){
					 .type = RING_ACK, .channel = 7, .offset = i}),
		    n + 1 + i);
	page_set_floor(f->pages[0], n);
	/* There is room, but not in front of them. */
	assert_int_equal(publisher_message(&f->p, 2, "x", 1), -ENOBUFS);
	for (int i = 0; i < 10 && !publisher_retry(&f->p); i++)
		page_set_floor(f->pages[0], ring_head(f->ring));
	assert_int_equal(f->p.nqueue, 0);
	assert_int_equal(ring_head(f->ring), n + 1 + 200);
	assert_int_equal(ring_at(f->ring, n + 200)->offset, 199);
	assert_int_equal(publisher_message(&f->p, 2, "x", 1), 0);
	assert_int_equal(ring_at(f->ring, n + 201)->type, RING_MESSAGE);
}

static void
test_publisher_batch_is_taken_once(void **state)
{
	struct fixture *f = *state;

	assert_false(publisher_take_batch(&f->p));
	assert_int_equal(publisher_message(&f->p, 2, "x", 1), 0);
	assert_int_equal(publisher_message(&f->p, 2, "x", 1), 0);
	assert_true(publisher_take_batch(&f->p));
	assert_false(publisher_take_batch(&f->p));
}

static void
on_message(void *owner, uint32_t channel, const struct message *m, uint64_t time_ns)
{
	struct fixture *f = owner;

	assert_int_equal(channel, 2);
	assert_memory_equal(m->channel, "news", m->channel_len);
	f->told++;
	f->told_offset = m->offset;
}

static void
test_publisher_tells_of_each_message_that_is_published(void **state)
{
	struct fixture *f = *state;
	unsigned n;

	f->p.on_message = on_message;
	f->p.owner = f;
	n = fill(f);
	assert_int_equal(f->told, n);
	assert_int_equal(f->told_offset, n);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_publisher_message_has_its_place),
	    T(test_publisher_raw_is_framed_without_demand),
	    T(test_publisher_dialect_is_framed_on_demand_of_any),
	    T(test_publisher_too_long_is_refused_and_counted),
	    T(test_publisher_dialect_too_long_is_left_out),
	    T(test_publisher_full_publishes_nothing),
	    T(test_publisher_full_goes_on_when_a_floor_rises),
	    T(test_publisher_control_that_waits_stays_in_front),
	    T(test_publisher_batch_is_taken_once),
	    T(test_publisher_tells_of_each_message_that_is_published),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
