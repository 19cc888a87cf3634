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

#include "proto/frame.h"
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

/* ---- compression ---- */

static const char zeros[4000];

static void
compress(struct fixture *f, bool enabled, uint32_t threshold, uint32_t min_saving)
{
	struct settings s = {.compression = enabled,
	    .compression_level = 3,
	    .compression_threshold = threshold,
	    .compression_min_saving = min_saving};

	assert_int_equal(publisher_set_compression(&f->p, &s), 0);
}

/* Bytes of the record's frame in a dialect. */
static size_t
frame_len(struct fixture *f, enum dialect d, uint64_t number)
{
	const void *frame;

	return ring_frames(f->ring, d, number, number + 1, &frame);
}

static void
test_publisher_deflates_on_demand_alone(void **state)
{
	struct fixture *f = *state;

	compress(f, true, 0, 10);
	assert_int_equal(publisher_message(&f->p, 2, zeros, sizeof(zeros)), 0);
	assert_int_equal(frame_len(f, DIALECT_RAW_DEFLATE, 1), 0);
	want(f, 1, DIALECT_RAW_DEFLATE);
	assert_int_equal(publisher_message(&f->p, 2, zeros, sizeof(zeros)), 0);
	assert_in_range(frame_len(f, DIALECT_RAW_DEFLATE, 2), 3, 100);
	assert_int_equal(frame_len(f, DIALECT_RAW, 2), sizeof(zeros) + 4);
	assert_int_equal(frame_len(f, DIALECT_V1_DEFLATE, 2), 0);
	assert_int_equal(f->p.deflated, 1);
	assert_int_equal(f->p.deflate_saved,
	    sizeof(zeros) + 4 - frame_len(f, DIALECT_RAW_DEFLATE, 2));
}

static void
test_publisher_deflated_is_the_plain_message(void **state)
{
	struct fixture *f = *state;
	struct inflater *z;
	const uint8_t *message;
	const void *deflated, *plain, *payload, *expected;
	enum opcode op;
	size_t len;

	compress(f, true, 0, 10);
	want(f, 0, DIALECT_V1);
	want(f, 0, DIALECT_V1_DEFLATE);
	assert_int_equal(publisher_message(&f->p, 2, zeros, sizeof(zeros)), 0);
	assert_true(ring_frames(f->ring, DIALECT_V1, 1, 2, &plain) > 0);
	assert_true(ring_frames(f->ring, DIALECT_V1_DEFLATE, 1, 2, &deflated) > 0);
	assert_int_equal(inflater_new(&z), 0);
	len = frame_payload(deflated, &op, &payload);
	assert_int_equal(
	    inflater_message(z, payload, len, 1 << 20, &message, &len), INFLATED_WHOLE);
	assert_int_equal(op, OPCODE_TEXT);
	assert_int_equal(frame_payload(plain, &op, &expected), len);
	assert_memory_equal(message, expected, len);
	inflater_free(z);
}

/* Its plain frame is not in the ring either: there is nothing to deflate. */
static void
test_publisher_deflates_nothing_without_plain_frame(void **state)
{
	struct fixture *f = *state;

	compress(f, true, 0, 10);
	want(f, 0, DIALECT_V1_DEFLATE);
	assert_int_equal(publisher_message(&f->p, 2, zeros, sizeof(zeros)), 0);
	assert_int_equal(frame_len(f, DIALECT_V1_DEFLATE, 1), 0);
}

static void
test_publisher_deflates_from_threshold_on(void **state)
{
	struct fixture *f = *state;

	compress(f, true, 1000, 10);
	want(f, 0, DIALECT_RAW_DEFLATE);
	assert_int_equal(publisher_message(&f->p, 2, zeros, 999), 0);
	assert_int_equal(publisher_message(&f->p, 2, zeros, 1000), 0);
	assert_int_equal(frame_len(f, DIALECT_RAW_DEFLATE, 1), 0);
	assert_true(frame_len(f, DIALECT_RAW_DEFLATE, 2) > 0);
}

/* What becomes no smaller is left plain, whatever the setting; also nothing at all. */
static void
test_publisher_leaves_plain_what_saves_too_little(void **state)
{
	struct fixture *f = *state;
	uint8_t noise[2000];
	uint32_t random = 1;

	for (size_t i = 0; i < sizeof(noise); i++) {
		random = random * 1664525 + 1013904223;
		noise[i] = (uint8_t)(random >> 24);
	}
	want(f, 0, DIALECT_RAW_DEFLATE);
	for (unsigned percent = 0; percent < 100; percent += 33) {
		compress(f, true, 0, percent);
		assert_int_equal(publisher_message(&f->p, 2, noise, sizeof(noise)), 0);
		assert_int_equal(publisher_message(&f->p, 2, "", 0), 0);
		assert_int_equal(publisher_message(&f->p, 2, "a", 1), 0);
	}
	for (uint64_t number = 1; number < ring_head(f->ring); number++)
		assert_int_equal(frame_len(f, DIALECT_RAW_DEFLATE, number), 0);
	assert_int_equal(f->p.deflated, 0);
	assert_int_equal(f->p.deflate_tried, 12);
}

static void
test_publisher_deflates_no_longer_when_set_so(void **state)
{
	struct fixture *f = *state;

	want(f, 0, DIALECT_RAW_DEFLATE);
	compress(f, true, 0, 10);
	compress(f, false, 0, 10);
	assert_int_equal(publisher_message(&f->p, 2, zeros, sizeof(zeros)), 0);
	assert_int_equal(frame_len(f, DIALECT_RAW_DEFLATE, 1), 0);
}

/* A refused message leaves no key behind for the next. */
static void
test_publisher_keyed_newer_stands_for_it(void **state)
{
	static const struct slice key = {"a", 1};
	struct fixture *f = *state;
	uint64_t first = ring_head(f->p.ring);

	assert_int_equal(publisher_keyed(&f->p, 2, key, "1", 1), 0);
	assert_int_equal(publisher_message(&f->p, 2, "2", 1), 0);
	assert_int_equal(
	    publisher_keyed(&f->p, 2, key, "", ring_frame_max(f->p.ring) + 1),
	    -EMSGSIZE);
	assert_int_equal(publisher_message(&f->p, 2, "3", 1), 0);
	assert_false(
	    ring_superseded(ring_at(f->p.ring, first), first, ring_head(f->p.ring)));
	assert_int_equal(publisher_keyed(&f->p, 2, key, "4", 1), 0);
	assert_true(
	    ring_superseded(ring_at(f->p.ring, first), first, ring_head(f->p.ring)));
}

/* What one busy moment needed is not kept for ever. */
static void
test_publisher_long_queue_is_given_back(void **state)
{
	const struct ring_desc desc = {.type = RING_ACK, .channel = 7};
	struct fixture *f = *state;

	(void)fill(f);
	for (unsigned i = 0; i < 5000; i++)
		assert_true(publisher_control(&f->p, &desc) > 0);
	assert_true(f->p.queue_cap >= 5000);
	for (unsigned i = 0; i < 5000 && !publisher_retry(&f->p); i++)
		page_set_floor(f->pages[0], ring_head(f->ring));
	assert_int_equal(f->p.nqueue, 0);
	assert_int_equal(f->p.queue_cap, 0);
	assert_true(publisher_control(&f->p, &desc) > 0);
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
	    T(test_publisher_long_queue_is_given_back),
	    T(test_publisher_batch_is_taken_once),
	    T(test_publisher_tells_of_each_message_that_is_published),
	    T(test_publisher_deflates_on_demand_alone),
	    T(test_publisher_deflated_is_the_plain_message),
	    T(test_publisher_deflates_nothing_without_plain_frame),
	    T(test_publisher_deflates_from_threshold_on),
	    T(test_publisher_leaves_plain_what_saves_too_little),
	    T(test_publisher_deflates_no_longer_when_set_so),
	    T(test_publisher_keyed_newer_stands_for_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
