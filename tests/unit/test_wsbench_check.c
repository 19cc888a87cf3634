/* test_wsbench_check.c - what is lost, repeated, late or altered is noticed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/wsbench_check.h"

static const struct facts some = {
    .time_ns = 0x123456789abcdef0,
    .msg = 77777,
    .seq = 42,
    .channel = 0xfffffe,
    .run = 0xdeadbeef,
    .publisher = 3,
};

static void
test_check_read_gives_what_was_written(void **state)
{
	char payload[1024];
	struct facts got;

	for (size_t len = CHECK_SIZE_MIN; len <= sizeof(payload); len++) {
		check_write(&some, len, payload);
		assert_int_equal(check_read(payload, len, &got), 0);
		assert_int_equal(got.time_ns, some.time_ns);
		assert_int_equal(got.msg, some.msg);
		assert_int_equal(got.seq, some.seq);
		assert_int_equal(got.channel, some.channel);
		assert_int_equal(got.run, some.run);
		assert_int_equal(got.publisher, some.publisher);
	}
}

/* A changed digit makes other facts; the rest must make an error. */
static void
test_check_read_altered_byte_is_noticed(void **state)
{
	char payload[200];
	struct facts got;
	int r;

	for (size_t i = 0; i < sizeof(payload); i++) {
		check_write(&some, sizeof(payload), payload);
		payload[i] ^= 1;
		r = check_read(payload, sizeof(payload), &got);
		/* Either is made of whole words, without padding. */
		assert_true(
		    r == -EBADMSG || memcmp(&got, &some, sizeof(got)) != 0); // NOLINT
	}
}

static void
test_check_read_cut_is_noticed(void **state)
{
	char payload[200];
	struct facts got;

	check_write(&some, sizeof(payload), payload);
	for (size_t len = 0; len < sizeof(payload); len++)
		assert_int_equal(check_read(payload, len, &got), -EBADMSG);
}

static void
test_check_slot_follows_the_message_alone(void **state)
{
	char a[100], b[300];
	struct facts other = some;

	check_write(&some, sizeof(a), a);
	other.time_ns++;
	other.seq++;
	check_write(&other, sizeof(b), b);
	assert_int_equal(check_slot(a + sizeof(a) - CHECK_TAIL_LEN),
	    check_slot(b + sizeof(b) - CHECK_TAIL_LEN));
	assert_true(check_slot(a + sizeof(a) - CHECK_TAIL_LEN) < CHECK_KNOWN);
}

static void
test_order_first_may_be_any(void **state)
{
	struct order o = {0};
	uint32_t missing;

	assert_int_equal(order_arrived(&o, 17, &missing), ORDER_IN_TURN);
	assert_int_equal(order_arrived(&o, 18, &missing), ORDER_IN_TURN);
}

static void
test_order_gap_says_how_many(void **state)
{
	struct order o = {0};
	uint32_t missing;

	(void)order_arrived(&o, 1, &missing);
	assert_int_equal(order_arrived(&o, 5, &missing), ORDER_GAP);
	assert_int_equal(missing, 3);
	assert_int_equal(order_arrived(&o, 6, &missing), ORDER_IN_TURN);
}

static void
test_order_late_fills_the_gap_once(void **state)
{
	struct order o = {0};
	uint32_t missing;

	(void)order_arrived(&o, 1, &missing);
	(void)order_arrived(&o, 4, &missing);
	assert_int_equal(order_arrived(&o, 3, &missing), ORDER_LATE);
	assert_int_equal(order_arrived(&o, 3, &missing), ORDER_REPEATED);
	assert_int_equal(order_arrived(&o, 2, &missing), ORDER_LATE);
	assert_int_equal(order_arrived(&o, 5, &missing), ORDER_IN_TURN);
}

static void
test_order_repeated_is_noticed_far_back(void **state)
{
	struct order o = {0};
	uint32_t missing;

	for (uint32_t seq = 1; seq <= 200; seq++)
		(void)order_arrived(&o, seq, &missing);
	assert_int_equal(order_arrived(&o, 200, &missing), ORDER_REPEATED);
	assert_int_equal(order_arrived(&o, 137, &missing), ORDER_REPEATED);
	assert_int_equal(order_arrived(&o, 1, &missing), ORDER_REPEATED);
	assert_int_equal(order_arrived(&o, 201, &missing), ORDER_IN_TURN);
}

static void
test_order_wide_gap_forgets_what_was_before(void **state)
{
	struct order o = {0};
	uint32_t missing;

	(void)order_arrived(&o, 1, &missing);
	for (uint32_t ahead = 60; ahead < 70; ahead++) {
		uint32_t seq = o.next + ahead;

		assert_int_equal(order_arrived(&o, seq, &missing), ORDER_GAP);
		assert_int_equal(missing, ahead);
		assert_int_equal(order_arrived(&o, seq, &missing), ORDER_REPEATED);
		assert_int_equal(order_arrived(&o, seq - 1, &missing), ORDER_LATE);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_check_read_gives_what_was_written),
	    cmocka_unit_test(test_check_read_altered_byte_is_noticed),
	    cmocka_unit_test(test_check_read_cut_is_noticed),
	    cmocka_unit_test(test_check_slot_follows_the_message_alone),
	    cmocka_unit_test(test_order_first_may_be_any),
	    cmocka_unit_test(test_order_gap_says_how_many),
	    cmocka_unit_test(test_order_late_fills_the_gap_once),
	    cmocka_unit_test(test_order_repeated_is_noticed_far_back),
	    cmocka_unit_test(test_order_wide_gap_forgets_what_was_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
