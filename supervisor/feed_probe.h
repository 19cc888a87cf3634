/*
 * feed_probe.h - messages of our own that prove the way from a publish at Redis to us.
 *
 * They go to a channel that only this host subscribes to, after all others: the first
 * that comes back says that every channel is delivered again.
 */
#ifndef WSCAST_SUPERVISOR_FEED_PROBE_H
#define WSCAST_SUPERVISOR_FEED_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PROBE_NAME_MAX 256

enum feed_probe_state {
	PROBE_DUE,     /* its channel is to be subscribed */
	PROBE_ASKED,   /* that was asked for */
	PROBE_LIVE,    /* it was done */
	PROBE_REFUSED, /* Redis forbids it: there is no other way than PING */
};

struct feed_probe {
	enum feed_probe_state state;
	char name[PROBE_NAME_MAX]; /* of its channel, name_len bytes, with the prefix */
	size_t name_len;
	uint64_t nonce; /* another host may go by our name */
	uint64_t sent;  /* number of the last one; 0 = none */
	uint64_t back;  /* of the last that came back */
	uint64_t sent_ms;
	uint32_t lag_ms; /* how long the last one took */
};

void feed_probe_init(struct feed_probe *p, const char *prefix);
/* The link is new: begin again. */
void feed_probe_reset(struct feed_probe *p);
/* Whether one is under way. */
bool feed_probe_waits(const struct feed_probe *p);
/* The text of the next one, which counts as sent; its length. */
#define PROBE_TEXT_MAX 48
size_t feed_probe_next(struct feed_probe *p, uint64_t now_ms, char *text);
/* A message came in its channel. */
void feed_probe_take(
    struct feed_probe *p, const char *text, size_t len, uint64_t now_ms);
/* Whether the way is proven, or cannot be. */
bool feed_probe_passed(const struct feed_probe *p);

static inline bool
feed_probe_is(const struct feed_probe *p, const char *name, size_t len)
{
	return len == p->name_len && memcmp(name, p->name, len) == 0;
}

#endif
