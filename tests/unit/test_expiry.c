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

/* A token that says nothing but that it is one. */
static const struct token bare = {.len = 3, .text = (char *)"\0\0"};

static struct scene env;
static int pair[2];

/* As many connections as wanted, all with the one socket's end. */
static void
connect_all(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < CLIENTS + 64)
		limit.rlim_cur = CLIENTS + 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct slot *s = worker_slot(&env.w, i);

		s->fd = dup(pair[0]);
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
	scene_make(&env, "", CLIENTS);
	connect_all();
	scene_adopt(&env);
	return 0;
}

static int
teardown(void **state)
{
	scene_end(&env);
	(void)close(pair[0]);
	return close(pair[1]);
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
