/*
 * expiry.h - tokens that run out on open connections: the client is told a minute
 * before, and closed with 4401 unless it shows a new one.
 *
 * timers.c keeps one deadline for each connection: the sooner of its own and this one.
 */
#ifndef WSCAST_WORKER_EXPIRY_H
#define WSCAST_WORKER_EXPIRY_H

#include "worker/worker.h"

/* The connection's identity is new: see when it is due. */
void expiry_begin(struct worker *w, uint32_t slot);

/* Whether there is a tick at which expiry_due() is to be called. */
bool expiry_tick(const struct worker *w, const struct slot *s, uint32_t *ret_tick);

/* That tick has come: tell the client, end the connection, or look again later. */
void expiry_due(struct worker *w, uint32_t slot);

#endif
