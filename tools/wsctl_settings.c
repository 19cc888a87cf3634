/* wsctl_settings.c - check, config, log-level: settings, of a file and as they hold */
#include <string.h>

#include "proto/settings.h"
#include "tools/wsctl_show.h"

static enum outcome
show_checked(const struct ctl *ctl, const char *path, const struct faults *faults)
{
	json_t *list = json_array(), *answer;
	enum outcome o;

	for (unsigned i = 0; i < faults->n; i++) {
		if (ctl->json)
			(void)json_array_append_new(list,
			    json_stringn(faults->line[i], strlen(faults->line[i])));
		else
			fprintf(stderr, "%s\n", faults->line[i]);
	}
	if (!ctl->json) {
		json_decref(list);
		if (faults->n == 0)
			printf("%s: no faults\n", path);
		return OUTCOME_DONE;
	}
	answer = json_pack("{s:o}", "faults", list);
	o = ctl_show_json(ctl, answer);
	json_decref(answer);
	return o;
}

enum outcome
command_check(struct ctl *ctl)
{
	const char *path = ctl->nargs > 0 ? ctl->args[0] : CTL_SETTINGS_PATH;
	struct settings *s = NULL;
	struct faults faults = {0};
	int r = settings_load(path, NULL, 0, &s, &faults);
	enum outcome o = show_checked(ctl, path, &faults);

	if (r < 0 && faults.n == 0)
		ctl_complain("cannot check %s: %s", path, strerror(-r));
	faults_done(&faults);
	settings_free(s);
	return r < 0 ? OUTCOME_FAILED : o;
}

static enum outcome
show_config(struct ctl *ctl, const json_t *ok)
{
	const char *text = json_string_value(json_object_get(ok, "text"));

	if (text != NULL)
		printf("%s%s", text, ctl->nargs > 0 ? "\n" : "");
	return OUTCOME_DONE;
}

enum outcome
command_config(struct ctl *ctl)
{
	return ctl_ask(ctl,
	    json_pack("{s:s,s:s*}", "cmd", "config", "key",
		ctl->nargs > 0 ? ctl->args[0] : NULL),
	    ANSWER_TIMEOUT_MS, show_config);
}

static enum outcome
show_nothing(struct ctl *ctl, const json_t *ok)
{
	(void)ctl;
	(void)ok;
	return OUTCOME_DONE;
}

enum outcome
command_log_level(struct ctl *ctl)
{
	return ctl_ask(ctl,
	    json_pack("{s:s,s:s}", "cmd", "log-level", "level", ctl->args[0]),
	    ANSWER_TIMEOUT_MS, show_nothing);
}
