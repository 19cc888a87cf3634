/* test_namemap.c - names to numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "shm/namemap.h"

#define NAMES 20000u

static char names[NAMES][16];

static const char *
name_of(void *owner, uint32_t number, size_t *ret_len)
{
	assert_ptr_equal(owner, names);
	*ret_len = strlen(names[number]);
	return names[number];
}

static int
setup(void **state)
{
	struct namemap *m = malloc(sizeof(*m));

	*state = m;
	if (m == NULL)
		return -1;
	namemap_init(m, name_of, names);
	for (uint32_t i = 0; i < NAMES; i++)
		(void)snprintf(names[i], sizeof(names[i]), "chat:%u", i);
	return 0;
}

static int
teardown(void **state)
{
	namemap_done(*state);
	free(*state);
	return 0;
}

static uint32_t
get(const struct namemap *m, uint32_t number)
{
	return namemap_get(m, names[number], strlen(names[number]));
}

static void
test_namemap_get_empty_is_none(void **state)
{
	struct namemap *m = *state;

	assert_int_equal(namemap_get(m, "chat:1", 6), NAMEMAP_NONE);
	assert_int_equal(namemap_get(m, "", 0), NAMEMAP_NONE);
}

static void
test_namemap_put_is_found_by_its_whole_name(void **state)
{
	struct namemap *m = *state;

	assert_int_equal(namemap_put(m, 12), 0);
	assert_int_equal(namemap_get(m, "chat:12", 7), 12);
	assert_int_equal(namemap_get(m, "chat:12", 6), NAMEMAP_NONE);
	assert_int_equal(namemap_get(m, "chat:123", 8), NAMEMAP_NONE);
}

static void
test_namemap_put_many_are_all_found(void **state)
{
	struct namemap *m = *state;

	for (uint32_t i = 0; i < NAMES; i++)
		assert_int_equal(namemap_put(m, i), 0);
	for (uint32_t i = 0; i < NAMES; i++)
		assert_int_equal(get(m, i), i);
	assert_int_equal(m->len, NAMES);
}

static void
test_namemap_del_is_gone_and_others_stay(void **state)
{
	struct namemap *m = *state;

	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(namemap_put(m, i), 0);
	for (uint32_t i = 0; i < 1000; i += 2)
		namemap_del(m, i);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(get(m, i), i % 2 == 0 ? NAMEMAP_NONE : i);
}

static void
test_namemap_del_unknown_changes_nothing(void **state)
{
	struct namemap *m = *state;

	namemap_del(m, 3);
	assert_int_equal(namemap_put(m, 1), 0);
	namemap_del(m, 3);
	assert_int_equal(get(m, 1), 1);
	assert_int_equal(m->len, 1);
}

static void
test_namemap_del_all_shrinks(void **state)
{
	struct namemap *m = *state;
	uint32_t most;

	for (uint32_t i = 0; i < NAMES; i++)
		assert_int_equal(namemap_put(m, i), 0);
	most = m->mask;
	for (uint32_t i = 0; i < NAMES; i++)
		namemap_del(m, i);
	assert_int_equal(m->len, 0);
	assert_true(m->mask < most / 256);
	assert_int_equal(namemap_put(m, 5), 0);
	assert_int_equal(get(m, 5), 5);
}

static void
test_namemap_init_keys_differ(void **state)
{
	struct namemap *m = *state, other;

	namemap_init(&other, name_of, names);
	assert_memory_not_equal(m->key, other.key, sizeof(m->key));
	namemap_done(&other);
	namemap_done(NULL);
}

static void
test_namemap_random_use_matches_a_model(void **state)
{
	struct namemap *m = *state;
	static bool in[500];
	unsigned random = (unsigned)time(NULL);

	print_message("seed %u\n", random);
	for (unsigned k = 0; k < 100000; k++) {
		uint32_t i = (uint32_t)rand_r(&random) % 500;

		assert_int_equal(get(m, i), in[i] ? i : NAMEMAP_NONE);
		if (in[i])
			namemap_del(m, i);
		else
			assert_int_equal(namemap_put(m, i), 0);
		in[i] = !in[i];
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_namemap_get_empty_is_none),
	    T(test_namemap_put_is_found_by_its_whole_name),
	    T(test_namemap_put_many_are_all_found),
	    T(test_namemap_del_is_gone_and_others_stay),
	    T(test_namemap_del_unknown_changes_nothing),
	    T(test_namemap_del_all_shrinks),
	    T(test_namemap_init_keys_differ),
	    T(test_namemap_random_use_matches_a_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
