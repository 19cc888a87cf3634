/*
 * reload.c - see reload.h
 *
 * The new settings take the old ones' place between two records. A part that keeps
 * something which it derived from settings has an x_reload(), called behind that; all
 * others read w->settings each time, and keep no pointer into it.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/eventfd.h>

#include "proto/journal.h"
#include "shm/generation.h"
#include "shm/launch.h"
#include "worker/accept.h"
#include "worker/auth.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/limits.h"
#include "worker/reload.h"
#include "worker/rules.h"
#include "worker/timers.h"
#include "worker/tls.h"

/* Settings with their files, from a generation. */
static int
settings_of(const struct generation_copy *copy, struct settings **ret)
{
	const struct generation_part *text = generation_find(copy, GENERATION_SETTINGS);
	struct faults faults = {0};
	struct settings *s = NULL;
	int r;

	if (text == NULL)
		return -EPROTO;
	r = settings_parse(text->data, text->len, &s, &faults);
	for (unsigned i = 0; i < faults.n; i++)
		log_error(0, "settings: %s", faults.line[i]);
	faults_done(&faults);
	for (size_t i = 0; r == 0 && i < copy->nparts; i++)
		if (&copy->part[i] != text)
			r = settings_attach(s, copy->part[i].name, copy->part[i].data,
			    copy->part[i].len);
	if (r < 0) {
		settings_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* The newest settings, and which they are. */
static int
take(struct worker *w, struct settings **ret, uint64_t *ret_number)
{
	struct generation_copy *copy = NULL;
	int r = generation_read(w->generation, &copy);

	if (r == 0)
		r = settings_of(copy, ret);
	if (r == 0)
		*ret_number = copy->number;
	generation_copy_free(copy);
	return r;
}

static void
log_as_set(struct worker *w)
{
	settings_log(w->settings);
	page_set_log(
	    w->page, w->settings->log_level, (uint32_t)w->settings->log_format);
}

int
reload_begin(struct worker *w)
{
	uint64_t number = 0;
	int r = generation_open(LAUNCH_SETTINGS, &w->generation);

	w->settings_before = page_settings(w->page);
	if (r == 0)
		r = take(w, &w->settings, &number);
	if (r < 0) {
		log_error(r, "cannot read the settings");
		return r;
	}
	log_as_set(w);
	rules_renew(w);
	page_set_settings(w->page, number);
	return 0;
}

static void
connections_reload(struct worker *w, const struct settings *old)
{
	timers_reload(w, old);
	clients_reload(w, old);
}

void
reload_adopted(struct worker *w)
{
	if (w->settings_before != 0 && w->settings_before != page_settings(w->page))
		connections_reload(w, NULL);
	auth_review(w);
}

void
reload_record(struct worker *w, const struct ring_desc *desc)
{
	struct settings *old = w->settings;
	uint64_t number = 0;
	int r;

	if (page_settings(w->page) >= desc->offset)
		return; /* we began after it was written */
	r = take(w, &w->settings, &number);
	if (r < 0) {
		log_error(r,
		    "cannot take generation %" PRIu64 " of the settings, going on with "
		    "the old one",
		    desc->offset);
		return;
	}
	log_as_set(w);
	rules_renew(w);
	limits_reload(w, old);
	auth_reload(w);
	acceptor_reload(w);
	connections_reload(w, old);
	channels_reload(w);
	tls_reload(w);
	settings_free(old);
	page_set_settings(w->page, number);
	(void)eventfd_write(w->doorbell, 1); /* someone may wait for it to hold */
}
