/* wsctl_sample.c - see wsctl_sample.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsctl_clock.h"
#include "tools/wsctl_proc.h"
#include "tools/wsctl_sample.h"

/* ---- a look ---- */

static void
look_at_worker(const struct page *page, struct worker_sample *ret)
{
	struct proc_look proc;

	page_look(page, &ret->now);
	for (int c = 0; c < PAGE_COUNTER_COUNT; c++)
		ret->counter[c] = page_get(page, (enum page_counter)c);
	for (int t = 0; t < PAGE_TIME_COUNT; t++)
		page_times_look(page, (enum page_time)t, &ret->times[t]);
	proc_look(ret->now.pid, &proc);
	ret->process = proc.state;
	ret->cpu_s = proc.cpu_s;
}

int
sample_take(const struct maps *m, struct sample *ret)
{
	struct sample s = {.n = m->npages};

	s.workers = calloc(s.n, sizeof(*s.workers));
	if (s.workers == NULL)
		return -ENOMEM;
	s.at_ns = clock_ns(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < s.n; i++)
		look_at_worker(m->page[i], &s.workers[i]);
	/* Behind the pages: nobody can then be ahead of it. */
	s.head = ring_head(m->ring);
	*ret = s;
	return 0;
}

void
sample_done(struct sample *s)
{
	free(s->workers);
	*s = (struct sample){0};
}

const char *
worker_sample_state(const struct worker_sample *w)
{
	static const char *const names[] = {
	    "starting", "adopting", "serving", "draining", "stopping", "away"};

	if (w->now.pid == 0 || w->process == '?' || w->process == 'Z')
		return "away";
	if (w->process == 'T' || w->process == 't')
		return "stopped";
	return w->now.state < sizeof(names) / sizeof(names[0]) ? names[w->now.state]
							       : "?";
}

/* ---- what happened in between ---- */

static uint64_t
risen(uint64_t before, uint64_t now)
{
	return now > before ? now - before : 0;
}

static void
times_add(struct page_times_now *sum, const struct page_times_now *before,
    const struct page_times_now *now)
{
	for (unsigned i = 0; i < PAGE_TIME_BUCKETS; i++)
		sum->bucket[i] += risen(before->bucket[i], now->bucket[i]);
}

static struct percentile
percentile_of(const struct page_times_now *t, uint64_t n, double share)
{
	double wanted = share * (double)n, below = 0;

	for (unsigned i = 0; i < PAGE_TIME_BUCKETS - 1; i++) {
		double low = i == 0 ? 0 : (double)page_time_bound_ns(i - 1);
		double high = (double)page_time_bound_ns(i);
		double here = (double)t->bucket[i];

		if (here > 0 && below + here >= wanted)
			return (struct percentile){
			    (low + (high - low) * (wanted - below) / here) / 1e6,
			    false};
		below += here;
	}
	return (struct percentile){
	    (double)page_time_bound_ns(PAGE_TIME_BUCKETS - 2) / 1e6, true};
}

static struct percentiles
percentiles_of(const struct page_times_now *t)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < PAGE_TIME_BUCKETS; i++)
		n += t->bucket[i];
	if (n == 0)
		return (struct percentiles){.n = 0};
	return (struct percentiles){n, percentile_of(t, n, .5), percentile_of(t, n, .9),
	    percentile_of(t, n, .99)};
}

static void
worker_make(const struct worker_sample *a, const struct worker_sample *b,
    const struct sample *now, double seconds, struct top_worker *ret)
{
	const uint64_t *was = a->counter, *is = b->counter;
	struct page_times_now latency = {.sum_ns = 0};
	double cpu_s = b->cpu_s - (a->now.pid == b->now.pid ? a->cpu_s : 0);

	times_add(&latency, &a->times[PAGE_TIME_latency], &b->times[PAGE_TIME_latency]);
	ret->pid = b->now.pid;
	ret->core = b->now.cpu;
	ret->state = worker_sample_state(b);
	ret->good = strcmp(ret->state, "serving") == 0;
	ret->cpu_percent = seconds > 0 && cpu_s > 0 ? 100 * cpu_s / seconds : 0;
	ret->connections = is[PAGE_connections];
	ret->lagging = is[PAGE_lagging];
	ret->restarts = b->now.lives > 0 ? b->now.lives - 1 : 0;
	ret->beat_ms = risen(b->now.beat_ms, now->at_ns / 1000000);
	ret->behind = risen(b->now.done, now->head);
	ret->sent = risen(was[PAGE_sent], is[PAGE_sent]);
	ret->sent_bytes = risen(was[PAGE_sent_bytes], is[PAGE_sent_bytes]);
	ret->latency = percentiles_of(&latency);
}

static void
add_worker(struct top_view *v, const struct worker_sample *a,
    const struct worker_sample *b, struct page_times_now *times)
{
	v->connections += b->counter[PAGE_connections];
	v->subscriptions += b->counter[PAGE_subscriptions];
	v->lagging += b->counter[PAGE_lagging];
	v->opened += risen(a->counter[PAGE_opened], b->counter[PAGE_opened]);
	v->closed += risen(a->counter[PAGE_closed], b->counter[PAGE_closed]);
	v->messages_out += risen(a->counter[PAGE_sent], b->counter[PAGE_sent]);
	v->bytes_out += risen(a->counter[PAGE_sent_bytes], b->counter[PAGE_sent_bytes]);
	for (int t = 0; t < PAGE_TIME_COUNT; t++)
		times_add(&times[t], &a->times[t], &b->times[t]);
}

static int
by_messages(const void *a, const void *b)
{
	const struct busy_channel *x = a, *y = b;

	if (x->messages != y->messages)
		return x->messages < y->messages ? 1 : -1;
	return x->channel < y->channel ? -1 : x->channel > y->channel;
}

static int
channels_make(const struct maps *m, struct busy *busy, struct top_view *v)
{
	const struct busy_channel *counted = busy_channels(busy, &v->channels_seen);
	struct busy_channel *sorted;

	v->nchannels =
	    v->channels_seen < TOP_CHANNELS_MAX ? v->channels_seen : TOP_CHANNELS_MAX;
	if (v->nchannels == 0)
		return 0;
	v->channels = calloc(v->nchannels, sizeof(*v->channels));
	sorted = malloc(v->channels_seen * sizeof(*sorted));
	if (v->channels == NULL || sorted == NULL) {
		free(sorted);
		return -ENOMEM;
	}
	memcpy(sorted, counted, v->channels_seen * sizeof(*sorted));
	qsort(sorted, v->channels_seen, sizeof(*sorted), by_messages);
	for (size_t i = 0; i < v->nchannels; i++) {
		struct top_channel *c = &v->channels[i];

		c->name_len =
		    directory_name(ring_directory(m->ring), sorted[i].channel, c->name);
		c->messages = sorted[i].messages;
		c->bytes = sorted[i].bytes;
	}
	free(sorted);
	return 0;
}

int
view_make(const struct maps *m, const struct sample *a, const struct sample *b,
    struct busy *busy, struct top_view *ret)
{
	static const struct worker_sample none;
	struct page_times_now times[PAGE_TIME_COUNT] = {{.sum_ns = 0}};
	struct top_view v = {.seconds = (double)(b->at_ns - a->at_ns) / 1e9};
	uint64_t down_since_ms = ring_feed_down(m->ring);
	int r;

	v.workers = calloc(b->n, sizeof(*v.workers));
	if (v.workers == NULL)
		return -ENOMEM;
	v.nworkers = b->n;
	for (unsigned i = 0; i < b->n; i++) {
		const struct worker_sample *before = i < a->n ? &a->workers[i] : &none;

		v.workers[i].index = i;
		worker_make(before, &b->workers[i], b, v.seconds, &v.workers[i]);
		add_worker(&v, before, &b->workers[i], times);
	}
	for (int t = 0; t < PAGE_TIME_COUNT; t++)
		v.times[t] = percentiles_of(&times[t]);
	v.messages_in = busy->messages;
	v.bytes_in = busy->bytes;
	v.unseen = busy->unseen;
	v.draining = ring_draining(m->ring);
	if (down_since_ms != 0)
		v.feed_down_ms = 1 + risen(down_since_ms, clock_ms(CLOCK_REALTIME));
	r = channels_make(m, busy, &v);
	busy_reset(busy);
	if (r < 0)
		view_done(&v);
	else
		*ret = v;
	return r;
}

void
view_done(struct top_view *v)
{
	free(v->workers);
	free(v->channels);
	*v = (struct top_view){0};
}

/* ---- order ---- */

static int
more_first(uint64_t a, uint64_t b)
{
	return a > b ? -1 : a < b;
}

static int
name_order(const struct top_channel *a, const struct top_channel *b)
{
	return strcmp(a->name, b->name);
}

static int
channel_by_messages(const void *a, const void *b)
{
	const struct top_channel *x = a, *y = b;
	int r = more_first(x->messages, y->messages);

	return r != 0 ? r : name_order(x, y);
}

static int
channel_by_bytes(const void *a, const void *b)
{
	const struct top_channel *x = a, *y = b;
	int r = more_first(x->bytes, y->bytes);

	return r != 0 ? r : name_order(x, y);
}

static int
channel_by_name(const void *a, const void *b)
{
	return name_order(a, b);
}

static int
index_order(const struct top_worker *a, const struct top_worker *b)
{
	return a->index < b->index ? -1 : a->index > b->index;
}

#define WORKER_ORDER(name, first)                                                      \
	static int worker_by_##name(const void *a, const void *b)                      \
	{                                                                              \
		const struct top_worker *x = a, *y = b;                                \
		int r = first;                                                         \
                                                                                       \
		return r != 0 ? r : index_order(x, y);                                 \
	}
WORKER_ORDER(index, 0)
WORKER_ORDER(connections, more_first(x->connections, y->connections))
WORKER_ORDER(sent, more_first(x->sent, y->sent))
WORKER_ORDER(lag, more_first(x->lagging, y->lagging))
WORKER_ORDER(
    cpu, more_first((uint64_t)(x->cpu_percent * 100), (uint64_t)(y->cpu_percent * 100)))

void
view_sort(struct top_view *v, enum channel_order c, enum worker_order w)
{
	static int (*const channels[])(const void *, const void *) = {
	    [CHANNEL_BY_MESSAGES] = channel_by_messages,
	    [CHANNEL_BY_BYTES] = channel_by_bytes,
	    [CHANNEL_BY_NAME] = channel_by_name,
	};
	static int (*const workers[])(const void *, const void *) = {
	    [WORKER_BY_INDEX] = worker_by_index,
	    [WORKER_BY_CONNECTIONS] = worker_by_connections,
	    [WORKER_BY_SENT] = worker_by_sent,
	    [WORKER_BY_LAG] = worker_by_lag,
	    [WORKER_BY_CPU] = worker_by_cpu,
	};

	if (v->nchannels > 0)
		qsort(v->channels, v->nchannels, sizeof(*v->channels), channels[c]);
	if (v->nworkers > 0)
		qsort(v->workers, v->nworkers, sizeof(*v->workers), workers[w]);
}
