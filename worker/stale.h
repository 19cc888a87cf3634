/*
 * stale.h - descriptors that a predecessor left in the file table that it shared with
 * the keeper: its epoll, timers and eventfds, and perhaps a connection that it had
 * accepted and not yet written down.
 */
#ifndef WSCAST_WORKER_STALE_H
#define WSCAST_WORKER_STALE_H

#include "shm/table.h"
#include "worker/keeper.h"

struct stale {
	int *orphans; /* connected sockets in no slot: the caller's */
	size_t norphans, cap;
};

/*
 * Close every descriptor but 0 to 2, those of the launch, the keeper's, and those of
 * the table's slots; connected sockets without a slot are handed over instead.
 *
 * To be called before this process opens any descriptor of its own.
 *
 * Returns 0 or -ENOMEM.
 */
int stale_close(const struct table *table, const struct launch *launch,
    const struct keeper_shared *shared, struct stale *ret)
    __attribute__((warn_unused_result));
void stale_done(struct stale *s);

#endif
