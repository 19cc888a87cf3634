/*
 * feed_state.h - whether a feed from Redis is up, since when it is not, and why: told
 * to the log, to those who ask, and to feed_env's on_link().
 */
#ifndef WSCAST_SUPERVISOR_FEED_STATE_H
#define WSCAST_SUPERVISOR_FEED_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/journal.h"
#include "supervisor/feed.h"

#define FEED_WHERE_MAX 200
#define FEED_WHY_MAX 256

struct feed_state {
	const struct feed_env *env; /* borrowed */
	const char *source;
	char where[FEED_WHERE_MAX]; /* without the password */
	bool up;
	uint64_t down_since_ms; /* CLOCK_REALTIME, 0 = up */
	uint64_t down_ms;       /* all times before that one */
	uint64_t changed_ms;    /* CLOCK_MONOTONIC: when it came or went last */
	uint64_t reconnects;
	char why[FEED_WHY_MAX];      /* it is down */
	char why_said[FEED_WHY_MAX]; /* logged last */
	struct log_limit down_limit;
};

/* Begins as down. env, source: borrowed; where: the address, for people. */
void feed_state_init(struct feed_state *s, const struct feed_env *env,
    const char *source, const char *where);
void feed_state_up(struct feed_state *s);
/* why: one line of ASCII. Each failed attempt may say so: it is logged once for each
 * time that the feed goes down, and again when the reason changes. */
void feed_state_down(struct feed_state *s, const char *why);
void feed_state_look(
    const struct feed_state *s, uint32_t lag_ms, struct feed_status *ret);

#endif
