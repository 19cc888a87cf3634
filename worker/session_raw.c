/*
 * session_raw.c - raw: each message of the channels named in the request arrives as one
 * WebSocket message, the payload and nothing else.
 *
 * There is no room for answers: what goes wrong ends the connection, and the Close
 * frame says why.
 *
 * Source   wscast(7)
 */
#include <errno.h>

#include "worker/channels.h"
#include "worker/client.h"
#include "worker/requests.h"
#include "worker/session.h"

static void
end(struct worker *w, uint32_t slot, int err)
{
	switch (err) {
	case -EACCES:
		client_end(
		    w, slot, CLIENT_END_PROTOCOL, 1008, "publishing is not allowed");
		break;
	case -EMSGSIZE:
		client_end(w, slot, CLIENT_END_LIMIT, 1009, "message too large");
		break;
	case -EAGAIN:
		client_end(w, slot, CLIENT_END_LIMIT, 4429, "too many messages");
		break;
	case -ENOTCONN:
		client_end(w, slot, CLIENT_END_SERVER, 1013, "the feed is down");
		break;
	default:
		client_end(w, slot, CLIENT_END_LIMIT, 1013, "try again later");
		break;
	}
}

/* The channel that the request named: subscribed, or on its way. */
static const char *
only_channel(struct worker *w, struct slot *s, size_t *ret_len)
{
	const struct wait *wait;

	if (s->nsubs > 0)
		return channels_name(w, slot_subs(w, s)[0].channel, ret_len);
	for (arena_ref ref = s->wait; ref != 0; ref = wait->next) {
		wait = arena_at(w->arena, ref);
		if (wait->kind == WAIT_SUBSCRIBE)
			return channels_name(w, wait->channel, ret_len);
	}
	return NULL;
}

void
session_raw_message(
    struct worker *w, uint32_t slot, enum opcode op, const uint8_t *buf, size_t len)
{
	struct slot *s = worker_slot(w, slot);
	const char *name = NULL;
	size_t name_len;
	int r = -EACCES;

	if (s->flags & SLOT_TEXT_PUBLISH)
		name = only_channel(w, s, &name_len);
	if (name != NULL)
		r = session_may_publish(w, slot, name, name_len, len);
	if (r == 0)
		r = requests_publish(w, slot, name, name_len, (struct slice){NULL, 0},
		    buf, len, NULL, 0);
	if (r < 0) {
		page_add(w->page, PAGE_errors_sent, 1);
		end(w, slot, r);
	}
}

void
session_raw_refused(struct worker *w, uint32_t slot, int err)
{
	page_add(w->page, PAGE_errors_sent, 1);
	if (err == -ENOTCONN)
		end(w, slot, err);
	else
		client_end(w, slot, CLIENT_END_SERVER, 1013, "cannot subscribe");
}

void
session_raw_published(struct worker *w, uint32_t slot, int err)
{
	if (err == 0)
		return;
	page_add(w->page, PAGE_errors_sent, 1);
	end(w, slot, err == -EACCES ? -EIO : err);
}
