/* wsctl_clients.c - clients, client, channels: who is there, and for what */
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
