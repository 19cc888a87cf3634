/* feed_probe.c - see feed_probe.h */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/feed_probe.h"

void
feed_probe_init(struct feed_probe *p, const char *prefix)
{
	char node[128] = "";

	(void)gethostname(node, sizeof(node) - 1);
	*p = (struct feed_probe){.state = PROBE_DUE};
	(void)snprintf(p->name, sizeof(p->name), "%s!probe:%s", prefix, node);
	p->name_len = strlen(p->name);
	randombytes_buf(&p->nonce, sizeof(p->nonce));
}

void
feed_probe_reset(struct feed_probe *p)
{
	p->state = PROBE_DUE;
	p->back = p->sent = 0;
	p->nonce++; /* what an earlier link may still bring proves nothing */
}

bool
feed_probe_waits(const struct feed_probe *p)
{
	return p->sent != p->back;
}

static size_t
probe_text(const struct feed_probe *p, char *text)
{
	return (size_t)snprintf(
	    text, PROBE_TEXT_MAX, "%016" PRIx64 " %" PRIu64, p->nonce, p->sent);
}

size_t
feed_probe_next(struct feed_probe *p, uint64_t now_ms, char *text)
{
	p->sent++;
	p->sent_ms = now_ms;
	return probe_text(p, text);
}

void
feed_probe_take(struct feed_probe *p, const char *text, size_t len, uint64_t now_ms)
{
	char ours[PROBE_TEXT_MAX];

	if (!feed_probe_waits(p) || probe_text(p, ours) != len ||
	    memcmp(text, ours, len) != 0)
		return;
	p->back = p->sent;
	p->lag_ms = (uint32_t)(now_ms - p->sent_ms);
}

bool
feed_probe_passed(const struct feed_probe *p)
{
	return p->state == PROBE_REFUSED || (p->state == PROBE_LIVE && p->back > 0);
}
