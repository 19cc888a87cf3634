/*
 * edge.h - connections that stay readable while nothing can be done with what is there:
 * the loop, which tells of it again and again, is told to leave them alone, and each
 * arrival is told once.
 *
 * A closed socket is in no set, and a predecessor's set is gone with it: whoever is
 * adopted is in none.
 */
#ifndef WSCAST_WORKER_EDGE_H
#define WSCAST_WORKER_EDGE_H

#include "worker/worker.h"

int edges_new(struct worker *w, struct edges **ret) __attribute__((warn_unused_result));

/* client_readable() once for each arrival from now on, also for the end of what comes,
 * and for what is there already. Who waits so goes on to. Returns 0 or -errno. */
int edge_wait(struct worker *w, uint32_t slot) __attribute__((warn_unused_result));

/* The loop tells again. Also of what is in no set. */
void edge_stop(struct worker *w, uint32_t slot);

#endif
