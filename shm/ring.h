/*
 * ring.h - one-writer, many-reader broadcast ring in shared memory.
 *
 * The index is a ring of fixed 64-byte descriptors, one for each record, found
 * by the record's number. Beside it lies one ring of bytes per dialect: complete
 * WebSocket frames, back to back, and nothing else, so that the frames of a run
 * of records are one contiguous range. A descriptor says where its record's
 * frame begins in each dialect; the next descriptor says where it ends.
 *
 *   index   ... | n-1 | n | n+1 | ...          64 bytes each
 *   frames  ... [frame n-1][frame n][frame n+1] ...   one such ring per dialect
 *                          ^ begin(n)  ^ begin(n+1)
 *
 * Readers use records and frames where they lie. Each worker's floor (page.h)
 * says how far back it may still look, and the writer never overwrites above a
 * floor.
 *
 * Units    record numbers count from 1 since the ring was made and never wrap;
 *          frame positions count bytes and are kept modulo 2^32, which is
 *          unambiguous since a dialect's ring is at most RING_FRAMES_MAX bytes.
 * Process  one writing process; any number of readers on read-only maps. A
 *          handle belongs to one thread.
 * Order    edges W1-R1 (head), R2-W2 (floors) and K1-K2 (newer), explained in ring.c;
 *          the sleep/wake edges S1-S3 are in page.h.
 */
#ifndef WSCAST_SHM_RING_H
#define WSCAST_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_VERSION 3
#define RING_DESC_LEN 64
#define RING_DIALECTS 6 /* room in a descriptor; proto/dialect.h numbers them */
#define RING_FRAMES_MIN (1u << 20)
#define RING_FRAMES_MAX (1u << 30)
#define RING_EPOCH_LEN 12 /* characters, without the ending NUL */

enum ring_type {
	RING_MESSAGE = 1,    /* a published message: has frames */
	RING_SUBSCRIBED = 2, /* the feed delivers `channel` from here on */
	RING_REFUSED = 3,    /* the feed cannot take up a channel: errno in `offset` */
	RING_ACK = 4,        /* a client's publish was taken (arg = 0) or not (errno) */
	RING_SETTINGS = 5, /* generation `offset` of the settings holds from here on */
	RING_DRAIN = 6,    /* worker `worker`: clients are told to go between the times
			    * `arg` and `offset` (CLOCK_MONOTONIC ms); offset 0 = stay */
	RING_GAP = 7,      /* what `channel` lost: offsets `offset` to `arg` */
	RING_REVOKED = 8,  /* the feed may not deliver `channel` any more: errno in
			    * `offset`; no worker has an interest in it from here on */
	RING_EXPEL = 9,    /* connections are closed: data_kind says which */
	RING_PUSH = 10,    /* who came or went: a frame for those subscribers of
			    * `channel` who speak wscast.v1; no message, no offset */
	RING_ANSWER = 11,  /* to a request for presence: JSON, as a frame of the raw
			    * dialect; worker, channel, offset as in ACK */
};

/* Which connections a RING_EXPEL closes. */
enum ring_expel {
	EXPEL_REVOKED = 1, /* those whose user or token is in the table (revoked.h) */
	EXPEL_USER = 2,    /* those whose user has the id `offset`, `arg` (revoked.h) */
	EXPEL_JTI = 3,     /* ... or whose token */
	EXPEL_CLIENT = 4,  /* the one of this id: `offset` */
	EXPEL_CHANNEL = 5, /* those subscribed to `channel` */
};

/*
 * One record. The reader's copy is the shared one: never write to it.
 *
 * number   its own number; readers without a floor check it before and after use
 * offset   MESSAGE, SUBSCRIBED: the channel's offset (of this message; of the
 *          newest before this point). Others as said above.
 * time_ns  MESSAGE: CLOCK_REALTIME at publishing. Others: `arg`
 * channel  index into the directory (directory.h), or RING_NO_CHANNEL
 * prev     MESSAGE: how many records before this one lies the same channel's
 *          previous message; 0 when there is none that the ring still knows
 * newer    MESSAGE: how many records behind this one lies the next of the same channel
 *          and key; 0 while there is none. Written when that one is (ring_superseded())
 * begin    where the frame begins in each dialect (mod 2^32); a dialect in which
 *          the record has no frame begins where its successor begins
 */
struct ring_desc {
	_Atomic uint64_t number;
	uint64_t offset;
	union {
		uint64_t time_ns;
		uint64_t arg;
	};
	uint32_t channel;
	uint32_t prev;
	_Atomic uint32_t newer; /* K1 */
	uint8_t type;           /* enum ring_type */
	uint8_t data_kind; /* MESSAGE: enum data_kind of proto/dialect.h; EXPEL: enum
			    * ring_expel */
	uint16_t worker;   /* ACK, REFUSED, DRAIN: for this worker index only */
	uint32_t begin[RING_DIALECTS];
};
_Static_assert(sizeof(struct ring_desc) == RING_DESC_LEN, "one cache line");

#define RING_NO_CHANNEL UINT32_MAX

struct ring;
struct keys;
struct page;
struct directory;
struct revoked;

struct ring_config {
	uint32_t frames_size;  /* bytes per dialect, a power of two */
	uint32_t index_len;    /* descriptors, a power of two */
	uint32_t channels_max; /* entries of the directory */
};

/*
 * Make a ring in a new memfd, as its writer.
 *
 * cfg     borrowed.
 * ret_fd  the memfd, close-on-exec, the caller's to close. map_reader_fd()
 *         makes the read-only descriptor that a reader gets.
 *
 * Returns 0, -EINVAL for bad sizes, or -errno of memfd_create, ftruncate, mmap.
 */
int ring_create(const struct ring_config *cfg, struct ring **ret_ring, int *ret_fd)
    __attribute__((warn_unused_result));

/* Map an existing ring; `writer` needs a writable fd. The fd stays the caller's.
 * Returns 0, -EPROTO when the layout is none of ours, or -errno. */
int ring_open(int fd, bool writer, struct ring **ret_ring)
    __attribute__((warn_unused_result));
void ring_close(struct ring *r);

const char *ring_epoch(const struct ring *r); /* NUL-terminated */
uint32_t ring_frames_size(const struct ring *r);
uint32_t ring_index_len(const struct ring *r);
struct directory *ring_directory(struct ring *r);
struct revoked *ring_revoked(struct ring *r); /* read-only but for the writer */

/* ---- writer ---- */

/*
 * Name a worker whose floor the writer must heed (NULL: none any more).
 *
 * worker  0 to RING_WORKERS_MAX - 1.
 * page    borrowed until replaced. Nothing in it is trusted: a floor above head
 *         counts as head, one below ring_oldest() as that.
 *
 * The floor of a worker that is away holds the ring for its successor, and at last
 * against everyone. To let go of it is safe only when nobody can use the old floor
 * any more: when its keeper and all its processes are dead (its control socket says
 * EOF), or before it was ever launched.
 */
#define RING_WORKERS_MAX 1024
void ring_set_worker(struct ring *r, unsigned worker, const struct page *page);

/*
 * Room for up to len bytes of the next record's frame in one dialect.
 *
 * Returns a pointer to contiguous room, written freely until ring_commit();
 * NULL with errno EMSGSIZE (len over ring_frame_max()) or ENOBUFS when a floor
 * is in the way (ring_laggard() names it). Nothing is published before commit.
 */
void *ring_room(struct ring *r, unsigned dialect, size_t len);

/* Say how long the frame in ring_room() became; each dialect at most once. */
void ring_put(struct ring *r, unsigned dialect, size_t len);

/* Longest frame ring_room() can ever give: an eighth of the frames. */
size_t ring_frame_max(const struct ring *r);

/*
 * The next record to be committed, a RING_MESSAGE, is of this key of its channel.
 * Messages of which nothing is said are of no key, and count as of one: the channel's
 * own.
 *
 * key  len bytes, 1 at least.
 */
void ring_key(struct ring *r, uint32_t channel, const void *key, size_t len);

/* Keys whose newest message will not be marked as superseded, for want of room. */
uint64_t ring_keys_forgotten(const struct ring *r);

/*
 * Publish the record: what was put since the last commit, with these fields of
 * desc: offset, time_ns/arg, channel, prev, type, data_kind, worker. A message marks
 * the one before it of the same key as superseded.
 *
 * Returns the record's number, or 0 when no descriptor is free (ENOBUFS); what
 * was put is then still waiting, and the commit may be tried again.
 */
uint64_t ring_commit(struct ring *r, const struct ring_desc *desc)
    __attribute__((warn_unused_result));

/* Forget what was put, and of which key, since the last commit. */
void ring_abort(struct ring *r);

/* The worker whose floor was in the way of the last ENOBUFS. */
unsigned ring_laggard(const struct ring *r);

/* How far, in 1/1024 of the ring, the record `number` lies behind the head, by
 * the dialect (or the index) in which it is furthest. 1024 when it has gone. */
unsigned ring_distance(const struct ring *r, uint64_t number);

/* Feed state that every process may see: since when (CLOCK_REALTIME ms) the
 * feed is down, 0 = up. */
void ring_set_feed_down(struct ring *r, uint64_t since_ms);
uint64_t ring_feed_down(const struct ring *r);
void ring_set_draining(struct ring *r, bool draining);
bool ring_draining(const struct ring *r);

/* ---- readers ---- */

/* Number of the next record to be written: all below are published. R1. */
uint64_t ring_head(const struct ring *r);

/* The oldest record whose descriptor and frames are whole as of now. A reader
 * without a floor (wsctl, supervisor on its own) checks after use again. */
uint64_t ring_oldest(const struct ring *r);

/* The smallest number that a worker that has read up to `done` may retain: within
 * three quarters of the ring in every dialect and in the index, and not gone. */
uint64_t ring_retain(const struct ring *r, uint64_t done);

/* Descriptor of a record in [floor, head]; for head itself only begin[] is set. */
const struct ring_desc *ring_at(const struct ring *r, uint64_t number);

/*
 * Whether a message has a newer one of its key among the records below `end`, which is
 * no more than a head that was seen: for these two numbers the answer never changes
 * (K2).
 */
static inline bool
ring_superseded(const struct ring_desc *desc, uint64_t number, uint64_t end)
{
	uint32_t newer = atomic_load_explicit(&desc->newer, memory_order_relaxed);

	return newer != 0 && number + newer < end;
}

/* The frames of the records [first, end) in a dialect: one contiguous range.
 * Returns its length in bytes, 0 when none of them has a frame there. */
size_t ring_frames(const struct ring *r, unsigned dialect, uint64_t first, uint64_t end,
    const void **ret_frames);

#endif
