/*
 * redis_error.h - Redis' own words about an error, for a log.
 *
 * An unknown command is answered with its arguments, which may be a password or a
 * payload: these are cut off.
 */
#ifndef WSCAST_SUPERVISOR_REDIS_ERROR_H
#define WSCAST_SUPERVISOR_REDIS_ERROR_H

#include <hiredis/hiredis.h>
#include <stddef.h>

/* reply: an error. Returns out, with control characters escaped. */
const char *redis_error_text(const redisReply *reply, char *out, size_t size);

#endif
