/*
 * launch.h - what a keeper finds when it starts: open descriptors under fixed
 * numbers, and the messages on its control socket.
 *
 * The keeper is `wscast-worker INDEX CPU NLISTENERS` (CPU -1: do not pin), with
 * the descriptors below and standard error, and nothing else. A keeper that executes
 * the program anew in its own place adds `SPARE_FD SPARE_PID` (worker/renew.h).
 */
#ifndef WSCAST_SHM_LAUNCH_H
#define WSCAST_SHM_LAUNCH_H

#include <stdint.h>

enum launch_fd {
	LAUNCH_CONTROL = 3, /* SOCK_SEQPACKET to the supervisor: struct launch_msg */
	LAUNCH_RING = 4,    /* read-only */
	LAUNCH_PAGE = 5,
	LAUNCH_TABLE = 6,
	LAUNCH_UPSTREAM = 7,
	LAUNCH_WAKE = 8,       /* eventfd: the supervisor rings the worker */
	LAUNCH_DOORBELL = 9,   /* eventfd: the worker rings the supervisor */
	LAUNCH_SETTINGS = 10,  /* read-only: shm/generation.h */
	LAUNCH_LISTENERS = 11, /* the first of NLISTENERS, in the settings' order */
};

enum launch_type {
	/* to the keeper */
	LAUNCH_STOP = 1, /* close the clients (1001) over arg ms, end the worker, exit
			  */
	/* end the serving process between two events, go on as the program that is
	 * installed now, and clone anew */
	LAUNCH_RESTART = 2,
	LAUNCH_KILL = 3, /* kill -9 the serving process; clone anew */
	/* from the keeper */
	LAUNCH_KEEPER = 16,  /* pid is the keeper now, arg the spare's pid */
	LAUNCH_SERVING = 17, /* serving process pid was made; arg: why (launch_why) */
	LAUNCH_HEALTHY = 18, /* serving process pid serves */
	LAUNCH_DIED = 19,    /* serving process pid ended, arg: its wait status */
	LAUNCH_BACKOFF = 20, /* the next one comes in arg ms: they die too early */
};

enum launch_why {
	LAUNCH_WHY_FIRST = 0,
	LAUNCH_WHY_DIED = 1,
	LAUNCH_WHY_RESTART = 2,
	LAUNCH_WHY_KILLED = 3, /* the supervisor asked for LAUNCH_KILL */
};

struct launch_msg {
	uint32_t type;
	int32_t pid;
	int32_t arg;
	uint32_t spare;
};

#endif
