/*
 * channels.h - this worker's channels: who is subscribed to each (in the order of their
 * slots), and what is asked of the supervisor.
 */
#ifndef WSCAST_WORKER_CHANNELS_H
#define WSCAST_WORKER_CHANNELS_H

#include "worker/worker.h"

#include "shm/namemap.h"

/* The private part of a channel, at its index in the table. */
struct chan {
	uint32_t *slots; /* subscribed or waiting to be, rising */
	uint32_t nslots, cap;
	uint64_t offset; /* of the newest message below w->done (or in progress) */
	uint64_t newest; /* its record; 0 = not known */
	/* All below were passed to those of its subscribers who do not lag; void when
	 * someone `joined` since the record that it was found for. */
	uint64_t served;
	bool joined;
	bool latest; /* slow = latest */
};

struct channels {
	struct namemap names;
	struct chan *chan;      /* [header->nchannels], touched when used */
	uint32_t *by_directory; /* channel of a directory index, or CHANNEL_NONE */
	uint32_t by_directory_len;
	uint32_t *idle; /* lost their last subscriber: to be dropped */
	uint32_t nidle, idle_cap;
	uint32_t free_hint; /* no free entry below */
	uint32_t sync_next; /* next channel to name to the supervisor again */
	bool syncing, sync_begun;
};

#define CHANNEL_NONE UINT32_MAX

int channels_new(struct worker *w, struct channels **ret)
    __attribute__((warn_unused_result));
void channels_free(struct worker *w, struct channels *c);

/* Once a turn: tell the supervisor what could not be told before. */
void channels_turn(struct worker *w);

/* A control record that concerns channels or waiting requests. */
void channels_record(struct worker *w, uint64_t number, const struct ring_desc *desc);

/* The channel of a record, or CHANNEL_NONE when nobody here is subscribed. */
static inline uint32_t
channels_of(const struct worker *w, uint32_t directory)
{
	const struct channels *c = w->channels;

	return directory < c->by_directory_len ? c->by_directory[directory]
					       : CHANNEL_NONE;
}

static inline struct sub *
slot_subs(const struct worker *w, struct slot *s)
{
	return s->subs_cap == 0 ? &s->sub0 : arena_at(w->arena, s->subs);
}

/* The slot's subscription to a channel, or NULL. Kept in rising order of channels. */
struct sub *slot_sub(const struct worker *w, const struct slot *s, uint32_t channel);

/* The offset of the channel's newest message below `number`; *ret_newest its record,
 * 0 when the ring has it no more. `number` is within [floor, head]. */
uint64_t channels_offset(
    const struct worker *w, uint32_t channel, uint64_t number, uint64_t *ret_newest);

/* ---- adoption ---- */
int channels_adopt(struct worker *w) __attribute__((warn_unused_result));
/* The slot's subscriptions and waits are valid (marked): list it. 0 or -errno. */
int channels_adopt_slot(struct worker *w, uint32_t slot)
    __attribute__((warn_unused_result));
/* All slots are listed: free what nobody refers to, tell the supervisor. */
void channels_adopted(struct worker *w);

/* What a subscriber said it has had. epoch NULL: it did not say. */
struct since {
	const char *epoch;
	size_t epoch_len;
	uint64_t offset;
};

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
int channels_subscribe(struct worker *w, uint32_t slot, const char *name, size_t len,
    const struct since *since, const char *id, size_t id_len)
    __attribute__((warn_unused_result));

/* Returns 0, or -ENOENT when it was not subscribed. What was published but not begun
 * to be sent is no longer sent. */
int channels_unsubscribe(struct worker *w, uint32_t slot, const char *name, size_t len)
    __attribute__((warn_unused_result));

/* The connection goes: end all its subscriptions and waiting requests. */
void channels_leave(struct worker *w, uint32_t slot);

/*
 * Pass a client's message on to the feed; session_published() tells how it went, also
 * when id_len is 0.
 *
 * Returns 0; -EMSGSIZE; -ENOBUFS when the upstream ring is full (try again later).
 */
int channels_publish(struct worker *w, uint32_t slot, const char *name, size_t len,
    const void *data, size_t data_len, const char *id, size_t id_len)
    __attribute__((warn_unused_result));

/* The name of a channel by its index in the table; *ret_len its bytes. */
const char *channels_name(const struct worker *w, uint32_t channel, size_t *ret_len);

#endif
