/*
 * requests.h - what a client asks: to subscribe, to unsubscribe, to publish. What the
 * supervisor must answer first waits in the table.
 */
#ifndef WSCAST_WORKER_REQUESTS_H
#define WSCAST_WORKER_REQUESTS_H

#include "proto/slice.h"
#include "worker/history.h"
#include "worker/subs.h"
#include "worker/worker.h"

struct uplink;

/* What a subscriber said it has had. */
struct since {
	const char *epoch;
	size_t epoch_len;
	uint64_t offset;
};

/* Stands for an id where the connection's token asks, and not its client. */
#define REQUEST_TOKEN "!"

/*
 * Subscribe a connection. The answer comes by session_subscribed() or
 * session_refused(): before this returns when the channel is live here already, else
 * when the feed has confirmed. A second subscribe of the same channel is answered
 * like the first and changes nothing (with since: replays again).
 *
 * name    1 to CHANNEL_NAME_MAX bytes, checked by the caller (name_ok()).
 * since   NULL or borrowed.
 * id      the request's id as JSON; id_len 0: nobody wants an answer, and the
 *         session is told all the same.
 *
 * Returns 0; -EMFILE over limits.channels_per_connection; -ENOBUFS when table, arena
 * or upstream ring is full.
 */
int requests_subscribe(struct worker *w, uint32_t slot, const char *name, size_t len,
    const struct since *since, const char *id, size_t id_len)
    __attribute__((warn_unused_result));

/*
 * The last messages of a channel, `limit` of them, before the offset `before` (0: up to
 * now). Subscribed or not; session_history() tells, or session_refused().
 *
 * Returns as requests_subscribe() does; -ENOTCONN when the feed is down and the channel
 * not known here.
 */
int requests_history(struct worker *w, uint32_t slot, const char *name, size_t len,
    uint32_t limit, uint64_t before, const char *id, size_t id_len)
    __attribute__((warn_unused_result));

/* Returns 0, or -ENOENT when it was not subscribed. What was published but not begun
 * to be sent is no longer sent. */
int requests_unsubscribe(struct worker *w, uint32_t slot, const char *name, size_t len)
    __attribute__((warn_unused_result));

/* Answer what waits for a channel's past with -errno. */
void requests_refuse_history(
    struct worker *w, uint32_t slot, uint32_t channel, int err);

/* The feed may not deliver a channel any more: end the subscription, and say so. */
void requests_revoke(struct worker *w, uint32_t slot, uint32_t channel, int err);

/* The connection goes: end all its subscriptions and waiting requests. */
void requests_leave(struct worker *w, uint32_t slot);

/*
 * Pass a client's message on to the feed; session_published() tells how it went, also
 * when id_len is 0.
 *
 * Returns 0; -EMSGSIZE; -ENOBUFS when the upstream ring is full (try again later).
 */
int requests_publish(struct worker *w, uint32_t slot, const char *name, size_t len,
    struct slice key, const void *data, size_t data_len, const char *id, size_t id_len)
    __attribute__((warn_unused_result));

/*
 * Ask the supervisor something, with a cookie that its answer names.
 *
 * kind  WAIT_PUBLISH or WAIT_PRESENCE.
 * u     its slot and cookie are filled in.
 *
 * Returns as requests_publish() does.
 */
int requests_ask(struct worker *w, uint32_t slot, enum wait_kind kind, struct uplink *u,
    const char *id, size_t id_len) __attribute__((warn_unused_result));

/* ---- for channels.c: what the supervisor said ---- */

/* Answer all who wait for a channel: it is live (0), or -errno. */
void requests_answer(struct worker *w, uint32_t channel, int err);

/* ---- for history.c ---- */

/* What is to be walked for a request of a live channel. */
void requests_walk(
    struct worker *w, uint32_t slot, const struct wait *request, struct walk *ret_walk);
/* The walk for a waiting request is over, and holds, or is of no use (-errno): answer
 * it. */
void requests_walked(
    struct worker *w, uint32_t slot, arena_ref wait, const struct walk *walk, int err);

/* A RING_ACK or RING_ANSWER for this worker. */
void requests_ack(struct worker *w, uint64_t number, const struct ring_desc *desc);

/* Whether it waits for such, and not for its channel. */
static inline bool
wait_is_asked(const struct wait *wait)
{
	return wait->kind == WAIT_PUBLISH || wait->kind == WAIT_PRESENCE;
}

#endif
