/*
 * wsbench_shared.h - what the processes of one measurement share: the coordinator
 * (who forks the others and reports), the generators (who hold the clients), and the
 * publisher.
 *
 * Process  each word has one writer, named below. Counters and histograms are read
 *          while they are written, as a progress display may: a value read is one that
 *          was there a moment ago. What must be exact is read when its writer has said
 *          that it is done (`step`).
 * Order    S1 results before step | S1 step, then the results
 *             Whoever saw the step sees all that was counted before.
 *          M1 last_ns before count | M1 count, then last_ns
 *             Whoever saw the whole count sees when the last copy came.
 */
#ifndef WSCAST_TOOLS_WSBENCH_SHARED_H
#define WSCAST_TOOLS_WSBENCH_SHARED_H

#include <stdatomic.h>
#include <stdint.h>

#include "tools/wsbench_hist.h"
#include "tools/wsbench_options.h"

enum phase {
	PHASE_START,   /* the server gets ready; nobody does anything */
	PHASE_CONNECT, /* generators connect; nothing is published */
	PHASE_SETTLE, /* the publisher probes channels until every subscription works */
	PHASE_WARMUP, /* published, not measured */
	PHASE_MEASURE,
	PHASE_QUIET, /* the publisher waits until all is delivered */
	PHASE_END,   /* generators look for what never came */
	PHASE_EXIT,
};

/* X(name, what): what a generator counts. */
#define GEN_COUNTERS(X)                                                                \
	X(attempts, "connections begun")                                               \
	X(opened, "handshakes completed")                                              \
	X(arrived, "clients that completed their first one")                           \
	X(tls_opened, "handshakes of TLS completed")                                   \
	X(tls_resumed, "of these, by a ticket")                                        \
	X(refused, "handshakes answered with an HTTP error")                           \
	X(failed, "connections that failed before the handshake was done")             \
	X(given_up, "clients not tried again")                                         \
	X(closed, "connections closed by the server")                                  \
	X(broken, "connections closed because of what the server sent")                \
	X(dropped, "connections ended by us on purpose")                               \
	X(resumed, "subscriptions that the server said to have recovered")             \
	X(recovered, "messages received that were published while away")               \
	X(received, "messages received")                                               \
	X(received_bytes, "their bytes, frame heads included")                         \
	X(measured, "messages received that belong to the measured phase")             \
	X(reads, "reads that brought something")                                       \
	X(lost, "messages that never came")                                            \
	X(repeated, "messages that came twice")                                        \
	X(reordered, "messages that came late, behind a newer one")                    \
	X(altered, "messages with a wrong byte")                                       \
	X(foreign, "messages of another run or channel")                               \
	X(silent, "subscriptions on which nothing ever came")                          \
	X(told, "messages that the server said to be gone")                            \
	X(away, "messages published while their client was away")                      \
	X(refusals, "subscriptions refused")                                           \
	X(slow_received, "messages received by slow clients")                          \
	X(slow_closed, "slow clients closed by the server")                            \
	X(pings, "pings answered")

/* X(name): what it has now. */
#define GEN_GAUGES(X)                                                                  \
	X(open)                                                                        \
	X(ready) /* open, and all subscriptions confirmed */                           \
	X(connecting)

#define CLOSE_CODES 16

/* Of one message, by one generator. */
struct mark {
	_Atomic uint32_t msg; /* which */
	_Atomic uint32_t count;
	_Atomic uint64_t last_ns;
};
#define MARKS 65536 /* a power of two: messages under way, and then some */

/* Of one generator; written by it alone. */
struct gen_shared {
	_Atomic uint32_t step; /* of the coordinator's steps, the last one done */
#define X(name, what) _Atomic uint64_t name;
	GEN_COUNTERS(X)
#undef X
#define X(name) _Atomic uint64_t name;
	GEN_GAUGES(X)
#undef X
	_Atomic uint64_t first_open_ns, last_open_ns; /* of the first connecting */
	_Atomic uint64_t last_measured_ns;
	_Atomic uint64_t back_ns;                  /* all were back after the storm */
	_Atomic uint64_t close_codes[CLOSE_CODES]; /* 1000…1013, other, none */
	struct hist latency; /* publish to read, of measured messages */
	struct hist opening; /* connect() to the 101 */
	struct mark marks[MARKS];
};

/* Of one message, by the publisher. */
struct sent {
	uint64_t at_ns;
	uint32_t msg;
	uint32_t channel;
	uint32_t expected; /* receivers known to be subscribed */
	bool measured;
	bool done;
};

/* Written by the publisher alone. */
struct pub_shared {
	_Atomic uint32_t step;
	_Atomic uint64_t published, acked, errors;
	_Atomic uint64_t measured, measured_bytes; /* messages, payload bytes */
	_Atomic uint64_t
	    incomplete;           /* measured messages that did not reach all in time */
	_Atomic uint64_t late_ns; /* how far the schedule was ever behind */
	_Atomic uint64_t begin_ns;      /* of the measured phase: its first message */
	_Atomic uint64_t end_ns;        /* and its last */
	_Atomic uint32_t measured_from; /* msg of the first, UINT32_MAX: none yet */
	_Atomic uint32_t waiting;       /* wake me when a message is done */
	_Atomic uint32_t failed;        /* -errno of a transport that broke, 0: none */
	struct hist fanout;             /* publish to the last copy read */
	struct sent sent[MARKS];
};

struct shared {
	/* the coordinator's */
	_Atomic uint32_t phase;
	_Atomic uint32_t step; /* rises with each phase */
	_Atomic uint32_t storms;
	int wake_fds[OPTIONS_PROCESSES_MAX]; /* eventfd of each generator */
	int pub_fd;                          /* and of the publisher */
	size_t len;                          /* of the whole map */

	struct pub_shared pub;
	struct gen_shared *gens;  /* one for each process */
	_Atomic uint32_t *sure;   /* [process][channel]: receivers that must get it */
	_Atomic uint32_t *unsure; /* … that have subscribed, and shown nothing yet */
	_Atomic uint32_t *last_seq; /* [channel]: by the publisher */
};

/* Map it, zeroed, and make the eventfds. Returns 0 or -errno. */
int shared_new(const struct options *o, struct shared **ret)
    __attribute__((warn_unused_result));
void shared_free(struct shared *s, const struct options *o);

/* Begin a phase: everyone wakes up. */
void shared_begin(struct shared *s, const struct options *o, enum phase phase);

/* Receivers of a channel, in all processes. */
uint32_t shared_sure(const struct shared *s, const struct options *o, uint32_t channel);
uint32_t shared_unsure(
    const struct shared *s, const struct options *o, uint32_t channel);

/* The writer's own words: no other writes them, so a load and a store will do. */
#define OWN_GET(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define OWN_SET(word, value) atomic_store_explicit(&(word), value, memory_order_relaxed)
#define OWN_ADD(word, n) OWN_SET(word, OWN_GET(word) + (n))

#endif
