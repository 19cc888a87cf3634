/*
 * presence.h - who is in the channels whose rule has presence: the supervisor is told
 * who comes and goes, and asked who is there.
 *
 * What could not be told, since the uplink was full, makes all be named again; as does
 * whatever may have changed who counts: other settings, or a predecessor's death.
 */
#ifndef WSCAST_WORKER_PRESENCE_H
#define WSCAST_WORKER_PRESENCE_H

#include "worker/worker.h"

/* A connection subscribed to a channel / is subscribed no longer. */
void presence_join(struct worker *w, uint32_t slot, uint32_t channel);
void presence_leave(struct worker *w, uint32_t slot, uint32_t channel);
/* Its token has become another. */
void presence_renew(struct worker *w, uint32_t slot);

/* Name all members anew / once a turn: go on with that. */
void presence_name_all(struct worker *w);
void presence_turn(struct worker *w);

/*
 * Ask who is in a channel; session_presence() tells, or session_v1_error().
 *
 * after  the `next` of an answer before; 0: from the first.
 *
 * Returns 0; -EACCES; -EOPNOTSUPP when the channel's rule has no presence; -ENOBUFS.
 */
int presence_ask(struct worker *w, uint32_t slot, const char *name, size_t len,
    uint64_t after, uint32_t limit, const char *id, size_t id_len)
    __attribute__((warn_unused_result));

#endif
