/*
 * renew.h - the keeper goes on as the program that is installed now: an upgrade.
 *
 * Same process, same descriptors, between two serving processes. Exec gives the keeper
 * a file table of its own, so the spare keeps the old one, with every client's socket,
 * until the new program has shown that it starts and knows these maps. When it does
 * not, the keeper ends, and the spare goes on as the old program.
 *
 * Until the spare is gone too, a socket that is closed here stays open there: so no
 * serving process is made before.
 */
#ifndef WSCAST_WORKER_RENEW_H
#define WSCAST_WORKER_RENEW_H

#include <sys/types.h>

#include "worker/keeper.h"

/*
 * Execute the program again, by the path that it was started with.
 *
 * spare_fd, spare_pid  of the spare, which is there.
 *
 * Returns only when that failed, -errno: nothing has changed then.
 */
int renew_begin(const struct launch *launch, int spare_fd, pid_t spare_pid);

/*
 * In the new program: see whether it can go on, and if so end the old one's spare.
 *
 * Returns 0, or -errno (logged): then the keeper is to end at once.
 */
int renew_end(const struct launch *launch) __attribute__((warn_unused_result));

#endif
