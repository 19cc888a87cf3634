/*
 * table.h - one worker's connection table: a slot for each connection, an entry for
 * each channel it has a subscriber of, and an arena for what is variable. It holds
 * all that a successor needs to go on after kill -9, and nothing that can be rebuilt.
 *
 *   header | slots (128 bytes each) | channels (32 bytes each) | arena
 *
 * Process  written by the serving process, then by its successor; read by the
 *          supervisor and wsctl, who bound what they read.
 * Order    T1: a slot's `state` is stored after all that makes it valid, and
 *          cleared before its parts are freed. Within one process's life nothing
 *          else is needed: a successor runs after its predecessor is dead, and
 *          sees all its stores.
 *
 * What a connection was sent. The bytes of a connection's stream follow from the
 * table and the ring: its handshake reply, then the frames of all records of its
 * channels in the order of their numbers, and its private frames (struct out), each
 * before the record `at`. `pos` is the one word that says how far that is: the next
 * record to be looked at, and how many bytes of the stream lay before it (or before
 * the private frame that comes next). It is stored once, after the send. What the
 * kernel took since is tcpi_bytes_acked + SIOCOUTQ - tx, exactly: adopt.c. Where the
 * kernel does TLS, it is told by the records it made: slot_set_record().
 */
#ifndef WSCAST_SHM_TABLE_H
#define WSCAST_SHM_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/arena.h"

#define TABLE_VERSION 7
#define SLOT_NONE UINT32_MAX

enum slot_state {
	SLOT_FREE = 0,
	SLOT_HANDSHAKE = 1, /* the request is still in the kernel's buffer: peeked at */
	SLOT_OPEN = 2,
	SLOT_CLOSING = 3, /* our Close frame is queued or sent: no message any more */
};

enum slot_proto {
	PROTO_NONE = 0, /* before the handshake; a reply that is no upgrade */
	PROTO_RAW = 1,
	PROTO_V1 = 2,
	PROTO_ECHO = 3, /* no channels: each message goes back as it came */
};

enum slot_flag {
	SLOT_READING = 1 << 0,      /* between a read and the end of what it brought */
	SLOT_LAGGING = 1 << 1,      /* `pos` counts: something is still to be sent */
	SLOT_HANGUP = 1 << 2,       /* shut down and close once all is sent */
	SLOT_PINGED = 1 << 3,       /* a ping waits for its pong */
	SLOT_TEXT_PUBLISH = 1 << 4, /* raw: may publish to its only channel */
	SLOT_REQUEST = 1 << 5,      /* its HTTP request may still be in the kernel */
	SLOT_DEAF = 1 << 6,         /* what the client sends is thrown away */
	SLOT_TLS = 1 << 7, /* what the kernel has is TLS's; tx counts what is in it */
};

enum slot_mark {
	SLOT_PROXY = 1 << 0, /* its PROXY header may still be in the kernel's buffer */
	SLOT_PROXIED = 1 << 1, /* ... and what it says was noted */
	SLOT_SERVING =
	    1 << 2, /* while what comes before the first frame is looked at */
	SLOT_SUSPECT = 1 << 3,   /* a process has died meanwhile */
	SLOT_UNCOUNTED = 1 << 4, /* a unix socket: no kernel tells what it took */
	SLOT_SENDING = 1 << 5,   /* ... while it is sent to, until that is noted */
	SLOT_REPLAY = 1 << 6, /* it resumed: all is sent until it lags no more, whatever
			       * its channels' policies */
	SLOT_KTLS = 1 << 7, /* SLOT_TLS, and all of it is the kernel's: a successor can
			     * go on */
};

/* One subscription. Records below `from` (mod 2^32) are not meant for it. */
struct sub {
	uint32_t channel; /* index into the channels below */
	uint32_t from;
};

/* pos: cursor in the low half, tx in the high half, both mod 2^32. A connection
 * without SLOT_LAGGING has had everything below page->done, whatever its cursor
 * says, if that is further; see slot_cursor(). */
struct slot {
	/* what a fanout touches */
	_Atomic uint64_t pos;
	int32_t fd;
	uint32_t part; /* bytes of the frame at `pos` that were sent; a successor asks
			* the kernel instead */
	_Atomic uint8_t state; /* enum slot_state (T1) */
	uint8_t proto;         /* enum slot_proto */
	uint8_t dialect;       /* enum dialect of proto/dialect.h */
	uint8_t flags;         /* enum slot_flag */
	arena_ref out;         /* first private frame (struct out) */
	uint32_t out_bytes;    /* bytes of private frames waiting */
	uint16_t nsubs;
	uint8_t subs_log;  /* `subs` has room for 2^subs_log; 0: sub0 is all there is */
	uint8_t marks;     /* enum slot_mark */
	struct sub sub0;   /* the subscription of those who have one */
	arena_ref subs;    /* struct sub[] when more than one was ever held */
	uint32_t sent;     /* messages delivered */
	arena_ref wait;    /* first request that waits for an answer (struct wait) */
	uint32_t received; /* messages */
	uint32_t limited_at; /* as message_at: when it was told of going too fast */
	arena_ref identity;  /* struct identity, or 0: nobody is known */

	/* what timers and wsctl touch */
	uint64_t client;     /* random id */
	uint32_t deadline;   /* ticks of the wheel; which one: timer */
	uint32_t opened_s;   /* CLOCK_REALTIME, seconds */
	uint32_t progress;   /* tick at which the socket last took bytes */
	uint8_t timer;       /* what the deadline is for; the worker's own enum */
	uint8_t family;      /* AF_INET, AF_INET6, AF_UNIX */
	uint16_t port;       /* of the peer, host order */
	uint8_t addr[16];    /* of the peer; IPv4 in the first four bytes */
	uint16_t listener;   /* which of the settings' listeners took it */
	uint16_t close_code; /* told to the client, or 0 */
	/* limits.message_rate, limits.byte_rate: when the bucket is empty again, in
	 * 1/64 ms of the wheel's time, mod 2^32. */
	uint32_t message_at;
	arena_ref rates; /* struct rate[], as many as fit, or 0 */
	uint32_t bytes_at;
	union {
		struct {                    /* until it is open */
			uint32_t tx_accept; /* tx when accepted: nothing was sent yet */
			uint16_t rcvlowat;  /* SO_RCVLOWAT, while a request comes in
					     * pieces; 0: unset */
			uint8_t spare[2];
		};
		_Atomic uint64_t record; /* SLOT_KTLS: slot_set_record() */
	};
};
_Static_assert(sizeof(struct slot) == 128, "two cache lines");

/* A private frame (or several, or the handshake reply): bytes that go to this
 * connection alone, whole, before the record `at`. Allocated in the arena. */
struct out {
	arena_ref next;
	uint32_t at;       /* record number, mod 2^32 */
	uint32_t tx_begin; /* value of tx when its first byte went out */
	uint32_t len;      /* bytes below */
	uint32_t begun;    /* 1 once tx_begin counts */
	uint32_t pong;     /* 1: one Pong, which a newer may replace */
	uint8_t bytes[];
};

enum wait_kind {
	WAIT_SUBSCRIBE = 1,
	WAIT_PUBLISH = 2,
	WAIT_HISTORY = 3,
	WAIT_PRESENCE = 4
};

/* A request that waits for the supervisor; or, once its channel is live, for the
 * channel's past to be walked. Allocated in the arena. */
struct wait {
	arena_ref next;
	/* PUBLISH, PRESENCE: names it in RING_ACK. HISTORY: how many. */
	uint32_t cookie;
	uint32_t channel; /* SUBSCRIBE, HISTORY: which */
	uint8_t kind;     /* enum wait_kind */
	uint8_t has_since : 1;
	uint8_t walks : 1;     /* its channel's past is being walked for it */
	uint16_t id_len;       /* 0 = nobody wants an answer */
	uint64_t since_offset; /* HISTORY: only messages before this one */
	char since_epoch[16];  /* NUL-terminated; too long a one is cut, thus unknown */
	char id[];             /* the request's id as JSON */
};

/* How fast a connection publishes under a rule that has a rate. */
struct rate {
	uint32_t rule; /* its place in the settings, from 1 on; 0 = free */
	uint32_t at;   /* as message_at */
};

/*
 * Whose connection it is: what its token said. Written once, and replaced as a whole by
 * the next token's. Allocated in the arena.
 *
 * text: subject, jti, info (JSON), then channels, subscribe and publish, item by item,
 * each with a NUL at its end.
 */
struct identity {
	int64_t expires_s; /* CLOCK_REALTIME: the token's exp; 0 = never */
	int64_t ends_s;    /* ... when the connection ends; 0 = it does not */
	uint32_t due;      /* tick at which to look at ends_s again; see expiry.c */
	uint32_t len;      /* bytes of text */
	uint16_t subject_len, jti_len, info_len; /* without NUL */
	uint16_t nchannels, nsubscribe, npublish;
	uint8_t told; /* that it expires soon */
	char text[];
};

enum channel_state {
	CHANNEL_FREE = 0,
	CHANNEL_WANTED = 1, /* asked of the supervisor, not yet confirmed */
	CHANNEL_LIVE = 2,   /* `directory` holds: its messages come */
};

/* A channel with a subscriber on this worker. */
struct channel {
	arena_ref name; /* name_len bytes */
	uint16_t name_len;
	_Atomic uint8_t state; /* enum channel_state (T1) */
	uint8_t latest;        /* slow = latest: so it was sent to those who lag */
	uint32_t directory;    /* index in the ring's directory */
	uint32_t gen;          /* of who has the entry: another for each */
	uint32_t nsubs;        /* connections subscribed: a hint for wsctl */
	uint8_t spare[12];
};
_Static_assert(sizeof(struct channel) == 32, "half a cache line");

struct table_header {
	uint32_t version;
	uint32_t nslots;
	uint32_t nchannels;
	uint32_t spare0;
	uint64_t arena_len;
	_Atomic uint32_t slots_used;    /* all at or above were never used */
	_Atomic uint32_t channels_used; /* all at or above are free */
	_Atomic uint32_t cookie;        /* last given out */
	uint32_t told_slot;   /* RING_GAP: the last that was told of it, or SLOT_NONE */
	uint64_t told_number; /* ... of the record with this number */
	uint32_t gen;         /* the last that was given to a channel */
	uint32_t spare[19];
};
_Static_assert(sizeof(struct table_header) == 128, "two cache lines");

/* A mapped table. Slots and channels are plain arrays; `map` and `len` are for
 * table_close(). */
struct table {
	struct table_header *header;
	struct slot *slots;
	struct channel *channels;
	void *arena;
	size_t len;
};

/* Make a table in a new memfd (close-on-exec) and map it / map an existing one,
 * whose header must fit its size. Memory is touched only when used. */
int table_create(uint32_t nslots, uint32_t nchannels, uint64_t arena_len,
    struct table *ret_table, int *ret_fd) __attribute__((warn_unused_result));
int table_open(int fd, bool writer, struct table *ret_table)
    __attribute__((warn_unused_result));
void table_close(struct table *t);

/* For readers of a table that is being written: a pointer to len bytes at ref, or
 * NULL when they are not within the arena. */
const void *table_arena_peek(const struct table *t, arena_ref ref, size_t len);

/* How many slots / channels a reader needs to look at; the caller bounds it by what
 * table_create() was given. */
static inline uint32_t
table_slots_used(const struct table *t)
{
	return atomic_load_explicit(&t->header->slots_used, memory_order_acquire);
}

static inline uint32_t
table_channels_used(const struct table *t)
{
	return atomic_load_explicit(&t->header->channels_used, memory_order_acquire);
}

static inline uint64_t
slot_pos(uint32_t cursor, uint32_t tx)
{
	return (uint64_t)tx << 32 | cursor;
}

static inline void
slot_set_pos(struct slot *s, uint32_t cursor, uint32_t tx)
{
	atomic_store_explicit(&s->pos, slot_pos(cursor, tx), memory_order_release);
}

static inline uint32_t
slot_tx(const struct slot *s)
{
	return (uint32_t)(atomic_load_explicit(&s->pos, memory_order_relaxed) >> 32);
}

/* The next record to look at, as a full number: the one within 2^31 of `near`,
 * which is any number that the ring holds now. */
static inline uint64_t
slot_cursor(const struct slot *s, uint64_t near)
{
	uint32_t low = (uint32_t)atomic_load_explicit(&s->pos, memory_order_relaxed);

	return near + (uint64_t)(int64_t)(int32_t)(low - (uint32_t)near);
}

/*
 * The TLS record that is sent next: before it went `tx` bytes of the stream, those of a
 * part included, and the kernel had made `records`. In one store, before the send:
 * whether the kernel has made one more tells whether these `len` bytes went.
 */
static inline void
slot_set_record(struct slot *s, uint32_t tx, uint16_t records, size_t len)
{
	atomic_store_explicit(&s->record,
	    (uint64_t)tx << 32 | (uint64_t)((uint32_t)records << 16) | (uint16_t)len,
	    memory_order_relaxed);
}

/* A connection that nobody can go on with but the process that serves it. */
static inline bool
slot_is_bound(const struct slot *s)
{
	return (s->flags & SLOT_TLS) && !(s->marks & SLOT_KTLS);
}

/* How many subscriptions the array in `subs` has room for; 0: there is none. */
static inline uint32_t
slot_subs_cap(const struct slot *s)
{
	return s->subs_log == 0 ? 0 : UINT32_C(1) << s->subs_log;
}

static inline uint8_t
slot_state(const struct slot *s)
{
	return atomic_load_explicit(&s->state, memory_order_acquire); /* T1 */
}

static inline void
slot_set_state(struct slot *s, enum slot_state state)
{
	atomic_store_explicit(&s->state, (uint8_t)state, memory_order_release); /* T1 */
}

#endif
