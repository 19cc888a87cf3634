#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/wsctl.h"

#define ANSWER_TIMEOUT_MS 15000
#define RESTART_TIMEOUT_MS 180000
#define RELOAD_TIMEOUT_MS 20000
#define CLIENTS_SHOWN 100 /* without --limit */

/* ---- one object of an answer as a row, or as lines of "name  value" ---- */

enum kind {
	KIND_TEXT,
	KIND_COUNT,
	KIND_SIZE,
	KIND_MS,    /* a duration in milliseconds */
	KIND_SINCE, /* UNIX seconds: how long ago */
	KIND_PLAIN, /* a number that is a name: pid, index, offset */
	KIND_LAG,   /* like COUNT; nothing to see when 0 */
	KIND_STATE,
	KIND_BOOL,
};

struct field {
	const char *key;
	enum kind kind;
};

/* columns[i] shows fields[i]. */
#define VIEW_MAX 20
struct view {
	const struct column *columns;
	const struct field *fields;
	size_t n;
};

static uint64_t
number_of(const json_t *value)
{
	double x = json_number_value(value);

	if (json_is_integer(value) && json_integer_value(value) >= 0)
		return (uint64_t)json_integer_value(value);
	return x > 0 && x < 1e18 ? (uint64_t)x : 0;
}

static uint64_t
number_at(const json_t *object, const char *key)
{
	return number_of(json_object_get(object, key));
}

static char *
safe_string(const struct ctl *ctl, const json_t *value)
{
	return text_safe(
	    &ctl->screen, json_string_value(value), json_string_length(value), NULL);
}

static char *
since_text(uint64_t seconds)
{
	time_t now = time(NULL);
	uint64_t s = now > (time_t)seconds ? (uint64_t)now - seconds : 0;

	return s == 0 ? text_format("now") : text_duration(s * 1000);
}

/* A number of any size as it stands in the JSON. */
static char *
plain_text(const json_t *value)
{
	return json_is_integer(value)
		   ? text_format("%lld", (long long)json_integer_value(value))
		   : text_format("%.3f", json_real_value(value));
}

static char *
number_text(const json_t *value, enum kind kind)
{
	uint64_t n = number_of(value);

	switch (kind) {
	case KIND_COUNT:
		return text_count(n);
	case KIND_LAG:
		return n == 0 ? text_format("-") : text_count(n);
	case KIND_SIZE:
		return text_size(n);
	case KIND_MS:
		return text_duration(n);
	case KIND_SINCE:
		return since_text(n);
	default:
		return plain_text(value);
	}
}

static char *
value_text(const struct ctl *ctl, const json_t *value, enum kind kind)
{
	if (json_is_string(value))
		return safe_string(ctl, value);
	if (json_is_boolean(value))
		return text_format("%s", json_is_true(value) ? "yes" : "no");
	if (json_is_array(
		value)) /* what is a list in one answer is a count in another */
		return text_count(json_array_size(value));
	if (json_is_number(value))
		return number_text(value, kind);
	return text_format("-");
}

static enum style
value_style(const json_t *value, enum kind kind)
{
	const char *text = json_string_value(value);

	if (kind == KIND_LAG && number_of(value) > 0)
		return STYLE_WARN;
	if (kind != KIND_STATE || text == NULL)
		return STYLE_PLAIN;
	if (strcmp(text, "serving") == 0 || strcmp(text, "open") == 0)
		return STYLE_GOOD;
	return STYLE_WARN;
}

static enum outcome
out_of_memory(void)
{
	ctl_complain("out of memory");
	return OUTCOME_FAILED;
}

/* Whether any row says something of this; with no rows at all, the head is whole. */
static bool
is_known(const json_t *rows, const char *key)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)rows, i, row)
	{
		if (json_object_get(row, key) != NULL)
			return true;
	}
	return json_array_size(rows) == 0;
}

static void
add_row(const struct ctl *ctl, struct table *t, const json_t *row,
    const struct field *fields, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const json_t *value = json_object_get(row, fields[i].key);

		table_add(t, value_text(ctl, value, fields[i].kind),
		    value_style(value, fields[i].kind));
	}
}

static enum outcome
show_rows(const struct ctl *ctl, const json_t *rows, const struct view *view)
{
	struct column columns[VIEW_MAX];
	struct field fields[VIEW_MAX];
	const json_t *row;
	struct table *t;
	size_t i, n = 0;
	int r;

	for (i = 0; i < view->n; i++)
		if (is_known(rows, view->fields[i].key)) {
			columns[n] = view->columns[i];
			fields[n++] = view->fields[i];
		}
	t = table_new(columns, n);
	json_array_foreach((json_t *)rows, i, row) add_row(ctl, t, row, fields, n);
	r = table_print(t, &ctl->screen, stdout);
	table_free(t);
	return r < 0 ? out_of_memory() : OUTCOME_DONE;
}

enum outcome
ctl_show_json(const struct ctl *ctl, const json_t *ok)
{
	char *text =
	    json_dumps(ok, JSON_REAL_PRECISION(15) |
			       (ctl->screen.terminal ? JSON_INDENT(2) : JSON_COMPACT));

	if (text == NULL)
		return out_of_memory();
	if (ctl->screen.terminal)
		put_json_safe(&ctl->screen, text, strlen(text), stdout);
	else
		fputs(text, stdout);
	putchar('\n');
	free(text);
	return OUTCOME_DONE;
}

/* ---- status, workers ---- */

static const struct column worker_columns[] = {
    {"WORKER", true, false, 0},
    {"STATE", false, false, 0},
    {"CONNS", true, false, 0},
    {"PID", true, false, 0},
    {"CPU", true, false, 4},
    {"RESTARTS", true, false, 0},
    {"ADOPTED", true, false, 2},
    {"SENT", true, false, 1},
    {"LAGGING", true, false, 6},
    {"LAPPED", true, false, 5},
    {"SLOW", true, false, 3},
    {"SUBS", true, false, 7},
    {"BYTES", true, false, 8},
    {"BEAT", true, false, 9},
    {"SEND", false, false, 10},
    {"SANDBOX", false, false, 12},
    {"KEEPER", true, false, 11},
};
static const struct field worker_fields[] = {
    {"index", KIND_PLAIN},
    {"state", KIND_STATE},
    {"connections", KIND_COUNT},
    {"pid", KIND_PLAIN},
    {"cpu", KIND_PLAIN},
    {"restarts", KIND_COUNT},
    {"adopted", KIND_COUNT},
    {"sent", KIND_COUNT},
    {"lagging", KIND_LAG},
    {"lapped", KIND_COUNT},
    {"closed_slow", KIND_COUNT},
    {"subscriptions", KIND_COUNT},
    {"sent_bytes", KIND_SIZE},
    {"heartbeat_ms", KIND_MS},
    {"send", KIND_PLAIN},
    {"sandbox", KIND_PLAIN},
    {"keeper_pid", KIND_PLAIN},
};
static const struct view workers_view = {
    worker_columns, worker_fields, sizeof(worker_fields) / sizeof(worker_fields[0])};
_Static_assert(sizeof(worker_columns) / sizeof(worker_columns[0]) ==
		   sizeof(worker_fields) / sizeof(worker_fields[0]),
    "a field for each column");

/* A key's value for a sentence; "?" when the server does not say. */
static char *
word(const struct ctl *ctl, const json_t *object, const char *key, enum kind kind)
{
	const json_t *value = json_object_get(object, key);

	return value == NULL ? text_format("?") : value_text(ctl, value, kind);
}

/* "name   text" as one line of the summary. text: taken over; NULL: no memory. */
static bool
put_line(const struct ctl *ctl, const char *name, char *text, enum style style)
{
	if (text == NULL)
		return false;
	printf("%s%-12s%s %s%s%s\n", style_on(&ctl->screen, STYLE_HEAD), name,
	    style_off(&ctl->screen), style_on(&ctl->screen, style), text,
	    style == STYLE_PLAIN ? "" : style_off(&ctl->screen));
	free(text);
	return true;
}

struct part {
	const char *before; /* printed before the value */
	const char *key;
	enum kind kind;
};

/* One line made of several values. */
static bool
put_parts(const struct ctl *ctl, const char *name, const json_t *object,
    const struct part *parts, size_t n)
{
	char *text = text_format("%s", ""), *value, *longer;

	for (size_t i = 0; i < n && text != NULL; i++) {
		value = word(ctl, object, parts[i].key, parts[i].kind);
		longer = value == NULL
			     ? NULL
			     : text_format("%s%s%s", text, parts[i].before, value);
		free(value);
		free(text);
		text = longer;
	}
	return put_line(ctl, name, text, STYLE_PLAIN);
}

#define PUT_PARTS(ctl, name, object, ...)                                              \
	put_parts(ctl, name, object, (const struct part[]){__VA_ARGS__},               \
	    sizeof((const struct part[]){__VA_ARGS__}) / sizeof(struct part))

static bool
put_feed(const struct ctl *ctl, const json_t *feed)
{
	char *source = word(ctl, feed, "source", KIND_TEXT), *text = NULL, *down, *lag;
	bool connected = !json_is_false(json_object_get(feed, "connected"));

	down = text_duration(
	    (uint64_t)(json_number_value(json_object_get(feed, "down_s")) * 1000));
	lag = text_duration(number_at(feed, "lag_ms"));
	if (source != NULL && down != NULL && lag != NULL)
		text = connected ? text_format("%s, connected, lag %s", source, lag)
				 : text_format("%s, DOWN for %s", source, down);
	free(source);
	free(down);
	free(lag);
	return put_line(ctl, "feed", text, connected ? STYLE_PLAIN : STYLE_BAD);
}

static bool
put_server(const struct ctl *ctl, const json_t *ok)
{
	char *version = word(ctl, ok, "version", KIND_TEXT);
	char *pid = word(ctl, ok, "pid", KIND_PLAIN), *text = NULL;
	char *up = text_duration(
	    (uint64_t)(json_number_value(json_object_get(ok, "uptime_s")) * 1000));

	if (version != NULL && pid != NULL && up != NULL)
		text = text_format("%s, pid %s, up %s%s", version, pid, up,
		    json_is_true(json_object_get(ok, "draining")) ? ", DRAINING" : "");
	free(version);
	free(pid);
	free(up);
	return put_line(ctl, "wscastd", text, STYLE_PLAIN);
}

/* Nothing when nobody is told to go. */
static bool
put_drain(const struct ctl *ctl, const json_t *drain)
{
	char *left;
	bool ok;

	if (!json_is_object(drain))
		return true;
	left = text_duration(
	    (uint64_t)(json_number_value(json_object_get(drain, "left_s")) * 1000));
	ok =
	    left != NULL &&
	    put_line(ctl, "drain",
		text_format("%llu of %llu connections left, %s to go, workers drained: "
			    "%llu",
		    (unsigned long long)number_at(drain, "connections"),
		    (unsigned long long)number_at(drain, "began_with"), left,
		    (unsigned long long)number_at(drain, "workers")),
		STYLE_WARN);
	free(left);
	return ok;
}

static bool
put_summary(const struct ctl *ctl, const json_t *ok)
{
	return put_server(ctl, ok) && put_drain(ctl, json_object_get(ok, "drain")) &&
	       PUT_PARTS(ctl, "node", ok, {"", "node", KIND_TEXT},
		   {", epoch ", "epoch", KIND_TEXT}) &&
	       put_feed(ctl, json_object_get(ok, "feed")) &&
	       PUT_PARTS(ctl, "connections", ok, {"", "connections", KIND_COUNT},
		   {", subscriptions ", "subscriptions", KIND_COUNT},
		   {", channels ", "channels", KIND_COUNT}) &&
	       PUT_PARTS(ctl, "messages", ok, {"", "messages_in", KIND_COUNT},
		   {" in, ", "messages_out", KIND_COUNT},
		   {" out, ", "bytes_out", KIND_SIZE}) &&
	       PUT_PARTS(ctl, "ring", json_object_get(ok, "ring"),
		   {"", "size", KIND_SIZE}, {", head ", "head", KIND_PLAIN},
		   {", retain ", "retain", KIND_PLAIN});
}

enum outcome
command_status(struct ctl *ctl)
{
	json_t *ok;
	enum outcome o =
	    ctl_call(ctl, json_pack("{s:s}", "cmd", "status"), ANSWER_TIMEOUT_MS, &ok);

	if (o != OUTCOME_DONE)
		return o;
	if (ctl->json) {
		o = ctl_show_json(ctl, ok);
	} else if (!put_summary(ctl, ok)) {
		o = out_of_memory();
	} else {
		putchar('\n');
		o = show_rows(ctl, json_object_get(ok, "workers"), &workers_view);
	}
	json_decref(ok);
	return o;
}

enum outcome
command_workers(struct ctl *ctl)
{
	json_t *ok;
	enum outcome o =
	    ctl_call(ctl, json_pack("{s:s}", "cmd", "workers"), ANSWER_TIMEOUT_MS, &ok);

	if (o != OUTCOME_DONE)
		return o;
	o = ctl->json ? ctl_show_json(ctl, ok)
		      : show_rows(ctl, json_object_get(ok, "workers"), &workers_view);
	json_decref(ok);
	return o;
}

/* ---- clients, client ---- */

static const struct column client_columns[] = {
    {"CLIENT", false, false, 0},
    {"WORKER", true, false, 5},
    {"ADDRESS", false, true, 0},
    {"PROTOCOL", false, false, 2},
    {"STATE", false, false, 3},
    {"OPEN", true, false, 1},
    {"CHANNELS", true, false, 4},
    {"SENT", true, false, 0},
    {"RECEIVED", true, false, 6},
    {"LAG", true, false, 0},
    {"QUEUED", true, false, 7},
};
static const struct field client_fields[] = {
    {"client", KIND_TEXT},
    {"worker", KIND_PLAIN},
    {"address", KIND_TEXT},
    {"protocol", KIND_TEXT},
    {"state", KIND_STATE},
    {"opened", KIND_SINCE},
    {"channels", KIND_COUNT},
    {"sent", KIND_COUNT},
    {"received", KIND_COUNT},
    {"lag", KIND_LAG},
    {"queued", KIND_SIZE},
};
static const struct view clients_view = {
    client_columns, client_fields, sizeof(client_fields) / sizeof(client_fields[0])};
_Static_assert(sizeof(client_columns) / sizeof(client_columns[0]) ==
		   sizeof(client_fields) / sizeof(client_fields[0]),
    "a field for each column");

/* Say so when there are more than are shown. */
static void
note_rest(const struct ctl *ctl, const json_t *ok, const json_t *rows)
{
	uint64_t total = number_at(ok, "total");
	size_t shown = json_array_size(rows);

	fflush(stdout);
	if (total > shown)
		fprintf(stderr, "wsctl: %zu of %llu are shown: %s\n", shown,
		    (unsigned long long)total,
		    ctl->limit < 0    ? "--limit 0 shows all"
		    : ctl->limit == 0 ? "the server shows no more at once"
				      : "see --limit");
}

enum outcome
command_clients(struct ctl *ctl)
{
	json_t *ok, *rows;
	enum outcome o;

	o = ctl_call(ctl,
	    json_pack("{s:s,s:s*,s:I}", "cmd", "clients", "channel", ctl->channel,
		"limit", (json_int_t)(ctl->limit < 0 ? CLIENTS_SHOWN : ctl->limit)),
	    ANSWER_TIMEOUT_MS, &ok);
	if (o != OUTCOME_DONE)
		return o;
	rows = json_object_get(ok, "clients");
	o = ctl->json ? ctl_show_json(ctl, ok) : show_rows(ctl, rows, &clients_view);
	if (o == OUTCOME_DONE)
		note_rest(ctl, ok, rows);
	json_decref(ok);
	return o;
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

enum outcome
command_client(struct ctl *ctl)
{
	const json_t *client;
	json_t *ok;
	enum outcome o;

	o = ctl_call(ctl,
	    json_pack("{s:s,s:s}", "cmd", "client", "client", ctl->args[0]),
	    ANSWER_TIMEOUT_MS, &ok);
	if (o != OUTCOME_DONE)
		return o;
	client = json_object_get(ok, "client");
	if (!json_is_object(client))
		client = ok;
	if (ctl->json)
		o = ctl_show_json(ctl, ok);
	else if (!put_client(ctl, client))
		o = out_of_memory();
	json_decref(ok);
	return o;
}

/* ---- channels ---- */

static const struct column channel_columns[] = {
    {"CHANNEL", false, true, 0},
    {"SUBSCRIBERS", true, false, 0},
    {"OFFSET", true, false, 0},
    {"WORKERS", true, false, 2},
    {"TAILS", true, false, 3},
    {"LIVE", false, false, 1},
};
static const struct field channel_fields[] = {
    {"channel", KIND_TEXT},
    {"subscribers", KIND_COUNT},
    {"offset", KIND_PLAIN},
    {"workers", KIND_COUNT},
    {"tails", KIND_COUNT},
    {"live", KIND_BOOL},
};
static const struct view channels_view = {channel_columns, channel_fields,
    sizeof(channel_fields) / sizeof(channel_fields[0])};
_Static_assert(sizeof(channel_columns) / sizeof(channel_columns[0]) ==
		   sizeof(channel_fields) / sizeof(channel_fields[0]),
    "a field for each column");

enum outcome
command_channels(struct ctl *ctl)
{
	json_t *ok, *rows, *request;
	enum outcome o;

	request = json_pack("{s:s,s:s*}", "cmd", "channels", "glob",
	    ctl->nargs > 0 ? ctl->args[0] : NULL);
	if (request != NULL && ctl->limit >= 0 &&
	    json_object_set_new(request, "limit", json_integer(ctl->limit)) < 0) {
		json_decref(request);
		request = NULL;
	}
	o = ctl_call(ctl, request, ANSWER_TIMEOUT_MS, &ok);
	if (o != OUTCOME_DONE)
		return o;
	rows = json_object_get(ok, "channels");
	o = ctl->json ? ctl_show_json(ctl, ok) : show_rows(ctl, rows, &channels_view);
	if (o == OUTCOME_DONE)
		note_rest(ctl, ok, rows);
	json_decref(ok);
	return o;
}

/* ---- restart ---- */

static enum outcome
show_restarted(const struct ctl *ctl, const json_t *ok)
{
	json_t *row, *workers = json_object_get(ok, "workers");
	char *index, *pid, *adopted;
	enum outcome o = OUTCOME_DONE;
	size_t i;

	json_array_foreach(workers, i, row)
	{
		index = word(ctl, row, "index", KIND_PLAIN);
		pid = word(ctl, row, "pid", KIND_PLAIN);
		adopted = word(ctl, row, "adopted", KIND_COUNT);
		if (index != NULL && pid != NULL && adopted != NULL)
			printf("worker %s serves as process %s, connections kept: %s\n",
			    index, pid, adopted);
		else
			o = out_of_memory();
		free(index);
		free(pid);
		free(adopted);
	}
	return o;
}

enum outcome
command_restart(struct ctl *ctl)
{
	json_t *ok;
	enum outcome o;
	long worker;

	if (!ctl_worker(ctl, &worker))
		return OUTCOME_USAGE;
	o = ctl_call(ctl,
	    json_pack("{s:s,s:o*}", "cmd", "restart", "worker",
		worker < 0 ? NULL : json_integer(worker)),
	    RESTART_TIMEOUT_MS, &ok);
	if (o != OUTCOME_DONE)
		return o;
	o = ctl->json ? ctl_show_json(ctl, ok) : show_restarted(ctl, ok);
	json_decref(ok);
	return o;
}

/* ---- reload ---- */

static void
show_names(const struct ctl *ctl, const char *what, const json_t *list)
{
	const json_t *name;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	printf("%s\n", what);
	json_array_foreach(list, i, name)
	{
		char *text = safe_string(ctl, name);

		printf("  %s\n", text == NULL ? "?" : text);
		free(text);
	}
}

enum outcome
command_reload(struct ctl *ctl)
{
	const json_t *changed, *restart;
	json_t *ok;
	enum outcome o =
	    ctl_call(ctl, json_pack("{s:s}", "cmd", "reload"), RELOAD_TIMEOUT_MS, &ok);

	if (o != OUTCOME_DONE)
		return o;
	changed = json_object_get(ok, "changed");
	restart = json_object_get(ok, "restart");
	if (ctl->json) {
		o = ctl_show_json(ctl, ok);
	} else if (json_array_size(changed) + json_array_size(restart) == 0) {
		puts("Reloaded: nothing has changed.");
	} else {
		show_names(ctl, "Changed:", changed);
		show_names(ctl,
		    "Changed in the file, but not before a restart of the service:",
		    restart);
	}
	json_decref(ok);
	return o;
}

/* ---- metrics ---- */

enum outcome
command_metrics(struct ctl *ctl)
{
	json_t *ok;
	const char *text;
	enum outcome o =
	    ctl_call(ctl, json_pack("{s:s}", "cmd", "metrics"), RELOAD_TIMEOUT_MS, &ok);

	if (o != OUTCOME_DONE)
		return o;
	text = json_string_value(json_object_get(ok, "text"));
	if (ctl->json)
		o = ctl_show_json(ctl, ok);
	else if (text != NULL)
		fputs(text, stdout);
	json_decref(ok);
	return o;
}

/* ---- version ---- */

static bool
put_version(const struct ctl *ctl, const json_t *ok)
{
	const json_t *commit = json_object_get(ok, "commit");
	char *version = word(ctl, ok, "version", KIND_TEXT);
	char *id = json_is_string(commit) ? safe_string(ctl, commit) : NULL;

	if (version != NULL)
		printf("wscastd %s%s%s%s\n", version, id == NULL ? "" : " (",
		    id == NULL ? "" : id, id == NULL ? "" : ")");
	free(id);
	free(version);
	return version != NULL;
}

enum outcome
command_version(struct ctl *ctl)
{
	json_t *ok;
	enum outcome o;

	/* Ours is known whether or not a server runs. */
	if (!ctl->json) {
		printf("wsctl %s (%s)\n", WSCAST_VERSION, WSCAST_COMMIT);
		fflush(stdout);
	}
	o = ctl_call(ctl, json_pack("{s:s}", "cmd", "version"), ANSWER_TIMEOUT_MS, &ok);
	if (o != OUTCOME_DONE)
		return o;
	if (ctl->json)
		o = ctl_show_json(ctl, ok);
	else if (!put_version(ctl, ok))
		o = out_of_memory();
	json_decref(ok);
	return o;
}
