/* wsctl_status.c - status, workers, metrics, version: the server as a whole */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsctl_sample.h"
#include "tools/wsctl_show.h"

#define PATIENCE_MS 2000 /* before the maps are looked at instead */

static const struct field worker_fields[] = {
    {{"WORKER", true, false, 0}, "index", KIND_PLAIN},
    {{"STATE", false, false, 0}, "state", KIND_STATE},
    {{"CONNS", true, false, 0}, "connections", KIND_COUNT},
    {{"PID", true, false, 0}, "pid", KIND_PLAIN},
    {{"CPU", true, false, 4}, "cpu", KIND_PLAIN},
    {{"RESTARTS", true, false, 0}, "restarts", KIND_COUNT},
    {{"ADOPTED", true, false, 2}, "adopted", KIND_COUNT},
    {{"SENT", true, false, 1}, "sent", KIND_COUNT},
    {{"LAGGING", true, false, 6}, "lagging", KIND_LAG},
    {{"LAPPED", true, false, 5}, "lapped", KIND_COUNT},
    {{"SLOW", true, false, 3}, "closed_slow", KIND_COUNT},
    {{"SUBS", true, false, 7}, "subscriptions", KIND_COUNT},
    {{"BYTES", true, false, 8}, "sent_bytes", KIND_SIZE},
    {{"BEAT", true, false, 9}, "heartbeat_ms", KIND_MS},
    {{"SEND", false, false, 10}, "send", KIND_PLAIN},
    {{"SANDBOX", false, false, 12}, "sandbox", KIND_PLAIN},
    {{"KEEPER", true, false, 11}, "keeper_pid", KIND_PLAIN},
};
static const struct view workers_view = VIEW(worker_fields);

/* ---- status, workers ---- */

static bool
put_feed(const struct ctl *ctl, const json_t *feed)
{
	char *source = ctl_text(ctl, feed, "source", KIND_TEXT), *text = NULL, *down,
	     *lag;
	bool connected = !json_is_false(json_object_get(feed, "connected"));

	down = text_duration(ms_at(feed, "down_s"));
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
	char *version = ctl_text(ctl, ok, "version", KIND_TEXT);
	char *pid = ctl_text(ctl, ok, "pid", KIND_PLAIN), *text = NULL;
	char *up = text_duration(ms_at(ok, "uptime_s"));

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
	left = text_duration(ms_at(drain, "left_s"));
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

/* Nothing when nobody comes through TLS. */
static bool
put_tls(const struct ctl *ctl, const json_t *tls)
{
	return number_at(tls, "connections") == 0 ||
	       PUT_PARTS(ctl, "tls", tls, {"connections ", "connections", KIND_COUNT},
		   {", by the kernel ", "kernel", KIND_COUNT});
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
	       put_tls(ctl, json_object_get(ok, "tls")) &&
	       PUT_PARTS(ctl, "messages", ok, {"", "messages_in", KIND_COUNT},
		   {" in, ", "messages_out", KIND_COUNT},
		   {" out, ", "bytes_out", KIND_SIZE}) &&
	       PUT_PARTS(ctl, "ring", json_object_get(ok, "ring"),
		   {"", "size", KIND_SIZE}, {", head ", "head", KIND_PLAIN},
		   {", retain ", "retain", KIND_PLAIN});
}

static enum outcome
show_workers(struct ctl *ctl, const json_t *ok)
{
	return show_rows(ctl, json_object_get(ok, "workers"), &workers_view);
}

static enum outcome
show_status(struct ctl *ctl, const json_t *ok)
{
	if (!put_summary(ctl, ok))
		return out_of_memory();
	putchar('\n');
	return show_workers(ctl, ok);
}

/* The supervisor is silent: what it would say is shown as far as the maps have it. */
static enum outcome
look_instead(struct ctl *ctl, enum outcome (*show)(struct ctl *ctl, const json_t *ok))
{
	struct maps maps;
	json_t *ok;
	int r = maps_find(client_peer(&ctl->client), &maps);

	fflush(stdout);
	(void)ctl_broken(ctl, -ETIMEDOUT);
	if (r == -EACCES || r == -EPERM)
		ctl_complain("root, and its own user, would be shown what the shared "
			     "maps say");
	if (r < 0)
		return OUTCOME_FAILED;
	ctl_complain("this is what the shared maps say:");
	ok = maps_status(&maps);
	if (ok == NULL)
		(void)out_of_memory();
	else
		(void)ctl_show(ctl, ok, show);
	maps_close(&maps);
	return OUTCOME_FAILED;
}

static enum outcome
ask_or_look(struct ctl *ctl, const char *cmd,
    enum outcome (*show)(struct ctl *ctl, const json_t *ok))
{
	enum outcome o = ctl_open(ctl);
	json_t *reply, *ok;
	int r;

	if (o != OUTCOME_DONE)
		return o;
	r = client_call(
	    &ctl->client, json_pack("{s:s}", "cmd", cmd), PATIENCE_MS, &reply);
	if (r == -ETIMEDOUT)
		return look_instead(ctl, show);
	if (r < 0)
		return ctl_broken(ctl, r);
	o = ctl_answer(ctl, reply, &ok);
	return o == OUTCOME_DONE ? ctl_show(ctl, ok, show) : o;
}

enum outcome
command_status(struct ctl *ctl)
{
	return ask_or_look(ctl, "status", show_status);
}

enum outcome
command_workers(struct ctl *ctl)
{
	return ask_or_look(ctl, "workers", show_workers);
}

/* ---- metrics ---- */

static enum outcome
show_metrics(struct ctl *ctl, const json_t *ok)
{
	const char *text = json_string_value(json_object_get(ok, "text"));

	(void)ctl;
	if (text != NULL)
		fputs(text, stdout);
	return OUTCOME_DONE;
}

enum outcome
command_metrics(struct ctl *ctl)
{
	return ctl_ask(
	    ctl, json_pack("{s:s}", "cmd", "metrics"), ANSWER_TIMEOUT_MS, show_metrics);
}

/* ---- version ---- */

static enum outcome
show_version(struct ctl *ctl, const json_t *ok)
{
	const json_t *commit = json_object_get(ok, "commit");
	char *version = ctl_text(ctl, ok, "version", KIND_TEXT);
	char *id = json_is_string(commit) ? safe_string(ctl, commit) : NULL;
	enum outcome o = version == NULL ? out_of_memory() : OUTCOME_DONE;

	if (version != NULL)
		printf("wscastd %s%s%s%s\n", version, id == NULL ? "" : " (",
		    id == NULL ? "" : id, id == NULL ? "" : ")");
	free(id);
	free(version);
	return o;
}

enum outcome
command_version(struct ctl *ctl)
{
	/* Ours is known whether or not a server runs. */
	if (!ctl->json) {
		printf("wsctl %s (%s)\n", WSCAST_VERSION, WSCAST_COMMIT);
		fflush(stdout);
	}
	return ctl_ask(
	    ctl, json_pack("{s:s}", "cmd", "version"), ANSWER_TIMEOUT_MS, show_version);
}
