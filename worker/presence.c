/* presence.c - see presence.h */
#include <errno.h>
#include <string.h>

#include "proto/uplink.h"
#include "worker/channels.h"
#include "worker/identity.h"
#include "worker/presence.h"
#include "worker/requests.h"
#include "worker/session.h"

#define SLOTS_TURN 16384 /* looked at in one turn */

_Static_assert(UPLINK_USER_MAX == TOKEN_TEXT_MAX && UPLINK_INFO_MAX == TOKEN_INFO_MAX,
    "whatever a token says fits");

static int
ask_join(struct worker *w, uint32_t slot, uint32_t channel)
{
	const struct slot *s = worker_slot(w, slot);
	struct slice user = identity_subject(w, s), info = identity_info(w, s);
	char data[UPLINK_USER_MAX + UPLINK_INFO_MAX];
	struct uplink u = {.type = UPLINK_JOIN,
	    .token = s->client,
	    .cookie = (uint32_t)user.len,
	    .data = data,
	    .data_len = user.len + info.len};

	if (u.data_len > sizeof(data))
		return 0; /* no token of ours: a damaged table's */
	if (user.len > 0)
		memcpy(data, user.p, user.len);
	if (info.len > 0)
		memcpy(data + user.len, info.p, info.len);
	u.channel = channels_name(w, channel, &u.channel_len);
	return channels_ask(w, &u);
}

void
presence_name_all(struct worker *w)
{
	w->naming = (struct naming){.due = true};
}

void
presence_join(struct worker *w, uint32_t slot, uint32_t channel)
{
	if (w->channels->chan[channel].presence && ask_join(w, slot, channel) < 0)
		presence_name_all(w);
}

void
presence_leave(struct worker *w, uint32_t slot, uint32_t channel)
{
	struct uplink u = {.type = UPLINK_LEAVE, .token = worker_slot(w, slot)->client};

	if (!w->channels->chan[channel].presence)
		return;
	u.channel = channels_name(w, channel, &u.channel_len);
	if (channels_ask(w, &u) < 0)
		presence_name_all(w);
}

/* Returns false when the uplink has no more room. */
static bool
name_slot(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	const struct sub *sub = slot_subs(w, s);

	for (unsigned i = 0; i < s->nsubs; i++)
		if (w->channels->chan[sub[i].channel].presence &&
		    ask_join(w, slot, sub[i].channel) < 0)
			return false;
	return true;
}

void
presence_renew(struct worker *w, uint32_t slot)
{
	if (!name_slot(w, slot))
		presence_name_all(w);
}

void
presence_turn(struct worker *w)
{
	struct naming *n = &w->naming;
	struct uplink begin = {.type = UPLINK_MEMBERS_BEGIN};
	struct uplink end = {.type = UPLINK_MEMBERS_END};
	uint32_t used = table_slots_used(&w->table);

	if (!n->due)
		return;
	if (!n->begun && channels_ask(w, &begin) < 0)
		return;
	n->begun = true;
	for (unsigned i = 0; i < SLOTS_TURN && n->slot < used; i++, n->slot++)
		if (slot_state(worker_slot(w, n->slot)) != SLOT_FREE &&
		    !name_slot(w, n->slot))
			return;
	if (n->slot >= used)
		n->due = channels_ask(w, &end) < 0;
}

int
presence_ask(struct worker *w, uint32_t slot, const char *name, size_t len,
    uint64_t after, uint32_t limit, const char *id, size_t id_len)
{
	struct uplink u = {.type = UPLINK_PRESENCE,
	    .slot = slot,
	    .directory = limit,
	    .token = after,
	    .channel = name,
	    .channel_len = len};

	if (!session_may_subscribe(w, slot, name, len))
		return -EACCES;
	if (!settings_rule(w->settings, name, len)->presence)
		return -EOPNOTSUPP;
	return requests_ask(w, slot, WAIT_PRESENCE, &u, id, id_len);
}
