/*
 * redis_link.h - a lasting connection to Redis: one that is lost (redis_conn.h) is made
 * again, to whichever server is the right one then (redis_target.h), and one that
 * stands is probed. Never blocks.
 *
 * A link that is lost is tried again after 100 ms, then after waits that double up to
 * 10 s, each shortened at random by up to a half so that hosts do not come in step.
 * Every probe_ms it is probed by PING; one that is silent until the next is due is
 * lost.
 */
#ifndef WSCAST_SUPERVISOR_REDIS_LINK_H
#define WSCAST_SUPERVISOR_REDIS_LINK_H

#include <ev.h>
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/redis_target.h"

struct redis_link;

struct redis_link_config {
	struct ev_loop *loop;
	struct redis_target *target; /* borrowed */
	struct redis_wish wish;
	/* This link will SUBSCRIBE: it gets more, or fewer, replies than it sends
	 * commands. */
	bool subscriber;
	size_t reply_max; /* bytes of one reply; a longer one ends the link */
	uint32_t probe_ms;

	/* The link can be used from here on. */
	void (*on_up)(void *owner);
	/* It was lost, or an attempt failed. why: one line of ASCII. */
	void (*on_down)(void *owner, const char *why);
	/* A reply, probes excepted; freed by the link. Returns false when there is no
	 * room for it: the link then stops to read, and brings it again after
	 * redis_link_resume(). */
	bool (*on_reply)(void *owner, const redisReply *reply);
	void *owner;
};

/* Starts to connect at the next turn of the loop. cfg: copied. */
int redis_link_new(const struct redis_link_config *cfg, struct redis_link **ret_link)
    __attribute__((warn_unused_result));
void redis_link_free(struct redis_link *l);

bool redis_link_up(const struct redis_link *l);
/* Queue a command; redis_link_flush() sends. Only while it is up. Returns 0 or
 * -ENOMEM. */
int redis_link_command(struct redis_link *l, int argc, const char *const *argv,
    const size_t *argvlen) __attribute__((warn_unused_result));
size_t redis_link_queued(const struct redis_link *l); /* bytes not yet sent */
void redis_link_flush(struct redis_link *l);
void redis_link_resume(struct redis_link *l);
/* Lost, by what the owner found: on_down() is called, and it is made anew. */
void redis_link_lose(struct redis_link *l, const char *why);
/* Whether it stopped to read, since on_reply() had no room. */
bool redis_link_paused(const struct redis_link *l);
uint32_t redis_link_lag_ms(const struct redis_link *l); /* of the last probe */

#endif
