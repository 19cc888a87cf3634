/* test_tickets.c - when keys for tickets are drawn, and which are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/tickets.h"

#define ROTATE_MS (TICKET_ROTATE_S * 1000ull)

static void
test_ticket_keys_turn_draws_when_due(void **state)
{
	struct ticket_keys k;
	struct ticket_key one, two;

	ticket_keys_init(&k, 1000);
	one = k.tickets.key[0];
	assert_false(ticket_keys_turn(&k, 1000 + ROTATE_MS - 1));
	assert_memory_equal(&k.tickets.key[0], &one, sizeof(one));
	assert_true(ticket_keys_turn(&k, 1000 + ROTATE_MS));
	two = k.tickets.key[0];
	assert_memory_not_equal(&two, &one, sizeof(one));
	assert_memory_equal(&k.tickets.key[1], &one, sizeof(one));
	assert_false(ticket_keys_turn(&k, 1000 + ROTATE_MS));
	assert_true(ticket_keys_turn(&k, 1000 + 2 * ROTATE_MS));
	assert_memory_equal(&k.tickets.key[1], &two, sizeof(two));
	assert_memory_equal(&k.tickets.key[2], &one, sizeof(one));
	assert_true(ticket_keys_turn(&k, 1000 + 3 * ROTATE_MS));
	for (int i = 0; i < TICKET_KEYS; i++)
		assert_memory_not_equal(&k.tickets.key[i], &one, sizeof(one));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ticket_keys_turn_draws_when_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
