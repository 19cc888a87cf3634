/* redis_error.c - see redis_error.h */
#include <string.h>

#include "proto/journal.h"
#include "supervisor/redis_error.h"

const char *
redis_error_text(const redisReply *reply, char *out, size_t size)
{
	static const char args[] = ", with args beginning with";
	const char *cut = memmem(reply->str, reply->len, args, sizeof(args) - 1);
	size_t len = cut != NULL ? (size_t)(cut - reply->str) : reply->len;

	return log_quote(reply->str, len, out, size);
}
