/*
 * supervisor.h - wscastd's one process: what its parts share, and its life.
 */
#ifndef WSCAST_SUPERVISOR_SUPERVISOR_H
#define WSCAST_SUPERVISOR_SUPERVISOR_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/journal.h"
#include "proto/settings.h"
#include "supervisor/expel.h"
#include "supervisor/feed.h"
#include "supervisor/listeners.h"
#include "supervisor/publisher.h"
#include "supervisor/registry.h"
#include "supervisor/reload.h"
#include "supervisor/tickets.h"
#include "supervisor/workers.h"

struct admin;
struct ctlsock;
struct notify;
struct peers;
struct presence;
struct rules;

struct supervisor {
	struct ev_loop *loop;
	const struct settings_source *source; /* borrowed */
	struct settings *settings; /* replaced by a reload: keep no pointer into it */
	const char *worker_path;   /* borrowed */
	unsigned nworkers;
	uint64_t started_ms; /* CLOCK_MONOTONIC */

	struct listeners listeners;
	struct ticket_keys tickets;
	struct ring *ring;
	int ring_fd;   /* writable: ours alone */
	int reader_fd; /* read-only: the workers' */
	struct publisher publisher;
	struct registry *registry;
	struct rules *rules;
	struct workers *workers;
	struct feed *feed;
	struct peers *peers; /* NULL: there are none */
	struct presence *presence;
	struct expel_counts expelled;
	struct expel_tell expel_tell;
	struct log_limit expel_limit;
	struct ctlsock *ctlsock;
	struct admin *admin; /* NULL: none */
	struct notify *notify;

	ev_signal on_term, on_int, on_hup, on_child;
	ev_prepare turn;   /* end of each turn: wake, flush, watch */
	ev_timer retry;    /* runs while the publisher is blocked */
	ev_timer second;   /* once a second */
	ev_timer deadline; /* of the stop */
	bool ready;        /* said so */
	bool waiting;      /* ... why not yet, while all workers serve */
	bool stopping;
	uint64_t reloads, reloads_failed;
};

/*
 * Live until told to end.
 *
 * source       borrowed: where settings come from.
 * settings     taken over: what was read there.
 * worker_path  borrowed; of wscast-worker.
 *
 * Returns the exit status; whatever went wrong is logged.
 */
int supervisor_run(const struct settings_source *source, struct settings *settings,
    const char *worker_path);

/* Whether new connections and messages are served as they should. */
bool supervisor_ready(const struct supervisor *s);

/* keeper_link.c: a worker became healthy, or is gone. */
void supervisor_workers_changed(struct supervisor *s);

/* CLOCK_MONOTONIC in milliseconds, as the worker pages have it / CLOCK_REALTIME. */
uint64_t supervisor_now_ms(void);
uint64_t supervisor_real_ms(void);

#endif
