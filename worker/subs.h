/*
 * subs.h - a connection's subscriptions: the one in its slot, or a list in the arena,
 * in rising order of channels.
 */
#ifndef WSCAST_WORKER_SUBS_H
#define WSCAST_WORKER_SUBS_H

#include "shm/arena.h"
#include "worker/worker.h"

static inline struct sub *
slot_subs(const struct worker *w, struct slot *s)
{
	return s->subs_log == 0 ? &s->sub0 : arena_at(w->arena, s->subs);
}

/* The slot's subscription to a channel, or NULL. */
struct sub *slot_sub(const struct worker *w, const struct slot *s, uint32_t channel);

/* One more, of what is published from `from` on; the channel is told, where it has
 * presence. Returns 0 or -ENOBUFS. */
int subs_add(struct worker *w, uint32_t slot, uint32_t channel, uint32_t from)
    __attribute__((warn_unused_result));
/* It is there: end it. */
void subs_del(struct worker *w, uint32_t slot, uint32_t channel);
/* End all of them. */
void subs_end(struct worker *w, uint32_t slot);

#endif
