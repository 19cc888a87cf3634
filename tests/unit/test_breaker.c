#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/breaker.h"

#define NOW 1000

static void
test_breaker_closed_allows_all(void **state)
{
	struct breaker b = {0};

	for (int i = 0; i < 3; i++)
		assert_true(breaker_allows(&b, NOW));
	assert_int_equal(b.state, BREAKER_CLOSED);
}

static void
test_breaker_failed_refuses_until_wait_is_over(void **state)
{
	struct breaker b = {0};

	breaker_failed(&b, NOW);
	assert_int_equal(b.state, BREAKER_OPEN);
	assert_int_equal(b.opened, 1);
	assert_false(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS - 1));
	assert_true(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
	assert_int_equal(b.state, BREAKER_HALF_OPEN);
}

static void
test_breaker_half_open_allows_one_trial(void **state)
{
	struct breaker b = {0};

	breaker_failed(&b, NOW);
	assert_true(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
	assert_false(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
	breaker_untried(&b);
	assert_true(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
}

static void
test_breaker_trial_succeeded_closes(void **state)
{
	struct breaker b = {0};

	breaker_failed(&b, NOW);
	assert_true(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
	breaker_succeeded(&b);
	assert_int_equal(b.state, BREAKER_CLOSED);
	assert_true(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
	/* and the next wait is a short one again */
	breaker_failed(&b, NOW);
	assert_true(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
}

static void
test_breaker_trials_failed_wait_longer_up_to_a_bound(void **state)
{
	struct breaker b = {0};
	uint64_t now = NOW, wait = BREAKER_WAIT_MIN_MS;

	breaker_failed(&b, now);
	for (int i = 0; i < 10; i++) {
		assert_false(breaker_allows(&b, now + wait - 1));
		now += wait;
		assert_true(breaker_allows(&b, now));
		breaker_failed(&b, now);
		wait = 2 * wait < BREAKER_WAIT_MAX_MS ? 2 * wait : BREAKER_WAIT_MAX_MS;
	}
	assert_int_equal(b.opened, 1); /* it never closed between */
}

/* Many requests are under way when one fails: the others say nothing new. */
static void
test_breaker_failures_while_open_do_not_lengthen_the_wait(void **state)
{
	struct breaker b = {0};

	for (int i = 0; i < 100; i++)
		breaker_failed(&b, NOW + (uint64_t)i);
	assert_true(breaker_allows(&b, NOW + BREAKER_WAIT_MIN_MS));
	assert_int_equal(b.opened, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_breaker_closed_allows_all),
	    cmocka_unit_test(test_breaker_failed_refuses_until_wait_is_over),
	    cmocka_unit_test(test_breaker_half_open_allows_one_trial),
	    cmocka_unit_test(test_breaker_trial_succeeded_closes),
	    cmocka_unit_test(test_breaker_trials_failed_wait_longer_up_to_a_bound),
	    cmocka_unit_test(test_breaker_failures_while_open_do_not_lengthen_the_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
