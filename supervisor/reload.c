/* reload.c - see reload.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/certificates.h"
#include "supervisor/notify.h"
#include "supervisor/presence.h"
#include "supervisor/reload.h"
#include "supervisor/rules.h"
#include "supervisor/supervisor.h"

static const char *
source_path(const struct settings_source *source)
{
	if (source->path == NULL && access(source->path_else, F_OK) == 0)
		return source->path_else;
	return source->path;
}

static void
fault_add(struct faults *f, const char *text)
{
	if (f->n < SETTINGS_FAULTS_MAX) {
		f->line[f->n] = strdup(text);
		f->n += f->line[f->n] != NULL;
	}
}

/* One line for all of them. */
static void
log_names(const char *what, const struct settings_names *l)
{
	char text[900] = "";
	size_t len = 0;
	unsigned i;

	for (i = 0; i < l->n; i++) {
		int n = snprintf(text + len, sizeof(text) - len, "%s%s",
		    i > 0 ? ", " : "", l->name[i]);

		if (n < 0 || (size_t)n >= sizeof(text) - len)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	if (i < l->n || l->more > 0)
		log_notice("%s: %s and %u more", what, text, l->n - i + l->more);
	else if (l->n > 0)
		log_notice("%s: %s", what, text);
}

/* The workers take it when they come to its record, those that start meanwhile at once.
 */
static void
tell_workers(struct supervisor *s)
{
	struct ring_desc desc = {
	    .type = RING_SETTINGS,
	    .channel = RING_NO_CHANNEL,
	    .offset = workers_settings(s->workers),
	};

	if (publisher_control(&s->publisher, &desc) == 0)
		log_error(-ENOMEM, "cannot tell the workers of the new settings: they "
				   "take them with the next reload, or restart");
}

/* From here on there is no way back, and none is needed. */
static void
take(struct supervisor *s, struct settings *new)
{
	int r = publisher_set_compression(&s->publisher, new);

	if (r < 0)
		log_error(r, "cannot change how messages are compressed");
	if (new->send_buffer != s->settings->send_buffer)
		listeners_set_send_buffer(&s->listeners, new->send_buffer);
	feed_set_settings(s->feed, new);
	rules_reload(s->rules, new);
	presence_reload(s->presence, new);
	settings_free(s->settings);
	s->settings = new;
	settings_log(new);
	certificates_look(new);
	tell_workers(s);
}

static int
read_and_take(
    struct supervisor *s, struct settings_changes *changes, struct faults *faults)
{
	const struct settings_source *from = s->source;
	struct settings *new = NULL;
	int r = settings_reload(source_path(from), from->overrides, from->noverrides,
	    s->settings, &new, changes, faults);

	if (r < 0)
		return r;
	r = workers_set_settings(s->workers, new);
	if (r < 0) {
		fault_add(faults,
		    r == -EMSGSIZE
			? "the settings and the files that they name are larger than "
			  "8 MiB"
			: "no memory for the new settings");
		settings_free(new);
		return r;
	}
	take(s, new);
	return 0;
}

int
supervisor_reload(struct supervisor *s, struct settings_changes *ret_changes,
    struct faults *ret_faults)
{
	/* The service manager, whoever asks; but it waits for another word meanwhile
	 * where we start or stop. */
	bool tell = s->ready && !s->stopping;
	int r;

	if (tell)
		notify_reloading(s->notify);
	r = read_and_take(s, ret_changes, ret_faults);
	if (tell)
		notify_ready(s->notify);
	for (unsigned i = 0; i < ret_faults->n; i++)
		log_error(0, "%s", ret_faults->line[i]);
	s->reloads += r == 0;
	s->reloads_failed += r < 0;
	if (r < 0) {
		log_error(ret_faults->n > 0 ? 0 : r,
		    "reload refused: the settings stay as they are");
		return r;
	}
	log_notice("settings reloaded%s", ret_changes->live.n + ret_changes->restart.n
					      ? ""
					      : ": nothing has changed");
	log_names("changed", &ret_changes->live);
	log_names(
	    "changed in the file, but not before a restart", &ret_changes->restart);
	return 0;
}

int
supervisor_set_log_level(struct supervisor *s, enum log_threshold level)
{
	enum log_threshold old = s->settings->log_level;
	int r;

	s->settings->log_level = level;
	r = workers_set_settings(s->workers, s->settings);
	if (r < 0) {
		s->settings->log_level = old;
		return r;
	}
	settings_log(s->settings);
	tell_workers(s);
	return 0;
}

void
supervisor_renew_tickets(struct supervisor *s, uint64_t now_ms)
{
	int r;

	if (!ticket_keys_turn(&s->tickets, now_ms))
		return;
	r = workers_set_settings(s->workers, s->settings);
	if (r < 0)
		log_error(r,
		    "cannot renew the keys of TLS tickets, trying again in %u h",
		    TICKET_ROTATE_S / 3600);
	else
		tell_workers(s);
}
