/*
 * page.h - what one worker tells everyone: how far it is, whether it sleeps,
 * what it counted, also by rule. One page (memfd) for each worker index; it outlives
 * the serving process, whose successor counts on.
 *
 * Process  every word is written by the worker (the serving process; while there is
 *          none, its keeper), and read by the supervisor and wsctl, who take nothing
 *          of it on trust.
 * Order    R2-W2 for the floor (ring.c), S1-S3 for sleeping (page.c).
 */
#ifndef WSCAST_SHM_PAGE_H
#define WSCAST_SHM_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/ring.h"
#include "shm/rulerows.h"

#define PAGE_VERSION 10

/* X(name, help): counters that only rise, and gauges, each a 64-bit word. The
 * names are those of metrics and of `wsctl --json`. */
#define PAGE_COUNTERS(X)                                                               \
	X(accepted, "connections accepted")                                            \
	X(refused, "handshakes answered with an error")                                \
	X(opened, "WebSocket handshakes completed")                                    \
	X(opened_deflate, "WebSocket handshakes that agreed to permessage-deflate")    \
	X(closed, "connections closed, for whatever reason")                           \
	X(closed_slow, "connections closed because they took nothing or were lapped")  \
	X(closed_timeout, "connections closed by the handshake or pong deadline")      \
	X(closed_protocol, "connections closed for breaking the protocol")             \
	X(closed_limit, "connections refused or closed by a limit")                    \
	X(closed_expired, "connections closed because their token had expired")        \
	X(closed_crash, "connections closed because a crash cut what they sent")       \
	X(adopted, "connections taken over from a predecessor")                        \
	X(lapped, "times that a connection fell out of the retained window")           \
	X(skipped, "times that a lapped connection was moved on, and not closed")      \
	X(skipped_messages, "messages that it was told to have missed")                \
	X(replaced, "messages not sent to who lags: a newer one stands for them")      \
	X(sent, "messages delivered whole to sockets")                                 \
	X(sent_bytes, "bytes handed to sockets")                                       \
	X(sends, "send calls made")                                                    \
	X(blocked, "times that a socket did not take all")                             \
	X(rebuilt, "frames built by the worker because the ring had none")             \
	X(received, "messages received from clients")                                  \
	X(received_bytes, "bytes received from clients")                               \
	X(inflated, "messages received that were deflated")                            \
	X(inflate_errors, "messages that could not be inflated, or became too long")   \
	X(published, "messages passed on to the supervisor")                           \
	X(errors_sent, "requests answered with an error")                              \
	X(tokens, "tokens that were right")                                            \
	X(tokens_refused, "tokens that were refused")                                  \
	X(tokens_missing, "handshakes refused, and connections closed, without one")   \
	X(sandbox_killed, "serving processes that the sandbox killed")                 \
	X(limited_connections, "connections refused by max_connections")               \
	X(limited_descriptors, "connections refused for want of descriptors")          \
	X(limited_memory, "connections refused for want of room in the arena")         \
	X(limited_address, "connections refused by max_connections_per_ip")            \
	X(refused_proxy, "connections without the PROXY header that is demanded")      \
	X(limited_handshakes, "handshakes refused by max_handshakes_per_second")       \
	X(limited_knocks, "handshakes refused by max_handshakes_per_second_per_ip")    \
	X(limited_rate,                                                                \
	    "messages refused by message_rate, byte_rate or a rule's rate")            \
	X(limited_size, "messages refused by max_message_size")                        \
	X(limited_channels, "subscriptions refused by channels_per_connection")        \
	X(expelled, "connections closed because they were kicked or revoked")          \
	X(refused_revoked, "tokens that were right and refused as revoked")            \
	X(limited_private, "times that a client let too much wait that is its own")    \
	X(tls_handshakes, "TLS handshakes completed")                                  \
	X(tls_resumed, "TLS handshakes that resumed a session by its ticket")          \
	X(tls_failed, "TLS handshakes that failed: no TLS, or nothing in common")      \
	X(tls_unfinished, "TLS handshakes cut short by the client or the deadline")    \
	X(tls_plain, "HTTP requests without TLS to a TLS listener")                    \
	X(tls_broken, "connections closed because a TLS record was broken")            \
	X(tls_restarted, "TLS connections told to come again by a planned restart")    \
	X(tls_lost, "TLS connections lost with the process that served them")          \
	X(drained, "connections told to go by a drain")

#define PAGE_GAUGES(X)                                                                 \
	X(connections, "connections open now")                                         \
	X(subscriptions, "subscriptions held now")                                     \
	X(channels, "channels with a subscriber here")                                 \
	X(lagging, "connections with something still to send")                         \
	X(tls_connections, "connections through TLS, handshakes included")             \
	X(ktls_connections, "those whose keys the kernel has: they outlive a worker")  \
	X(arena_bytes, "bytes of the connection table's arena in use")

enum page_counter {
#define X(name, help) PAGE_##name,
	PAGE_COUNTERS(X) PAGE_GAUGES(X)
#undef X
	    PAGE_COUNTER_COUNT
};

enum worker_state {
	WORKER_STARTING = 0,
	WORKER_ADOPTING = 1,
	WORKER_SERVING = 2,
	WORKER_DRAINING = 3,
	WORKER_STOPPING = 4,
	WORKER_GONE = 5, /* this page is nobody's any more: the worker has another */
};

/* How a worker sends to its sockets. */
enum worker_sending {
	SENDING_PLAIN = 0,
	SENDING_URING = 1,
	SENDING_URING_FAILED = 2, /* plain, since io_uring failed a predecessor */
};

/* X(name, help): histograms of times. */
#define PAGE_TIMES(X)                                                                  \
	X(latency, "from a message's publishing to its last send of a worker")         \
	X(fanout, "from the first send of a message by a worker to its last")          \
	X(turn, "what a turn of a worker's loop takes, from one poll to the next")

enum page_time {
#define X(name, help) PAGE_TIME_##name,
	PAGE_TIMES(X)
#undef X
	    PAGE_TIME_COUNT
};

#define PAGE_TIME_BUCKETS 20 /* the last has no upper bound */

struct page_times {
	_Atomic uint64_t bucket[PAGE_TIME_BUCKETS];
	_Atomic uint64_t sum_ns;
};

struct page {
	uint32_t version;
	uint32_t index; /* the worker's */
	uint8_t pad0[120];

	/* Moves with every record. */
	_Atomic uint64_t done;      /* all records below were passed to their sockets */
	_Atomic uint64_t floor;     /* oldest record that may still be looked at */
	_Atomic uint64_t heartbeat; /* rises with every turn and slice */
	uint8_t pad1[104];

	/* Written by the worker, read at each wake-up. */
	_Atomic uint32_t asleep; /* odd = asleep; rises with each change */
	uint8_t pad2[124];

	_Atomic uint32_t state; /* enum worker_state */
	_Atomic int32_t pid;    /* of the serving process: for people, not for kill() */
	_Atomic int32_t cpu;    /* pinned to, or -1 */
	_Atomic uint64_t beat_ms;    /* CLOCK_MONOTONIC of the last heartbeat, about */
	_Atomic uint64_t started_ms; /* CLOCK_REALTIME of this serving process */
	_Atomic uint64_t lives;      /* serving processes so far */
	_Atomic uint32_t demand[RING_DIALECTS]; /* open connections per dialect */
	_Atomic uint32_t sending;               /* enum worker_sending */
	_Atomic uint32_t sandboxed;             /* 1: this serving process is */
	_Atomic uint64_t settings; /* generation that holds here (generation.h) */
	/* For the keeper, which has no settings. */
	_Atomic uint32_t log_level, log_format;
	/* CLOCK_MONOTONIC of the drain's begin and end; end 0 = none */
	_Atomic uint64_t drain_begin_ms, drain_end_ms;
	uint8_t pad3[24];

	_Atomic uint64_t counter[PAGE_COUNTER_COUNT];
	struct page_times times[PAGE_TIME_COUNT];
	struct rule_rows rules;
};

/*
 * Make the memfd (close-on-exec) and map it / map an existing one, whose size and
 * version must fit (-EPROTO).
 *
 * A new page is done with nothing: `done` and the floor are 1, the first record. For
 * a ring that has moved on, the supervisor sets both to ring_head() before it calls
 * ring_set_worker() and before anyone else has the fd. From then on they are the
 * serving process' alone; while there is none they stay, and hold the ring.
 */
int page_create(unsigned index, struct page **ret_page, int *ret_fd)
    __attribute__((warn_unused_result));
int page_open(int fd, bool writer, struct page **ret_page)
    __attribute__((warn_unused_result));
void page_close(struct page *p);

/* Name and help of a counter, as in PAGE_COUNTERS; gauges come last. */
const char *page_counter_name(enum page_counter c);
const char *page_counter_help(enum page_counter c);
bool page_counter_is_gauge(enum page_counter c);

/* One writer: a plain load and store, no locked instruction. */
static inline void
page_add(struct page *p, enum page_counter c, uint64_t n)
{
	atomic_store_explicit(&p->counter[c],
	    atomic_load_explicit(&p->counter[c], memory_order_relaxed) + n,
	    memory_order_relaxed);
}

static inline void
page_set(struct page *p, enum page_counter c, uint64_t n)
{
	atomic_store_explicit(&p->counter[c], n, memory_order_relaxed);
}

static inline uint64_t
page_get(const struct page *p, enum page_counter c)
{
	return atomic_load_explicit(&p->counter[c], memory_order_relaxed);
}

const char *page_time_name(enum page_time t);
const char *page_time_help(enum page_time t);
/* The upper bound of a bucket, but for the last. */
uint64_t page_time_bound_ns(unsigned bucket);
void page_time_add(struct page *p, enum page_time t, uint64_t ns);
/* A snapshot: not of one moment, but no count in it ever falls. */
struct page_times_now {
	uint64_t bucket[PAGE_TIME_BUCKETS];
	uint64_t sum_ns;
};
void page_times_look(
    const struct page *p, enum page_time t, struct page_times_now *ret);
/* Go on where another page stopped: its counters, histograms and rows of rules. */
void page_continue(struct page *p, const struct page *before);

/* What a reader may know of a worker, counters aside, as of about now. */
struct page_now {
	uint64_t done, floor, heartbeat, beat_ms, started_ms, lives;
	uint32_t asleep, state;
	int32_t pid, cpu;
};

static inline void
page_look(const struct page *p, struct page_now *ret)
{
	ret->done = atomic_load_explicit(&p->done, memory_order_relaxed);
	ret->floor = atomic_load_explicit(&p->floor, memory_order_relaxed);
	ret->heartbeat = atomic_load_explicit(&p->heartbeat, memory_order_relaxed);
	ret->beat_ms = atomic_load_explicit(&p->beat_ms, memory_order_relaxed);
	ret->started_ms = atomic_load_explicit(&p->started_ms, memory_order_relaxed);
	ret->lives = atomic_load_explicit(&p->lives, memory_order_relaxed);
	ret->asleep = atomic_load_explicit(&p->asleep, memory_order_relaxed);
	ret->state = atomic_load_explicit(&p->state, memory_order_relaxed);
	ret->pid = atomic_load_explicit(&p->pid, memory_order_relaxed);
	ret->cpu = atomic_load_explicit(&p->cpu, memory_order_relaxed);
}

static inline enum worker_sending
page_sending(const struct page *p)
{
	return atomic_load_explicit(&p->sending, memory_order_relaxed);
}

static inline void
page_set_sending(struct page *p, enum worker_sending sending)
{
	atomic_store_explicit(&p->sending, sending, memory_order_relaxed);
}

static inline bool
page_sandboxed(const struct page *p)
{
	return atomic_load_explicit(&p->sandboxed, memory_order_relaxed) != 0;
}

static inline void
page_set_sandboxed(struct page *p, bool sandboxed)
{
	atomic_store_explicit(&p->sandboxed, sandboxed, memory_order_relaxed);
}

/* Which generation of the settings this worker has: of a worker that is away, that of
 * its last serving process. */
static inline uint64_t
page_settings(const struct page *p)
{
	return atomic_load_explicit(&p->settings, memory_order_relaxed);
}

static inline void
page_set_settings(struct page *p, uint64_t generation)
{
	atomic_store_explicit(&p->settings, generation, memory_order_relaxed);
}

/* How to log: by the supervisor before it launches a worker, then by the worker. The
 * numbers are those of the settings. */
static inline void
page_set_log(struct page *p, uint32_t level, uint32_t format)
{
	atomic_store_explicit(&p->log_level, level, memory_order_relaxed);
	atomic_store_explicit(&p->log_format, format, memory_order_relaxed);
}

static inline void
page_log(const struct page *p, uint32_t *ret_level, uint32_t *ret_format)
{
	*ret_level = atomic_load_explicit(&p->log_level, memory_order_relaxed);
	*ret_format = atomic_load_explicit(&p->log_format, memory_order_relaxed);
}

static inline void
page_set_state(struct page *p, enum worker_state state)
{
	atomic_store_explicit(&p->state, state, memory_order_relaxed);
}

/* Whether this worker is being drained, or was: its clients are told to go between
 * these times. It stays so over its processes' deaths. */
static inline bool
page_drain(const struct page *p, uint64_t *ret_begin_ms, uint64_t *ret_end_ms)
{
	*ret_begin_ms = atomic_load_explicit(&p->drain_begin_ms, memory_order_relaxed);
	*ret_end_ms = atomic_load_explicit(&p->drain_end_ms, memory_order_relaxed);
	return *ret_end_ms != 0;
}

/* end_ms 0: not any more. By the worker; by the supervisor before it launches one. */
static inline void
page_set_drain(struct page *p, uint64_t begin_ms, uint64_t end_ms)
{
	atomic_store_explicit(&p->drain_begin_ms, begin_ms, memory_order_relaxed);
	atomic_store_explicit(&p->drain_end_ms, end_ms, memory_order_relaxed);
}

/* Open connections that want this dialect: a hint for the writer. */
static inline uint32_t
page_demand(const struct page *p, unsigned dialect)
{
	return atomic_load_explicit(&p->demand[dialect], memory_order_relaxed);
}

/* The whole worker is gone (keeper, spare and serving process), and its connections
 * with it: for the supervisor, which is the one writer until the next is launched.
 * Counters go on; gauges and demand are 0; the next begins at record `number`. */
static inline void
page_reset(struct page *p, uint64_t number)
{
	uint32_t asleep = atomic_load_explicit(&p->asleep, memory_order_relaxed);

	for (int c = PAGE_connections; c < PAGE_COUNTER_COUNT; c++)
		atomic_store_explicit(&p->counter[c], 0, memory_order_relaxed);
	for (int d = 0; d < RING_DIALECTS; d++)
		atomic_store_explicit(&p->demand[d], 0, memory_order_relaxed);
	atomic_store_explicit(&p->state, WORKER_STARTING, memory_order_relaxed);
	atomic_store_explicit(&p->pid, 0, memory_order_relaxed);
	atomic_store_explicit(&p->asleep, asleep + (asleep & 1), memory_order_relaxed);
	atomic_store_explicit(&p->done, number, memory_order_relaxed);
	atomic_store_explicit(&p->floor, number, memory_order_release);
}

/* Everything below `number` was passed to its sockets, and nothing below `floor`
 * will be looked at again (R2). */
void page_set_done(struct page *p, uint64_t number);
void page_set_floor(struct page *p, uint64_t floor);
void page_beat(struct page *p, uint64_t now_ms);

/*
 * Say that the worker is about to sleep with everything below `done` read.
 * Returns false when more was published meanwhile: then it is not asleep, and
 * must go on. (S1, S2)
 */
bool page_sleep(struct page *p, const struct ring *r, uint64_t done)
    __attribute__((warn_unused_result));
void page_wake(struct page *p); /* the worker is up again */

/* Supervisor, after a batch of commits: must this worker's eventfd be written?
 * True at most once for each sleep: `rung` is the supervisor's own word for this
 * worker, the value of `asleep` at which it last rang. (S3) */
bool page_must_ring(const struct page *p, uint32_t *rung)
    __attribute__((warn_unused_result));

#endif
