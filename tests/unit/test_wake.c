/*
 * test_wake.c - no wake-up is lost between a worker and the supervisor: two processes
 * that meet in the moment of falling asleep.
 *
 * What must never be: one side sleeps, the other does not ring, and there is something
 * to read. The "both see" tests ask just that, a million times, with both sides let go
 * at once: without the fences of page.c and upstream.c they fail within a second. The
 * others do the whole of it, with real eventfds.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/page.h"
#include "shm/ring.h"
#include "shm/upstream.h"
#include "tests/unit/processes.h"

#define RUN_MS 1000

struct shared {
	_Atomic uint64_t read;   /* rounds */
	_Atomic uint64_t sleeps; /* that were real */
	_Atomic int lost;
	_Atomic uint64_t go;     /* round that both sides are in */
	_Atomic uint64_t looked; /* round in which the sender did its half */
	_Atomic uint64_t came;   /* round that the sleeper has ended, up again */
	_Atomic bool slept;
};

struct fixture {
	struct shared *shared;
	struct ring *ring;
	struct page *page;
	struct upstream *up;
	int ring_fd, page_fd, up_fd, wake;
	pid_t sleeper;
};

static int
setup(void **state)
{
	const struct ring_config cfg = {
	    .frames_size = RING_FRAMES_MIN, .index_len = 64, .channels_max = 1};
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (f == NULL || ring_create(&cfg, &f->ring, &f->ring_fd) < 0 ||
	    page_create(0, &f->page, &f->page_fd) < 0 ||
	    upstream_create(64 << 10, &f->up, &f->up_fd) < 0)
		return -1;
	f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->shared = shared_memory(sizeof(*f->shared));
	return f->wake < 0 || f->shared == NULL;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	process_end(f->sleeper);
	ring_close(f->ring);
	page_close(f->page);
	upstream_close(f->up);
	(void)close(f->ring_fd);
	(void)close(f->page_fd);
	(void)close(f->up_fd);
	(void)close(f->wake);
	(void)munmap(f->shared, sizeof(*f->shared));
	free(f);
	return 0;
}

/* The flag is up: lie until rung for. */
static void
lie_down(const struct fixture *f)
{
	struct pollfd pfd = {.fd = f->wake, .events = POLLIN};
	eventfd_t count;

	atomic_fetch_add(&f->shared->sleeps, 1);
	if (poll(&pfd, 1, LOST_MS) == 0) {
		atomic_store(&f->shared->lost, 1);
		_exit(1);
	}
	(void)eventfd_read(f->wake, &count);
}

static void
start_sleeper(struct fixture *f, void (*sleeper_main)(const struct fixture *f))
{
	f->sleeper = process_start();
	if (f->sleeper == 0)
		sleeper_main(f);
}

/* Not to fall into step: each round comes a little later than the last. */
static void
dawdle(uint64_t round)
{
	for (volatile uint64_t i = round % 97 * 3; i > 0; i--)
		;
}

/* Send when the last was read, in the moment when the sleeper lies down. Its timeout
 * is what tells a loss; ours only ends the test then. */
static void
meet_often(struct fixture *f, void (*send_one)(struct fixture *f))
{
	uint64_t end = now_ms() + RUN_MS, rounds = 0;

	while ((now_ms() < end || atomic_load(&f->shared->sleeps) == 0) &&
	       atomic_load(&f->shared->lost) == 0 && now_ms() < end + LOST_MS) {
		uint64_t late = now_ms() + 2 * LOST_MS;

		send_one(f);
		rounds++;
		while (atomic_load_explicit(&f->shared->read, memory_order_relaxed) <
		       rounds) {
			if (atomic_load(&f->shared->lost) != 0 || now_ms() > late)
				break;
		}
		dawdle(rounds);
	}
	assert_int_equal(atomic_load(&f->shared->lost), 0);
	assert_int_equal(atomic_load(&f->shared->read), rounds);
	assert_true(atomic_load(&f->shared->sleeps) > 0);
	print_message("%lu rounds, %lu sleeps\n", (unsigned long)rounds,
	    (unsigned long)atomic_load(&f->shared->sleeps));
}

/* ---- the worker sleeps ---- */

static void
worker_main(const struct fixture *f)
{
	struct ring *r;
	struct page *page;
	uint64_t done = 1;

	if (ring_open(f->ring_fd, false, &r) < 0 ||
	    page_open(f->page_fd, true, &page) < 0)
		_exit(2);
	for (;;) {
		if (ring_head(r) > done) {
			done = ring_head(r);
			page_set_floor(page, done);
			/* Relaxed: a locked instruction would do a fence's work. */
			atomic_store_explicit(
			    &f->shared->read, done - 1, memory_order_relaxed);
		}
		if (page_sleep(page, r, done)) {
			lie_down(f);
			page_wake(page);
		}
	}
}

static void
publish_one(struct fixture *f)
{
	static uint32_t rung;

	(void)!ring_commit(f->ring, &(struct ring_desc){.type = RING_DRAIN});
	if (page_must_ring(f->page, &rung))
		(void)eventfd_write(f->wake, 1);
}

static void
test_page_sleep_no_wakeup_is_lost(void **state)
{
	struct fixture *f = *state;

	start_sleeper(f, worker_main);
	meet_often(f, publish_one);
}

/* ---- the supervisor sleeps ---- */

static void
supervisor_main(const struct fixture *f)
{
	struct upstream *up;
	const void *buf;
	uint64_t nread = 0;
	uint32_t type;
	size_t len;

	if (upstream_open(f->up_fd, &up) < 0)
		_exit(2);
	for (;;) {
		while (upstream_next(up, &type, &buf, &len) == 1) {
			upstream_consume(up);
			atomic_store_explicit(
			    &f->shared->read, ++nread, memory_order_relaxed);
		}
		if (upstream_sleep(up)) {
			lie_down(f);
			upstream_wake(up);
		}
	}
}

static void
send_one(struct fixture *f)
{
	while (upstream_room(f->up, 8) == NULL)
		;
	upstream_send(f->up, 1, 8);
	if (upstream_must_ring(f->up))
		(void)eventfd_write(f->wake, 1);
}

static void
test_upstream_sleep_no_wakeup_is_lost(void **state)
{
	struct fixture *f = *state;

	start_sleeper(f, supervisor_main);
	meet_often(f, send_one);
}

/* ---- both at once ---- */

/* Let the sleeper go, do our half, and compare with what it did. */
static void
race_often(struct fixture *f, bool (*send_and_look)(struct fixture *f))
{
	uint64_t end = now_ms() + RUN_MS, round = 0, both = 0;

	while ((round % 256 != 0 || now_ms() < end) &&
	       atomic_load(&f->shared->lost) == 0) {
		bool rang;

		atomic_store(&f->shared->go, ++round);
		dawdle(round);
		rang = send_and_look(f);
		atomic_store(&f->shared->looked, round);
		while (atomic_load(&f->shared->came) < round)
			;
		if (atomic_load(&f->shared->slept) && !rang)
			atomic_store(&f->shared->lost, 1);
		both += atomic_load(&f->shared->slept) && rang;
	}
	print_message(
	    "%lu rounds, %lu rung\n", (unsigned long)round, (unsigned long)both);
	assert_int_equal(atomic_load(&f->shared->lost), 0);
}

/* The flag stays up until the sender has looked at it. */
static void
stay(const struct fixture *f, bool slept, uint64_t round)
{
	atomic_store(&f->shared->slept, slept);
	while (atomic_load(&f->shared->looked) < round)
		;
}

/* The other's word is looked at while waiting: in the race its line is at hand, and
 * its old value with it. */
static void
racing_worker_main(const struct fixture *f)
{
	struct ring *r;
	uint64_t done = 1;

	if (ring_open(f->ring_fd, false, &r) < 0)
		_exit(2);
	for (uint64_t round = 1;; round++) {
		bool slept;

		while (atomic_load(&f->shared->go) < round)
			(void)ring_head(r);
		slept = page_sleep(f->page, r, done);
		stay(f, slept, round);
		page_wake(f->page);
		done = ring_head(r);
		atomic_store(&f->shared->came, round);
	}
}

static bool
publish_and_look(struct fixture *f)
{
	static uint32_t rung;
	struct page_now now;

	page_look(f->page, &now);
	(void)!ring_commit(f->ring, &(struct ring_desc){.type = RING_DRAIN});
	return page_must_ring(f->page, &rung);
}

static void
test_page_sleep_or_ring_one_sees(void **state)
{
	struct fixture *f = *state;

	start_sleeper(f, racing_worker_main);
	race_often(f, publish_and_look);
}

static void
racing_supervisor_main(const struct fixture *f)
{
	struct upstream *up;
	const void *buf;
	uint32_t type;
	size_t len;

	if (upstream_open(f->up_fd, &up) < 0)
		_exit(2);
	for (uint64_t round = 1;; round++) {
		bool slept;

		while (atomic_load(&f->shared->go) < round)
			(void)!upstream_next(up, &type, &buf, &len);
		slept = upstream_sleep(up);
		stay(f, slept, round);
		upstream_wake(up);
		(void)!upstream_next(up, &type, &buf, &len);
		upstream_consume(up);
		atomic_store(&f->shared->came, round);
	}
}

static bool
send_and_look(struct fixture *f)
{
	while (upstream_room(f->up, 8) == NULL)
		;
	upstream_send(f->up, 1, 8);
	return upstream_must_ring(f->up);
}

static void
test_upstream_sleep_or_ring_one_sees(void **state)
{
	struct fixture *f = *state;

	start_sleeper(f, racing_supervisor_main);
	race_often(f, send_and_look);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_page_sleep_or_ring_one_sees),
	    T(test_upstream_sleep_or_ring_one_sees),
	    T(test_page_sleep_no_wakeup_is_lost),
	    T(test_upstream_sleep_no_wakeup_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
