/* wsctl_clock.h - what time it is. */
#ifndef WSCAST_TOOLS_WSCTL_CLOCK_H
#define WSCAST_TOOLS_WSCTL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t
clock_ns(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t
clock_ms(clockid_t clock)
{
	return clock_ns(clock) / 1000000;
}

#endif
