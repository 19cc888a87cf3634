/*
 * redis_input.h - the bytes that come from a Redis server, and the replies in them.
 *
 * hiredis reads any reply, at the price of three copies and eight allocations for a
 * message. So what a subscriber gets all day is read where it was received (proto/
 * resp.h), and looks the same to whoever is given it. hiredis has the rest.
 */
#ifndef WSCAST_SUPERVISOR_REDIS_INPUT_H
#define WSCAST_SUPERVISOR_REDIS_INPUT_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

struct redis_input;

enum redis_input_result {
	INPUT_REPLY,
	INPUT_NONE, /* what came is used up, or the begin of a reply */
	INPUT_BROKEN,
	INPUT_TOO_LONG, /* the reply is longer than reply_max */
	INPUT_NO_MEMORY,
};

/* subscriber: messages are what comes all day. reply_max: bytes of one reply. NULL
 * without memory. */
struct redis_input *redis_input_new(bool subscriber, size_t reply_max);
void redis_input_free(struct redis_input *in);

/* Where to receive the next bytes, *ret_len of them at most; NULL without memory. What
 * was given by redis_input_next() before is gone. */
char *redis_input_room(struct redis_input *in, size_t *ret_len);
void redis_input_add(struct redis_input *in, size_t len);

/* The next reply, which is good until this or redis_input_room() is called again. */
enum redis_input_result redis_input_next(struct redis_input *in,
    const redisReply **ret_reply) __attribute__((warn_unused_result));

#endif
