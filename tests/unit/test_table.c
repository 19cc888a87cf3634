/* test_table.c - the connection table's map. */
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

#include "shm/table.h"

#define SLOTS 1000u
#define CHANNELS 300u
#define ARENA (1u << 20)

struct fixture {
	struct table table;
	int fd;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL || table_create(SLOTS, CHANNELS, ARENA, &f->table, &f->fd) < 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	table_close(&f->table);
	(void)close(f->fd);
	free(f);
	return 0;
}

static void
test_table_create_bad_sizes_refused(void **state)
{
	struct table t;
	int fd;

	assert_int_equal(table_create(0, 1, ARENA, &t, &fd), -EINVAL);
	assert_int_equal(table_create(1, 0, ARENA, &t, &fd), -EINVAL);
	assert_int_equal(table_create(1, 1, 0, &t, &fd), -EINVAL);
	assert_int_equal(table_create(1, 1, ARENA + 1, &t, &fd), -EINVAL);
	assert_int_equal(table_create(UINT32_MAX, 1, ARENA, &t, &fd), -EINVAL);
	assert_int_equal(table_create(1, 1, 2 * ARENA_LEN_MAX, &t, &fd), -EINVAL);
}

static void
test_table_create_is_empty_and_sparse(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(f->table.header->nslots, SLOTS);
	assert_int_equal(f->table.header->nchannels, CHANNELS);
	assert_int_equal(f->table.header->slots_used, 0);
	assert_int_equal(slot_state(&f->table.slots[0]), SLOT_FREE);
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_true(st.st_blocks * 512 <= 4096);
}

static void
test_table_create_parts_do_not_overlap(void **state)
{
	struct fixture *f = *state;

	memset(f->table.slots, 1, SLOTS * sizeof(struct slot));
	memset(f->table.channels, 2, CHANNELS * sizeof(struct channel));
	memset(f->table.arena, 3, ARENA);
	assert_int_equal(f->table.header->nslots, SLOTS);
	assert_int_equal(f->table.slots[SLOTS - 1].addr[15], 1);
	assert_int_equal(f->table.channels[CHANNELS - 1].nsubs, 0x02020202);
	assert_int_equal((uintptr_t)f->table.arena % 4096, 0);
}

static void
test_table_create_size_is_sealed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ftruncate(f->fd, 4096), -1);
	assert_int_equal(errno, EPERM);
}

static void
test_table_open_finds_what_was_there(void **state)
{
	struct fixture *f = *state;
	struct table next;

	f->table.slots[SLOTS - 1].fd = 77;
	f->table.channels[CHANNELS - 1].directory = 88;
	memcpy((char *)f->table.arena + ARENA - 10, "the end", sizeof("the end"));
	assert_int_equal(table_open(f->fd, true, &next), 0);
	assert_int_equal(next.slots[SLOTS - 1].fd, 77);
	assert_int_equal(next.channels[CHANNELS - 1].directory, 88);
	assert_string_equal((char *)next.arena + ARENA - 10, "the end");
	table_close(&next);
	table_close(&next); /* half-made or closed: fine */
}

static void
test_table_open_header_must_fit(void **state)
{
	struct fixture *f = *state;
	struct table_header *h = f->table.header;
	struct table t;

	h->version++;
	assert_int_equal(table_open(f->fd, false, &t), -EPROTO);
	h->version--;
	h->nslots *= 2;
	assert_int_equal(table_open(f->fd, false, &t), -EPROTO);
	h->nslots = SLOTS;
	h->nchannels = UINT32_MAX;
	assert_int_equal(table_open(f->fd, false, &t), -EPROTO);
	h->nchannels = CHANNELS;
	h->arena_len = UINT64_MAX & ~4095ull;
	assert_int_equal(table_open(f->fd, false, &t), -EPROTO);
	h->arena_len = ARENA;
	assert_int_equal(table_open(f->fd, false, &t), 0);
	table_close(&t);
	assert_int_equal(table_open(-1, false, &t), -EBADF);
}

static void
test_table_arena_peek_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct table *t = &f->table;
	const arena_ref last = ARENA / ARENA_UNIT;

	assert_null(table_arena_peek(t, 0, 1));
	assert_non_null(table_arena_peek(t, 1, ARENA - ARENA_HEAD));
	assert_null(table_arena_peek(t, 1, ARENA - ARENA_HEAD + 1));
	assert_non_null(table_arena_peek(t, last, ARENA_UNIT - ARENA_HEAD));
	assert_null(table_arena_peek(t, last, ARENA_UNIT - ARENA_HEAD + 1));
	assert_null(table_arena_peek(t, last + 1, 0));
	assert_null(table_arena_peek(t, UINT32_MAX, 1));
	assert_null(table_arena_peek(t, 1, SIZE_MAX));
}

static void
test_table_arena_peek_finds_blocks(void **state)
{
	struct fixture *f = *state;
	struct arena *a;
	arena_ref ref;

	assert_int_equal(arena_new(f->table.arena, ARENA, &a), 0);
	ref = arena_alloc(a, 100);
	assert_ptr_equal(table_arena_peek(&f->table, ref, 100), arena_at(a, ref));
	arena_free_all(a);
}

static void
test_slot_cursor_is_the_nearest(void **state)
{
	struct slot s = {0};
	static const uint64_t cursors[] = {
	    1, 0xffffffff, 1ull << 32, 0x2fffffff0, 1ull << 50};

	for (size_t i = 0; i < sizeof(cursors) / sizeof(cursors[0]); i++) {
		slot_set_pos(&s, (uint32_t)cursors[i], 0xfedcba98);
		assert_int_equal(slot_cursor(&s, cursors[i]), cursors[i]);
		assert_int_equal(slot_cursor(&s, cursors[i] + 1000000), cursors[i]);
		if (cursors[i] > 1000000)
			assert_int_equal(
			    slot_cursor(&s, cursors[i] - 1000000), cursors[i]);
		assert_int_equal(slot_tx(&s), 0xfedcba98);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table_create_bad_sizes_refused),
	    T(test_table_create_is_empty_and_sparse),
	    T(test_table_create_parts_do_not_overlap),
	    T(test_table_create_size_is_sealed),
	    T(test_table_open_finds_what_was_there),
	    T(test_table_open_header_must_fit),
	    T(test_table_arena_peek_is_bounded),
	    T(test_table_arena_peek_finds_blocks),
	    cmocka_unit_test(test_slot_cursor_is_the_nearest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
