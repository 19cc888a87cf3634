/* test_idempotency.c - which ids are remembered, and for how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "supervisor/idempotency.h"

static bool
has(const struct idempotency *ids, const char *channel, unsigned n)
{
	return idempotency_has(ids, channel, 1, &n, sizeof(n));
}

static void
add(struct idempotency *ids, const char *channel, unsigned n)
{
	idempotency_add(ids, channel, 1, &n, sizeof(n));
}

static void
test_idempotency_id_belongs_to_its_channel(void **state)
{
	struct idempotency *ids = *state;

	assert_false(has(ids, "a", 1));
	add(ids, "a", 1);
	assert_true(has(ids, "a", 1));
	assert_false(has(ids, "b", 1));
	assert_false(has(ids, "a", 2));
}

static void
test_idempotency_window_is_kept_and_the_rest_forgotten(void **state)
{
	struct idempotency *ids = *state;

	for (unsigned n = 0; n < 5 * IDEMPOTENCY_WINDOW; n++) {
		add(ids, "a", n);
		if (n >= IDEMPOTENCY_WINDOW)
			assert_true(has(ids, "a", n - IDEMPOTENCY_WINDOW));
		if (n >= 2 * IDEMPOTENCY_WINDOW)
			assert_false(has(ids, "a", n - 2 * IDEMPOTENCY_WINDOW));
	}
}

static void
test_idempotency_same_id_takes_one_place(void **state)
{
	struct idempotency *ids = *state;

	add(ids, "a", 1);
	for (unsigned n = 0; n < 4 * IDEMPOTENCY_WINDOW; n++)
		add(ids, "a", 2);
	assert_true(has(ids, "a", 1));
}

static int
setup(void **state)
{
	return idempotency_new((struct idempotency **)state);
}

static int
teardown(void **state)
{
	idempotency_free(*state);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		test_idempotency_id_belongs_to_its_channel, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_idempotency_window_is_kept_and_the_rest_forgotten, setup,
		teardown),
	    cmocka_unit_test_setup_teardown(
		test_idempotency_same_id_takes_one_place, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
