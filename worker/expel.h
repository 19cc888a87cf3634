/*
 * expel.h - connections that are closed because someone said so: kicked, or their user
 * or token was revoked (shm/revoked.h).
 */
#ifndef WSCAST_WORKER_EXPEL_H
#define WSCAST_WORKER_EXPEL_H

#include "proto/slice.h"
#include "shm/revoked.h"
#include "worker/worker.h"

/* Which of a token's claims is revoked, or 0. Either may be absent. */
enum revoked_kind expel_revoked(
    const struct worker *w, struct slice subject, struct slice jti);

/*
 * Do a slice of what the record w->done, a RING_EXPEL, asks.
 *
 * budget  connections that may be closed; falls.
 *
 * Returns false when there is more: to be called again with the same record, also by a
 * successor.
 */
bool expel_record(struct worker *w, const struct ring_desc *desc, unsigned *budget);

#endif
