/*
 * channels.h - this worker's channels: who is subscribed to each (in the order of their
 * slots), and what is asked of the supervisor.
 */
#ifndef WSCAST_WORKER_CHANNELS_H
#define WSCAST_WORKER_CHANNELS_H

#include "worker/worker.h"

#include "shm/namemap.h"
#include "shm/places.h"

struct uplink;

/* The private part of a channel, at its index in the table. */
struct chan {
	uint32_t *slots; /* subscribed or waiting to be, rising */
	uint32_t nslots, cap;
	uint32_t held;   /* by channels_hold(): not dropped, whoever leaves */
	uint64_t offset; /* of the newest message below w->done (or in progress) */
	uint64_t newest; /* its record; 0 = not known */
	/* All below were passed to those of its subscribers who do not lag; void when
	 * someone `joined` since the record that it was found for. */
	uint64_t served;
	bool joined;
	uint8_t rule;  /* its row: rules.h */
	bool latest;   /* slow = latest, as the table says */
	bool presence; /* who comes and goes is told */
	/* What leaves the retained window as the floor rises to `leaving`: see slow.c.
	 */
	uint64_t leaving, lost;
	uint32_t nleaving;
};

struct channels {
	struct namemap names;
	struct chan *chan;      /* [header->nchannels], touched when used */
	uint32_t *by_directory; /* channel of a directory index, or CHANNEL_NONE */
	uint32_t by_directory_len;
	uint32_t *idle; /* lost their last subscriber: to be dropped */
	uint32_t nidle, idle_cap;
	struct places places; /* in the table's array of them, and in `chan` */
	uint32_t sync_next;   /* next channel to name to the supervisor again */
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

/* A RING_GAP, in slices: where to go on (behind this slot), and each subscriber. */
void channels_gap_begin(
    struct worker *w, uint32_t channel, uint64_t number, uint32_t *ret_after);
void channels_gap_tell(
    struct worker *w, uint32_t slot, uint64_t number, uint32_t channel);

/* A RING_REVOKED: its subscribers are told, *budget of them at most. Returns false when
 * there are more. */
bool channels_revoked(struct worker *w, const struct ring_desc *desc, unsigned *budget);

/* The rules may be others. */
void channels_reload(struct worker *w);

/* The channel of a record, or CHANNEL_NONE when nobody here is subscribed. */
static inline uint32_t
channels_of(const struct worker *w, uint32_t directory)
{
	const struct channels *c = w->channels;

	return directory < c->by_directory_len ? c->by_directory[directory]
					       : CHANNEL_NONE;
}

/* The offset of the channel's newest message below `number`; *ret_newest its record,
 * 0 when the ring has it no more. `number` is within [floor, head]. */
uint64_t channels_offset(
    const struct worker *w, uint32_t channel, uint64_t number, uint64_t *ret_newest);

/* What the table says of a channel. */
static inline uint8_t
channel_state(const struct channel *c)
{
	return atomic_load_explicit(&c->state, memory_order_acquire); /* T1 */
}

/* ---- for requests.c ---- */

/* A new entry, asked of the supervisor. Returns its index or CHANNEL_NONE. */
uint32_t channels_take(struct worker *w, const char *name, size_t len);

/* Put the slot on a channel's list, if it is not there; 0 or -ENOMEM. Take it off: a
 * channel whose list becomes empty is dropped at the end of the turn, unless someone
 * comes until then. */
int channels_list(struct worker *w, uint32_t channel, uint32_t slot)
    __attribute__((warn_unused_result));
void channels_unlist(struct worker *w, uint32_t channel, uint32_t slot);

/* Keep a channel though nobody is on its list / no longer. */
void channels_hold(struct worker *w, uint32_t channel);
void channels_unhold(struct worker *w, uint32_t channel);

/* Tell the supervisor. Returns 0, -EMSGSIZE or -ENOBUFS. */
int channels_ask(struct worker *w, const struct uplink *u)
    __attribute__((warn_unused_result));

/* ---- adoption ---- */
int channels_adopt(struct worker *w) __attribute__((warn_unused_result));
/* The slot's subscriptions and waits are valid (marked): list it. 0 or -errno. */
int channels_adopt_slot(struct worker *w, uint32_t slot)
    __attribute__((warn_unused_result));
/* All slots are listed: free what nobody refers to, tell the supervisor. */
void channels_adopted(struct worker *w);

/* The name of a channel by its index in the table; *ret_len its bytes. */
const char *channels_name(const struct worker *w, uint32_t channel, size_t *ret_len);

#endif
