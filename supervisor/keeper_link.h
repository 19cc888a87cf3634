/*
 * keeper_link.h - one worker as the supervisor sees it, and its life; shared by
 * workers.c, keeper_link.c, uplinks.c, watch.c and drain.c alone.
 */
#ifndef WSCAST_SUPERVISOR_KEEPER_LINK_H
#define WSCAST_SUPERVISOR_KEEPER_LINK_H

#include <ev.h>

#include "shm/generation.h"
#include "shm/launch.h"
#include "shm/upstream.h"
#include "supervisor/launcher.h"
#include "supervisor/supervisor.h"

/* Times of CLOCK_MONOTONIC; end_ms 0 = it is not drained. */
struct keeper_drain {
	uint64_t begin_ms, end_ms;
	uint64_t began_with; /* connections */
};

struct keeper_link {
	struct workers *all;
	unsigned index;
	int cpu;

	struct page *page;
	struct table table;
	struct upstream *up;
	int page_fd, table_fd, up_fd, wake_fd, doorbell_fd;

	enum keeper_state state;
	int control; /* -1 while there is no keeper */
	pid_t group; /* the first keeper's pid, and so the process group of all three */
	pid_t keeper, serving; /* keeper: checked; serving: for people only */
	bool healthy, ever_healthy;
	bool used;           /* its maps were another keeper's: to be made anew */
	bool waits_for_room; /* its uplink is not read while the publisher is blocked */
	unsigned delay_ms;   /* before the next launch */
	unsigned backoffs;   /* that its keeper told of since it was healthy */
	uint64_t restarts, healthy_count, stuck;

	/* watch.c: the page as it was when it was last seen to move */
	uint64_t seen_heartbeat, seen_done, seen_head, seen_ms;
	uint32_t rung; /* page_must_ring() */
	uint64_t rung_ms;
	unsigned kill_step;         /* 0 = it lives; how hard we have tried to end it */
	uint64_t kill_ms, fault_ms; /* when we tried last, and first */
	struct keeper_drain drain;

	ev_io control_io, doorbell_io;
	ev_timer relaunch;
};

struct workers {
	struct supervisor *s;
	struct launcher launcher;
	unsigned n;
	uint32_t nslots, nchannels;
	uint64_t arena_len;
	uint32_t upstream_size; /* stays, whatever the settings become */
	struct generation *generation;
	int settings_fd; /* its memfd */
	bool stopping;
	void *copy; /* uplinks.c: one message of at most copy_len bytes */
	size_t copy_len;
	struct page **pages;       /* [n] */
	struct keeper_link *links; /* [n] */
};

/* keeper_link.c: all maps but the table, and no process yet. k: all zero; what failed
 * is to be ended, too. cpu: to be pinned to, or -1. Returns 0 or -errno. */
int keeper_init(struct keeper_link *k, struct workers *all, unsigned index, int cpu)
    __attribute__((warn_unused_result));
void keeper_done(struct keeper_link *k);
/* Start it, now or, should that fail (which is logged), later. */
void keeper_launch(struct keeper_link *k);
/* Tell it; a socket that does not take it is a keeper that will be found dead or stuck.
 */
void keeper_tell(struct keeper_link *k, enum launch_type type, uint32_t arg);
/* Kill keeper, spare and serving process. The control socket then says end of file. */
void keeper_kill_all(struct keeper_link *k);

/* uplinks.c */
void uplink_start(struct keeper_link *k);
void uplink_stop(struct keeper_link *k);
void uplink_resume(struct keeper_link *k);

/* watch.c */
void watch_begin(struct keeper_link *k); /* a new serving process: judge it anew */
void watch_keeper(struct keeper_link *k, uint64_t now_ms);
/* False when it stands still and nothing that we do about it helps. */
bool keeper_moves(const struct keeper_link *k, uint64_t now_ms);

#endif
