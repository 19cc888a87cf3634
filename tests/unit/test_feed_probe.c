#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/feed_probe.h"
#include "supervisor/late_tick.h"

struct probe_test {
	struct feed_probe p;
	char text[PROBE_TEXT_MAX];
	size_t len;
};

static struct probe_test
sent(void)
{
	struct probe_test t;

	feed_probe_init(&t.p, "wscast:", "PUBLISH");
	t.p.state = PROBE_LIVE;
	t.len = feed_probe_next(&t.p, 100, t.text);
	return t;
}

static void
test_feed_probe_own_message_back_passes(void **state)
{
	struct probe_test t = sent();

	assert_true(feed_probe_waits(&t.p));
	assert_false(feed_probe_passed(&t.p));
	feed_probe_take(&t.p, t.text, t.len, 130);
	assert_false(feed_probe_waits(&t.p));
	assert_true(feed_probe_passed(&t.p));
	assert_int_equal(t.p.lag_ms, 30);
}

static void
test_feed_probe_channel_is_its_own(void **state)
{
	struct probe_test t = sent();

	assert_int_equal(strncmp(t.p.name, "wscast:!probe:", 14), 0);
	assert_true(feed_probe_is(&t.p, t.p.name, t.p.name_len));
	assert_false(feed_probe_is(&t.p, t.p.name, t.p.name_len - 1));
	assert_false(feed_probe_is(&t.p, "wscast:news", 11));
}

/* It names a slot, for a cluster's shard. */
static void
test_feed_probe_set_slot_keeps_what_is_under_way(void **state)
{
	struct probe_test t = sent();

	feed_probe_set_slot(&t.p, "wscast:", "17");
	assert_int_equal(strncmp(t.p.name, "wscast:!probe:", 14), 0);
	assert_string_equal(t.p.name + t.p.name_len - 5, ":{17}");
	assert_true(feed_probe_waits(&t.p));
}

static void
test_feed_probe_tick_says_lost_after_silence(void **state)
{
	struct probe_test t = sent();

	t.p.messages++; /* it is behind this one */
	assert_int_equal(feed_probe_tick(&t.p, false, false), PROBE_WAIT);
	assert_int_equal(feed_probe_tick(&t.p, true, false), PROBE_WAIT);
	assert_int_equal(feed_probe_tick(&t.p, false, false), PROBE_LOST);
	feed_probe_take(&t.p, t.text, t.len, 130);
	assert_int_equal(feed_probe_tick(&t.p, false, false), PROBE_SEND);
	t.p.state = PROBE_REFUSED;
	assert_int_equal(feed_probe_tick(&t.p, false, false), PROBE_WAIT);
}

/* Who stood still himself waits an interval more, and one only. */
static void
test_feed_probe_late_tick_says_lost_the_second_time(void **state)
{
	struct probe_test t = sent();

	assert_int_equal(feed_probe_tick(&t.p, false, true), PROBE_WAIT);
	assert_int_equal(feed_probe_tick(&t.p, false, true), PROBE_LOST);
	feed_probe_take(&t.p, t.text, t.len, 130);
	t.len = feed_probe_next(&t.p, 140, t.text);
	assert_int_equal(feed_probe_tick(&t.p, false, true), PROBE_WAIT);
	assert_int_equal(feed_probe_tick(&t.p, false, false), PROBE_LOST);
}

static void
test_feed_probe_late_is_a_quarter_of_the_interval(void **state)
{
	uint64_t last = 0;

	assert_false(late_tick(&last, 5000, 1000));
	assert_false(late_tick(&last, 6249, 1000));
	assert_true(late_tick(&last, 7499, 1000));
	assert_false(late_tick(&last, 8499, 1000));
}

static void
test_feed_probe_message_of_another_host_proves_nothing(void **state)
{
	struct probe_test ours = sent(), theirs = sent();

	feed_probe_take(&ours.p, theirs.text, theirs.len, 130);
	feed_probe_take(&ours.p, "", 0, 130);
	feed_probe_take(&ours.p, ours.text, ours.len - 1, 130);
	assert_true(feed_probe_waits(&ours.p));
}

static void
test_feed_probe_message_of_an_earlier_link_proves_nothing(void **state)
{
	struct probe_test t = sent(), old = t;

	feed_probe_reset(&t.p);
	t.p.state = PROBE_LIVE;
	t.len = feed_probe_next(&t.p, 120, t.text);
	feed_probe_take(&t.p, old.text, old.len, 130);
	assert_false(feed_probe_passed(&t.p));
	feed_probe_take(&t.p, t.text, t.len, 130);
	assert_true(feed_probe_passed(&t.p));
}

static void
test_feed_probe_refused_passes(void **state)
{
	struct probe_test t = sent();

	t.p.state = PROBE_REFUSED;
	assert_true(feed_probe_passed(&t.p));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_feed_probe_own_message_back_passes),
	    cmocka_unit_test(test_feed_probe_channel_is_its_own),
	    cmocka_unit_test(test_feed_probe_set_slot_keeps_what_is_under_way),
	    cmocka_unit_test(test_feed_probe_tick_says_lost_after_silence),
	    cmocka_unit_test(test_feed_probe_late_tick_says_lost_the_second_time),
	    cmocka_unit_test(test_feed_probe_late_is_a_quarter_of_the_interval),
	    cmocka_unit_test(test_feed_probe_message_of_another_host_proves_nothing),
	    cmocka_unit_test(test_feed_probe_message_of_an_earlier_link_proves_nothing),
	    cmocka_unit_test(test_feed_probe_refused_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
