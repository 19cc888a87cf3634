/* command_settings.c - config and log-level; see ctl_client.h */
#include <errno.h>
#include <stdlib.h>

#include "proto/journal.h"
#include "supervisor/ctl_client.h"
#include "supervisor/supervisor.h"

/* What holds now, with the password of Redis as ***. */
void
command_config(struct ctl_client *c)
{
	const struct settings *s = c->sock->s->settings;
	const json_t *v = json_object_get(c->request, "key");
	const char *key = json_string_value(v);
	char *text;

	if (v != NULL && key == NULL) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "\"key\" must be a setting such as limits.message_rate");
		return;
	}
	text = key == NULL ? settings_dump(s) : settings_get(s, key);
	if (text == NULL && errno == ENOENT)
		say_error(c, CONTROL_NOT_FOUND,
		    "no setting has the name %.80s: it is SECTION.KEY, or \"channel "
		    "GLOB.KEY\"",
		    key);
	else
		say_ok(c, text == NULL ? NULL : json_pack("{s:s}", "text", text));
	free(text);
}

void
command_log_level(struct ctl_client *c)
{
	const char *word = json_string_value(json_object_get(c->request, "level"));
	enum log_threshold level;

	if (!command_may_change(c))
		return;
	if (word == NULL || !settings_log_level(word, &level)) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "\"level\" must be error, warning, notice, info or debug");
		return;
	}
	if (supervisor_set_log_level(c->sock->s, level) < 0) {
		say_error(c, CONTROL_INTERNAL, "out of memory");
		return;
	}
	log_notice("log level %s, on demand", word);
	say_ok(c, json_pack("{s:s}", "level", word));
}
