/* test_ring.c - the ring's contract, one claim at a time: what is made, published and
 * found again. How far back it reaches is test_ring_floors.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/small_ring.h"

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
	    T(test_ring_open_writer_goes_on),
	    T(test_ring_open_writer_half_made_record_is_lost),
	    T(test_ring_open_writer_heeds_floors_again),
	    T(test_ring_feed_down_is_seen_by_readers),
	    T(test_ring_draining_is_seen_by_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
