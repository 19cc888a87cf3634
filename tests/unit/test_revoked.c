/* shm/revoked.c */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shm/revoked.h"

static struct revoked table;

static int
table_make(void **state)
{
	memset(&table, 0, sizeof(table));
	revoked_init(&table);
	return 0;
}

static struct revoked_id
id_of(enum revoked_kind kind, const char *text)
{
	struct revoked_id id;

	assert_true(revoked_id(&table, kind, text, strlen(text), &id));
	return id;
}

static void
test_revoked_until_its_time(void **state)
{
	struct revoked_id a = id_of(REVOKED_USER, "alice");

	assert_false(revoked_has(&table, &a, 1000));
	assert_int_equal(revoked_add(&table, &a, 2000, 1000), 0);
	assert_true(revoked_has(&table, &a, 1999));
	assert_false(revoked_has(&table, &a, 2000));
}

static void
test_revoked_longer_counts(void **state)
{
	struct revoked_id a = id_of(REVOKED_USER, "alice");

	assert_int_equal(revoked_add(&table, &a, 2000, 1000), 0);
	assert_int_equal(revoked_add(&table, &a, 1500, 1000), 0);
	assert_true(revoked_has(&table, &a, 1800));
	assert_int_equal(revoked_add(&table, &a, 3000, 1000), 0);
	assert_true(revoked_has(&table, &a, 2800));
	assert_int_equal(revoked_live(&table), 1);
}

static void
test_revoked_user_is_no_token_of_that_name(void **state)
{
	struct revoked_id user = id_of(REVOKED_USER, "x"),
			  jti = id_of(REVOKED_JTI, "x");

	assert_int_equal(revoked_add(&table, &user, 2000, 1000), 0);
	assert_false(revoked_has(&table, &jti, 1000));
}

static void
test_revoked_id_of_what_no_token_holds(void **state)
{
	char text[REVOKED_TEXT_MAX + 1];
	struct revoked_id id;

	memset(text, 'x', sizeof(text));
	assert_true(revoked_id(&table, REVOKED_USER, text, REVOKED_TEXT_MAX, &id));
	assert_false(revoked_id(&table, REVOKED_USER, text, sizeof(text), &id));
	assert_false(revoked_id(&table, REVOKED_USER, "", 0, &id));
}

/* Another ring's table has another key: nobody can choose names that share a set. */
static void
test_revoked_ids_differ_between_rings(void **state)
{
	struct revoked_id a = id_of(REVOKED_USER, "alice"), b;

	revoked_init(&table);
	b = id_of(REVOKED_USER, "alice");
	assert_memory_not_equal(&a, &b, sizeof(a));
}

static void
test_revoked_full_set_refuses_until_one_is_over(void **state)
{
	for (uint64_t i = 0; i < REVOKED_WAYS; i++) {
		struct revoked_id id = {{7, i}};

		assert_int_equal(revoked_add(&table, &id, 2000 + i, 1000), 0);
	}
	struct revoked_id late = {{7 + REVOKED_SETS, 99}}, other = {{8, 99}};

	assert_int_equal(revoked_add(&table, &late, 5000, 1999), -ENOSPC);
	assert_int_equal(revoked_add(&table, &other, 5000, 1999), 0);
	assert_int_equal(revoked_add(&table, &late, 5000, 2000), 0);
	assert_true(revoked_has(&table, &late, 4999));
	for (uint64_t i = 1; i < REVOKED_WAYS; i++) {
		struct revoked_id id = {{7, i}};

		assert_true(revoked_has(&table, &id, 2000));
	}
}

static void
test_revoked_tick_frees_what_is_over(void **state)
{
	for (uint64_t i = 0; i < 10000; i++) {
		char name[32];
		struct revoked_id id;

		(void)snprintf(name, sizeof(name), "user%u", (unsigned)i);
		id = id_of(REVOKED_USER, name);
		assert_int_equal(
		    revoked_add(&table, &id, i % 2 ? 2000 : 3000, 1000), 0);
	}
	assert_int_equal(revoked_live(&table), 10000);
	revoked_tick(&table, 2500);
	assert_int_equal(revoked_live(&table), 5000);
	revoked_tick(&table, 3500);
	assert_int_equal(revoked_live(&table), 0);
	for (unsigned i = 0; i < REVOKED_SETS / 64; i++)
		assert_int_equal(table.in_use[i], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_revoked_until_its_time, table_make),
	    cmocka_unit_test_setup(test_revoked_longer_counts, table_make),
	    cmocka_unit_test_setup(
		test_revoked_user_is_no_token_of_that_name, table_make),
	    cmocka_unit_test_setup(test_revoked_id_of_what_no_token_holds, table_make),
	    cmocka_unit_test_setup(test_revoked_ids_differ_between_rings, table_make),
	    cmocka_unit_test_setup(
		test_revoked_full_set_refuses_until_one_is_over, table_make),
	    cmocka_unit_test_setup(test_revoked_tick_frees_what_is_over, table_make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
