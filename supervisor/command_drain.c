/* command_drain.c - drain and undrain; see ctl_client.h and drain.h */
#include "supervisor/ctl_client.h"
#include "supervisor/drain.h"
#include "supervisor/supervisor.h"

static void
say_drain(struct ctl_client *c, int r)
{
	if (r < 0)
		say_error(c, CONTROL_INTERNAL, "out of memory: ask again");
	else
		say_ok(c, json_pack("{s:o}", "drain", report_drain(c->sock->s)));
}

void
command_drain(struct ctl_client *c)
{
	struct supervisor *s = c->sock->s;
	const json_t *v = json_object_get(c->request, "over");
	double over_s =
	    v == NULL ? s->settings->drain_timeout_ms / 1000. : json_number_value(v);
	unsigned first, end;

	if (!command_may_change(c) || !command_workers(c, &first, &end))
		return;
	if ((v != NULL && !json_is_number(v)) ||
	    !(over_s >= 0 && over_s <= DRAIN_MAX_MS / 1000.)) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "\"over\" must be a number of seconds from 0 to %llu",
		    DRAIN_MAX_MS / 1000);
		return;
	}
	say_drain(c, drain_begin(s, first, end, (uint64_t)(over_s * 1000)));
}

void
command_undrain(struct ctl_client *c)
{
	unsigned first, end;

	if (command_may_change(c) && command_workers(c, &first, &end))
		say_drain(c, drain_end(c->sock->s, first, end));
}
