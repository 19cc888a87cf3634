/* command_expel.c - kick and revoke; see ctl_client.h and expel.h */
#include <errno.h>
#include <string.h>

#include "proto/journal.h"
#include "supervisor/ctl_client.h"
#include "supervisor/expel.h"
#include "supervisor/supervisor.h"

#define EXPEL_MAX_MS 10000

static void
say_expelled(struct ctl_client *c)
{
	say_ok(c, json_pack("{s:I, s:b}", "closed", (json_int_t)c->closed, "told",
		      (int)c->told));
}

void
command_expel_ends(struct ctl_client *c)
{
	say_expelled(c);
}

static void
wait_expelled(struct ctl_client *c, uint64_t record)
{
	if (record == 0) {
		say_error(c, CONTROL_INTERNAL, "out of memory");
		return;
	}
	c->record = record;
	c->closed = c->nanswered = 0;
	memset(c->answered, 0, sizeof(c->answered));
	c->deadline_ms = supervisor_now_ms() + EXPEL_MAX_MS;
	c->waits = CTL_WAITS_EXPEL;
}

void
command_expelled(
    struct ctl_client *c, unsigned worker, uint64_t record, uint32_t closed)
{
	uint8_t *bits = &c->answered[worker / 8], bit = (uint8_t)(1u << worker % 8);

	if (c->waits != CTL_WAITS_EXPEL || c->record != record || (*bits & bit))
		return;
	*bits |= bit;
	c->closed += closed;
	if (++c->nanswered == c->sock->s->nworkers)
		say_expelled(c);
}

/* Exactly one of these members is there; else NULL: answered. */
static const char *
one_of(struct ctl_client *c, const char *const *members, size_t n)
{
	const char *which = NULL;
	unsigned there = 0;

	for (size_t i = 0; i < n; i++)
		if (json_object_get(c->request, members[i]) != NULL) {
			which = members[i];
			there++;
		}
	if (there == 1)
		return which;
	say_error(c, CONTROL_BAD_REQUEST, "name one to close: \"%s\" or \"%s\"%s",
	    members[0], members[1], n > 2 ? " or \"channel\"" : "");
	return NULL;
}

static void
kick_user(struct ctl_client *c)
{
	uint64_t record = 0;
	size_t len;
	const char *user = command_text(c, "user", &len);

	if (user == NULL)
		return;
	(void)expel_revoke(c->sock->s, REVOKED_USER, user, len, 0, &record);
	wait_expelled(c, record);
}

static void
kick_channel(struct ctl_client *c)
{
	struct supervisor *s = c->sock->s;
	uint32_t channel;
	size_t len;
	const char *name =
	    command_name(c, json_object_get(c->request, "channel"), "channel", &len);

	if (name == NULL)
		return;
	channel = registry_find(s->registry, name, len);
	if (channel == UINT32_MAX)
		say_expelled(c); /* nobody is there */
	else
		wait_expelled(c, expel_channel(s, channel));
}

void
command_kick(struct ctl_client *c)
{
	static const char *const members[] = {"client", "user", "channel"};
	const char *which;
	uint64_t id;

	if (!command_may_change(c))
		return;
	c->told = true;
	c->closed = 0;
	which = one_of(c, members, 3);
	if (which == NULL)
		return;
	if (strcmp(which, "user") == 0)
		kick_user(c);
	else if (strcmp(which, "channel") == 0)
		kick_channel(c);
	else if (command_client(c, &id))
		wait_expelled(c, expel_client(c->sock->s, id));
}

void
command_revoke(struct ctl_client *c)
{
	static const char *const members[] = {"user", "jti"};
	struct supervisor *s = c->sock->s;
	const json_t *v = json_object_get(c->request, "for");
	double for_s = v == NULL ? EXPEL_FOR_MS / 1000. : json_number_value(v);
	uint64_t until_ms = expel_now_ms(), record = 0;
	enum revoked_kind kind;
	const char *which, *text;
	size_t len;
	int r;

	if (!command_may_change(c))
		return;
	which = one_of(c, members, 2);
	text = which == NULL ? NULL : command_text(c, which, &len);
	if (text == NULL)
		return;
	if ((v != NULL && !json_is_number(v)) ||
	    !(for_s >= 0 && for_s <= EXPEL_FOR_MS_MAX / 1000.)) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "\"for\" must be a number of seconds from 0 to %llu",
		    EXPEL_FOR_MS_MAX / 1000);
		return;
	}
	until_ms += (uint64_t)(for_s * 1000);
	kind = strcmp(which, "user") == 0 ? REVOKED_USER : REVOKED_JTI;
	r = expel_revoke(s, kind, text, len, until_ms, &record);
	if (r == -ENOSPC) {
		say_error(c, CONTROL_INTERNAL, "too many are revoked already");
		return;
	}
	c->told = s->peers == NULL || expel_tell(s, kind, text, len, until_ms) == 0;
	log_notice("a %s is revoked for %.0f s, on demand", which, for_s);
	wait_expelled(c, record);
}
