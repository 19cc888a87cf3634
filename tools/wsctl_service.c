/* wsctl_service.c - restart, reload, drain, undrain: what the service is told to do */
#include <stdlib.h>
#include <time.h>

#include "tools/wsctl_show.h"

#define RESTART_TIMEOUT_MS 180000
#define RELOAD_TIMEOUT_MS 20000
#define LOOK_MS 250
/* Behind the last goodbye: for Close frames to be answered, and for connections that
 * are no WebSockets. */
#define GRACE_LOOKS 40

/* {"cmd":cmd}, with the worker that the command's argument names. NULL: it names none,
 * which was said. */
static json_t *
request_of(const struct ctl *ctl, const char *cmd)
{
	long worker;

	if (!ctl_worker(ctl, &worker))
		return NULL;
	return json_pack("{s:s,s:o*}", "cmd", cmd, "worker",
	    worker < 0 ? NULL : json_integer(worker));
}

/* ---- restart ---- */

static enum outcome
show_restarted(struct ctl *ctl, const json_t *ok)
{
	json_t *row, *workers = json_object_get(ok, "workers");
	char *index, *pid, *adopted;
	enum outcome o = OUTCOME_DONE;
	size_t i;

	json_array_foreach(workers, i, row)
	{
		index = ctl_text(ctl, row, "index", KIND_PLAIN);
		pid = ctl_text(ctl, row, "pid", KIND_PLAIN);
		adopted = ctl_text(ctl, row, "adopted", KIND_COUNT);
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
	json_t *request = request_of(ctl, "restart");

	return request == NULL
		   ? OUTCOME_USAGE
		   : ctl_ask(ctl, request, RESTART_TIMEOUT_MS, show_restarted);
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

static enum outcome
show_reloaded(struct ctl *ctl, const json_t *ok)
{
	const json_t *changed = json_object_get(ok, "changed");
	const json_t *restart = json_object_get(ok, "restart");

	if (json_array_size(changed) + json_array_size(restart) == 0)
		puts("Reloaded: nothing has changed.");
	show_names(ctl, "Changed:", changed);
	show_names(ctl,
	    "Changed in the file, but not before a restart of the service:", restart);
	return OUTCOME_DONE;
}

enum outcome
command_reload(struct ctl *ctl)
{
	return ctl_ask(
	    ctl, json_pack("{s:s}", "cmd", "reload"), RELOAD_TIMEOUT_MS, show_reloaded);
}

/* ---- drain, undrain ---- */

static enum outcome
ask(struct ctl *ctl, json_t *request, json_t **ret_ok, const json_t **ret_drain)
{
	enum outcome o = ctl_call(ctl, request, ANSWER_TIMEOUT_MS, ret_ok);

	if (o == OUTCOME_DONE)
		*ret_drain = json_object_get(*ret_ok, "drain");
	return o;
}

static long long
number(const json_t *drain, const char *key)
{
	return json_integer_value(json_object_get(drain, key));
}

/* On a terminal the line is written over; elsewhere each change is a line. */
static void
show_progress(const struct ctl *ctl, const json_t *drain, long long *last)
{
	long long connections = number(drain, "connections");
	double left_s = json_number_value(json_object_get(drain, "left_s"));

	if (ctl->json || (!ctl->screen.terminal && connections == *last))
		return;
	*last = connections;
	printf("%s%lld of %lld connections left, %.0f s to go%s",
	    ctl->screen.terminal ? "\r" : "", connections, number(drain, "began_with"),
	    left_s, ctl->screen.terminal ? "   " : "\n");
	(void)fflush(stdout);
}

/* Whether nobody is left to wait for. */
static bool
is_done(const json_t *drain, unsigned *grace)
{
	if (number(drain, "connections") == 0)
		return true;
	if (json_number_value(json_object_get(drain, "left_s")) > 0)
		return false;
	return ++*grace > GRACE_LOOKS;
}

static enum outcome
show_end(struct ctl *ctl, const json_t *drain)
{
	if (!ctl->json && ctl->screen.terminal)
		putchar('\n');
	if (!json_is_object(drain)) {
		ctl_complain("the drain was ended by `wsctl undrain`");
		return OUTCOME_FAILED;
	}
	if (ctl->json)
		return ctl_show_json(ctl, drain);
	printf("Drained; connections left: %lld. New clients are refused until `wsctl "
	       "undrain`.\n",
	    number(drain, "connections"));
	return OUTCOME_DONE;
}

enum outcome
command_drain(struct ctl *ctl)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
	json_t *ok, *request = request_of(ctl, "drain");
	const json_t *drain = NULL;
	long long last = -1;
	unsigned grace = 0;
	enum outcome o;

	if (request == NULL)
		return OUTCOME_USAGE;
	if (ctl->over_s >= 0)
		(void)json_object_set_new(request, "over", json_integer(ctl->over_s));
	o = ask(ctl, request, &ok, &drain);
	while (o == OUTCOME_DONE && json_is_object(drain)) {
		show_progress(ctl, drain, &last);
		if (is_done(drain, &grace))
			break;
		json_decref(ok);
		(void)nanosleep(&pause, NULL);
		o = ask(ctl, json_pack("{s:s}", "cmd", "status"), &ok, &drain);
	}
	if (o != OUTCOME_DONE)
		return o;
	o = show_end(ctl, drain);
	json_decref(ok);
	return o;
}

static enum outcome
show_undrained(struct ctl *ctl, const json_t *ok)
{
	const json_t *drain = json_object_get(ok, "drain");

	(void)ctl;
	if (json_is_object(drain))
		printf("Workers still drained: %lld.\n", number(drain, "workers"));
	else
		puts("New clients are let in.");
	return OUTCOME_DONE;
}

enum outcome
command_undrain(struct ctl *ctl)
{
	json_t *request = request_of(ctl, "undrain");

	return request == NULL
		   ? OUTCOME_USAGE
		   : ctl_ask(ctl, request, ANSWER_TIMEOUT_MS, show_undrained);
}
