/* wsctl_expel.c - kick, revoke: who is not to be there */
#include <stdio.h>

#include "tools/wsctl.h"

static enum outcome
show_closed(struct ctl *ctl, json_t *request, const char *nobody)
{
	json_t *ok;
	enum outcome o = ctl_call(ctl, request, ANSWER_TIMEOUT_MS, &ok);
	long long closed;

	if (o != OUTCOME_DONE)
		return o;
	closed = json_integer_value(json_object_get(ok, "closed"));
	if (ctl->json)
		o = ctl_show_json(ctl, ok);
	else
		printf("connections closed here: %lld\n", closed);
	if (json_is_false(json_object_get(ok, "told"))) {
		ctl_complain("the other hosts could not be told: %s",
		    ctl->for_s == 0 ? "say it again when Redis is there"
				    : "they are when Redis is there again");
		o = OUTCOME_FAILED;
	} else if (closed == 0 && nobody != NULL) {
		ctl_complain("%s", nobody);
		o = OUTCOME_FAILED;
	}
	json_decref(ok);
	return o;
}

enum outcome
command_kick(struct ctl *ctl)
{
	const char *id = ctl->nargs > 0 ? ctl->args[0] : NULL;

	if ((id != NULL) + (ctl->user != NULL) + (ctl->channel != NULL) != 1) {
		ctl_complain("kick: name one of ID, --user and --channel");
		return OUTCOME_USAGE;
	}
	return show_closed(ctl,
	    json_pack("{s:s, s:s*, s:s*, s:s*}", "cmd", "kick", "client", id, "user",
		ctl->user, "channel", ctl->channel),
	    "nobody was there to be kicked");
}

enum outcome
command_revoke(struct ctl *ctl)
{
	if ((ctl->user != NULL) + (ctl->jti != NULL) != 1) {
		ctl_complain("revoke: name one of --user and --jti");
		return OUTCOME_USAGE;
	}
	/* Who is revoked need not be here now. */
	return show_closed(ctl,
	    json_pack("{s:s, s:s*, s:s*, s:o*}", "cmd", "revoke", "user", ctl->user,
		"jti", ctl->jti, "for",
		ctl->for_s < 0 ? NULL : json_integer(ctl->for_s)),
	    NULL);
}
