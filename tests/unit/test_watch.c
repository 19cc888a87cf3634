/* What is made of a worker that does not move, and when systemd is to hear of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/keeper_link.h"

/* One worker without processes: whoever is to be killed or told is not there, and so
 * nothing that the supervisor does helps. */
struct helpless {
	struct supervisor s;
	struct workers all;
	struct keeper_link k;
	int ring_fd, peer;
};

static int
setup(void **state)
{
	static struct helpless h;
	const struct ring_config cfg = {
	    .frames_size = 1 << 20, .index_len = 4096, .channels_max = 16};
	int pair[2];

	h = (struct helpless){.all.s = &h.s, .all.n = 1, .k.all = &h.all};
	assert_int_equal(ring_create(&cfg, &h.s.ring, &h.ring_fd), 0);
	assert_int_equal(page_create(0, &h.k.page, &h.k.page_fd), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	h.k.control = pair[0];
	h.peer = pair[1];
	h.k.state = KEEPER_RUNNING;
	watch_begin(&h.k);
	*state = &h;
	return 0;
}

static int
teardown(void **state)
{
	struct helpless *h = *state;

	(void)close(h->k.control);
	(void)close(h->peer);
	(void)close(h->k.page_fd);
	(void)close(h->ring_fd);
	page_close(h->k.page);
	ring_close(h->s.ring);
	return 0;
}

/* The supervisor looks once a second, from `from_s` to `to_s` seconds after the last
 * sign of life. */
static void
watch(struct helpless *h, unsigned from_s, unsigned to_s)
{
	for (unsigned t = from_s; t <= to_s; t++)
		watch_keeper(&h->k, h->k.seen_ms + t * 1000ull);
}

static bool
moves_at(const struct helpless *h, unsigned t)
{
	return keeper_moves(&h->k, h->k.seen_ms + t * 1000ull);
}

static int32_t
told(const struct helpless *h)
{
	struct launch_msg m;

	return recv(h->peer, &m, sizeof(m), MSG_DONTWAIT) == sizeof(m) ? (int32_t)m.type
								       : -1;
}

static void
test_watch_still_worker_is_replaced_after_10_s(void **state)
{
	struct helpless *h = *state;

	watch(h, 1, 9);
	assert_int_equal(told(h), -1);
	watch(h, 10, 10);
	assert_int_equal(told(h), LAUNCH_KILL);
	assert_int_equal(h->k.stuck, 1);
}

static void
test_watch_replacement_feeds_the_watchdog(void **state)
{
	struct helpless *h = *state;

	watch(h, 1, 24);
	assert_true(moves_at(h, 24));
}

static void
test_watch_replacement_that_fails_starves_the_watchdog(void **state)
{
	struct helpless *h = *state;

	watch(h, 1, 25);
	assert_false(moves_at(h, 25));
	assert_false(moves_at(h, 60));
}

static void
test_watch_successor_feeds_the_watchdog_again(void **state)
{
	struct helpless *h = *state;

	watch(h, 1, 25);
	watch_begin(&h->k);
	assert_true(moves_at(h, 0));
}

/* All of it was killed, and is launched anew: that is help. */
static void
test_watch_worker_that_is_away_feeds_the_watchdog(void **state)
{
	struct helpless *h = *state;
	int control = h->k.control;

	watch(h, 1, 25);
	h->k.control = -1;
	assert_true(moves_at(h, 60));
	h->k.control = control;
}

static void
test_watch_worker_that_moves_is_left_alone(void **state)
{
	struct helpless *h = *state;

	for (unsigned i = 0; i < 60; i++) {
		page_beat(h->k.page, i);
		watch(h, 1, 1);
	}
	assert_int_equal(told(h), -1);
	assert_true(moves_at(h, 1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_watch_##name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(still_worker_is_replaced_after_10_s),
	    TEST(replacement_feeds_the_watchdog),
	    TEST(replacement_that_fails_starves_the_watchdog),
	    TEST(successor_feeds_the_watchdog_again),
	    TEST(worker_that_is_away_feeds_the_watchdog),
	    TEST(worker_that_moves_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
