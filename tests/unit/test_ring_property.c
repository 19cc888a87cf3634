/*
 * test_ring_property.c - what must hold whatever happens: a writer with random records,
 * readers that are processes on read-only maps, that lag, sleep and are killed.
 *
 * The seed is printed; WSCAST_TEST_SEED=N repeats a run's random choices (not the
 * scheduler's). What a record holds follows from the seed and its number, so that a
 * reader can tell each byte, in place, without being told.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/map.h"
#include "shm/page.h"
#include "shm/ring.h"
#include "tests/unit/processes.h"

#define READERS 3
#define FRAMES RING_FRAMES_MIN
#define INDEX 512u
#define RUN_MS 1500

/* ---- what a record holds ---- */

static uint64_t seed;

static uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t
next_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	return mix(*state);
}

static uint64_t
key_of(uint64_t number, unsigned dialect)
{
	return mix(seed ^ mix(number * RING_DIALECTS + dialect));
}

/* Mostly short, sometimes the longest, often none. */
static size_t
len_of(uint64_t number, unsigned dialect)
{
	uint64_t key = key_of(number, dialect);

	switch (key % 128) {
	case 0:
		return FRAMES / 8;
	case 1 ... 8:
		return (key >> 8) % 20000;
	case 9 ... 60:
		return (key >> 8) % 300;
	default:
		return 0;
	}
}

/* A frame is a piece of this, where the key says. */
static uint8_t pattern[FRAMES / 8 + 65536];

static const uint8_t *
bytes_of(uint64_t key)
{
	return pattern + (key >> 32) % 65536;
}

/* Every byte of every dialect's frame, where it lies. */
static bool
record_ok(const struct ring *r, uint64_t number)
{
	const struct ring_desc *desc = ring_at(r, number);

	if (desc->number != number || desc->offset != mix(number))
		return false;
	for (unsigned d = 0; d < RING_DIALECTS; d++) {
		const void *frame = NULL;
		size_t len = ring_frames(r, d, number, number + 1, &frame);
		if (len != len_of(number, d) ||
		    (len > 0 && memcmp(frame, bytes_of(key_of(number, d)), len) != 0))
			return false;
	}
	return true;
}

/* The frames of a run lie back to back: the range is as long as they are. */
static bool
run_ok(const struct ring *r, uint64_t first, uint64_t end)
{
	for (unsigned d = 0; d < RING_DIALECTS; d++) {
		const void *frames;
		size_t len = 0;
		for (uint64_t n = first; n < end; n++)
			len += len_of(n, d);
		if (ring_frames(r, d, first, end, &frames) != len)
			return false;
	}
	return true;
}

/* ---- what the processes share ---- */

struct reader {
	struct page *page;
	int page_fd, wake;
	uint32_t rung;
	pid_t pid;
};

/* Written by the readers, for the test to look at. */
struct verdict {
	_Atomic uint64_t bad;     /* number of a record that was wrong, 0 = none */
	_Atomic uint64_t checked; /* records looked at */
	_Atomic uint64_t lost;    /* wake-ups that did not come */
	_Atomic uint64_t overrun; /* floorless: records that went while looked at */
};

struct world {
	struct ring *ring;
	int fd, ring_fd;
	struct reader readers[READERS];
	struct verdict *verdict;
	uint64_t random;
};

static int
setup(void **state)
{
	const struct ring_config cfg = {
	    .frames_size = FRAMES, .index_len = INDEX, .channels_max = 1};
	struct world *w = calloc(1, sizeof(*w));

	*state = w;
	if (w == NULL || ring_create(&cfg, &w->ring, &w->fd) < 0 ||
	    map_reader_fd(w->fd, &w->ring_fd) < 0)
		return -1;
	w->random = seed;
	w->verdict = shared_memory(sizeof(*w->verdict));
	if (w->verdict == NULL)
		return -1;
	for (unsigned i = 0; i < READERS; i++) {
		struct reader *rd = &w->readers[i];
		if (page_create(i, &rd->page, &rd->page_fd) < 0)
			return -1;
		rd->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	return 0;
}

static int
teardown(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < READERS; i++) {
		process_end(w->readers[i].pid);
		page_close(w->readers[i].page);
		(void)close(w->readers[i].page_fd);
		(void)close(w->readers[i].wake);
	}
	(void)munmap(w->verdict, sizeof(*w->verdict));
	ring_close(w->ring);
	(void)close(w->fd);
	(void)close(w->ring_fd);
	free(w);
	return 0;
}

/* ---- a reader's process ---- */

/* The verdict is what counts: a wrong record ends the reader, and fails the test. */
static void
check(struct verdict *v, bool ok, uint64_t number)
{
	if (!ok) {
		atomic_store(&v->bad, number);
		_exit(1);
	}
	atomic_fetch_add(&v->checked, 1);
}

static void
sleep_until_rung(
    struct verdict *v, struct page *page, const struct ring *r, int wake, uint64_t done)
{
	struct pollfd pfd = {.fd = wake, .events = POLLIN};
	eventfd_t count;

	if (!page_sleep(page, r, done))
		return;
	if (poll(&pfd, 1, LOST_MS) == 0 && ring_head(r) > done) {
		atomic_fetch_add(&v->lost, 1);
		_exit(1);
	}
	page_wake(page);
	(void)eventfd_read(wake, &count);
}

/* Read on from where the page says, as a successor does; for ever. */
static void
reader_main(const struct world *w, const struct reader *rd, uint64_t random)
{
	struct ring *r;
	struct page *page;
	uint64_t done;

	if (ring_open(w->ring_fd, false, &r) < 0 ||
	    page_open(rd->page_fd, true, &page) < 0)
		_exit(2);
	/* What a predecessor may still have to send from lies unchanged. */
	done = atomic_load(&page->done);
	for (uint64_t n = atomic_load(&page->floor); n < done; n++)
		check(w->verdict, record_ok(r, n), n);
	for (;;) {
		uint64_t head = ring_head(r), floor = atomic_load(&page->floor);

		if (head == done) {
			sleep_until_rung(w->verdict, page, r, rd->wake, done);
			continue;
		}
		if (head - done > 20 && next_random(&random) % 2 == 0)
			head = done + next_random(&random) % (head - done) + 1;
		check(w->verdict, run_ok(r, done, head), done);
		for (; done < head; done++) {
			check(w->verdict, record_ok(r, done), done);
			page_set_done(page, done + 1);
		}
		if (next_random(&random) % 8 == 0)
			(void)usleep((useconds_t)(next_random(&random) % 3000));
		/* A slow client is still at some record that is retained. */
		floor += next_random(&random) % (done - floor);
		check(w->verdict, record_ok(r, floor), floor);
		if (floor < ring_retain(r, done))
			floor = ring_retain(r, done);
		page_set_floor(page, floor);
	}
}

static void
start(struct world *w, struct reader *rd)
{
	uint64_t random = next_random(&w->random);

	rd->pid = process_start();
	if (rd->pid == 0)
		reader_main(w, rd, random);
}

/* ---- the writer ---- */

static bool
try_record(struct ring *r)
{
	uint64_t number = ring_head(r);

	for (unsigned d = 0; d < RING_DIALECTS; d++) {
		size_t len = len_of(number, d);
		void *room;

		if (len == 0)
			continue;
		room = ring_room(r, d, len);
		if (room == NULL)
			return false;
		memcpy(room, bytes_of(key_of(number, d)), len);
		ring_put(r, d, len);
	}
	return ring_commit(r, &(struct ring_desc){.offset = mix(number)}) == number;
}

static void
wake_sleepers(struct world *w)
{
	for (unsigned i = 0; i < READERS; i++) {
		if (page_must_ring(w->readers[i].page, &w->readers[i].rung))
			(void)eventfd_write(w->readers[i].wake, 1);
	}
}

static void
replace(struct world *w, unsigned worker)
{
	process_end(w->readers[worker].pid);
	start(w, &w->readers[worker]);
}

/* A floor is in the way: that worker is waited for, and now and then replaced. */
static void
deal_with_laggard(struct world *w, unsigned kill_one_in)
{
	ring_abort(w->ring);
	wake_sleepers(w);
	if (kill_one_in > 0 && next_random(&w->random) % (4 * kill_one_in) == 0)
		replace(w, ring_laggard(w->ring));
	(void)usleep(200);
}

static void
write_records(struct world *w, unsigned kill_one_in)
{
	uint64_t end = now_ms() + RUN_MS;

	/* Once round the ring at least, or nothing was tried. */
	while ((now_ms() < end || ring_oldest(w->ring) == 1) &&
	       atomic_load(&w->verdict->bad) == 0 && now_ms() < end + LOST_MS) {
		for (uint64_t batch = next_random(&w->random) % 30; batch > 0;
		     batch--) {
			if (!try_record(w->ring))
				deal_with_laggard(w, kill_one_in);
		}
		wake_sleepers(w);
		if (kill_one_in > 0 && next_random(&w->random) % kill_one_in == 0)
			replace(w, (unsigned)(next_random(&w->random) % READERS));
		if (next_random(&w->random) % 16 == 0)
			(void)usleep((useconds_t)(next_random(&w->random) % 2000));
	}
}

static bool
all_done(const struct world *w)
{
	for (unsigned i = 0; i < READERS; i++) {
		if (atomic_load(&w->readers[i].page->done) != ring_head(w->ring))
			return false;
	}
	return true;
}

static void
run(struct world *w, unsigned kill_one_in)
{
	uint64_t end;

	for (unsigned i = 0; i < READERS; i++) {
		ring_set_worker(w->ring, i, w->readers[i].page);
		start(w, &w->readers[i]);
	}
	write_records(w, kill_one_in);
	for (end = now_ms() + LOST_MS; !all_done(w) && now_ms() < end;)
		(void)usleep(1000);
	assert_int_equal(atomic_load(&w->verdict->bad), 0);
	assert_int_equal(atomic_load(&w->verdict->lost), 0);
	assert_true(all_done(w));
	assert_true(
	    atomic_load(&w->verdict->checked) >= (ring_head(w->ring) - 1) * READERS);
	assert_true(ring_oldest(w->ring) > 1);
	print_message("%lu records, %lu checks\n",
	    (unsigned long)ring_head(w->ring) - 1,
	    (unsigned long)atomic_load(&w->verdict->checked));
}

/* ---- the claims ---- */

static void
test_ring_lagging_readers_find_every_byte(void **state)
{
	run(*state, 0);
}

static void
test_ring_killed_readers_go_on_from_their_floor(void **state)
{
	run(*state, 20);
}

/* Look at a record as wsctl does, and tell whether that was worth anything. */
static void
floorless_look(const struct ring *r, struct verdict *v, uint64_t *random)
{
	uint64_t head = ring_head(r), oldest = ring_oldest(r);
	uint64_t number = oldest + next_random(random) % 4;
	bool ok;

	if (number >= head)
		return;
	ok = record_ok(r, number);
	if (ring_oldest(r) <= number)
		check(v, ok, number);
	else
		atomic_fetch_add(&v->overrun, 1);
}

static void
test_ring_reader_without_floor_knows_what_it_missed(void **state)
{
	struct world *w = *state;
	uint64_t random = next_random(&w->random), end = now_ms() + RUN_MS / 2;
	pid_t pid = process_start();

	if (pid == 0) {
		struct ring *r;
		if (ring_open(w->ring_fd, false, &r) < 0)
			_exit(2);
		for (;;)
			floorless_look(r, w->verdict, &random);
	}
	w->readers[0].pid = pid; /* for teardown */
	while ((now_ms() < end || atomic_load(&w->verdict->checked) == 0) &&
	       atomic_load(&w->verdict->bad) == 0 && now_ms() < end + LOST_MS)
		assert_true(try_record(w->ring)); /* nobody is in the way */
	assert_int_equal(atomic_load(&w->verdict->bad), 0);
	assert_true(atomic_load(&w->verdict->checked) > 0);
	print_message("%lu records, %lu checks, %lu overrun\n",
	    (unsigned long)ring_head(w->ring) - 1,
	    (unsigned long)atomic_load(&w->verdict->checked),
	    (unsigned long)atomic_load(&w->verdict->overrun));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_ring_lagging_readers_find_every_byte),
	    T(test_ring_killed_readers_go_on_from_their_floor),
	    T(test_ring_reader_without_floor_knows_what_it_missed),
	};
	const char *given = getenv("WSCAST_TEST_SEED");

	seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)mix(seed + i);
	print_message("WSCAST_TEST_SEED=%lu\n", (unsigned long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
