/*
 * stream_places.h - the streams that a feed reads and how far each was read, kept in
 * the state directory so that a restart goes on there.
 *
 * A file that is missing, cannot be read or is damaged is no error: what it does not
 * say is read from its end on, and the log says so.
 */
#ifndef WSCAST_SUPERVISOR_STREAM_PLACES_H
#define WSCAST_SUPERVISOR_STREAM_PLACES_H

#include <ev.h>

#include "proto/settings.h"
#include "supervisor/state_file.h"
#include "supervisor/stream_position.h"

struct stream {
	char *key; /* in stream_places.keys */
	struct stream_position position;
};

struct stream_places {
	struct stream stream[SETTINGS_STREAMS_MAX];
	unsigned n;
	char *keys; /* feed.stream, cut into words */
	struct ev_loop *loop;
	struct state_file file;
	ev_timer save;
	int failed; /* what became of the last write: 0 or -errno */
};

/* What was kept is read. settings: only read now. Returns 0 or -errno; in either case
 * stream_places_done() is due. */
int stream_places_init(struct stream_places *p, struct ev_loop *loop,
    const struct settings *settings) __attribute__((warn_unused_result));
void stream_places_done(struct stream_places *p);

/* NULL: it is none of ours. */
struct stream *stream_places_find(struct stream_places *p, const char *key);
/* A position is another: it is written down soon. */
void stream_places_changed(struct stream_places *p);
/* Write them down now, and wait for it. */
void stream_places_keep(struct stream_places *p);

#endif
