/* wsctl_clients.c - clients, client, channels, presence: who is there, and for what */
#include <stdlib.h>
#include <string.h>

#include "tools/wsctl_show.h"

#define CLIENTS_SHOWN 100 /* without --limit */

/* Say so when there are more than are shown. */
static void
note_rest(const struct ctl *ctl, size_t shown, uint64_t total)
{
	fflush(stdout);
	if (total > shown)
		fprintf(stderr, "wsctl: %zu of %llu are shown: %s\n", shown,
		    (unsigned long long)total,
		    ctl->limit < 0    ? "--limit 0 shows all"
		    : ctl->limit == 0 ? "the server shows no more at once"
				      : "see --limit");
}

/* Ask for a list, and show it. request: taken over. */
static enum outcome
ask_list(struct ctl *ctl, json_t *request, const char *key,
    enum outcome (*show)(struct ctl *ctl, const json_t *ok))
{
	json_t *ok;
	enum outcome o = ctl_call(ctl, request, ANSWER_TIMEOUT_MS, &ok);
	uint64_t total;
	size_t shown;

	if (o != OUTCOME_DONE)
		return o;
	total = number_at(ok, "total");
	shown = json_array_size(json_object_get(ok, key));
	o = ctl_show(ctl, ok, show);
	if (o == OUTCOME_DONE)
		note_rest(ctl, shown, total);
	return o;
}

/* ---- clients, client ---- */

static const struct field client_fields[] = {
    {{"CLIENT", false, false, 0}, "client", KIND_TEXT},
    {{"WORKER", true, false, 5}, "worker", KIND_PLAIN},
    {{"ADDRESS", false, true, 0}, "address", KIND_TEXT},
    {{"USER", false, true, 1}, "user", KIND_TEXT},
    {{"PROTOCOL", false, false, 3}, "protocol", KIND_TEXT},
    {{"TLS", false, false, 8}, "tls", KIND_BOOL},
    {{"KTLS", false, false, 9}, "ktls", KIND_BOOL},
    {{"STATE", false, false, 4}, "state", KIND_STATE},
    {{"OPEN", true, false, 2}, "opened", KIND_SINCE},
    {{"CHANNELS", true, false, 5}, "channels", KIND_COUNT},
    {{"SENT", true, false, 0}, "sent", KIND_COUNT},
    {{"RECEIVED", true, false, 6}, "received", KIND_COUNT},
    {{"LAG", true, false, 0}, "lag", KIND_LAG},
    {{"QUEUED", true, false, 7}, "queued", KIND_SIZE},
};
static const struct view clients_view = VIEW(client_fields);

static enum outcome
show_clients(struct ctl *ctl, const json_t *ok)
{
	return show_rows(ctl, json_object_get(ok, "clients"), &clients_view);
}

enum outcome
command_clients(struct ctl *ctl)
{
	return ask_list(ctl,
	    json_pack("{s:s,s:s*,s:s*,s:I}", "cmd", "clients", "channel", ctl->channel,
		"user", ctl->user, "limit",
		(json_int_t)(ctl->limit < 0 ? CLIENTS_SHOWN : ctl->limit)),
	    "clients", show_clients);
}

static enum kind
client_kind(const char *key)
{
	for (size_t i = 0; i < clients_view.n; i++)
		if (strcmp(clients_view.fields[i].key, key) == 0)
			return clients_view.fields[i].kind;
	return KIND_PLAIN;
}

/* All that the server says of a client, known to us or not; each channel in a line. */
static bool
put_client(const struct ctl *ctl, const json_t *client)
{
	const char *key;
	json_t *value, *item;
	char *name;
	size_t i;
	bool ok = true;

	json_object_foreach((json_t *)client, key, value)
	{
		if (json_is_array(value)) {
			json_array_foreach(value, i, item) ok =
			    ok && put_line(ctl, i == 0 ? key : "",
				      value_text(ctl, item, KIND_TEXT), STYLE_PLAIN);
			continue;
		}
		name = text_safe(&ctl->screen, key, strlen(key), NULL);
		ok = ok && name != NULL &&
		     put_line(ctl, name, value_text(ctl, value, client_kind(key)),
			 value_style(value, client_kind(key)));
		free(name);
	}
	return ok;
}

static enum outcome
show_client(struct ctl *ctl, const json_t *ok)
{
	const json_t *client = json_object_get(ok, "client");

	return put_client(ctl, json_is_object(client) ? client : ok) ? OUTCOME_DONE
								     : out_of_memory();
}

enum outcome
command_client(struct ctl *ctl)
{
	return ctl_ask(ctl,
	    json_pack("{s:s,s:s}", "cmd", "client", "client", ctl->args[0]),
	    ANSWER_TIMEOUT_MS, show_client);
}

/* ---- channels ---- */

static const struct field channel_fields[] = {
    {{"CHANNEL", false, true, 0}, "channel", KIND_TEXT},
    {{"SUBSCRIBERS", true, false, 0}, "subscribers", KIND_COUNT},
    {{"OFFSET", true, false, 0}, "offset", KIND_PLAIN},
    {{"WORKERS", true, false, 2}, "workers", KIND_COUNT},
    {{"TAILS", true, false, 3}, "tails", KIND_COUNT},
    {{"LIVE", false, false, 1}, "live", KIND_BOOL},
};
static const struct view channels_view = VIEW(channel_fields);

static enum outcome
show_channels(struct ctl *ctl, const json_t *ok)
{
	return show_rows(ctl, json_object_get(ok, "channels"), &channels_view);
}

enum outcome
command_channels(struct ctl *ctl)
{
	return ask_list(ctl,
	    json_pack("{s:s,s:s*,s:o*}", "cmd", "channels", "glob",
		ctl->nargs > 0 ? ctl->args[0] : NULL, "limit",
		ctl->limit < 0 ? NULL : json_integer(ctl->limit)),
	    "channels", show_channels);
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
