/*
 * wsctl_sample.h - what `wsctl top` shows: two looks at the shared maps, and what
 * happened between them.
 */
#ifndef WSCAST_TOOLS_WSCTL_SAMPLE_H
#define WSCAST_TOOLS_WSCTL_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/directory.h"
#include "tools/wsctl_busy.h"
#include "tools/wsctl_maps.h"

/* ---- a look ---- */

struct worker_sample {
	struct page_now now;
	uint64_t counter[PAGE_COUNTER_COUNT];
	struct page_times_now times[PAGE_TIME_COUNT];
	char process; /* as proc_look() has it */
	double cpu_s;
};

struct sample {
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	uint64_t head;
	struct worker_sample *workers;
	unsigned n;
};

/* Returns 0 or -ENOMEM. A sample of all zeros is none, and may be given to
 * sample_done(). */
int sample_take(const struct maps *m, struct sample *ret)
    __attribute__((warn_unused_result));
void sample_done(struct sample *s);
/* How the worker is: as its page has it, unless its process is away or stopped. */
const char *worker_sample_state(const struct worker_sample *w);

/* ---- what two looks say ---- */

/* Percentiles of a histogram: within a bucket, values are taken to be evenly spread.
 * over: it lies in the last bucket, and is at least so much. */
struct percentile {
	double ms;
	bool over;
};
struct percentiles {
	uint64_t n; /* 0: nothing was timed, and the rest is 0 */
	struct percentile p50, p90, p99;
};

struct top_worker {
	unsigned index;
	int32_t pid, core; /* core: -1 = not pinned */
	const char *state;
	bool good; /* it serves */
	double cpu_percent;
	uint64_t connections, lagging, restarts, beat_ms;
	uint64_t behind; /* records that it has not passed on yet */
	uint64_t sent, sent_bytes;
	struct percentiles latency;
};

struct top_channel {
	char name[CHANNEL_NAME_MAX + 1];
	int name_len;
	uint64_t messages, bytes;
};

struct top_view {
	double seconds; /* that it is about */
	uint64_t connections, subscriptions, lagging;
	uint64_t opened, closed;
	uint64_t messages_in, bytes_in, messages_out, bytes_out;
	struct percentiles times[PAGE_TIME_COUNT];
	uint64_t feed_down_ms; /* for so long; 0 = it is up */
	bool draining;
	struct top_worker *workers;
	unsigned nworkers;
	struct top_channel *channels;    /* those with a message: the busiest first */
	size_t nchannels, channels_seen; /* kept, and how many there were */
	uint64_t unseen;                 /* messages, about, that no channel counts */
};

#define TOP_CHANNELS_MAX 1000 /* kept in a view */

enum channel_order { CHANNEL_BY_MESSAGES, CHANNEL_BY_BYTES, CHANNEL_BY_NAME };
enum worker_order {
	WORKER_BY_INDEX,
	WORKER_BY_CONNECTIONS,
	WORKER_BY_SENT,
	WORKER_BY_LAG,
	WORKER_BY_CPU,
};

/* What happened from `a` to `b`; the channels are b's, and are begun anew. Returns 0 or
 * -ENOMEM; then view_done(). */
int view_make(const struct maps *m, const struct sample *a, const struct sample *b,
    struct busy *busy, struct top_view *ret) __attribute__((warn_unused_result));
void view_sort(struct top_view *v, enum channel_order c, enum worker_order w);
void view_done(struct top_view *v);

#endif
