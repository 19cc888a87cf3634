/* feed.c - see feed.h */
#include <errno.h>

#include "supervisor/feed.h"
#include "supervisor/supervisor.h"

int
feed_message(
    struct feed *f, uint32_t channel, struct slice key, const void *data, size_t len)
{
	int r = publisher_keyed(f->env.publisher, channel, key, data, len);

	if (r != -EMSGSIZE)
		return r;
	registry_gap(f->env.registry, channel);
	(void)log_limited(&f->long_limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "feed: a message of %zu bytes is too long for the ring and is lost; raise "
	    "ring.size to send such",
	    len);
	return r;
}
