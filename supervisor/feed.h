/*
 * feed.h - where messages come from, and where published ones go: one small interface
 * over the sources.
 *
 *   feed_embedded.c   no Redis: what is published here is all there is
 *   feed_pubsub.c     Redis pub/sub, over two connections (redis_link.c)
 *   feed_sharded.c    sharded pub/sub, over two connections to each master
 *   feed_stream.c     Redis streams, over two connections
 *
 * A feed publishes what it receives by publisher_message(), tells the registry what it
 * delivers (registry_confirmed()), and stops reading while the publisher is blocked.
 */
#ifndef WSCAST_SUPERVISOR_FEED_H
#define WSCAST_SUPERVISOR_FEED_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/journal.h"
#include "proto/settings.h"
#include "proto/slice.h"
#include "supervisor/container_of.h"
#include "supervisor/publisher.h"
#include "supervisor/registry.h"

/* Who is told that a message was taken, or was not. OWN: the feed itself. */
enum receipt_kind { RECEIPT_WORKER, RECEIPT_CONTROL, RECEIPT_ADMIN, RECEIPT_OWN };
struct receipt {
	enum receipt_kind kind;
	unsigned worker;
	uint32_t slot, cookie; /* WORKER: echoed in RING_ACK; ADMIN: which message */
	uint64_t
	    client; /* CONTROL, ADMIN: which connection or request, by its number */
};

/* What a feed works with; all borrowed, the settings until feed_set_settings(). */
struct feed_env {
	struct ev_loop *loop;
	const struct settings *settings;
	struct registry *registry;
	struct publisher *publisher;
	/* A message was taken (0), or -errno: -ENOTCONN the feed is down, -EMSGSIZE,
	 * -EACCES Redis forbids it, -EIO its answer was another error. */
	void (*on_done)(void *owner, const struct receipt *receipt, int err);
	/* What was refused with -ENOBUFS for want of room in the feed may come again.
	 */
	void (*on_room)(void *owner);
	/* The link came (0) or went (since when: CLOCK_REALTIME ms). */
	void (*on_link)(void *owner, uint64_t down_since_ms);
	void *owner;
};

struct feed_status {
	const char *source; /* "embedded", "pubsub", "stream" */
	bool connected;
	uint64_t down_since_ms; /* CLOCK_REALTIME, 0 = up */
	uint32_t lag_ms;        /* round trip of the last probe */
	uint64_t down_ms;       /* how long it was down, all in all */
	uint64_t reconnects;
	const char *breaker; /* for what is published: closed, open, half_open */
	uint64_t breaker_opened;
	const char *why; /* why it is down, for people; never NULL */
	/* Of a stream: entries that are none, that came again, that nobody wanted. */
	uint64_t malformed, repeated, passed_over;
};

/* What is to be published; all borrowed. key: len 0 = none. */
struct feed_publish {
	struct slice channel, key, data;
};

struct feed;
struct feed_ops {
	void (*want)(struct feed *f, uint32_t channel);
	void (*drop)(struct feed *f, uint32_t channel);
	int (*publish)(struct feed *f, const struct feed_publish *m,
	    const struct receipt *receipt);
	void (*flush)(struct feed *f);
	void (*resume)(struct feed *f);
	void (*status)(const struct feed *f, struct feed_status *ret);
	void (*free)(struct feed *f);
	bool complete; /* as of struct registry_feed */
	bool at_once;  /* what was taken is in the ring: its offset is known */
};

struct feed {
	const struct feed_ops *ops;
	struct feed_env env;
	struct log_limit long_limit;
};

/* For feeds: a message came for a channel, perhaps of a key (len 0: none). Returns as
 * publisher_message() does; one that is too long for the ring was said, and is a gap.
 */
int feed_message(struct feed *f, uint32_t channel, struct slice key, const void *data,
    size_t len) __attribute__((warn_unused_result));

int feed_embedded_new(const struct feed_env *env, struct feed **ret_feed)
    __attribute__((warn_unused_result));
/* Returns 0, -EINVAL (logged) when the address is none, -ENOMEM. A Redis that is away
 * is no error: the feed is down until it comes. */
int feed_pubsub_new(const struct feed_env *env, struct feed **ret_feed)
    __attribute__((warn_unused_result));
int feed_sharded_new(const struct feed_env *env, struct feed **ret_feed)
    __attribute__((warn_unused_result));
int feed_stream_new(const struct feed_env *env, struct feed **ret_feed)
    __attribute__((warn_unused_result));

/* A reload: these from now on. */
static inline void
feed_set_settings(struct feed *f, const struct settings *settings)
{
	f->env.settings = settings;
}

/* Deliver a channel / no longer: the index is the registry's. */
static inline void
feed_want(struct feed *f, uint32_t channel)
{
	f->ops->want(f, channel);
}

static inline void
feed_drop(struct feed *f, uint32_t channel)
{
	f->ops->drop(f, channel);
}

/*
 * Publish a client's message.
 *
 * m  copied before the call returns.
 *
 * Returns 0 when it was taken up: on_done() tells how it ended, perhaps before this
 * returns. Else on_done() is not called: -ENOBUFS, come again after feed_resume();
 * any other is the outcome, -EPROTONOSUPPORT that this source carries no key.
 */
__attribute__((warn_unused_result)) static inline int
feed_publish(
    struct feed *f, const struct feed_publish *m, const struct receipt *receipt)
{
	return f->ops->publish(f, m, receipt);
}

/* Once a turn of the loop: send what was collected. */
static inline void
feed_flush(struct feed *f)
{
	f->ops->flush(f);
}

/* The publisher is no longer blocked. */
static inline void
feed_resume(struct feed *f)
{
	f->ops->resume(f);
}

static inline void
feed_look(const struct feed *f, struct feed_status *ret)
{
	f->ops->status(f, ret);
}

static inline void
feed_free(struct feed *f)
{
	if (f != NULL)
		f->ops->free(f);
}

#endif
