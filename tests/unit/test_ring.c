/* test_ring.c - the ring's contract, one claim at a time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/map.h"
#include "shm/page.h"
#include "shm/ring.h"

#define FRAMES (1u << 20)
#define INDEX 64u
#define FRAME_MAX (FRAMES / 8)

static const struct ring_config small = {
    .frames_size = FRAMES, .index_len = INDEX, .channels_max = 4};

/* A ring of 1 MiB a dialect and 64 descriptors, its writer, a reader on a read-only
 * map, and a worker's page that the writer does not heed yet. */
struct fixture {
	struct ring *writer, *reader;
	struct page *page;
	int fd, reader_fd, page_fd;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL || ring_create(&small, &f->writer, &f->fd) < 0 ||
	       map_reader_fd(f->fd, &f->reader_fd) < 0 ||
	       ring_open(f->reader_fd, false, &f->reader) < 0 ||
	       page_create(0, &f->page, &f->page_fd) < 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	ring_close(f->writer);
	ring_close(f->reader);
	page_close(f->page);
	(void)close(f->fd);
	(void)close(f->reader_fd);
	(void)close(f->page_fd);
	free(f);
	return 0;
}

/* Put a frame of len bytes of one value; false when a floor is in the way. */
static bool
put(struct ring *r, unsigned dialect, size_t len, int value)
{
	void *room = ring_room(r, dialect, len);

	if (room == NULL)
		return false;
	memset(room, value, len);
	ring_put(r, dialect, len);
	return true;
}

static uint64_t
commit(struct ring *r)
{
	return ring_commit(r, &(struct ring_desc){.type = RING_MESSAGE});
}

/* A record with one frame in one dialect; 0 when a floor is in the way. */
static uint64_t
publish(struct ring *r, unsigned dialect, size_t len, int value)
{
	return put(r, dialect, len, value) ? commit(r) : 0;
}

static void
assert_frame(
    const struct ring *r, unsigned dialect, uint64_t number, size_t len, int value)
{
	const void *frame = NULL;

	assert_int_equal(ring_frames(r, dialect, number, number + 1, &frame), len);
	for (size_t i = 0; i < len; i++) {
		if (((const uint8_t *)frame)[i] != (uint8_t)value)
			fail_msg("byte %zu of record %lu", i, (unsigned long)number);
	}
}

/* ---- making and opening ---- */

static void
test_ring_create_bad_sizes_refused(void **state)
{
	static const struct ring_config bad[] = {
	    {.frames_size = FRAMES + 4096, .index_len = INDEX, .channels_max = 4},
	    {.frames_size = RING_FRAMES_MIN / 2, .index_len = INDEX, .channels_max = 4},
	    {.frames_size = RING_FRAMES_MAX * 2u,
		.index_len = INDEX,
		.channels_max = 4},
	    {.frames_size = FRAMES, .index_len = 100, .channels_max = 4},
	    {.frames_size = FRAMES, .index_len = 0, .channels_max = 4},
	    {.frames_size = FRAMES, .index_len = INDEX, .channels_max = 0},
	};
	struct ring *r;
	int fd;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(ring_create(&bad[i], &r, &fd), -EINVAL);
}

static void
test_ring_create_is_empty(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ring_head(f->reader), 1);
	assert_int_equal(ring_oldest(f->reader), 1);
	assert_int_equal(ring_frames_size(f->reader), FRAMES);
	assert_int_equal(ring_index_len(f->reader), INDEX);
}

static void
test_ring_create_epoch_is_new_and_plain(void **state)
{
	struct fixture *f = *state;
	const char *epoch = ring_epoch(f->writer);
	struct ring *other;
	int fd;

	assert_int_equal(strlen(epoch), RING_EPOCH_LEN);
	assert_int_equal(
	    strspn(epoch, "abcdefghijklmnopqrstuvwxyz234567"), RING_EPOCH_LEN);
	assert_string_equal(ring_epoch(f->reader), epoch);
	assert_int_equal(ring_create(&small, &other, &fd), 0);
	assert_string_not_equal(ring_epoch(other), epoch);
	ring_close(other);
	(void)close(fd);
}

/* Memory is touched only when used: 7 MiB of frames, and next to nothing of it there.
 */
static void
test_ring_create_is_sparse(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	assert_true(st.st_size > RING_DIALECTS * (off_t)FRAMES);
	assert_true(st.st_blocks * 512 < 64 * 1024);
}

static void
test_ring_create_size_is_sealed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ftruncate(f->fd, 4096), -1);
	assert_int_equal(errno, EPERM);
}

static void
test_ring_reader_fd_cannot_write(void **state)
{
	struct fixture *f = *state;
	struct ring *r;

	assert_int_equal(ring_open(f->reader_fd, true, &r), -EACCES);
	assert_int_equal(pwrite(f->reader_fd, "x", 1, 0), -1);
}

static void
test_ring_open_no_ring_refused(void **state)
{
	struct fixture *f = *state;
	struct ring *r;
	int pipes[2];

	assert_int_equal(ring_open(f->page_fd, false, &r), -EPROTO);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(ring_open(pipes[0], false, &r), -EPROTO);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	assert_int_equal(ring_open(-1, false, &r), -EBADF);
}

/* The header: magic (8), version, dialects, frames_size, index_len, channels_max. */
static void
test_ring_open_header_must_fit(void **state)
{
	static const struct {
		off_t offset;
		uint32_t value;
	} bad[] = {{0, 1}, {8, RING_VERSION + 1}, {12, RING_DIALECTS - 1},
	    {16, FRAMES * 2}, {20, INDEX * 2}, {20, 0}, {24, 4000}, {24, 0}};
	struct fixture *f = *state;
	struct ring *r;
	uint32_t was;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(pread(f->fd, &was, 4, bad[i].offset), 4);
		assert_int_equal(pwrite(f->fd, &bad[i].value, 4, bad[i].offset), 4);
		assert_int_equal(ring_open(f->reader_fd, false, &r), -EPROTO);
		assert_int_equal(pwrite(f->fd, &was, 4, bad[i].offset), 4);
	}
	assert_int_equal(ring_open(f->reader_fd, false, &r), 0);
	ring_close(r);
}

static void
test_ring_close_null_is_fine(void **state)
{
	ring_close(NULL);
}

/* ---- publishing ---- */

static void
test_ring_commit_numbers_count_from_one(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 3; n++) {
		assert_int_equal(commit(f->writer), n);
		assert_int_equal(ring_head(f->reader), n + 1);
	}
}

static void
test_ring_commit_fields_arrive(void **state)
{
	struct fixture *f = *state;
	const struct ring_desc sent = {.offset = 1ull << 40,
	    .time_ns = 1234567890123456789,
	    .channel = 3,
	    .prev = 7,
	    .type = RING_ACK,
	    .data_kind = 2,
	    .worker = 9};
	const struct ring_desc *got;

	assert_int_equal(ring_commit(f->writer, &sent), 1);
	got = ring_at(f->reader, 1);
	assert_int_equal(got->number, 1);
	assert_int_equal(got->offset, sent.offset);
	assert_int_equal(got->time_ns, sent.time_ns);
	assert_int_equal(got->channel, 3);
	assert_int_equal(got->prev, 7);
	assert_int_equal(got->type, RING_ACK);
	assert_int_equal(got->data_kind, 2);
	assert_int_equal(got->worker, 9);
}

static void
test_ring_put_is_not_seen_before_commit(void **state)
{
	struct fixture *f = *state;

	assert_true(put(f->writer, 0, 100, 'a'));
	assert_int_equal(ring_head(f->reader), 1);
	assert_int_equal(commit(f->writer), 1);
	assert_frame(f->reader, 0, 1, 100, 'a');
}

static void
test_ring_put_shorter_than_room_counts(void **state)
{
	struct fixture *f = *state;
	char *room = ring_room(f->writer, 0, 1000);

	memset(room, 'a', 10);
	ring_put(f->writer, 0, 10);
	assert_int_equal(commit(f->writer), 1);
	assert_int_equal(publish(f->writer, 0, 5, 'b'), 2);
	assert_frame(f->reader, 0, 1, 10, 'a');
	assert_frame(f->reader, 0, 2, 5, 'b');
}

static void
test_ring_room_unused_costs_nothing(void **state)
{
	struct fixture *f = *state;

	assert_non_null(ring_room(f->writer, 0, 1000));
	assert_int_equal(publish(f->writer, 1, 5, 'b'), 1);
	assert_frame(f->reader, 0, 1, 0, 0);
	assert_frame(f->reader, 1, 1, 5, 'b');
}

static void
test_ring_abort_forgets_what_was_put(void **state)
{
	struct fixture *f = *state;

	assert_true(put(f->writer, 0, 100, 'a'));
	ring_abort(f->writer);
	assert_int_equal(publish(f->writer, 0, 7, 'b'), 1);
	assert_frame(f->reader, 0, 1, 7, 'b');
}

static void
test_ring_room_longest_is_an_eighth(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ring_frame_max(f->writer), FRAME_MAX);
	assert_null(ring_room(f->writer, 0, FRAME_MAX + 1));
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 'x'), 1);
	assert_frame(f->reader, 0, 1, FRAME_MAX, 'x');
}

static void
test_ring_frames_of_a_run_are_one_range(void **state)
{
	struct fixture *f = *state;
	const void *frames;

	for (int i = 0; i < 10; i++)
		assert_int_equal(publish(f->writer, 0, 2, 'a' + i), i + 1);
	assert_int_equal(ring_frames(f->reader, 0, 3, 6, &frames), 6);
	assert_memory_equal(frames, "ccddee", 6);
}

static void
test_ring_frames_skip_records_without_one(void **state)
{
	struct fixture *f = *state;
	const void *frames;

	assert_int_equal(publish(f->writer, 1, 1, 'a'), 1);
	assert_int_equal(publish(f->writer, 0, 9, 'x'), 2);
	assert_int_equal(commit(f->writer), 3);
	assert_int_equal(publish(f->writer, 1, 1, 'b'), 4);
	assert_int_equal(ring_frames(f->reader, 1, 1, 5, &frames), 2);
	assert_memory_equal(frames, "ab", 2);
	assert_int_equal(ring_frames(f->reader, 1, 2, 4, &frames), 0);
}

static void
test_ring_frames_dialects_are_apart(void **state)
{
	struct fixture *f = *state;

	for (unsigned d = 0; d < RING_DIALECTS; d++)
		assert_true(put(f->writer, d, 10 + d, 'a' + (int)d));
	assert_int_equal(commit(f->writer), 1);
	for (unsigned d = 0; d < RING_DIALECTS; d++)
		assert_frame(f->reader, d, 1, 10 + d, 'a' + (int)d);
}

/* 100,000 does not divide the ring: the 11th frame lies over its end. */
static void
test_ring_frames_over_the_end_are_one_range(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 30; i++) {
		assert_int_equal(publish(f->writer, 0, 100000, i), i);
		assert_frame(f->reader, 0, (uint64_t)i, 100000, i);
	}
}

static void
test_ring_frames_positions_wrap_unnoticed(void **state)
{
	struct fixture *f = *state;
	uint64_t n = 0;

	/* Past 2^32 bytes, touching none. */
	for (uint64_t bytes = 0; bytes < (1ull << 32) - 300000; bytes += 100000) {
		assert_non_null(ring_room(f->writer, 2, 100000));
		ring_put(f->writer, 2, 100000);
		n = commit(f->writer);
	}
	for (int i = 1; i <= 9; i++) {
		assert_int_equal(publish(f->writer, 2, 100000, i), n + (uint64_t)i);
		assert_frame(f->reader, 2, n + (uint64_t)i, 100000, i);
		assert_frame(f->reader, 2, n + 1, 100000, 1);
	}
	assert_true(ring_oldest(f->reader) <= n + 1);
}

static void
test_ring_at_head_says_where_the_last_frame_ends(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 3 * INDEX; i++) {
		const struct ring_desc *head = ring_at(f->reader, ring_head(f->reader));
		assert_int_equal(head->begin[0], 10 * i);
		assert_int_equal(head->number, 0);
		assert_int_not_equal(publish(f->writer, 0, 10, 'x'), 0);
	}
}

/* ---- floors ---- */

static void
test_ring_room_without_workers_never_full(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 1000; n++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, 'x'), n);
}

/* Records of an eighth: eight fill the ring, and the floor holds the first. */
static void
test_ring_room_full_names_laggard(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 5, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_null(ring_room(f->writer, 0, 1));
	assert_int_equal(errno, ENOBUFS);
	assert_int_equal(ring_laggard(f->writer), 5);
	for (int i = 1; i <= 8; i++)
		assert_frame(f->reader, 0, (uint64_t)i, FRAME_MAX, i);
}

static void
test_ring_room_risen_floor_makes_room(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	page_set_floor(f->page, 2);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 9), 9);
	assert_null(ring_room(f->writer, 0, 1));
	for (int i = 2; i <= 9; i++)
		assert_frame(f->reader, 0, (uint64_t)i, FRAME_MAX, i);
}

static void
test_ring_room_every_dialect_counts(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(
		    publish(f->writer, RING_DIALECTS - 1, FRAME_MAX, i), i);
	assert_non_null(ring_room(f->writer, 0, 1));
	assert_null(ring_room(f->writer, RING_DIALECTS - 1, 1));
	assert_int_equal(errno, ENOBUFS);
}

/* The descriptor behind the newest record needs its place too. */
static void
test_ring_commit_full_index_refused(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 3, f->page);
	for (uint64_t n = 1; n < INDEX; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(commit(f->writer), 0);
	assert_int_equal(errno, ENOBUFS);
	assert_int_equal(ring_laggard(f->writer), 3);
	assert_int_equal(ring_head(f->reader), INDEX);
}

static void
test_ring_commit_refused_can_be_tried_again(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (uint64_t n = 1; n < INDEX; n++)
		assert_int_equal(commit(f->writer), n);
	assert_true(put(f->writer, 0, 50, 'w'));
	assert_int_equal(commit(f->writer), 0);
	page_set_floor(f->page, 2);
	assert_int_equal(commit(f->writer), INDEX);
	assert_frame(f->reader, 0, INDEX, 50, 'w');
}

static void
test_ring_laggard_is_the_lowest_of_many(void **state)
{
	struct fixture *f = *state;
	struct page *other;
	int fd;

	assert_int_equal(page_create(1, &other, &fd), 0);
	ring_set_worker(f->writer, 0, f->page);
	ring_set_worker(f->writer, RING_WORKERS_MAX - 1, other);
	page_set_floor(f->page, 2);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_int_equal(publish(f->writer, 0, 1, 9), 0);
	assert_int_equal(ring_laggard(f->writer), RING_WORKERS_MAX - 1);
	ring_set_worker(f->writer, RING_WORKERS_MAX - 1, NULL);
	page_close(other);
	(void)close(fd);
}

static void
test_ring_set_worker_null_lets_go(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_int_equal(publish(f->writer, 0, 1, 9), 0);
	ring_set_worker(f->writer, 0, NULL);
	assert_int_equal(publish(f->writer, 0, 1, 9), 9);
}

/* The writer has a minimum of its own in mind, which the newcomer's floor is below. */
static void
test_ring_set_worker_late_is_heeded_at_once(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 20; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	page_set_floor(f->page, ring_oldest(f->writer));
	ring_set_worker(f->writer, 0, f->page);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 21), 0);
	assert_frame(f->reader, 0, ring_oldest(f->reader), FRAME_MAX,
	    (int)ring_oldest(f->reader));
}

static void
test_ring_floor_above_head_counts_as_head(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	page_set_floor(f->page, UINT64_MAX);
	for (uint64_t n = 1; n <= 100; n++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, 'x'), n);
}

/* What has gone cannot be held; what is left can, and the worker is the laggard. */
static void
test_ring_floor_going_back_holds_what_is_left(void **state)
{
	struct fixture *f = *state;
	uint64_t oldest;

	ring_set_worker(f->writer, 0, f->page);
	page_set_floor(f->page, 50);
	for (uint64_t n = 1; n <= 57; n++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, (int)n), n);
	oldest = ring_oldest(f->writer);
	page_set_floor(f->page, 0);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 58), 0);
	assert_int_equal(ring_laggard(f->writer), 0);
	assert_int_equal(ring_oldest(f->writer), oldest);
	page_set_floor(f->page, 58);
	assert_int_equal(publish(f->writer, 0, FRAME_MAX, 58), 58);
}

/* ---- what is whole ---- */

/* Eight fill the ring; one byte more, and the first has gone: before it is written. */
static void
test_ring_oldest_rises_before_the_bytes_go(void **state)
{
	struct fixture *f = *state;

	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_int_equal(ring_oldest(f->reader), 1);
	assert_non_null(ring_room(f->writer, 0, 1));
	assert_int_equal(ring_oldest(f->reader), 2);
	assert_frame(f->reader, 0, 1, FRAME_MAX, 1);
}

static void
test_ring_oldest_counts_descriptors(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 1000; n++) {
		assert_int_equal(commit(f->writer), n);
		assert_int_equal(
		    ring_oldest(f->reader), n + 2 > INDEX ? n + 2 - INDEX : 1);
		assert_int_equal(ring_at(f->reader, ring_oldest(f->reader))->number,
		    ring_oldest(f->reader));
	}
}

static void
test_ring_at_overwritten_has_another_number(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= INDEX; n++) {
		assert_int_equal(ring_at(f->reader, 1)->number, n == 1 ? 0 : 1);
		assert_int_equal(commit(f->writer), n);
	}
	assert_int_not_equal(ring_at(f->reader, 1)->number, 1);
}

/* ---- how far back ---- */

static void
test_ring_retain_young_ring_keeps_all(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ring_retain(f->reader, 1), 1);
	for (int i = 0; i < 10; i++)
		(void)!publish(f->writer, 0, 1000, 'x');
	assert_int_equal(ring_retain(f->reader, 11), 1);
}

static void
test_ring_retain_three_quarters_of_the_index(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 60; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_retain(f->reader, 61), 61 - 48);
	assert_int_equal(ring_retain(f->reader, 50), 2);
	assert_int_equal(ring_retain(f->reader, 48), 1);
}

static void
test_ring_retain_three_quarters_of_the_bytes(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 8; n++)
		assert_int_equal(publish(f->writer, 4, FRAME_MAX, 'x'), n);
	assert_int_equal(ring_retain(f->reader, 9), 3);
	assert_int_equal(ring_retain(f->reader, 8), 2);
}

static void
test_ring_retain_bounds_what_is_asked(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 200; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_retain(f->reader, UINT64_MAX), 201 - 48);
	assert_int_equal(ring_retain(f->reader, 1), ring_oldest(f->reader));
	assert_int_equal(ring_retain(f->reader, 150), ring_oldest(f->reader));
}

/* A worker that has read all and keeps what it may never stands in the way. */
static void
test_ring_retain_leaves_room_for_a_quarter(void **state)
{
	struct fixture *f = *state;

	ring_set_worker(f->writer, 0, f->page);
	for (uint64_t n = 1; n <= 500; n++) {
		size_t len = n % 3 == 0 ? FRAME_MAX : n * 37 % 5000;
		assert_int_equal(publish(f->writer, n % 2, len, 'x'), n);
		page_set_floor(f->page, ring_retain(f->reader, n + 1));
	}
}

static void
test_ring_distance_by_what_is_furthest(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 4; n++)
		assert_int_equal(publish(f->writer, 1, FRAME_MAX, 'x'), n);
	assert_int_equal(ring_distance(f->reader, 1), 512); /* half the bytes */
	assert_int_equal(ring_distance(f->reader, 3), 256);
	for (uint64_t n = 5; n <= 44; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_distance(f->reader, 13), 512); /* half the descriptors */
	assert_int_equal(ring_distance(f->reader, 1), 44 * 1024 / 64);
}

static void
test_ring_distance_is_bounded(void **state)
{
	struct fixture *f = *state;

	for (uint64_t n = 1; n <= 200; n++)
		assert_int_equal(commit(f->writer), n);
	assert_int_equal(ring_distance(f->reader, 201), 0);
	assert_int_equal(ring_distance(f->reader, UINT64_MAX), 0);
	assert_int_equal(ring_distance(f->reader, 0), 1024);
	assert_int_equal(ring_distance(f->reader, 1), 1024);
}

/* ---- another writer ---- */

static void
test_ring_open_writer_goes_on(void **state)
{
	struct fixture *f = *state;
	struct ring *next;

	for (int i = 1; i <= 30; i++)
		assert_int_equal(publish(f->writer, 0, 100000, i), i);
	assert_int_equal(ring_open(f->fd, true, &next), 0);
	assert_string_equal(ring_epoch(next), ring_epoch(f->reader));
	assert_int_equal(publish(next, 0, 100, 31), 31);
	assert_frame(f->reader, 0, 30, 100000, 30);
	assert_frame(f->reader, 0, 31, 100, 31);
	ring_close(next);
}

static void
test_ring_open_writer_half_made_record_is_lost(void **state)
{
	struct fixture *f = *state;
	struct ring *next;

	assert_int_equal(publish(f->writer, 0, 10, 1), 1);
	assert_true(put(f->writer, 0, 1000, 'x'));
	assert_int_equal(ring_open(f->fd, true, &next), 0);
	assert_int_equal(publish(next, 0, 20, 2), 2);
	assert_frame(f->reader, 0, 2, 20, 2);
	ring_close(next);
}

static void
test_ring_open_writer_heeds_floors_again(void **state)
{
	struct fixture *f = *state;
	struct ring *next;

	for (int i = 1; i <= 8; i++)
		assert_int_equal(publish(f->writer, 0, FRAME_MAX, i), i);
	assert_int_equal(ring_open(f->fd, true, &next), 0);
	ring_set_worker(next, 0, f->page);
	assert_int_equal(publish(next, 0, FRAME_MAX, 9), 0);
	ring_close(next);
}

/* ---- the feed's state ---- */

static void
test_ring_feed_down_is_seen_by_readers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ring_feed_down(f->reader), 0);
	ring_set_feed_down(f->writer, 1234567890123);
	assert_int_equal(ring_feed_down(f->reader), 1234567890123);
	ring_set_feed_down(f->writer, 0);
	assert_int_equal(ring_feed_down(f->reader), 0);
}

static void
test_ring_draining_is_seen_by_readers(void **state)
{
	struct fixture *f = *state;

	assert_false(ring_draining(f->reader));
	ring_set_draining(f->writer, true);
	assert_true(ring_draining(f->reader));
	ring_set_draining(f->writer, false);
	assert_false(ring_draining(f->reader));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ring_create_bad_sizes_refused),
	    T(test_ring_create_is_empty),
	    T(test_ring_create_epoch_is_new_and_plain),
	    T(test_ring_create_is_sparse),
	    T(test_ring_create_size_is_sealed),
	    T(test_ring_reader_fd_cannot_write),
	    T(test_ring_open_no_ring_refused),
	    T(test_ring_open_header_must_fit),
	    cmocka_unit_test(test_ring_close_null_is_fine),
	    T(test_ring_commit_numbers_count_from_one),
	    T(test_ring_commit_fields_arrive),
	    T(test_ring_put_is_not_seen_before_commit),
	    T(test_ring_put_shorter_than_room_counts),
	    T(test_ring_room_unused_costs_nothing),
	    T(test_ring_abort_forgets_what_was_put),
	    T(test_ring_room_longest_is_an_eighth),
	    T(test_ring_frames_of_a_run_are_one_range),
	    T(test_ring_frames_skip_records_without_one),
	    T(test_ring_frames_dialects_are_apart),
	    T(test_ring_frames_over_the_end_are_one_range),
	    T(test_ring_frames_positions_wrap_unnoticed),
	    T(test_ring_at_head_says_where_the_last_frame_ends),
	    T(test_ring_room_without_workers_never_full),
	    T(test_ring_room_full_names_laggard),
	    T(test_ring_room_risen_floor_makes_room),
	    T(test_ring_room_every_dialect_counts),
	    T(test_ring_commit_full_index_refused),
	    T(test_ring_commit_refused_can_be_tried_again),
	    T(test_ring_laggard_is_the_lowest_of_many),
	    T(test_ring_set_worker_null_lets_go),
	    T(test_ring_set_worker_late_is_heeded_at_once),
	    T(test_ring_floor_above_head_counts_as_head),
	    T(test_ring_floor_going_back_holds_what_is_left),
	    T(test_ring_oldest_rises_before_the_bytes_go),
	    T(test_ring_oldest_counts_descriptors),
	    T(test_ring_at_overwritten_has_another_number),
	    T(test_ring_retain_young_ring_keeps_all),
	    T(test_ring_retain_three_quarters_of_the_index),
	    T(test_ring_retain_three_quarters_of_the_bytes),
	    T(test_ring_retain_bounds_what_is_asked),
	    T(test_ring_retain_leaves_room_for_a_quarter),
	    T(test_ring_distance_by_what_is_furthest),
	    T(test_ring_distance_is_bounded),
	    T(test_ring_open_writer_goes_on),
	    T(test_ring_open_writer_half_made_record_is_lost),
	    T(test_ring_open_writer_heeds_floors_again),
	    T(test_ring_feed_down_is_seen_by_readers),
	    T(test_ring_draining_is_seen_by_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
