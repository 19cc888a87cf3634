/*
 * late_tick.h - whether we stood still ourselves, as a machine does that is paused.
 *
 * An answer that is missing then says nothing of who owes it: it may lie unread in our
 * socket, or he stood still with us.
 */
#ifndef WSCAST_SUPERVISOR_LATE_TICK_H
#define WSCAST_SUPERVISOR_LATE_TICK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Called at each tick of a timer: whether this one is late by a quarter of its interval
 * or more.
 *
 * last_ms  of the timer: when it last ticked, or was started; 0 = never
 */
static inline bool
late_tick(uint64_t *last_ms, uint64_t now_ms, uint64_t interval_ms)
{
	uint64_t last = *last_ms;

	*last_ms = now_ms;
	return last != 0 && now_ms - last >= interval_ms + interval_ms / 4;
}

#endif
