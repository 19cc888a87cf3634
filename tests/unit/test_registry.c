/* test_registry.c - channels: who wants them, what the feed is asked, when they go. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/uplink.h"
#include "shm/directory.h"
#include "shm/places.h"
#include "supervisor/registry.h"

#define CHANNELS_MAX 8
#define MANY 8192
#define INDEX_LEN 64

struct fixture {
	struct ring *ring;
	int ring_fd;
	struct publisher publisher;
	struct registry *reg;
	struct registry_feed feed;
	unsigned wants, drops;
	bool at_once;     /* the feed confirms before want() returns */
	uint64_t read_to; /* next record to look at */
};

static void
on_want(void *owner, uint32_t channel)
{
	struct fixture *f = owner;

	f->wants++;
	if (f->at_once)
		registry_confirmed(f->reg, channel, 0);
}

static void
on_drop(void *owner, uint32_t channel)
{
	((struct fixture *)owner)->drops++;
}

static int
setup_sized(void **state, uint32_t channels)
{
	const struct ring_config cfg = {.frames_size = RING_FRAMES_MIN,
	    .index_len = INDEX_LEN,
	    .channels_max = channels};
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (f == NULL || ring_create(&cfg, &f->ring, &f->ring_fd) < 0)
		return 1;
	publisher_init(&f->publisher, f->ring, NULL, 0);
	f->feed = (struct registry_feed){.want = on_want, .drop = on_drop};
	f->read_to = 1;
	/* More than one word of workers. */
	if (registry_new(&f->publisher, 100, &f->reg) < 0)
		return 1;
	registry_set_feed(f->reg, &f->feed, f);
	registry_tick(f->reg, 1000);
	return 0;
}

static int
setup(void **state)
{
	return setup_sized(state, CHANNELS_MAX);
}

static int
setup_many(void **state)
{
	return setup_sized(state, MANY);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	registry_free(f->reg);
	publisher_done(&f->publisher);
	ring_close(f->ring);
	(void)close(f->ring_fd);
	free(f);
	return 0;
}

static void
want(struct fixture *f, unsigned worker, const char *name, uint64_t token)
{
	registry_want(f->reg, worker, name, strlen(name), token, UPLINK_NO_DIRECTORY);
}

static void
leave(struct fixture *f, unsigned worker, const char *name)
{
	registry_leave(f->reg, worker, name, strlen(name));
}

static uint32_t
find(struct fixture *f, const char *name)
{
	return registry_find(f->reg, name, strlen(name));
}

/* Worker 1 wants "news" and has it. */
static uint32_t
serve(struct fixture *f)
{
	uint32_t channel;

	want(f, 1, "news", 5);
	channel = find(f, "news");
	registry_confirmed(f->reg, channel, 0);
	return channel;
}

static void
assert_record(struct fixture *f, enum ring_type type, unsigned worker, uint64_t arg)
{
	const struct ring_desc *d;

	assert_true(f->read_to < ring_head(f->ring));
	d = ring_at(f->ring, f->read_to++);
	assert_int_equal(d->type, type);
	assert_int_equal(d->worker, worker);
	assert_int_equal(d->arg, arg);
}

static void
assert_no_record(struct fixture *f)
{
	assert_int_equal(f->read_to, ring_head(f->ring));
}

/* Let everything that is in the ring leave it. */
static void
pass_the_ring(struct fixture *f)
{
	const struct ring_desc none = {
	    .type = RING_SETTINGS, .channel = RING_NO_CHANNEL};

	for (int i = 0; i < 2 * INDEX_LEN; i++)
		assert_true(publisher_control(&f->publisher, &none) > 0);
	f->read_to = ring_head(f->ring);
}

static void
test_registry_want_is_answered_when_the_feed_confirms(void **state)
{
	struct fixture *f = *state;

	want(f, 99, "news", 77);
	assert_int_equal(f->wants, 1);
	assert_no_record(f);
	registry_confirmed(f->reg, find(f, "news"), 0);
	assert_record(f, RING_SUBSCRIBED, 99, 77);
	assert_no_record(f);
}

static void
test_registry_second_want_asks_the_feed_no_more(void **state)
{
	struct fixture *f = *state;

	f->at_once = true;
	want(f, 1, "news", 5);
	want(f, 2, "news", 6);
	assert_int_equal(f->wants, 1);
	assert_record(f, RING_SUBSCRIBED, 1, 5);
	assert_record(f, RING_SUBSCRIBED, 2, 6);
	assert_int_equal(registry_workers(f->reg, find(f, "news")), 2);
}

static void
test_registry_want_again_while_waiting_answers_the_newer(void **state)
{
	struct fixture *f = *state;

	want(f, 1, "news", 5);
	want(f, 1, "news", 6);
	registry_confirmed(f->reg, find(f, "news"), 0);
	assert_record(f, RING_SUBSCRIBED, 1, 6);
	assert_no_record(f);
}

static void
test_registry_right_belief_is_not_answered(void **state)
{
	struct fixture *f = *state;

	f->at_once = true;
	want(f, 1, "news", 5);
	assert_record(f, RING_SUBSCRIBED, 1, 5);
	registry_want(f->reg, 1, "news", 4, 6, find(f, "news"));
	assert_no_record(f);
	registry_want(f->reg, 1, "news", 4, 7, find(f, "news") + 1);
	assert_record(f, RING_SUBSCRIBED, 1, 7);
}

static void
test_registry_refused_is_told_and_asked_again(void **state)
{
	struct fixture *f = *state;

	want(f, 3, "news", 5);
	registry_confirmed(f->reg, find(f, "news"), -EACCES);
	assert_int_equal(ring_at(f->ring, 1)->offset, EACCES);
	assert_record(f, RING_REFUSED, 3, 5);
	want(f, 3, "news", 6);
	assert_int_equal(f->wants, 2);
}

static void
test_registry_full_directory_refuses(void **state)
{
	struct fixture *f = *state;
	char name[16];

	f->at_once = true;
	for (int i = 0; i < CHANNELS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "c%d", i);
		want(f, 0, name, 1);
		assert_record(f, RING_SUBSCRIBED, 0, 1);
	}
	want(f, 0, "one too many", 9);
	assert_int_equal(ring_at(f->ring, f->read_to)->offset, ENOSPC);
	assert_record(f, RING_REFUSED, 0, 9);
}

static void
test_registry_last_out_lingers_then_drops(void **state)
{
	struct fixture *f = *state;

	f->at_once = true;
	want(f, 1, "news", 5);
	want(f, 2, "news", 6);
	leave(f, 1, "news");
	registry_tick(f->reg, 100000);
	assert_int_equal(f->drops, 0);
	leave(f, 2, "news");
	registry_tick(f->reg, 100000 + REGISTRY_LINGER_MS - 1);
	assert_int_equal(f->drops, 0);
	registry_tick(f->reg, 100000 + REGISTRY_LINGER_MS);
	assert_int_equal(f->drops, 1);
	assert_false(registry_live(f->reg, find(f, "news")));
}

static void
test_registry_back_within_the_linger_costs_nothing(void **state)
{
	struct fixture *f = *state;

	f->at_once = true;
	want(f, 1, "news", 5);
	leave(f, 1, "news");
	registry_tick(f->reg, 1000 + REGISTRY_LINGER_MS - 1);
	want(f, 1, "news", 6);
	registry_tick(f->reg, 1000000);
	assert_int_equal(f->wants, 1);
	assert_int_equal(f->drops, 0);
	assert_record(f, RING_SUBSCRIBED, 1, 5);
	assert_record(f, RING_SUBSCRIBED, 1, 6);
}

static void
test_registry_tail_holds_a_channel(void **state)
{
	struct fixture *f = *state;
	uint32_t channel;

	f->at_once = true;
	assert_int_equal(registry_tail(f->reg, "news", 4, &channel), 0);
	want(f, 1, "news", 5);
	leave(f, 1, "news");
	registry_tick(f->reg, 1000000);
	assert_int_equal(f->drops, 0);
	registry_untail(f->reg, channel);
	registry_tick(f->reg, 2000000);
	assert_int_equal(f->drops, 1);
}

static void
test_registry_sync_drops_what_was_not_named(void **state)
{
	struct fixture *f = *state;

	f->at_once = true;
	want(f, 1, "a", 1);
	want(f, 1, "b", 2);
	want(f, 2, "b", 3);
	registry_sync_begin(f->reg, 1);
	want(f, 1, "a", 4);
	registry_sync_end(f->reg, 1);
	assert_int_equal(registry_workers(f->reg, find(f, "a")), 1);
	assert_int_equal(registry_workers(f->reg, find(f, "b")), 1);
	registry_worker_gone(f->reg, 2);
	assert_int_equal(registry_workers(f->reg, find(f, "b")), 0);
}

static void
test_registry_gone_worker_is_not_answered(void **state)
{
	struct fixture *f = *state;

	want(f, 1, "news", 5);
	want(f, 2, "news", 6);
	registry_worker_gone(f->reg, 1);
	registry_confirmed(f->reg, find(f, "news"), 0);
	assert_record(f, RING_SUBSCRIBED, 2, 6);
	assert_no_record(f);
}

/* As long as the ring has a message, its channel keeps its index and its offsets. */
static void
test_registry_index_is_kept_while_the_ring_names_it(void **state)
{
	struct fixture *f = *state;
	uint32_t channel;

	assert_int_equal(registry_take(f->reg, "news", 4, &channel), 0);
	assert_int_equal(publisher_message(&f->publisher, channel, "x", 1), 0);
	registry_tick(f->reg, 2000);
	assert_int_equal(find(f, "news"), channel);
	pass_the_ring(f);
	registry_tick(f->reg, 3000);
	assert_int_equal(find(f, "news"), UINT32_MAX);
	assert_int_equal(registry_count(f->reg), 0);
}

static void
test_registry_offsets_go_on_above_those_of_a_former_life(void **state)
{
	struct fixture *f = *state;
	struct directory *dir = ring_directory(f->ring);
	uint64_t before;
	uint32_t channel;

	assert_int_equal(registry_take(f->reg, "news", 4, &channel), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(publisher_message(&f->publisher, channel, "x", 1), 0);
	before = directory_offset(dir, channel);
	assert_int_equal(before, 5);
	pass_the_ring(f);
	registry_tick(f->reg, 2000);
	assert_int_equal(registry_take(f->reg, "news", 4, &channel), 0);
	assert_true(directory_offset(dir, channel) >= before);
}

static void
test_registry_freed_index_is_given_again(void **state)
{
	struct fixture *f = *state;
	uint32_t first, second;

	assert_int_equal(registry_take(f->reg, "a", 1, &first), 0);
	registry_tick(f->reg, 2000); /* nothing ever named it */
	assert_int_equal(registry_take(f->reg, "b", 1, &second), 0);
	assert_int_equal(first, second);
	assert_int_equal(registry_len(f->reg), 1);
}

/* What the ring's map has of the kernel, in bytes. */
static size_t
taken(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->ring_fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void
want_many(struct fixture *f)
{
	char name[16];

	for (unsigned i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "come%u", i);
		want(f, i % 2, name, i);
		registry_confirmed(f->reg, find(f, name), 0);
	}
}

/* Everyone leaves, all that names the channels leaves the ring, and time goes by. */
static void
leave_many(struct fixture *f)
{
	registry_worker_gone(f->reg, 0);
	registry_worker_gone(f->reg, 1);
	pass_the_ring(f);
	for (unsigned i = 0; i < 30; i++)
		registry_tick(f->reg, 10000 + i * 1000);
}

static void
test_registry_gone_channels_give_their_memory_back(void **state)
{
	const size_t entries = MANY * sizeof(struct directory_entry);
	struct fixture *f = *state;
	size_t before, most;

	pass_the_ring(f); /* its index is written through */
	before = taken(f);
	want_many(f);
	assert_int_equal(registry_len(f->reg), MANY);
	most = taken(f);
	assert_true(most > before + entries / 10 * 9);
	leave_many(f);
	assert_int_equal(registry_count(f->reg), 0);
	assert_int_equal(registry_len(f->reg), 0);
	/* But for a few runs, and a page between any two stretches of them. */
	assert_true(taken(f) < before + entries / 2);
	want_many(f);
	assert_int_equal(registry_count(f->reg), MANY);
	assert_true(taken(f) <= most);
}

/* Who stays keeps its index and all that is known of it, whatever goes around it. */
static void
test_registry_one_stays_among_those_that_go(void **state)
{
	struct fixture *f = *state;
	uint32_t channel, other;
	size_t len;

	want_many(f);
	want(f, 70, "come5000", 1);
	channel = find(f, "come5000");
	assert_int_equal(publisher_message(&f->publisher, channel, "x", 1), 0);
	leave_many(f);
	assert_int_equal(registry_count(f->reg), 1);
	assert_true(registry_len(f->reg) > channel);
	assert_true(registry_len(f->reg) <= channel + PLACES_RUN);
	assert_int_equal(find(f, "come5000"), channel);
	assert_memory_equal(registry_name(f->reg, channel, &len), "come5000", 8);
	assert_true(registry_live(f->reg, channel));
	assert_int_equal(registry_workers(f->reg, channel), 1);
	assert_true(directory_newest(ring_directory(f->ring), channel) > 0);
	/* A link that is lost, and a worker that syncs, touch it alone. */
	registry_lost(f->reg);
	assert_false(registry_live(f->reg, channel));
	registry_sync_begin(f->reg, 70);
	registry_sync_end(f->reg, 70);
	assert_int_equal(registry_workers(f->reg, channel), 0);
	/* Offsets of who comes to a place whose memory went are above all that were. */
	assert_int_equal(registry_take(f->reg, "new", 3, &other), 0);
	assert_int_equal(other, 0);
	assert_int_equal(
	    directory_offset(ring_directory(f->ring), other), ring_head(f->ring) - 1);
}

static void
test_registry_lost_link_leaves_a_gap(void **state)
{
	struct fixture *f = *state;
	struct directory *dir = ring_directory(f->ring);
	uint32_t channel = serve(f);

	assert_record(f, RING_SUBSCRIBED, 1, 5);
	assert_int_equal(publisher_message(&f->publisher, channel, "x", 1), 0);
	f->read_to++;
	registry_lost(f->reg);
	assert_false(registry_live(f->reg, channel));
	registry_confirmed(f->reg, channel, 0);
	assert_record(f, RING_GAP, 0, UINT64_MAX);
	/* It has the offset behind the message, and nothing runs across it. */
	assert_int_equal(directory_offset(dir, channel), 2);
	assert_int_equal(directory_newest(dir, channel), 0);
	assert_no_record(f);
}

/* Redis refuses, after a reconnect, what it allowed before. The workers still have
 * subscribers under that index: it must not become another channel's. */
static void
test_registry_refused_anew_keeps_its_index(void **state)
{
	struct fixture *f = *state;
	uint32_t channel, other;

	channel = serve(f);
	registry_lost(f->reg);
	want(f, 2, "news", 6);
	/* A successor that believes rightly is no news either. */
	registry_want(f->reg, 1, "news", 4, 5, channel);
	f->read_to = ring_head(f->ring);
	registry_confirmed(f->reg, channel, -EIO);
	assert_record(f, RING_REFUSED, 2, 6);
	assert_no_record(f);
	pass_the_ring(f);
	registry_tick(f->reg, 2000);
	registry_tick(f->reg, 2001);
	assert_int_equal(registry_take(f->reg, "other", 5, &other), 0);
	assert_int_not_equal(other, channel);
}

/* Redis forbids what it allowed before: who waits is refused, who was served is told,
 * and nobody is left to ask for. */
static void
test_registry_forbidden_anew_is_revoked(void **state)
{
	struct fixture *f = *state;
	uint32_t channel = serve(f);

	registry_lost(f->reg);
	want(f, 2, "news", 6);
	f->read_to = ring_head(f->ring);
	registry_confirmed(f->reg, channel, -EACCES);
	assert_record(f, RING_REFUSED, 2, 6);
	assert_int_equal(ring_at(f->ring, f->read_to)->offset, EACCES);
	assert_record(f, RING_REVOKED, 0, 0);
	assert_int_equal(registry_workers(f->reg, channel), 0);
	registry_tick(f->reg, 100000);
	assert_int_equal(f->wants, 1);
	/* Whoever asks again is told what passed meanwhile is not known. */
	want(f, 1, "news", 7);
	registry_confirmed(f->reg, channel, 0);
	assert_record(f, RING_GAP, 0, UINT64_MAX);
	assert_record(f, RING_SUBSCRIBED, 1, 7);
}

static void
test_registry_refused_anew_is_asked_for_again(void **state)
{
	struct fixture *f = *state;
	uint32_t channel = serve(f);

	registry_lost(f->reg);
	registry_confirmed(f->reg, channel, -EIO);
	f->read_to = ring_head(f->ring);
	assert_int_equal(f->wants, 1);
	registry_tick(f->reg, 100000);
	assert_int_equal(f->wants, 2);
	registry_confirmed(f->reg, channel, 0);
	assert_record(f, RING_GAP, 0, UINT64_MAX);
	/* And not when nobody is left. */
	registry_lost(f->reg);
	registry_confirmed(f->reg, channel, -EIO);
	leave(f, 1, "news");
	registry_tick(f->reg, 200000);
	assert_int_equal(f->wants, 2);
}

static void
test_registry_lost_before_it_was_live_leaves_none(void **state)
{
	struct fixture *f = *state;

	want(f, 1, "news", 5);
	registry_lost(f->reg);
	registry_confirmed(f->reg, find(f, "news"), 0);
	assert_record(f, RING_SUBSCRIBED, 1, 5);
	assert_no_record(f);
}

/* What was published while nobody listened cannot be had: unless the feed is our own.
 */
static void
test_registry_dropped_and_wanted_again_leaves_a_gap(void **state)
{
	struct fixture *f = *state;
	uint32_t channel;

	f->at_once = true;
	for (int complete = 0; complete < 2; complete++) {
		f->feed.complete = complete != 0;
		want(f, 1, complete ? "own" : "news", 5);
		channel = find(f, complete ? "own" : "news");
		assert_record(f, RING_SUBSCRIBED, 1, 5);
		leave(f, 1, complete ? "own" : "news");
		registry_tick(f->reg, 100000 + 100000 * (unsigned)complete);
		assert_int_equal(find(f, complete ? "own" : "news"), channel);
		want(f, 1, complete ? "own" : "news", 6);
		if (!complete)
			assert_record(f, RING_GAP, 0, UINT64_MAX);
		assert_record(f, RING_SUBSCRIBED, 1, 6);
		assert_no_record(f);
	}
}

static void
test_registry_confirm_of_a_dropped_channel_is_nothing(void **state)
{
	struct fixture *f = *state;
	uint32_t channel;

	want(f, 1, "news", 5);
	channel = find(f, "news");
	assert_int_equal(
	    publisher_control(&f->publisher,
		&(struct ring_desc){.type = RING_SETTINGS, .channel = channel}),
	    1);
	leave(f, 1, "news");
	registry_tick(f->reg, 1000000);
	registry_confirmed(f->reg, channel, 0);
	assert_false(registry_live(f->reg, channel));
}

static void
test_registry_next_wanted_finds_each_once(void **state)
{
	struct fixture *f = *state;
	uint32_t cursor = 0, channel, none;

	want(f, 1, "a", 1);
	assert_int_equal(registry_take(f->reg, "b", 1, &none), 0);
	want(f, 1, "c", 2);
	assert_true(registry_next_wanted(f->reg, &cursor, &channel));
	assert_int_equal(channel, find(f, "a"));
	assert_true(registry_next_wanted(f->reg, &cursor, &channel));
	assert_int_equal(channel, find(f, "c"));
	assert_false(registry_next_wanted(f->reg, &cursor, &channel));
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_registry_want_is_answered_when_the_feed_confirms),
	    T(test_registry_second_want_asks_the_feed_no_more),
	    T(test_registry_want_again_while_waiting_answers_the_newer),
	    T(test_registry_right_belief_is_not_answered),
	    T(test_registry_refused_is_told_and_asked_again),
	    T(test_registry_full_directory_refuses),
	    T(test_registry_last_out_lingers_then_drops),
	    T(test_registry_back_within_the_linger_costs_nothing),
	    T(test_registry_tail_holds_a_channel),
	    T(test_registry_sync_drops_what_was_not_named),
	    T(test_registry_gone_worker_is_not_answered),
	    T(test_registry_index_is_kept_while_the_ring_names_it),
	    T(test_registry_offsets_go_on_above_those_of_a_former_life),
	    T(test_registry_freed_index_is_given_again),
	    cmocka_unit_test_setup_teardown(
		test_registry_gone_channels_give_their_memory_back, setup_many,
		teardown),
	    cmocka_unit_test_setup_teardown(
		test_registry_one_stays_among_those_that_go, setup_many, teardown),
	    T(test_registry_lost_link_leaves_a_gap),
	    T(test_registry_refused_anew_keeps_its_index),
	    T(test_registry_forbidden_anew_is_revoked),
	    T(test_registry_refused_anew_is_asked_for_again),
	    T(test_registry_lost_before_it_was_live_leaves_none),
	    T(test_registry_dropped_and_wanted_again_leaves_a_gap),
	    T(test_registry_confirm_of_a_dropped_channel_is_nothing),
	    T(test_registry_next_wanted_finds_each_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
