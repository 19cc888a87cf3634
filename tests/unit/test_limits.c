/* test_limits.c - worker/limits.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "worker/limits.h"

#define NSLOTS 500

static struct {
	struct worker w;
	struct settings settings;
	struct table_header header;
	char proxies[32];
} env;

/* A worker of `nworkers` with these limits; free with limits_free(env.w.limits). */
static struct worker *
worker_make(unsigned nworkers, uint32_t per_ip, uint32_t handshakes)
{
	memset(&env, 0, sizeof(env));
	(void)strcpy(env.proxies, "10.9.0.0/16");
	env.settings.trusted_proxies = env.proxies;
	env.settings.max_connections_per_ip = per_ip;
	env.settings.max_handshakes_per_second = handshakes;
	env.header.nslots = NSLOTS;
	env.w.table.header = &env.header;
	env.w.settings = &env.settings;
	env.w.nworkers = nworkers;
	assert_int_equal(limits_new(&env.w, &env.w.limits), 0);
	return &env.w;
}

static struct slot
slot_v4(uint32_t addr)
{
	struct slot s = {.family = AF_INET};

	s.addr[0] = (uint8_t)(addr >> 24);
	s.addr[1] = (uint8_t)(addr >> 16);
	s.addr[2] = (uint8_t)(addr >> 8);
	s.addr[3] = (uint8_t)addr;
	return s;
}

static void
test_limits_share_of_one_worker_is_the_limit(void **state)
{
	assert_int_equal(limits_share(7, 1), 7);
	assert_int_equal(limits_share(100000000, 1), 100000000);
}

static void
test_limits_share_is_between_even_and_whole(void **state)
{
	for (uint32_t limit = 1; limit < 3000; limit += 7)
		for (unsigned n = 1; n < 40; n++) {
			uint32_t share = limits_share(limit, n);

			assert_true((uint64_t)share * n >= limit && share <= limit);
		}
	assert_int_equal(limits_share(1000, 8), 125 + 3 * 12);
}

static void
test_limits_address_over_its_limit_is_told(void **state)
{
	struct worker *w = worker_make(1, 3, 0);
	struct slot a = slot_v4(0x01020304), b = slot_v4(0x01020305);

	for (int i = 0; i < 3; i++)
		assert_true(limits_enter(w, &a));
	assert_false(limits_enter(w, &a));
	assert_true(limits_enter(w, &b));
	limits_leave(w, &a);
	limits_leave(w, &a);
	assert_true(limits_enter(w, &a));
	assert_false(limits_enter(w, &a));
	limits_free(w->limits);
}

static void
test_limits_address_v6_counts_by_network(void **state)
{
	struct worker *w = worker_make(1, 1, 0);
	struct slot a = {.family = AF_INET6, .addr = {0x20, 1, [15] = 1}};
	struct slot b = a, c = a;

	b.addr[15] = 2;
	c.addr[7] = 1;
	assert_true(limits_enter(w, &a));
	assert_false(limits_enter(w, &b));
	assert_true(limits_enter(w, &c));
	limits_free(w->limits);
}

static void
test_limits_address_of_a_proxy_or_socket_is_free(void **state)
{
	struct worker *w = worker_make(1, 1, 0);
	struct slot proxy = slot_v4(0x0a090001), unix_peer = {.family = AF_UNIX};

	for (int i = 0; i < 5; i++) {
		assert_true(limits_enter(w, &proxy));
		assert_true(limits_enter(w, &unix_peer));
	}
	limits_free(w->limits);
}

/* Comings and goings at random against counts that are kept plainly. */
static void
test_limits_address_counts_hold_under_churn(void **state)
{
	struct worker *w = worker_make(1, 2, 0);
	static uint16_t count[200];
	unsigned here = 0;

	srand(7);
	memset(count, 0, sizeof(count));
	for (int i = 0; i < 200000; i++) {
		unsigned k = (unsigned)rand() % 200;
		struct slot s = slot_v4(0xc0000000 + k * 7919);

		if (count[k] > 0 && (rand() % 2 || here >= NSLOTS)) {
			limits_leave(w, &s);
			count[k]--;
			here--;
		} else if (here < NSLOTS) {
			assert_int_equal(limits_enter(w, &s), ++count[k] <= 2);
			here++;
		}
	}
	limits_free(w->limits);
}

static void
test_limits_rate_allows_burst_then_rate(void **state)
{
	uint32_t at = 0, tick = 1000, n = 0;

	while (limits_rate(tick, &at, limits_cost(10), 20))
		n++;
	assert_in_range(n, 20, 21);   /* a tick is a message */
	for (int i = 0; i < 100; i++) /* 10 s */
		n += limits_rate(++tick, &at, limits_cost(10), 20);
	assert_in_range(n, 119, 122);
}

/* 1000 bytes a second, 5000 at once, in messages of any size. */
static void
test_limits_bytes_allow_burst_then_rate(void **state)
{
	static const size_t sizes[] = {1, 7, 100, 999};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t tick = 1000, at = 0;
		size_t sent = 0;

		while (limits_bytes(tick, &at, 1000, 5000, sizes[i]))
			sent += sizes[i];
		assert_in_range(sent, 5000 - sizes[i], 5100 + sizes[i]);
		for (sent = 0; tick < 1100; tick++)
			while (limits_bytes(tick, &at, 1000, 5000, sizes[i]))
				sent += sizes[i];
		assert_in_range(sent, 10000 - sizes[i] - 200, 10000 + sizes[i] + 200);
	}
}

static void
test_limits_bytes_large_message_takes_all(void **state)
{
	uint32_t tick = 1000, at = 0;

	assert_true(limits_bytes(tick, &at, 1000, 5000, 1 << 20));
	assert_false(limits_bytes(tick + 20, &at, 1000, 5000, 1 << 20));
	assert_false(limits_bytes(tick + 20, &at, 1000, 5000, 3000));
	assert_true(limits_bytes(tick + 20, &at, 1000, 5000, 2000));
	assert_true(limits_bytes(tick + 70, &at, 1000, 5000, UINT32_MAX));
	/* A bound that no word holds is still one. */
	at = 0;
	assert_true(limits_bytes(tick, &at, 1, 1u << 30, 64u << 20));
	assert_false(limits_bytes(tick, &at, 1, 1u << 30, 64u << 20));
}

static void
test_limits_rate_forgets_over_any_idle_time(void **state)
{
	for (uint32_t idle = 1; idle < 1u << 26; idle = idle * 3 + 1) {
		uint32_t at = 0, tick = 12345;

		while (limits_rate(tick, &at, limits_cost(5), 5))
			;
		if (idle < 20) /* not empty again before */
			continue;
		assert_true(limits_rate(tick + idle, &at, limits_cost(5), 5));
	}
}

static void
test_limits_handshakes_are_a_share_of_the_hosts(void **state)
{
	struct worker *w = worker_make(4, 0, 400);
	unsigned n = 0;

	w->tick = 5000;
	while (limits_handshake(w))
		n++;
	assert_in_range(n, 100, 150); /* 100, its slack, and a tick's worth */
	for (int i = 0; i < 100; i++) {
		w->tick++;
		while (limits_handshake(w))
			n++;
	}
	assert_in_range(n, 1100, 1160); /* 100 a second for 10 s more */
	limits_free(w->limits);
}

/* A worker that allows one of two workers' share of 4 handshakes a second and address.
 */
static struct worker *
worker_knocked_at(unsigned nworkers)
{
	struct worker *w = worker_make(nworkers, 0, 0);

	limits_free(w->limits);
	env.settings.max_handshakes_per_second_per_ip = 4;
	assert_int_equal(limits_new(w, &w->limits), 0);
	w->tick = 1000;
	return w;
}

static unsigned
knocks(const struct worker *w, const struct slot *s, unsigned n)
{
	unsigned in = 0;

	while (n-- > 0)
		in += limits_knock(w, s);
	return in;
}

static void
test_limits_knock_allows_rate_for_each_address(void **state)
{
	struct worker *w = worker_knocked_at(1);
	struct slot a = slot_v4(1), b = slot_v4(2), proxy = slot_v4(0x0a090001);

	assert_in_range(knocks(w, &a, 100), 4, 5);
	assert_in_range(knocks(w, &b, 100), 4, 5);
	assert_int_equal(knocks(w, &proxy, 100), 100);
	w->tick += 1000 / TICK_MS;
	assert_in_range(knocks(w, &a, 100), 3, 5);
	limits_free(w->limits);
}

static void
test_limits_knock_is_a_share_of_the_hosts(void **state)
{
	struct worker *w = worker_knocked_at(4);
	struct slot a = slot_v4(1);

	(void)knocks(w, &a, 100);
	w->tick += 4 * 1000 / TICK_MS; /* four workers make 4 a second of it */
	assert_in_range(knocks(w, &a, 100), 3, 5);
	limits_free(w->limits);
}

/* A flood of addresses finds no room to grow in, and lets no one in twice as often who
 * goes on: it is the emptiest bucket that goes. */
static void
test_limits_knock_flood_forgets_the_emptiest(void **state)
{
	struct worker *w = worker_knocked_at(1);
	struct slot busy = slot_v4(1);

	(void)knocks(w, &busy, 100);
	for (uint32_t i = 2; i < 100000; i++) {
		struct slot s = slot_v4(i);

		assert_true(limits_knock(w, &s));
	}
	assert_int_equal(knocks(w, &busy, 100), 0);
	limits_free(w->limits);
}

static void
test_limits_off_limit_nothing(void **state)
{
	struct worker *w = worker_make(2, 0, 0);
	struct slot s = slot_v4(1);

	for (int i = 0; i < 100000; i++) {
		assert_true(limits_enter(w, &s));
		assert_true(limits_handshake(w));
		assert_true(limits_knock(w, &s));
	}
	limits_free(w->limits);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_limits_share_of_one_worker_is_the_limit),
	    cmocka_unit_test(test_limits_share_is_between_even_and_whole),
	    cmocka_unit_test(test_limits_address_over_its_limit_is_told),
	    cmocka_unit_test(test_limits_address_v6_counts_by_network),
	    cmocka_unit_test(test_limits_address_of_a_proxy_or_socket_is_free),
	    cmocka_unit_test(test_limits_address_counts_hold_under_churn),
	    cmocka_unit_test(test_limits_rate_allows_burst_then_rate),
	    cmocka_unit_test(test_limits_bytes_allow_burst_then_rate),
	    cmocka_unit_test(test_limits_bytes_large_message_takes_all),
	    cmocka_unit_test(test_limits_rate_forgets_over_any_idle_time),
	    cmocka_unit_test(test_limits_handshakes_are_a_share_of_the_hosts),
	    cmocka_unit_test(test_limits_knock_allows_rate_for_each_address),
	    cmocka_unit_test(test_limits_knock_is_a_share_of_the_hosts),
	    cmocka_unit_test(test_limits_knock_flood_forgets_the_emptiest),
	    cmocka_unit_test(test_limits_off_limit_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
