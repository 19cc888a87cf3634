/* stream_places.c - see stream_places.h */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "supervisor/container_of.h"
#include "supervisor/stream_places.h"
#include "supervisor/supervisor.h"

#define SAVE_S 1.0 /* how often they are written down */
#define STATE_HEAD "wscast-stream 1\n"

struct stream *
stream_places_find(struct stream_places *p, const char *key)
{
	for (unsigned i = 0; i < p->n; i++)
		if (strcmp(p->stream[i].key, key) == 0)
			return &p->stream[i];
	return NULL;
}

/* KEY ID ADDED, or KEY ID - where Redis does not count. */
static bool
place_parse(struct stream_places *p, char *line)
{
	struct stream_position place = {.known = true};
	char *rest = line, *key = strsep(&rest, " "), *id = strsep(&rest, " "), *end;
	struct stream *stream;

	if (rest == NULL || !stream_id_parse(id, strlen(id), &place.last))
		return false;
	if (strcmp(rest, "-") != 0) {
		errno = 0;
		place.added = strtoull(rest, &end, 10);
		if (end == rest || *end != '\0' || errno != 0)
			return false;
		place.counts = true;
	}
	stream = stream_places_find(p, key);
	if (stream != NULL)
		stream->position = place;
	return true;
}

static void
places_load(struct stream_places *p)
{
	char *text, *rest, *line;
	bool good;
	int r = state_file_read(&p->file, &text);

	if (r < 0) {
		if (r != -ENOENT)
			log_warning(r,
			    "feed: cannot read %s: reading begins at the end",
			    p->file.path);
		return;
	}
	good = strncmp(text, STATE_HEAD, strlen(STATE_HEAD)) == 0;
	rest = text + (good ? strlen(STATE_HEAD) : 0);
	while (good && *rest != '\0' && (line = strsep(&rest, "\n")) != NULL)
		good = place_parse(p, line) && rest != NULL;
	if (!good)
		log_warning(0,
		    "feed: %s is none of ours, or damaged: what it does not "
		    "say is read from its end on",
		    p->file.path);
	free(text);
}

/* malloc'd, or NULL. */
static char *
places_text(const struct stream_places *p)
{
	char *text = NULL, id[STREAM_ID_TEXT_MAX];
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	(void)fputs(STATE_HEAD, out);
	for (unsigned i = 0; i < p->n; i++) {
		const struct stream_position *pos = &p->stream[i].position;

		if (!pos->known)
			continue;
		(void)stream_id_print(&pos->last, id);
		(void)fprintf(out, "%s %s ", p->stream[i].key, id);
		(void)(pos->counts ? fprintf(out, "%" PRIu64 "\n", pos->added)
				   : fprintf(out, "-\n"));
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* Each second while entries come: said when it begins to fail, and when it ends. */
static void
on_places_written(void *owner, int err)
{
	struct stream_places *p = owner;

	if (err == p->failed)
		return;
	p->failed = err;
	if (err == 0)
		log_notice("feed: %s is written again", p->file.path);
	else
		log_warning(err,
		    "feed: cannot write %s: a restart will not know how far the "
		    "stream was read, and begin at its end; let our user write "
		    "there, or set server.state_directory",
		    p->file.path);
}

static void
on_save(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct stream_places *p = container_of(t, struct stream_places, save);
	char *text = places_text(p);
	int r = text != NULL ? state_file_write(&p->file, text) : -ENOMEM;

	ev_timer_stop(loop, t);
	if (r == -EBUSY) /* the disk is slow: later */
		ev_timer_again(loop, t);
	else if (r < 0)
		on_places_written(p, r);
	free(text);
}

void
stream_places_changed(struct stream_places *p)
{
	if (!ev_is_active(&p->save))
		ev_timer_again(p->loop, &p->save);
}

void
stream_places_keep(struct stream_places *p)
{
	char *text = places_text(p);
	int r = text != NULL ? state_file_write_now(&p->file, text) : -ENOMEM;

	on_places_written(p, r);
	free(text);
}

int
stream_places_init(
    struct stream_places *p, struct ev_loop *loop, const struct settings *settings)
{
	char *rest, *key;
	int r;

	*p = (struct stream_places){.loop = loop, .file.child_fd = -1};
	ev_timer_init(&p->save, on_save, 0., SAVE_S);
	p->keys = strdup(settings->stream);
	if (p->keys == NULL)
		return -ENOMEM;
	rest = p->keys;
	while ((key = strsep(&rest, " ")) != NULL)
		p->stream[p->n++].key = key;
	r = state_file_init(
	    &p->file, loop, settings->state_directory, "stream", on_places_written, p);
	if (r == 0)
		places_load(p);
	return r;
}

void
stream_places_done(struct stream_places *p)
{
	ev_timer_stop(p->loop, &p->save);
	state_file_done(&p->file);
	free(p->keys);
}
