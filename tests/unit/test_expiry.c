/* test_expiry.c - worker/expiry.h: many tokens that end in the same second */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/scene.h"
#include "worker/expiry.h"
#include "worker/identity.h"

#define CLIENTS 1000
#define TURN_MAX 256 /* connections that one turn may close */
#define ARENA_LEN (4u << 20)

/* A token that says nothing but that it is one. */
static const struct token bare = {.len = 3, .text = (char *)"\0\0"};

static struct {
	struct worker w;
	struct ring *ring; /* the writer's */
	int ring_fd, page_fd, table_fd, up_fd, pair[2];
} env;

/* As many connections as wanted, all with the one socket's end. */
static void
connect_all(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < CLIENTS + 64)
		limit.rlim_cur = CLIENTS + 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, env.pair), 0);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct slot *s = worker_slot(&env.w, i);

		s->fd = dup(env.pair[0]);
		assert_true(s->fd >= 0);
		s->proto = PROTO_RAW;
		s->marks = SLOT_UNCOUNTED;
		slot_set_pos(s, 1, 0);
		slot_set_state(s, SLOT_OPEN);
	}
	atomic_store(&env.w.table.header->slots_used, CLIENTS);
}

static int
setup(void **state)
{
	static const struct ring_config cfg = {
	    .frames_size = RING_FRAMES_MIN, .index_len = 4096, .channels_max = 64};
	struct faults faults = {0};
	struct worker *w = &env.w;

	*w = (struct worker){.nworkers = 1, .doorbell = -1, .done = 1, .tick = 1000};
	assert_int_equal(settings_parse("", 0, &w->settings, &faults), 0);
	assert_int_equal(ring_create(&cfg, &env.ring, &env.ring_fd), 0);
	assert_int_equal(ring_open(env.ring_fd, false, &w->ring), 0);
	assert_int_equal(page_create(0, &w->page, &env.page_fd), 0);
	assert_int_equal(upstream_create(65536, &w->up, &env.up_fd), 0);
	assert_int_equal(
	    table_create(CLIENTS, 8, ARENA_LEN, &w->table, &env.table_fd), 0);
	connect_all();
	assert_int_equal(arena_new(w->table.arena, ARENA_LEN, &w->arena), 0);
	assert_true(scene_parts(w));
	return 0;
}

static int
teardown(void **state)
{
	struct worker *w = &env.w;

	for (uint32_t i = 0; i < CLIENTS; i++)
		if (worker_slot(w, i)->fd >= 0)
			(void)close(worker_slot(w, i)->fd);
	clients_free(w, w->clients);
	timers_free(w->timers);
	limits_free(w->limits);
	fanout_free(w->fanout);
	channels_free(w, w->channels);
	side_free(w->side);
	ev_loop_destroy(w->loop);
	arena_free_all(w->arena);
	ring_close(w->ring);
	ring_close(env.ring);
	page_close(w->page);
	upstream_close(w->up);
	table_close(&w->table);
	settings_free(w->settings);
	(void)close(env.pair[0]);
	(void)close(env.pair[1]);
	(void)close(env.ring_fd);
	(void)close(env.page_fd);
	(void)close(env.up_fd);
	return close(env.table_fd);
}

static void
expire_all(void)
{
	int64_t now_s = time(NULL);

	for (uint32_t i = 0; i < CLIENTS; i++) {
		assert_int_equal(identity_set(&env.w, i, &bare, now_s), 0);
		expiry_begin(&env.w, i);
	}
}

/* Connections that one turn closes. */
static uint64_t
turn(uint32_t ticks)
{
	uint64_t before = page_get(env.w.page, PAGE_closed_expired);

	env.w.tick += ticks;
	timers_tick(&env.w);
	return page_get(env.w.page, PAGE_closed_expired) - before;
}

/* What a turn does is bounded, and no turn is lost. */
static void
test_expiry_thousand_at_once_take_four_turns(void **state)
{
	uint64_t n = 0;

	expire_all();
	for (int turns = 0; turns < 6; turns++) {
		uint64_t now = turn(1);

		assert_true(now <= TURN_MAX);
		n += now;
		/* The first may have come before their deadline's tick. */
		assert_true(turns == 0 || n >= (uint64_t)TURN_MAX * (unsigned)turns ||
			    n == CLIENTS);
	}
	assert_int_equal(n, CLIENTS);
}

/* A worker that did not run for a while makes up for its wheel's turns, not for what
 * they would have closed. */
static void
test_expiry_after_a_stop_takes_no_more_in_one_turn(void **state)
{
	uint64_t n;

	expire_all();
	n = turn(600);
	assert_int_equal(n, TURN_MAX);
	for (int turns = 0; turns < 3; turns++)
		n += turn(1);
	assert_int_equal(n, CLIENTS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		test_expiry_thousand_at_once_take_four_turns, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_expiry_after_a_stop_takes_no_more_in_one_turn, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
