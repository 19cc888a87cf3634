/* page.c - see page.h */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "shm/map.h"
#include "shm/page.h"

#define PAGE_LEN ((ssize_t)map_round(sizeof(struct page)))

_Static_assert(offsetof(struct page, done) == 128, "apart from what never changes");
_Static_assert(offsetof(struct page, asleep) == 256, "apart from what always does");
_Static_assert(offsetof(struct page, state) == 384, "apart from the flag");

static const char *const counter_names[PAGE_COUNTER_COUNT] = {
#define X(name, help) #name,
    PAGE_COUNTERS(X) PAGE_GAUGES(X)
#undef X
};

static const char *const counter_helps[PAGE_COUNTER_COUNT] = {
#define X(name, help) help,
    PAGE_COUNTERS(X) PAGE_GAUGES(X)
#undef X
};

enum {
#define X(name, help) +1
	FIRST_GAUGE = PAGE_COUNTERS(X)
#undef X
};

static const char *const time_names[PAGE_TIME_COUNT] = {
#define X(name, help) #name,
    PAGE_TIMES(X)
#undef X
};

static const char *const time_helps[PAGE_TIME_COUNT] = {
#define X(name, help) help,
    PAGE_TIMES(X)
#undef X
};

/* Fine enough for a median within a host, and for a tail of seconds. */
#define US 1000ull
#define MS (1000 * US)
static const uint64_t time_bounds[PAGE_TIME_BUCKETS - 1] = {10 * US, 25 * US, 50 * US,
    100 * US, 250 * US, 500 * US, 1 * MS, 2500 * US, 5 * MS, 10 * MS, 25 * MS, 50 * MS,
    100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 5000 * MS, 10000 * MS};

int
page_create(unsigned index, struct page **ret_page, int *ret_fd)
{
	void *map;
	struct page *p;
	int fd;
	int r = map_memfd("wscast-page", PAGE_LEN, &fd);

	if (r < 0)
		return r;
	r = map_open(fd, PAGE_LEN, true, &map);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	p = map;
	p->version = PAGE_VERSION;
	p->index = index;
	atomic_init(&p->done, 1); /* there is no record 0 */
	atomic_init(&p->floor, 1);
	atomic_init(&p->cpu, -1);
	*ret_page = p;
	*ret_fd = fd;
	return 0;
}

int
page_open(int fd, bool writer, struct page **ret_page)
{
	void *map;
	ssize_t size = map_size(fd);
	int r;

	if (size < 0)
		return (int)size;
	if (size != PAGE_LEN)
		return -EPROTO;
	r = map_open(fd, PAGE_LEN, writer, &map);
	if (r < 0)
		return r;
	if (((struct page *)map)->version != PAGE_VERSION) {
		map_close(map, PAGE_LEN);
		return -EPROTO;
	}
	*ret_page = map;
	return 0;
}

void
page_close(struct page *p)
{
	map_close(p, PAGE_LEN);
}

const char *
page_counter_name(enum page_counter c)
{
	return counter_names[c];
}

const char *
page_counter_help(enum page_counter c)
{
	return counter_helps[c];
}

bool
page_counter_is_gauge(enum page_counter c)
{
	return (int)c >= FIRST_GAUGE;
}

/* ---- times ---- */

const char *
page_time_name(enum page_time t)
{
	return time_names[t];
}

const char *
page_time_help(enum page_time t)
{
	return time_helps[t];
}

uint64_t
page_time_bound_ns(unsigned bucket)
{
	return time_bounds[bucket];
}

static void
word_add(_Atomic uint64_t *word, uint64_t n)
{
	atomic_store_explicit(word,
	    atomic_load_explicit(word, memory_order_relaxed) + n, memory_order_relaxed);
}

void
page_time_add(struct page *p, enum page_time t, uint64_t ns)
{
	unsigned i = 0;

	while (i < PAGE_TIME_BUCKETS - 1 && ns > time_bounds[i])
		i++;
	word_add(&p->times[t].bucket[i], 1);
	word_add(&p->times[t].sum_ns, ns);
}

void
page_times_look(const struct page *p, enum page_time t, struct page_times_now *ret)
{
	for (unsigned i = 0; i < PAGE_TIME_BUCKETS; i++)
		ret->bucket[i] =
		    atomic_load_explicit(&p->times[t].bucket[i], memory_order_relaxed);
	ret->sum_ns = atomic_load_explicit(&p->times[t].sum_ns, memory_order_relaxed);
}

void
page_continue(struct page *p, const struct page *before)
{
	for (int c = 0; c < FIRST_GAUGE; c++)
		page_set(
		    p, (enum page_counter)c, page_get(before, (enum page_counter)c));
	for (int t = 0; t < PAGE_TIME_COUNT; t++) {
		struct page_times_now times;

		page_times_look(before, (enum page_time)t, &times);
		for (unsigned i = 0; i < PAGE_TIME_BUCKETS; i++)
			word_add(&p->times[t].bucket[i], times.bucket[i]);
		word_add(&p->times[t].sum_ns, times.sum_ns);
	}
	rule_rows_continue(&p->rules, &before->rules);
}

void
page_set_done(struct page *p, uint64_t number)
{
	/* Release: who sees it may also count on what the counters say by then. */
	atomic_store_explicit(&p->done, number, memory_order_release);
}

void
page_set_floor(struct page *p, uint64_t floor)
{
	atomic_store_explicit(&p->floor, floor, memory_order_release); /* R2 */
}

void
page_beat(struct page *p, uint64_t now_ms)
{
	atomic_store_explicit(&p->heartbeat,
	    atomic_load_explicit(&p->heartbeat, memory_order_relaxed) + 1,
	    memory_order_relaxed);
	/* Its line is read by others all the time: dirty it only for news. */
	if (atomic_load_explicit(&p->beat_ms, memory_order_relaxed) != now_ms)
		atomic_store_explicit(&p->beat_ms, now_ms, memory_order_relaxed);
}

/*
 * Sleeping. Worker and supervisor each store one word, then look at the other's:
 *
 *   worker                         supervisor
 *   S1 asleep = odd                W1 head = n + 1 (ring_commit)
 *      fence seq_cst                  fence seq_cst
 *   S2 head: more than done?       S3 asleep: odd, and not rung for yet?
 *
 * The two fences have one order. If the worker's is first, S3 sees S1's store, and
 * the supervisor rings. If the supervisor's is first, S2 sees the new head, and the
 * worker does not sleep. So never both "nothing new" and "nobody asleep"; both at
 * once is possible, and costs one needless wake-up. Acquire and release are not
 * enough: they let each side's load pass its own store.
 *
 * `asleep` takes a value of its own for each sleep, so that one ring is enough for
 * it. A worker that was killed asleep leaves it odd, and perhaps rung for: its
 * successor's first sleep must be another odd value, or nobody would ring.
 */
bool
page_sleep(struct page *p, const struct ring *r, uint64_t done)
{
	uint32_t asleep = atomic_load_explicit(&p->asleep, memory_order_relaxed);

	asleep += asleep % 2 == 0 ? 1 : 2;
	atomic_store_explicit(&p->asleep, asleep, memory_order_relaxed); /* S1 */
	atomic_thread_fence(memory_order_seq_cst);
	if (ring_head(r) <= done) /* S2 */
		return true;
	page_wake(p);
	return false;
}

void
page_wake(struct page *p)
{
	uint32_t asleep = atomic_load_explicit(&p->asleep, memory_order_relaxed);

	/* No edge: a supervisor that sees it late rings once too often. */
	if (asleep % 2 != 0)
		atomic_store_explicit(&p->asleep, asleep + 1, memory_order_relaxed);
}

bool
page_must_ring(const struct page *p, uint32_t *rung)
{
	uint32_t asleep;

	atomic_thread_fence(memory_order_seq_cst); /* after W1's store */
	asleep = atomic_load_explicit(&p->asleep, memory_order_relaxed); /* S3 */
	if (asleep % 2 == 0 || asleep == *rung)
		return false;
	*rung = asleep;
	return true;
}
