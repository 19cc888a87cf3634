/* wsctl_expel.c - kick, revoke, presence: who is there, and who is not to be */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsctl_show.h"

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

/* ---- presence ---- */

static const struct field member_fields[] = {
    {{"CLIENT", false, false, 0}, "client", KIND_TEXT},
    {{"USER", false, true, 0}, "user", KIND_TEXT},
    {{"INFO", false, true, 1}, "info", KIND_JSON},
};
static const struct view members_view = VIEW(member_fields);

static enum outcome
show_members(struct ctl *ctl, const json_t *ok)
{
	return show_rows(ctl, json_object_get(ok, "clients"), &members_view);
}

/* Page by page, into *ret_ok. left: how many more are wanted. */
static enum outcome
ask_members(struct ctl *ctl, size_t left, json_t **ret_ok)
{
	json_t *clients = json_array(), *ok = NULL;
	json_int_t after = 0;
	enum outcome o;

	do {
		json_decref(ok);
		o = ctl_call(ctl,
		    json_pack("{s:s, s:s, s:I, s:I}", "cmd", "presence", "channel",
			ctl->args[0], "after", after, "limit", (json_int_t)left),
		    ANSWER_TIMEOUT_MS, &ok);
		if (o != OUTCOME_DONE) {
			json_decref(clients);
			return o;
		}
		(void)json_array_extend(clients, json_object_get(ok, "clients"));
		if (left > 0)
			left -= json_array_size(json_object_get(ok, "clients"));
		after = json_integer_value(json_object_get(ok, "next"));
	} while (after != 0 && (ctl->limit <= 0 || left > 0));
	(void)json_object_set_new(ok, "clients", clients);
	*ret_ok = ok;
	return OUTCOME_DONE;
}

enum outcome
command_presence(struct ctl *ctl)
{
	json_t *ok = NULL;
	enum outcome o = ask_members(ctl, ctl->limit > 0 ? (size_t)ctl->limit : 0, &ok);

	return o == OUTCOME_DONE ? ctl_show(ctl, ok, show_members) : o;
}
