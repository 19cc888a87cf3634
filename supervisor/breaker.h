/*
 * breaker.h - a circuit breaker: whether to ask a service that may be away or slow, or
 * to refuse at once.
 *
 *   closed --failed--> open --after a wait--> half open --succeeded--> closed
 *                       ^                         |
 *                       +---------failed----------+
 *
 * Half open lets one request through, the trial; all others are refused until it is
 * known how that went. The wait doubles with each trial that fails.
 *
 * Units    times are milliseconds of one clock that never goes back.
 */
#ifndef WSCAST_SUPERVISOR_BREAKER_H
#define WSCAST_SUPERVISOR_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_WAIT_MIN_MS 250
#define BREAKER_WAIT_MAX_MS 5000

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker { /* all zero is a closed one */
	enum breaker_state state;
	bool trial; /* HALF_OPEN: it is under way */
	uint32_t wait_ms;
	uint64_t again_ms; /* OPEN: until then all is refused */
	uint64_t opened;   /* how often it did */
};

/* Whether a request may be made now; in half open this makes it the trial. */
bool breaker_allows(struct breaker *b, uint64_t now_ms);
/* A request went well, or did not. What was under way when it opened counts as well. */
void breaker_succeeded(struct breaker *b);
void breaker_failed(struct breaker *b, uint64_t now_ms);
/* The trial was not made after all: the next request is it. */
void breaker_untried(struct breaker *b);
const char *breaker_state_name(enum breaker_state state);

#endif
