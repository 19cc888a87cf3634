/*
 * keeper.h - holds one worker's file table for life, and makes the process that serves.
 *
 *   keeper ── clone(CLONE_FILES) ──> serving process: has the clients, may die
 *      └───── clone(CLONE_FILES) ──> spare: waits; is the keeper once the keeper died
 *
 * All three have one file table: what the serving process accepted stays open when it
 * dies, under the same number. Each watches by pidfd, and the pidfds lie in that same
 * table: whoever closes one closes it for all. So the keeper alone makes and closes
 * them, and the page that the three share says which they are.
 *
 * Signals  none of the three heeds SIGINT or SIGHUP: Ctrl-C reaches every process of a
 *          terminal's group, and the supervisor alone decides. Keeper and spare do not
 *          heed SIGTERM either. End of file on the control socket (the supervisor is
 *          gone) is to the keeper what LAUNCH_STOP is.
 */
#ifndef WSCAST_WORKER_KEEPER_H
#define WSCAST_WORKER_KEEPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The command line (shm/launch.h). */
struct launch {
	unsigned index;
	int cpu; /* -1: do not pin */
	unsigned nlisteners;
	int spare_fd; /* of the program before, which was executed over; -1: none */
	pid_t spare_pid;
	char *title; /* what ps shows: title_len bytes to be written over */
	size_t title_len;
};

enum keeper_role { ROLE_KEEPER, ROLE_SPARE, ROLE_SERVING, ROLE_COUNT };

/* In a page of their own, shared by the three; written by the keeper, `pid` by each. */
struct keeper_shared {
	_Atomic int32_t fd[ROLE_COUNT]; /* pidfds, -1 = none */
	_Atomic int32_t pid[ROLE_COUNT];
	_Atomic uint32_t why;      /* enum launch_why of the next serving process */
	_Atomic uint32_t failures; /* serving processes in a row that died too early */
	_Atomic bool stopping;     /* no further serving process is made */
	_Atomic uint32_t stop_ms;  /* over which the clients are told, while stopping */
	_Atomic bool ended;        /* the keeper left as it should */
};

/*
 * Be the keeper, or what it is cloned into.
 *
 * Returns the exit status, in each of the processes: it is for main() to end them,
 * without what atexit() may hold for the first of them.
 */
int keeper_run(const struct launch *launch);

/* Whether an open descriptor is one of the keeper's pidfds. */
bool keeper_has_fd(const struct keeper_shared *shared, int fd);

/* Name the process, for ps and top. */
void launch_name(const struct launch *launch, const char *comm, const char *what);

/* Tell the supervisor (launch_type). Never blocks; what it does not take is lost. */
void launch_tell(uint32_t type, int32_t pid, int32_t arg);

#endif
