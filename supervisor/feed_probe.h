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

#include "supervisor/redis_commands.h"
#include "supervisor/redis_link.h"

#define PROBE_NAME_MAX 256

enum feed_probe_state {
	PROBE_DUE,     /* its channel is to be subscribed */
	PROBE_ASKED,   /* that was asked for */
	PROBE_LIVE,    /* it was done */
	PROBE_MOVED,   /* it is another server's: wait until it is known whose */
	PROBE_REFUSED, /* there is no other way than PING */
};

struct feed_probe {
	enum feed_probe_state state;
	const char *command;
	char name[PROBE_NAME_MAX]; /* of its channel, name_len bytes, with the prefix */
	size_t name_len;
	uint64_t nonce; /* another host may go by our name */
	uint64_t sent;  /* number of the last one; 0 = none */
	uint64_t back;  /* of the last that came back */
	uint64_t sent_ms, ticked_ms;
	bool spared;     /* the last one was not missed once, since we stood still */
	uint32_t lag_ms; /* how long the last one took */
	uint64_t messages, messages_then; /* that came, for the feed to count; when the
					   * last one was sent or looked for */
};

/* Its channel is called as this host. command: PUBLISH or SPUBLISH, a literal. */
void feed_probe_init(struct feed_probe *p, const char *prefix, const char *command);
/* Give it another channel, in the slot of `tag`. */
void feed_probe_set_slot(struct feed_probe *p, const char *prefix, const char *tag);
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

enum feed_probe_due {
	PROBE_WAIT,
	PROBE_SEND, /* the next one is due */
	PROBE_LOST, /* the last one did not come back */
};
/* Once in feed.probe_interval. paused: we do not read, so nothing can come back. late:
 * this tick is (late_tick.h). */
enum feed_probe_due feed_probe_tick(struct feed_probe *p, bool paused, bool late);

/* Publish the next one, if its channel is live. */
void feed_probe_publish(struct feed_probe *p, struct redis_commands *commands);
/* Once in interval_ms, feed.probe_interval: publish it, or leave the link on which it
 * is missing. */
void feed_probe_run(struct feed_probe *p, uint64_t interval_ms, struct redis_link *sub,
    struct redis_commands *commands);
/* How long the last one took; before the first, the link's own probe. */
uint32_t feed_probe_lag_ms(const struct feed_probe *p, const struct redis_link *sub);
/* Redis forbids it, which is logged. */
void feed_probe_refused(struct feed_probe *p);

static inline bool
feed_probe_is(const struct feed_probe *p, const char *name, size_t len)
{
	return len == p->name_len && memcmp(name, p->name, len) == 0;
}

#endif
