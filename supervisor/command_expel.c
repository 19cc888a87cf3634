/* command_expel.c - kick and revoke; see ctl_client.h and expel.h */
#include <errno.h>
#include <string.h>

#include "proto/journal.h"
#include "proto/revocation.h"
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

/* which: "user" or "jti". Returns false after the answer. */
static bool
revoke_whom(struct ctl_client *c, const char *which, struct revocation *ret)
{
	size_t len;
	const char *name = command_text(c, which, &len);

	if (name == NULL)
		return false;
	*ret = (struct revocation){
	    .is_user = strcmp(which, "user") == 0, .len = (uint16_t)len};
	memcpy(ret->name, name, len);
	return true;
}

static void
kick_user(struct ctl_client *c)
{
	struct revocation rev;
	uint64_t record = 0;

	if (!revoke_whom(c, "user", &rev))
		return;
	(void)expel_revoke(c->sock->s, &rev, 0, &record);
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

/* For how long, or false, after the answer. */
static bool
revoke_for(struct ctl_client *c, uint64_t *ret_for_ms)
{
	const json_t *v = json_object_get(c->request, "for");
	double for_s = json_number_value(v);

	if (v == NULL)
		for_s = REVOCATION_FOR_MS / 1000.;
	else if (!json_is_number(v) ||
		 !(for_s >= 0 && for_s <= REVOCATION_FOR_MS_MAX / 1000.)) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "\"for\" must be a number of seconds from 0 to %llu",
		    REVOCATION_FOR_MS_MAX / 1000);
		return false;
	}
	*ret_for_ms = (uint64_t)(for_s * 1000);
	return true;
}

void
command_revoke(struct ctl_client *c)
{
	static const char *const members[] = {"user", "jti"};
	struct supervisor *s = c->sock->s;
	struct revocation rev;
	uint64_t record = 0, until_ms;
	const char *which;
	int r;

	if (!command_may_change(c))
		return;
	which = one_of(c, members, 2);
	if (which == NULL || !revoke_whom(c, which, &rev) ||
	    !revoke_for(c, &rev.for_ms))
		return;
	until_ms = supervisor_real_ms() + rev.for_ms;
	r = expel_revoke(s, &rev, until_ms, &record);
	if (r == -ENOSPC) {
		say_error(c, CONTROL_INTERNAL, "too many are revoked already");
		return;
	}
	c->told = s->peers == NULL || expel_tell(s, &rev, until_ms) == 0;
	log_notice(
	    "a %s is revoked for %.0f s, on demand", which, (double)rev.for_ms / 1000);
	wait_expelled(c, record);
}
