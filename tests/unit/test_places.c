/* test_places.c - places given out lowest first; which runs of them are given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shm/places.h"

#define RUNS 12u
#define MAX (RUNS * PLACES_RUN - 100) /* the last one is not whole */

struct fixture {
	struct places p;
	unsigned calls;
	uint32_t first, end; /* of the last call */
};

static void
on_return(void *owner, uint32_t first, uint32_t n)
{
	struct fixture *f = owner;

	f->calls++;
	f->first = first;
	f->end = first + n;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL ? -1 : places_init(&f->p, MAX, on_return, f);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	places_done(&f->p);
	free(f);
	return 0;
}

static void
take_all(struct fixture *f)
{
	for (uint32_t i = 0; i < MAX; i++)
		assert_int_equal(places_take(&f->p), i);
}

static void
give(struct fixture *f, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
		places_give(&f->p, i);
}

static void
test_places_take_all_then_none(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(places_len(&f->p), 0);
	take_all(f);
	assert_int_equal(places_len(&f->p), MAX);
	assert_int_equal(places_take(&f->p), PLACES_NONE);
}

static void
test_places_take_lowest_first(void **state)
{
	struct fixture *f = *state;

	take_all(f);
	places_give(&f->p, 2000);
	places_give(&f->p, 7);
	places_give(&f->p, 1000);
	assert_int_equal(places_take(&f->p), 7);
	assert_int_equal(places_take(&f->p), 1000);
	assert_int_equal(places_take(&f->p), 2000);
	assert_int_equal(places_take(&f->p), PLACES_NONE);
}

static void
test_places_claim_is_not_taken(void **state)
{
	struct fixture *f = *state;

	places_claim(&f->p, 1);
	places_claim(&f->p, 3 * PLACES_RUN);
	assert_int_equal(places_len(&f->p), 3 * PLACES_RUN + 1);
	assert_int_equal(places_take(&f->p), 0);
	assert_int_equal(places_take(&f->p), 2);
	places_give(&f->p, 3 * PLACES_RUN);
	assert_int_equal(places_len(&f->p), PLACES_RUN); /* counted by runs */
}

/* One place holds all below it; without it the end falls, whatever the order was. */
static void
test_places_len_falls_with_the_end(void **state)
{
	struct fixture *f = *state;

	take_all(f);
	give(f, PLACES_RUN, MAX - 1);
	assert_int_equal(places_len(&f->p), MAX);
	places_give(&f->p, MAX - 1);
	assert_int_equal(places_len(&f->p), PLACES_RUN);
	give(f, 0, PLACES_RUN);
	assert_int_equal(places_len(&f->p), 0);
}

static void
test_places_free_runs_are_returned(void **state)
{
	struct fixture *f = *state;

	take_all(f);
	give(f, PLACES_RUN, (PLACES_RUNS_KEPT + 1) * PLACES_RUN);
	assert_int_equal(f->calls, 0);
	/* Not while somebody is there. */
	give(f, 6 * PLACES_RUN + 1, 7 * PLACES_RUN);
	assert_int_equal(f->calls, 0);
	/* Together, and the last one as far as it goes. */
	give(f, (RUNS - 1) * PLACES_RUN, MAX);
	assert_int_equal(f->calls, 2);
	assert_int_equal(f->first, (RUNS - 1) * PLACES_RUN);
	assert_int_equal(f->end, MAX);
	/* They count anew. */
	places_give(&f->p, 6 * PLACES_RUN);
	assert_int_equal(f->calls, 2);
}

/* A page may lie on both sides of an edge: it goes with the second of them. */
static void
test_places_free_neighbours_are_returned_again(void **state)
{
	struct fixture *f = *state;

	take_all(f);
	give(f, 0, PLACES_RUNS_KEPT * PLACES_RUN);
	give(f, 6 * PLACES_RUN, 7 * PLACES_RUN);
	assert_int_equal(f->calls, 2);
	for (uint32_t run = 7; run < RUNS - 1; run++)
		give(f, run * PLACES_RUN, (run + 1) * PLACES_RUN);
	give(f, 5 * PLACES_RUN, 6 * PLACES_RUN);
	assert_int_equal(f->calls, 4);
	assert_int_equal(f->first, 6 * PLACES_RUN);
	assert_int_equal(f->end, (RUNS - 1) * PLACES_RUN);
}

/* What was taken again is kept, and may come and go for nothing. */
static void
test_places_run_in_use_again_is_kept(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < PLACES_RUNS_KEPT * PLACES_RUN; i++)
		assert_int_equal(places_take(&f->p), i);
	for (int i = 0; i < 100; i++) {
		give(f, 0, PLACES_RUNS_KEPT * PLACES_RUN);
		assert_int_equal(places_len(&f->p), 0);
		for (uint32_t k = 0; k < PLACES_RUNS_KEPT * PLACES_RUN; k++)
			assert_int_equal(places_take(&f->p), k);
	}
	assert_int_equal(f->calls, 0);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_places_take_all_then_none),
	    T(test_places_take_lowest_first),
	    T(test_places_claim_is_not_taken),
	    T(test_places_len_falls_with_the_end),
	    T(test_places_free_runs_are_returned),
	    T(test_places_free_neighbours_are_returned_again),
	    T(test_places_run_in_use_again_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
