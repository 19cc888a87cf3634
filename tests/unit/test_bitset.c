/* test_bitset.c - sets whose lowest member is found fast. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shm/bitset.h"

static const uint64_t bounds[] = {1, 2, 63, 64, 65, 4095, 4096, 4097, 262144, 300001};

static void
test_bitset_first_empty_is_none(void **state)
{
	struct bitset b;
	uint64_t word = 0;

	bitset_init(&b, 0, NULL);
	assert_int_equal(bitset_words(0), 0);
	assert_true(bitset_first(&b) == BITSET_NONE);
	bitset_init(&b, 1, &word);
	assert_true(bitset_first(&b) == BITSET_NONE);
}

/* Added from the highest down, each is the lowest; removed upwards, the next one is. */
static void
test_bitset_first_is_the_lowest(void **state)
{
	for (size_t k = 0; k < sizeof(bounds) / sizeof(bounds[0]); k++) {
		struct bitset b;
		uint64_t *words = calloc(bitset_words(bounds[k]), sizeof(*words));
		uint64_t step = bounds[k] / 100 + 1,
			 last = (bounds[k] - 1) / step * step;

		bitset_init(&b, bounds[k], words);
		for (uint64_t i = 0; i <= last; i += step) {
			bitset_add(&b, last - i);
			assert_int_equal(bitset_first(&b), last - i);
		}
		for (uint64_t i = 0; i <= last; i += step) {
			assert_int_equal(bitset_first(&b), i);
			assert_true(bitset_has(&b, i));
			bitset_remove(&b, i);
			assert_false(bitset_has(&b, i));
		}
		assert_true(bitset_first(&b) == BITSET_NONE);
		free(words);
	}
}

static void
test_bitset_add_twice_is_once(void **state)
{
	struct bitset b;
	uint64_t *words = calloc(bitset_words(5000), sizeof(*words));

	bitset_init(&b, 5000, words);
	bitset_add(&b, 4999);
	bitset_add(&b, 4999);
	bitset_remove(&b, 4999);
	bitset_remove(&b, 17); /* was not there */
	assert_true(bitset_first(&b) == BITSET_NONE);
	free(words);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_bitset_first_empty_is_none),
	    cmocka_unit_test(test_bitset_first_is_the_lowest),
	    cmocka_unit_test(test_bitset_add_twice_is_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
