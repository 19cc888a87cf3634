/*
 * workers.h - the lives of all workers: launched, listened to, watched, replaced.
 *
 *   workers.c      all of them: how many, their settings, what is asked of all
 *   keeper_link.c  each one: its maps, its control socket, launching anew
 *   launcher.c     fork and exec of a keeper
 *   uplinks.c      what workers ask for
 *   watch.c        workers that stopped moving
 *   drain.c        workers whose clients are told to go
 *
 * A worker is keeper, spare and serving process. When the serving process dies, the
 * keeper replaces it; that costs no connection and is not our business. When the
 * control socket says end of file, all three are gone, and with their file table every
 * connection: a new keeper gets the same listeners, but new maps, since nobody knows in
 * what state the old ones are. Only the page's counters go on.
 */
#ifndef WSCAST_SUPERVISOR_WORKERS_H
#define WSCAST_SUPERVISOR_WORKERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/page.h"
#include "shm/table.h"

struct settings;
struct supervisor;
struct workers;

enum keeper_state {
	KEEPER_AWAY,    /* none: launched anew after a delay */
	KEEPER_RUNNING, /* its serving process runs, or is about to */
	KEEPER_BACKOFF, /* its serving processes die too early: it waits */
	KEEPER_GONE,    /* none, and none will come: we stop */
};

struct worker_look {
	enum keeper_state state;
	bool healthy;           /* this serving process serves */
	pid_t keeper, pid;      /* 0 = none */
	uint64_t restarts;      /* serving processes that followed another */
	uint64_t healthy_count; /* times that a serving process became healthy */
	uint64_t stuck;         /* times that it was killed because it did not move */
	const struct page *page;
	int page_fd;               /* borrowed; writable */
	const struct table *table; /* bound by the two below, not by its header */
	uint32_t nslots, nchannels;
};

/* The number that the settings ask for: auto is one for each CPU that we may use. */
unsigned workers_wanted(unsigned setting);

/* Make maps for s->nworkers workers; s->ring and s->listeners are there. */
int workers_new(struct supervisor *s, struct workers **ret_workers)
    __attribute__((warn_unused_result));
void workers_free(struct workers *w);
/* The pages, by index; for publisher_init(). */
struct page *const *workers_pages(const struct workers *w);
/* Write new settings where the workers find them, which a RING_SETTINGS record is to
 * tell them. Returns 0; -EMSGSIZE when they are too large; -ENOMEM. */
int workers_set_settings(struct workers *w, const struct settings *settings)
    __attribute__((warn_unused_result));
/* The number of that generation. */
uint64_t workers_settings(const struct workers *w);
/* Launch all keepers. What fails is logged and tried again. */
void workers_start(struct workers *w);

void workers_wake(struct workers *w);   /* after a batch: ring those who sleep */
void workers_resume(struct workers *w); /* the publisher is no longer blocked */
void workers_watch(struct workers *w, uint64_t now_ms);
void workers_reaped(struct workers *w, pid_t pid, int status);

bool workers_healthy(const struct workers *w); /* all of them */
/* Whether each of them moves, or is being replaced as it should be. */
bool workers_move(const struct workers *w, uint64_t now_ms);
void workers_look(const struct workers *w, unsigned index, struct worker_look *ret);
/* Ask for a planned restart. Returns 0, or -ENOTCONN when there is no keeper. */
int workers_restart(struct workers *w, unsigned index)
    __attribute__((warn_unused_result));

/* Tell all to stop / kill all that are left / whether none is left. */
void workers_stop(struct workers *w);
void workers_kill(struct workers *w);
bool workers_gone(const struct workers *w);

#endif
