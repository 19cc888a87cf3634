/*
 * registry.h - the channels of the host: which index each has in the ring's
 * directory, who is interested in it, and whether the feed delivers it.
 *
 *   nobody --take--> RETIRED --interest--> wanted --feed confirms--> live
 *                       ^                     |
 *                       +------ 5 s after the last interest went
 *
 * A retired channel keeps its entry, and so its offsets and history, until its last
 * record has left the ring; then its index may be given to another.
 *
 * A feed that cannot tell what passed while it was not listening leaves a gap: one
 * offset is given to it (RING_GAP, arg = UINT64_MAX: unknown), so that a client that
 * resumes from before it is never told that it has everything.
 *
 * Units    time is the milliseconds of registry_tick().
 */
#ifndef WSCAST_SUPERVISOR_REGISTRY_H
#define WSCAST_SUPERVISOR_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/publisher.h"

#define REGISTRY_LINGER_MS 5000

struct registry;

/* What the registry asks of the feed. */
struct registry_feed {
	/* Begin to deliver; registry_confirmed() tells, perhaps before this returns. */
	void (*want)(void *owner, uint32_t channel);
	void (*drop)(void *owner, uint32_t channel);
	/* A channel became live, or was refused: for tails that wait; may be NULL. */
	void (*on_live)(void *owner, uint32_t channel, int err);
	/* What is published to a channel that has an entry is missed by no means,
	 * whether anybody wants it or not. */
	bool complete;
};

/* p: borrowed, with its ring. nworkers: 1 to RING_WORKERS_MAX. */
int registry_new(struct publisher *p, unsigned nworkers, struct registry **ret_registry)
    __attribute__((warn_unused_result));
void registry_free(struct registry *r);
void registry_set_feed(
    struct registry *r, const struct registry_feed *feed, void *owner);

/* ---- interest ---- */

/*
 * A worker wants a channel. Answered by a record RING_SUBSCRIBED or RING_REFUSED with
 * arg = token, except when it believed rightly: it has subscribers there already.
 *
 * name      1 to CHANNEL_NAME_MAX bytes, checked by the caller.
 * believed  what the worker has as the channel's index, or UPLINK_NO_DIRECTORY.
 */
void registry_want(struct registry *r, unsigned worker, const char *name, size_t len,
    uint64_t token, uint32_t believed);
void registry_leave(struct registry *r, unsigned worker, const char *name, size_t len);
/* Between these, a new serving process names all it has; the rest it has not. */
void registry_sync_begin(struct registry *r, unsigned worker);
void registry_sync_end(struct registry *r, unsigned worker);
void registry_worker_gone(struct registry *r, unsigned worker);

/* A reader of the control socket is interested: any number of times, each undone by
 * registry_untail(). Returns 0, or -ENOSPC / -ENOMEM. */
int registry_tail(struct registry *r, const char *name, size_t len,
    uint32_t *ret_channel) __attribute__((warn_unused_result));
void registry_untail(struct registry *r, uint32_t channel);

/* The channel's index, whoever is interested. Returns 0, -ENOSPC or -ENOMEM. */
int registry_take(struct registry *r, const char *name, size_t len,
    uint32_t *ret_channel) __attribute__((warn_unused_result));

/* ---- the feed's side ---- */

/* The feed delivers the channel from here on (0), or cannot (-errno): then whoever
 * waits is told, and for those who have subscribers from before it is asked again; but
 * for -EACCES: who may not hear a channel is told so, and forgotten (RING_REVOKED). */
void registry_confirmed(struct registry *r, uint32_t channel, int err);
/* The feed lost its link: no channel is live. */
void registry_lost(struct registry *r);
/* Of one channel: it is delivered no longer. */
void registry_lost_channel(struct registry *r, uint32_t channel);
/* Something was lost, nobody knows how much: of one channel / of any. A gap is written
 * where the channel is live, and else once it is. */
void registry_gap(struct registry *r, uint32_t channel);
void registry_gap_all(struct registry *r);
bool registry_wanted(const struct registry *r, uint32_t channel);
bool registry_live(const struct registry *r, uint32_t channel);
/* The next wanted channel at or after *cursor, which is moved behind it; false: none.
 */
bool registry_next_wanted(
    const struct registry *r, uint32_t *cursor, uint32_t *ret_channel);

/* ---- for all ---- */

/* Index of a name, or UINT32_MAX. */
uint32_t registry_find(const struct registry *r, const char *name, size_t len);
/* Name of a used entry, not NUL-terminated. */
const char *registry_name(const struct registry *r, uint32_t channel, size_t *ret_len);
/* Whether the index is in use / how many workers and tails are interested. */
bool registry_used(const struct registry *r, uint32_t channel);
unsigned registry_workers(const struct registry *r, uint32_t channel);
unsigned registry_tails(const struct registry *r, uint32_t channel);
uint32_t registry_len(const struct registry *r); /* no index at or above is used */
uint32_t registry_count(const struct registry *r);
/* Gaps written, each of one channel. */
uint64_t registry_gaps(const struct registry *r);

/* Once a second or so: ends lingering, asks again for what was refused, frees what has
 * left the ring. */
void registry_tick(struct registry *r, uint64_t now_ms);

#endif
