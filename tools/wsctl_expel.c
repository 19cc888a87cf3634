/* wsctl_expel.c - kick, revoke, presence: who is there, and who is not to be */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsctl.h"

#define EXPEL_TIMEOUT_MS 15000

static enum outcome
show_closed(struct ctl *ctl, json_t *request, const char *nobody)
{
	json_t *ok;
	enum outcome o = ctl_call(ctl, request, EXPEL_TIMEOUT_MS, &ok);
	long long closed;

	if (o != OUTCOME_DONE)
		return o;
	closed = json_integer_value(json_object_get(ok, "closed"));
	if (ctl->json)
		o = ctl_show_json(ctl, ok);
	else
		printf("connections closed here: %lld\n", closed);
	if (json_is_false(json_object_get(ok, "told"))) {
		ctl_complain("the other hosts could not be told: say it again when "
			     "Redis is there");
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

static const struct column member_columns[] = {
    {"CLIENT", false, false, 0},
    {"USER", false, true, 0},
    {"INFO", false, true, 1},
};

static char *
text_at(const struct ctl *ctl, const json_t *member, const char *key)
{
	const json_t *v = json_object_get(member, key);

	return v == NULL ? text_format("-")
			 : text_safe(&ctl->screen, json_string_value(v),
			       json_string_length(v), NULL);
}

static char *
info_at(const struct ctl *ctl, const json_t *member)
{
	const json_t *v = json_object_get(member, "info");
	char *json = v == NULL ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	char *text = json == NULL ? text_format("-")
				  : text_safe(&ctl->screen, json, strlen(json), NULL);

	free(json);
	return text;
}

static enum outcome
show_members(const struct ctl *ctl, const json_t *clients)
{
	struct table *t = table_new(
	    member_columns, sizeof(member_columns) / sizeof(member_columns[0]));
	const json_t *member;
	size_t i;
	int r;

	json_array_foreach(clients, i, member)
	{
		table_add(t, text_at(ctl, member, "client"), STYLE_PLAIN);
		table_add(t, text_at(ctl, member, "user"), STYLE_PLAIN);
		table_add(t, info_at(ctl, member), STYLE_PLAIN);
	}
	r = table_print(t, &ctl->screen, stdout);
	table_free(t);
	if (r == 0)
		return OUTCOME_DONE;
	ctl_complain("out of memory");
	return OUTCOME_FAILED;
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
		    EXPEL_TIMEOUT_MS, &ok);
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

	if (o != OUTCOME_DONE)
		return o;
	o = ctl->json ? ctl_show_json(ctl, ok)
		      : show_members(ctl, json_object_get(ok, "clients"));
	json_decref(ok);
	return o;
}
