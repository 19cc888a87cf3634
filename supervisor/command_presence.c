/* command_presence.c - who is in a channel; see ctl_client.h and presence.h */
#include <stdlib.h>

#include "proto/presence.h"
#include "supervisor/ctl_client.h"
#include "supervisor/presence.h"
#include "supervisor/supervisor.h"

void
command_presence(struct ctl_client *c)
{
	struct supervisor *s = c->sock->s;
	struct slice channel;
	uint64_t after, limit;
	size_t len;
	char *page;

	channel.p = command_name(
	    c, json_object_get(c->request, "channel"), "channel", &channel.len);
	if (channel.p == NULL || !command_count(c, "after", 0, &after) ||
	    !command_count(c, "limit", 0, &limit))
		return;
	if (!settings_rule(s->settings, channel.p, channel.len)->presence) {
		say_error(c, CONTROL_NOT_FOUND,
		    "nobody looks who is there: the channel's rule has no presence");
		return;
	}
	page = presence_page(s->presence, channel, after, limit, &len);
	if (page == NULL) {
		say_error(c, CONTROL_INTERNAL, "out of memory");
		return;
	}
	command_finish(c);
	client_put(c, "{\"ok\":", 6);
	client_put(c, page, len);
	client_put(c, "}\n", 2);
	free(page);
}
