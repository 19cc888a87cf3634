/* test_fifo.c - a growing ring of items. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/fifo.h"

#define MANY 5000u

static void
test_fifo_pop_in_the_order_of_push(void **state)
{
	struct fifo f = {.item = sizeof(uint32_t)};
	uint32_t next = 0, got;

	assert_false(fifo_pop(&f, &got));
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(fifo_push(&f, &i), 0);
		if (i % 3 == 0) { /* so that it begins anywhere when it grows */
			assert_true(fifo_pop(&f, &got));
			assert_int_equal(got, next++);
		}
	}
	fifo_unpush(&f);
	while (fifo_pop(&f, &got))
		assert_int_equal(got, next++);
	assert_int_equal(next, MANY - 1);
	fifo_clear(&f);
}

/* What one busy moment needed is not kept for ever; what little ones need is. */
static void
test_fifo_long_one_that_is_empty_gives_back(void **state)
{
	struct fifo f = {.item = sizeof(uint32_t)};
	uint32_t got;

	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(fifo_push(&f, &i), 0);
	while (fifo_pop(&f, &got))
		;
	assert_int_equal(f.cap, 0);
	assert_int_equal(fifo_push(&f, &got), 0);
	assert_true(fifo_pop(&f, &got));
	assert_int_equal(got, MANY - 1);
	assert_true(f.cap > 0);
	fifo_clear(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fifo_pop_in_the_order_of_push),
	    cmocka_unit_test(test_fifo_long_one_that_is_empty_gives_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
