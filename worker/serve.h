/*
 * serve.h - the serving process: from its clone to its end.
 */
#ifndef WSCAST_WORKER_SERVE_H
#define WSCAST_WORKER_SERVE_H

#include "shm/launch.h"
#include "worker/keeper.h"

/*
 * Serve, until told to stop.
 *
 * shared  borrowed; the keeper's.
 * why     told to the supervisor.
 *
 * Returns the exit status: 0 when told to stop or to restart, 1 when it cannot serve.
 */
int serve_run(const struct launch *launch, const struct keeper_shared *shared,
    enum launch_why why);

/* Whether this program can use what the supervisor shares: 0 or -errno. For one that
 * was not started by that supervisor. */
int serve_check(void) __attribute__((warn_unused_result));

#endif
