/*
 * test_keys.c - shm/keys.h, and what the ring says of a message's key: whether a newer
 * one stands for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/keys.h"
#include "shm/page.h"
#include "shm/ring.h"

#define INDEX 64
#define CHANNELS 8

struct fixture {
	struct ring *ring;
	int fd;
};

static int
setup(void **state)
{
	static const struct ring_config cfg = {.frames_size = RING_FRAMES_MIN,
	    .index_len = INDEX,
	    .channels_max = CHANNELS};
	static struct fixture f;

	assert_int_equal(ring_create(&cfg, &f.ring, &f.fd), 0);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	ring_close(f->ring);
	return close(f->fd);
}

/* key: NULL = none. Returns the record's number. */
static uint64_t
message(struct fixture *f, uint32_t channel, const char *key)
{
	if (key != NULL)
		ring_key(f->ring, channel, key, strlen(key));
	return ring_commit(
	    f->ring, &(struct ring_desc){.type = RING_MESSAGE, .channel = channel});
}

/* Below `end`. */
static bool
superseded_at(const struct fixture *f, uint64_t number, uint64_t end)
{
	return ring_superseded(ring_at(f->ring, number), number, end);
}

static bool
superseded(const struct fixture *f, uint64_t number)
{
	return superseded_at(f, number, ring_head(f->ring));
}

static void
test_keys_newer_of_its_key_stands_for_it(void **state)
{
	struct fixture *f = *state;
	uint64_t a1 = message(f, 0, "a"), b = message(f, 0, "b"), a2;

	assert_false(superseded(f, a1));
	a2 = message(f, 0, "a");
	assert_true(superseded(f, a1));
	assert_false(superseded(f, b));
	assert_false(superseded(f, a2));
}

static void
test_keys_other_channel_has_others(void **state)
{
	struct fixture *f = *state;
	uint64_t a = message(f, 0, "a"), none = message(f, 0, NULL);

	(void)message(f, 1, "a");
	(void)message(f, 1, NULL);
	assert_false(superseded(f, a));
	assert_false(superseded(f, none));
}

/* Those of no key are of one: the channel's own. */
static void
test_keys_none_is_the_channels_own(void **state)
{
	struct fixture *f = *state;
	uint64_t none = message(f, 0, NULL);

	(void)message(f, 0, "a");
	assert_false(superseded(f, none));
	(void)message(f, 0, NULL);
	assert_true(superseded(f, none));
}

/* What is asked of an end once is answered so for ever. */
static void
test_keys_answer_for_an_end_stays(void **state)
{
	struct fixture *f = *state;
	uint64_t a1 = message(f, 0, "a"), end = ring_head(f->ring), a2;

	assert_false(superseded_at(f, a1, end));
	a2 = message(f, 0, "a");
	(void)message(f, 0, "a");
	assert_false(superseded_at(f, a1, end));
	assert_false(superseded_at(f, a1, a2));
	assert_true(superseded_at(f, a1, a2 + 1));
}

/* A record that is no message of the channel neither is superseded nor does it. */
static void
test_keys_control_records_have_none(void **state)
{
	struct fixture *f = *state;
	uint64_t none = message(f, 0, NULL);
	uint64_t gap =
	    ring_commit(f->ring, &(struct ring_desc){.type = RING_GAP, .channel = 0});

	assert_false(superseded(f, none));
	(void)message(f, 0, NULL);
	assert_false(superseded(f, gap));
}

/* One that has left the ring is not marked: its place is another's. */
static void
test_keys_gone_record_is_left_alone(void **state)
{
	struct fixture *f = *state;

	(void)message(f, 0, "a");
	(void)message(f, 0, NULL);
	for (int i = 0; i < 2 * INDEX; i++)
		assert_true(message(f, 1, i % 2 == 0 ? "x" : NULL) > 0);
	(void)message(f, 0, "a");
	(void)message(f, 0, NULL);
	for (uint64_t n = ring_oldest(f->ring); n < ring_head(f->ring) - 4; n++)
		assert_int_equal(atomic_load(&ring_at(f->ring, n)->newer), 2);
}

static void
test_keys_abort_forgets_the_key(void **state)
{
	struct fixture *f = *state;
	uint64_t a = message(f, 0, "a"), none = message(f, 0, NULL);

	ring_key(f->ring, 0, "a", 1);
	ring_abort(f->ring);
	(void)message(f, 0, NULL);
	assert_false(superseded(f, a));
	assert_true(superseded(f, none));
}

/* The writer's exec. */
static void
test_keys_next_writer_goes_on(void **state)
{
	struct fixture *f = *state;
	uint64_t a = message(f, 0, "a"), none = message(f, 0, NULL);

	ring_close(f->ring);
	assert_int_equal(ring_open(f->fd, true, &f->ring), 0);
	(void)message(f, 0, "a");
	(void)message(f, 0, NULL);
	assert_true(superseded(f, a));
	assert_true(superseded(f, none));
}

/* A writer that died between marking the older and publishing the newer: the record
 * that gets its number says nothing of that key, and the next of the key does. */
static void
test_keys_unfinished_commit_is_undone(void **state)
{
	struct fixture *f = *state;
	uint64_t a = message(f, 0, "a"), head = ring_head(f->ring);
	struct ring_desc *desc = (struct ring_desc *)ring_at(f->ring, a);

	atomic_store(&desc->newer, (uint32_t)(head - a));
	ring_close(f->ring);
	assert_int_equal(ring_open(f->fd, true, &f->ring), 0);
	assert_int_equal(message(f, 1, "x"), head);
	assert_false(superseded(f, a));
	(void)message(f, 0, "a");
	assert_true(superseded(f, a));
}

/* More keys than the ring has records: those that are forgotten too early are counted,
 * never mistaken for others. */
static void
test_keys_many_are_never_mistaken(void **state)
{
	struct fixture *f = *state;
	uint64_t before[2 * INDEX] = {0};
	unsigned marked = 0, due = 0;
	uint32_t random = 1;
	char key[16];

	for (int i = 0; i < 20000; i++) {
		unsigned k = (random = random * 1664525 + 1013904223) >> 25;
		uint64_t number;

		(void)snprintf(key, sizeof(key), "key %u", k);
		number = message(f, 0, key);
		if (before[k] >= ring_oldest(f->ring)) {
			uint32_t newer =
			    atomic_load(&ring_at(f->ring, before[k])->newer);

			assert_true(newer == 0 || newer == number - before[k]);
			marked += newer != 0;
			due++;
		}
		before[k] = number;
	}
	assert_true(due > 0 && marked <= due);
	assert_true(due - marked <= ring_keys_forgotten(f->ring));
	assert_true(marked > due / 10 * 9);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_keys_newer_of_its_key_stands_for_it),
	    T(test_keys_other_channel_has_others),
	    T(test_keys_none_is_the_channels_own),
	    T(test_keys_answer_for_an_end_stays),
	    T(test_keys_control_records_have_none),
	    T(test_keys_gone_record_is_left_alone),
	    T(test_keys_abort_forgets_the_key),
	    T(test_keys_next_writer_goes_on),
	    T(test_keys_unfinished_commit_is_undone),
	    T(test_keys_many_are_never_mistaken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
