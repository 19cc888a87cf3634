/* wsctl_drain.c - drain and undrain: clients told to go, and how far that is */
#include <stdlib.h>
#include <time.h>

#include "tools/wsctl.h"

#define ANSWER_TIMEOUT_MS 15000
#define LOOK_MS 250
/* Behind the last goodbye: for Close frames to be answered, and for connections that
 * are no WebSockets. */
#define GRACE_LOOKS 40

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
	const json_t *drain = NULL;
	long long last = -1;
	unsigned grace = 0;
	json_t *ok;
	enum outcome o;
	long worker;

	if (!ctl_worker(ctl, &worker))
		return OUTCOME_USAGE;
	o = ask(ctl,
	    json_pack("{s:s,s:o*,s:o*}", "cmd", "drain", "worker",
		worker < 0 ? NULL : json_integer(worker), "over",
		ctl->over_s < 0 ? NULL : json_integer(ctl->over_s)),
	    &ok, &drain);
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

enum outcome
command_undrain(struct ctl *ctl)
{
	const json_t *drain = NULL;
	json_t *ok;
	enum outcome o;
	long worker;

	if (!ctl_worker(ctl, &worker))
		return OUTCOME_USAGE;
	o = ask(ctl,
	    json_pack("{s:s,s:o*}", "cmd", "undrain", "worker",
		worker < 0 ? NULL : json_integer(worker)),
	    &ok, &drain);
	if (o != OUTCOME_DONE)
		return o;
	if (ctl->json)
		o = ctl_show_json(ctl, ok);
	else if (json_is_object(drain))
		printf("Workers still drained: %lld.\n", number(drain, "workers"));
	else
		puts("New clients are let in.");
	json_decref(ok);
	return o;
}
