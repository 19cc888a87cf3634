/* feed_probe.c - see feed_probe.h */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/feed_probe.h"
#include "supervisor/late_tick.h"
#include "supervisor/supervisor.h"

static void
name_set(struct feed_probe *p, const char *prefix, const char *behind)
{
	char node[128] = "";

	(void)gethostname(node, sizeof(node) - 1);
	(void)snprintf(p->name, sizeof(p->name), "%s!probe:%s%s", prefix, node, behind);
	p->name_len = strlen(p->name);
}

void
feed_probe_init(struct feed_probe *p, const char *prefix, const char *command)
{
	*p = (struct feed_probe){.state = PROBE_DUE, .command = command};
	name_set(p, prefix, "");
	randombytes_buf(&p->nonce, sizeof(p->nonce));
}

void
feed_probe_set_slot(struct feed_probe *p, const char *prefix, const char *tag)
{
	char behind[32];

	(void)snprintf(behind, sizeof(behind), ":{%s}", tag);
	name_set(p, prefix, behind);
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
	p->spared = false;
	p->messages_then = p->messages;
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

enum feed_probe_due
feed_probe_tick(struct feed_probe *p, bool paused, bool late)
{
	if (p->state != PROBE_LIVE)
		return PROBE_WAIT;
	if (!feed_probe_waits(p))
		return PROBE_SEND;
	if (!paused && p->messages == p->messages_then) {
		if (!late || p->spared)
			return PROBE_LOST;
		p->spared = true;
	}
	p->messages_then = p->messages; /* it is behind others */
	return PROBE_WAIT;
}

bool
feed_probe_passed(const struct feed_probe *p)
{
	return p->state == PROBE_REFUSED || (p->state == PROBE_LIVE && p->back > 0);
}

void
feed_probe_publish(struct feed_probe *p, struct redis_commands *commands)
{
	static const struct receipt receipt = {.kind = RECEIPT_OWN};
	char text[PROBE_TEXT_MAX];
	const char *argv[3] = {p->command, p->name, text};
	size_t lens[3] = {strlen(p->command), p->name_len, 0};

	if (p->state != PROBE_LIVE || !redis_commands_up(commands))
		return;
	lens[2] = feed_probe_next(p, supervisor_now_ms(), text);
	/* Without room or memory it does not come back: the link starts anew. */
	(void)!redis_commands_put(commands, 3, argv, lens, &receipt);
}

void
feed_probe_run(struct feed_probe *p, uint64_t interval_ms, struct redis_link *sub,
    struct redis_commands *commands)
{
	bool late = late_tick(&p->ticked_ms, supervisor_now_ms(), interval_ms);

	switch (feed_probe_tick(p, redis_link_paused(sub), late)) {
	case PROBE_WAIT:
		return;
	case PROBE_SEND:
		feed_probe_publish(p, commands);
		return;
	case PROBE_LOST:
		redis_link_lose(sub, "a message of our own did not come back in "
				     "feed.probe_interval");
	}
}

uint32_t
feed_probe_lag_ms(const struct feed_probe *p, const struct redis_link *sub)
{
	return p->back > 0 ? p->lag_ms : redis_link_lag_ms(sub);
}

void
feed_probe_refused(struct feed_probe *p)
{
	p->state = PROBE_REFUSED;
	log_warning(0,
	    "feed: Redis does not let us use the channel %s: only PING tells "
	    "whether the link is alive",
	    p->name);
}
