/*
 * adopt.h - a predecessor's connections, exact to the byte.
 */
#ifndef WSCAST_WORKER_ADOPT_H
#define WSCAST_WORKER_ADOPT_H

#include "worker/worker.h"

/*
 * Go on with all connections and channels of the table. The arena must be fresh
 * (nothing marked), w->done the page's, clients, channels, fanout and side new.
 *
 * Returns 0 or -errno when the table as a whole cannot be used; a connection that
 * cannot be used is closed and counted.
 */
int adopt_all(struct worker *w) __attribute__((warn_unused_result));

#endif
