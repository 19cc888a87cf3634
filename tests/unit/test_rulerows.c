/* Rows by rule: whose each is, over settings that change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shm/rulerows.h"

static void
test_rulerows_take_gives_each_its_own(void **state)
{
	struct rule_rows *t = *state;
	const uint64_t keys[] = {rule_key("a"), rule_key("b"), rule_key("*")};
	uint8_t row[3];

	rule_rows_take(t, keys, 3, row);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(row[i], i);
		assert_int_equal(rule_rows_find(t, keys[i], RULE_ROWS), i);
	}
	assert_int_equal(rule_rows_find(t, rule_key("c"), 0), RULE_ROWS);
}

static void
test_rulerows_take_again_keeps_counters(void **state)
{
	struct rule_rows *t = *state;
	const uint64_t before[] = {rule_key("a"), rule_key("b")};
	const uint64_t after[] = {rule_key("new"), rule_key("b"), rule_key("a")};
	uint8_t row[3];

	rule_rows_take(t, before, 2, row);
	rule_add(t, row[0], RULE_messages, 5);
	rule_add(t, row[1], RULE_messages, 7);
	rule_rows_take(t, after, 3, row);
	assert_int_equal(rule_get(t, row[0], RULE_messages), 0);
	assert_int_equal(rule_get(t, row[1], RULE_messages), 7);
	assert_int_equal(rule_get(t, row[2], RULE_messages), 5);
}

/* A row that nobody needs any more begins at 0 with whoever gets it. */
static void
test_rulerows_take_full_reuses_and_clears(void **state)
{
	struct rule_rows *t = *state;
	uint64_t keys[RULE_ROWS + 5];
	uint8_t row[RULE_ROW_OTHERS];

	for (unsigned i = 0; i < RULE_ROWS + 5; i++)
		keys[i] = i + 1;
	rule_rows_take(t, keys, RULE_ROWS + 5, row);
	for (unsigned i = 0; i < RULE_ROW_OTHERS; i++) {
		assert_int_equal(row[i], i);
		rule_add(t, row[i], RULE_replaced, i + 1);
	}
	keys[10] = 1000;
	rule_rows_take(t, keys, RULE_ROWS, row);
	assert_int_equal(row[10], 10);
	assert_int_equal(rule_get(t, 10, RULE_replaced), 0);
	assert_int_equal(rule_get(t, 11, RULE_replaced), 12);
	assert_int_equal(rule_rows_find(t, 11, 10), RULE_ROWS);
}

static void
test_rulerows_continue_has_all(void **state)
{
	struct rule_rows *t = *state, *next = calloc(1, sizeof(*next));
	const uint64_t keys[] = {rule_key("a"), rule_key("b")};
	uint8_t row[2];

	assert_non_null(next);
	rule_rows_take(t, keys, 2, row);
	rule_add(t, row[1], RULE_skipped, 3);
	rule_add(t, RULE_ROW_OTHERS, RULE_skipped, 4);
	rule_rows_continue(next, t);
	assert_int_equal(
	    rule_get(next, rule_rows_find(next, keys[1], 0), RULE_skipped), 3);
	assert_int_equal(rule_get(next, RULE_ROW_OTHERS, RULE_skipped), 4);
	free(next);
}

static int
rows_new(void **state)
{
	*state = calloc(1, sizeof(struct rule_rows));
	return *state == NULL;
}

static int
rows_free(void **state)
{
	free(*state);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rows_new, rows_free)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_rulerows_take_gives_each_its_own),
	    TEST(test_rulerows_take_again_keeps_counters),
	    TEST(test_rulerows_take_full_reuses_and_clears),
	    TEST(test_rulerows_continue_has_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
