/* test_wheel.c - worker/wheel.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/wheel.h"

#define NUMBERS 64

/* Deadlines, and at which tick each came; what a due number does is `on_due`. */
struct owner {
	struct wheel wheel;
	uint32_t deadline[NUMBERS];
	uint32_t came[NUMBERS];
	unsigned ncame;
	void (*on_due)(struct owner *o, uint32_t number);
};

static uint32_t
deadline_of(void *owner, uint32_t number)
{
	return ((struct owner *)owner)->deadline[number];
}

static void
on_due(void *owner, uint32_t number)
{
	struct owner *o = owner;

	o->came[number] = o->wheel.now;
	o->ncame++;
	if (o->on_due != NULL)
		o->on_due(o, number);
}

static void
set(struct owner *o, uint32_t number, uint32_t deadline)
{
	o->deadline[number] = deadline;
	wheel_set(&o->wheel, number, deadline);
}

static void
advance(struct owner *o, uint32_t now)
{
	wheel_advance(&o->wheel, now, deadline_of, on_due, o);
}

static struct owner *
owner_new(uint32_t now)
{
	struct owner *o = calloc(1, sizeof(*o));

	assert_non_null(o);
	assert_int_equal(wheel_init(&o->wheel, NUMBERS, now), 0);
	return o;
}

static void
owner_free(struct owner *o)
{
	wheel_done(&o->wheel);
	free(o);
}

/* Each comes in the tick of its deadline, whatever the order in which they were set. */
static void
test_wheel_advance_reports_each_in_its_tick(void **state)
{
	struct owner *o = owner_new(100);

	for (uint32_t i = 0; i < NUMBERS; i++)
		set(o, i, 101 + i * 7 % 50);
	for (uint32_t now = 101; now < 160; now++)
		advance(o, now);
	for (uint32_t i = 0; i < NUMBERS; i++)
		assert_int_equal(o->came[i], o->deadline[i]);
	assert_int_equal(o->ncame, NUMBERS);
	owner_free(o);
}

/* What lies rounds ahead shares a bucket with what is due, and stays in it. */
static void
test_wheel_advance_later_round_waits(void **state)
{
	struct owner *o = owner_new(0);

	set(o, 0, 5);
	set(o, 1, 5 + 3 * WHEEL_BUCKETS);
	for (uint32_t now = 1; now < 5 + 3 * WHEEL_BUCKETS; now++)
		advance(o, now);
	assert_int_equal(o->ncame, 1);
	advance(o, 5 + 3 * WHEEL_BUCKETS);
	assert_int_equal(o->came[1], 5 + 3 * WHEEL_BUCKETS);
	owner_free(o);
}

/* A process that stood still for long misses none. */
static void
test_wheel_advance_after_long_stop_reports_all(void **state)
{
	struct owner *o = owner_new(7);

	for (uint32_t i = 0; i < NUMBERS; i++)
		set(o, i, 8 + i * 100);
	advance(o, 7 + 100 * WHEEL_BUCKETS);
	assert_int_equal(o->ncame, NUMBERS);
	owner_free(o);
}

static void
test_wheel_set_past_deadline_comes_next(void **state)
{
	struct owner *o = owner_new(1000);

	set(o, 3, 10);
	advance(o, 1001);
	assert_int_equal(o->came[3], 1001);
	owner_free(o);
}

static void
test_wheel_set_again_moves(void **state)
{
	struct owner *o = owner_new(0);

	set(o, 3, 10);
	set(o, 3, 20);
	advance(o, 19);
	assert_int_equal(o->ncame, 0);
	advance(o, 20);
	assert_int_equal(o->ncame, 1);
	owner_free(o);
}

static void
test_wheel_clear_never_comes(void **state)
{
	struct owner *o = owner_new(0);

	for (uint32_t i = 0; i < 3; i++)
		set(o, i, 10);
	wheel_clear(&o->wheel, 1);
	wheel_clear(&o->wheel, 1); /* also when it is in none */
	advance(o, 50);
	assert_int_equal(o->came[1], 0);
	assert_int_equal(o->ncame, 2);
	owner_free(o);
}

static void
clear_all(struct owner *o, uint32_t number)
{
	for (uint32_t i = 0; i < NUMBERS; i++)
		wheel_clear(&o->wheel, i);
}

/* The next of the bucket being emptied may go, too. */
static void
test_wheel_due_clearing_others_ends_them(void **state)
{
	struct owner *o = owner_new(0);

	o->on_due = clear_all;
	for (uint32_t i = 0; i < NUMBERS; i++)
		set(o, i, 10);
	advance(o, 20);
	assert_int_equal(o->ncame, 1);
	owner_free(o);
}

static void
set_again(struct owner *o, uint32_t number)
{
	set(o, number, o->wheel.now + WHEEL_BUCKETS);
}

/* One that is set again from its own report, into the same bucket, comes a round later.
 */
static void
test_wheel_due_set_again_comes_once_a_round(void **state)
{
	struct owner *o = owner_new(0);

	o->on_due = set_again;
	set(o, 0, 10);
	for (uint32_t now = 1; now <= 10 + 2 * WHEEL_BUCKETS; now++)
		advance(o, now);
	assert_int_equal(o->ncame, 3);
	owner_free(o);
}

static void
test_wheel_ticks_wrap_round(void **state)
{
	struct owner *o = owner_new(UINT32_MAX - 5);

	set(o, 0, UINT32_MAX);
	set(o, 1, 4);
	advance(o, UINT32_MAX - 1);
	assert_int_equal(o->ncame, 0);
	advance(o, 3);
	assert_int_equal(o->ncame, 1);
	advance(o, 4);
	assert_int_equal(o->ncame, 2);
	owner_free(o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_wheel_advance_reports_each_in_its_tick),
	    cmocka_unit_test(test_wheel_advance_later_round_waits),
	    cmocka_unit_test(test_wheel_advance_after_long_stop_reports_all),
	    cmocka_unit_test(test_wheel_set_past_deadline_comes_next),
	    cmocka_unit_test(test_wheel_set_again_moves),
	    cmocka_unit_test(test_wheel_clear_never_comes),
	    cmocka_unit_test(test_wheel_due_clearing_others_ends_them),
	    cmocka_unit_test(test_wheel_due_set_again_comes_once_a_round),
	    cmocka_unit_test(test_wheel_ticks_wrap_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
