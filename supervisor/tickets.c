/* tickets.c - see tickets.h */
#include <sodium.h>
#include <string.h>

#include "supervisor/tickets.h"

static void
draw(struct ticket_keys *k, uint64_t now_ms)
{
	struct ticket_key *key = k->tickets.key;

	memmove(key + 1, key, (TICKET_KEYS - 1) * sizeof(*key));
	randombytes_buf(key, sizeof(*key));
	k->drawn_ms = now_ms;
}

void
ticket_keys_init(struct ticket_keys *k, uint64_t now_ms)
{
	*k = (struct ticket_keys){.drawn_ms = 0};
	draw(k, now_ms);
}

bool
ticket_keys_turn(struct ticket_keys *k, uint64_t now_ms)
{
	if (now_ms - k->drawn_ms < TICKET_ROTATE_S * 1000ull)
		return false;
	draw(k, now_ms);
	return true;
}
