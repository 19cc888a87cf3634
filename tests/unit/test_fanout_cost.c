/*
 * test_fanout_cost.c - what a delivery costs beside its send: no memory, no copy, no
 * second call. malloc() and its kin, send() and sendmsg() are wrapped by the linker
 * (Makefile) and counted.
 *
 * WSCAST_RECEIVERS=n, WSCAST_MESSAGES=n: as many, for callgrind. docs/design.md says
 * how.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "tests/unit/scene.h"

#define RECEIVERS_MAX 20000
#define PAYLOAD_LEN 124 /* 128 bytes less the head */

/* ---- what is counted ---- */

static struct {
	unsigned allocations, sends, vectors;
	const void *buf; /* what was sent last */
	size_t len;
	bool same; /* that was so for all */
} counts;

/* The names are the linker's. NOLINTBEGIN(bugprone-reserved-identifier) */
void *__real_malloc(size_t len);
void *__real_calloc(size_t n, size_t len);
void *__real_realloc(void *p, size_t len);
ssize_t __real_send(int fd, const void *buf, size_t len, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t n, size_t len);
void *__wrap_realloc(void *p, size_t len);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);

void *
__wrap_malloc(size_t len)
{
	counts.allocations++;
	return __real_malloc(len);
}

void *
__wrap_calloc(size_t n, size_t len)
{
	counts.allocations++;
	return __real_calloc(n, len);
}

void *
__wrap_realloc(void *p, size_t len)
{
	counts.allocations++;
	return __real_realloc(p, len);
}

ssize_t
__wrap_send(int fd, const void *buf, size_t len, int flags)
{
	if (counts.sends++ > 0 && (buf != counts.buf || len != counts.len))
		counts.same = false;
	counts.buf = buf;
	counts.len = len;
	return __real_send(fd, buf, len, flags);
}

ssize_t
__wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	counts.vectors++;
	return __real_sendmsg(fd, msg, flags);
}
/* NOLINTEND(bugprone-reserved-identifier) */

static void
count_anew(void)
{
	memset(&counts, 0, sizeof(counts));
	counts.same = true;
}

/* ---- a worker with one channel's receivers, and a channel beside it ---- */

struct fixture {
	struct scene sc;
	unsigned n;
	int *peers;
};

static void
raise_limit(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void
begin(struct fixture *f, unsigned n)
{
	raise_limit();
	*f = (struct fixture){.n = n};
	scene_make(&f->sc, "", n);
	f->peers = calloc(n, sizeof(*f->peers));
	assert_non_null(f->peers);
	for (uint32_t i = 0; i < n; i++)
		scene_client(&f->sc, &f->peers[i]);
	scene_adopt(&f->sc);
}

static void
end(struct fixture *f)
{
	for (uint32_t i = 0; i < f->n; i++)
		(void)close(f->peers[i]);
	free(f->peers);
	scene_end(&f->sc);
}

/* Returns the record's number. */
static uint64_t
publish(struct fixture *f, uint32_t channel)
{
	static const char payload[PAYLOAD_LEN];

	return scene_publish(&f->sc, channel, NULL, payload, sizeof(payload));
}

static void
pass_all(struct fixture *f)
{
	while (fanout_turn(&f->sc.w) == FANOUT_MORE)
		;
	page_wake(f->sc.w.page);
}

/* Each client reads what came. Returns how many bytes all of them got. */
static size_t
read_all(struct fixture *f)
{
	char buf[4096];
	size_t got = 0;

	for (unsigned i = 0; i < f->n; i++) {
		ssize_t n;

		while ((n = recv(f->peers[i], buf, sizeof(buf), 0)) > 0)
			got += (size_t)n;
	}
	return got;
}

static const void *
frame_at(const struct fixture *f, uint64_t number, size_t *ret_len)
{
	const void *frame;

	*ret_len = ring_frames(f->sc.w.ring, DIALECT_RAW, number, number + 1, &frame);
	return frame;
}

/* ---- claims ---- */

/* A channel of many: one send for each delivery, from where the frame lies. */
static void
test_fanout_delivery_is_one_send_from_the_ring(void **state)
{
	unsigned n = scene_number("WSCAST_RECEIVERS", 256);
	unsigned messages = scene_number("WSCAST_MESSAGES", 20);
	struct fixture f;

	begin(&f, n < RECEIVERS_MAX ? n : RECEIVERS_MAX);
	assert_true(counts.allocations > 0); /* all that began it: they are seen */
	for (unsigned i = 0; i < messages; i++) {
		size_t len;
		const void *frame;
		uint64_t number = publish(&f, 0);

		frame = frame_at(&f, number, &len);
		count_anew();
		pass_all(&f);
		assert_int_equal(counts.allocations, 0);
		assert_int_equal(counts.sends, f.n);
		assert_int_equal(counts.vectors, 0);
		assert_true(counts.same);
		assert_ptr_equal(counts.buf, frame);
		assert_int_equal(counts.len, len);
		assert_int_equal(read_all(&f), f.n * len);
	}
	end(&f);
}

/* All that was published since goes to each of a few in one send, from where the frame
 * of `number` lies: `frames` of them, side by side. */
static void
assert_sent_in_place(struct fixture *f, uint64_t number, unsigned frames)
{
	size_t len;
	const void *frame = frame_at(f, number, &len);

	count_anew();
	pass_all(f);
	assert_int_equal(counts.allocations + counts.vectors, 0);
	assert_int_equal(counts.sends, f->n);
	assert_true(counts.same);
	assert_ptr_equal(counts.buf, frame);
	assert_int_equal(counts.len, frames * len);
	assert_int_equal(read_all(f), f->n * frames * len);
}

/* A channel of few, and messages for others between: one message leaves from the ring.
 */
static void
test_gather_single_message_is_sent_from_the_ring(void **state)
{
	struct fixture f;
	uint64_t number;

	begin(&f, 8);
	(void)publish(&f, 1);
	number = publish(&f, 0);
	(void)publish(&f, 1);
	assert_sent_in_place(&f, number, 1);
	end(&f);
}

/* Several that lie side by side do so in one send, too. */
static void
test_gather_run_is_sent_from_the_ring(void **state)
{
	struct fixture f;
	uint64_t number;

	begin(&f, 8);
	number = publish(&f, 0);
	(void)publish(&f, 0);
	(void)publish(&f, 0);
	assert_sent_in_place(&f, number, 3);
	end(&f);
}

/* Those that do not are laid side by side first, into memory that is there. */
static void
test_gather_scattered_is_one_send_and_no_memory(void **state)
{
	struct fixture f;
	size_t len;

	begin(&f, 8);
	(void)publish(&f, 0);
	(void)publish(&f, 1);
	(void)frame_at(&f, publish(&f, 0), &len);
	count_anew();
	pass_all(&f);
	assert_int_equal(counts.allocations + counts.vectors, 0);
	assert_int_equal(counts.sends, f.n);
	assert_int_equal(counts.len, 2 * len);
	assert_int_equal(read_all(&f), f.n * 2 * len);
	end(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fanout_delivery_is_one_send_from_the_ring),
	    cmocka_unit_test(test_gather_single_message_is_sent_from_the_ring),
	    cmocka_unit_test(test_gather_run_is_sent_from_the_ring),
	    cmocka_unit_test(test_gather_scattered_is_one_send_and_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
