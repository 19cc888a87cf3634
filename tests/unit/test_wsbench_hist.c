/* test_wsbench_hist.c - percentiles that can be believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/wsbench_hist.h"

static int
setup(void **state)
{
	*state = calloc(2, sizeof(struct hist));
	return *state == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	free(*state);
	return 0;
}

static void
test_hist_index_fits_its_bounds(void **state)
{
	for (uint64_t v = 0; v < (uint64_t)1 << HIST_VALUE_BITS; v += v / 100 + 1) {
		unsigned i = hist_index(v);

		assert_true(i < HIST_BUCKETS);
		assert_true(hist_low(i) <= v && v < hist_low(i + 1));
	}
}

static void
test_hist_bucket_is_narrower_than_one_percent(void **state)
{
	for (unsigned i = HIST_PARTS; i < HIST_BUCKETS; i++)
		assert_true(hist_low(i + 1) - hist_low(i) <= hist_low(i) / 100);
}

static void
test_hist_index_too_large_is_the_last(void **state)
{
	assert_int_equal(hist_index(UINT64_MAX), HIST_BUCKETS - 1);
}

static void
test_hist_quantile_is_true_to_one_percent(void **state)
{
	struct hist *h = *state;
	const double q[] = {0.5, 0.9, 0.99, 0.999};

	for (uint64_t v = 1; v <= 100000; v++)
		hist_add(h, v * 1000, 1);
	for (size_t i = 0; i < 4; i++) {
		double want = q[i] * 1e8;
		double got = (double)hist_quantile(h, q[i]);

		assert_true(got > want * 0.99 && got < want * 1.01);
	}
}

static void
test_hist_quantile_one_is_the_exact_maximum(void **state)
{
	struct hist *h = *state;

	hist_add(h, 1000001, 1);
	hist_add(h, 77, 1);
	assert_int_equal(hist_quantile(h, 1), 1000001);
	assert_int_equal(h->min, 77);
}

static void
test_hist_quantile_empty_is_zero(void **state)
{
	assert_int_equal(hist_quantile(*state, 0.5), 0);
}

static void
test_hist_merge_is_as_if_counted_together(void **state)
{
	struct hist *h = *state;

	hist_add(&h[0], 500, 3);
	hist_add(&h[1], 100, 1);
	hist_add(&h[1], 90000, 2);
	hist_merge(&h[0], &h[1]);
	assert_int_equal(h[0].count, 6);
	assert_int_equal(h[0].sum, 500 * 3 + 100 + 90000 * 2);
	assert_int_equal(h[0].min, 100);
	assert_int_equal(h[0].max, 90000);
	assert_int_equal(h[0].buckets[hist_index(500)], 3);
}

static void
test_hist_merge_empty_changes_nothing(void **state)
{
	struct hist *h = *state;

	hist_add(&h[0], 500, 1);
	hist_merge(&h[0], &h[1]);
	assert_int_equal(h[0].min, 500);
	assert_int_equal(h[0].count, 1);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_hist_index_fits_its_bounds),
	    T(test_hist_bucket_is_narrower_than_one_percent),
	    T(test_hist_index_too_large_is_the_last),
	    T(test_hist_quantile_is_true_to_one_percent),
	    T(test_hist_quantile_one_is_the_exact_maximum),
	    T(test_hist_quantile_empty_is_zero),
	    T(test_hist_merge_is_as_if_counted_together),
	    T(test_hist_merge_empty_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
