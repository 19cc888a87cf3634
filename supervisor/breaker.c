/* breaker.c - see breaker.h */
#include "supervisor/breaker.h"

bool
breaker_allows(struct breaker *b, uint64_t now_ms)
{
	if (b->state == BREAKER_CLOSED)
		return true;
	if (b->state == BREAKER_OPEN && now_ms < b->again_ms)
		return false;
	b->state = BREAKER_HALF_OPEN;
	if (b->trial)
		return false;
	b->trial = true;
	return true;
}

void
breaker_succeeded(struct breaker *b)
{
	b->state = BREAKER_CLOSED;
	b->trial = false;
	b->wait_ms = 0;
}

void
breaker_failed(struct breaker *b, uint64_t now_ms)
{
	if (b->state == BREAKER_OPEN)
		return; /* one of those that were under way */
	b->opened += b->state == BREAKER_CLOSED;
	b->state = BREAKER_OPEN;
	b->trial = false;
	b->wait_ms = b->wait_ms == 0 ? BREAKER_WAIT_MIN_MS : 2 * b->wait_ms;
	if (b->wait_ms > BREAKER_WAIT_MAX_MS)
		b->wait_ms = BREAKER_WAIT_MAX_MS;
	b->again_ms = now_ms + b->wait_ms;
}

void
breaker_untried(struct breaker *b)
{
	b->trial = false;
}

const char *
breaker_state_name(enum breaker_state state)
{
	static const char *const names[] = {"closed", "open", "half_open"};

	return names[state];
}
