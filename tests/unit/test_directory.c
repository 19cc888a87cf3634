/* test_directory.c - the channels that the ring knows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/directory.h"
#include "shm/ring.h"
#include "tests/unit/processes.h"

#define CHANNELS 5u
#define MANY 1024u

struct fixture {
	struct ring *ring;
	struct directory *dir;
	int fd;
	char name[CHANNEL_NAME_MAX + 1];
};

static int
setup_sized(void **state, uint32_t channels)
{
	const struct ring_config cfg = {
	    .frames_size = RING_FRAMES_MIN, .index_len = 64, .channels_max = channels};
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (f == NULL || ring_create(&cfg, &f->ring, &f->fd) < 0)
		return -1;
	f->dir = ring_directory(f->ring);
	return 0;
}

static int
setup(void **state)
{
	return setup_sized(state, CHANNELS);
}

/* As many entries as take several pages. */
static int
setup_many(void **state)
{
	return setup_sized(state, MANY);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	ring_close(f->ring);
	(void)close(f->fd);
	free(f);
	return 0;
}

static void
test_directory_new_is_free(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(f->dir->max, CHANNELS);
	assert_int_equal(f->dir->used, 0);
	for (uint32_t i = 0; i < CHANNELS; i++)
		assert_int_equal(directory_name(f->dir, i, f->name), 0);
}

static void
test_directory_name_out_of_bounds_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(directory_name(f->dir, CHANNELS, f->name), -EINVAL);
	assert_int_equal(directory_name(f->dir, RING_NO_CHANNEL, f->name), -EINVAL);
}

static void
test_directory_set_is_found(void **state)
{
	struct fixture *f = *state;

	directory_set(f->dir, 3, "newspaper", 4, 42);
	assert_int_equal(directory_name(f->dir, 3, f->name), 4);
	assert_string_equal(f->name, "news");
	assert_int_equal(f->dir->used, 4);
	assert_int_equal(f->dir->entry[3].start, 42);
	assert_int_equal(f->dir->entry[3].offset, 42);
	assert_int_equal(f->dir->entry[3].newest, 0);
}

static void
test_directory_set_longest_name_fits(void **state)
{
	struct fixture *f = *state;
	char longest[CHANNEL_NAME_MAX];

	memset(longest, 'x', sizeof(longest));
	directory_set(f->dir, 0, longest, sizeof(longest), 1);
	assert_int_equal(directory_name(f->dir, 0, f->name), CHANNEL_NAME_MAX);
	assert_int_equal(strlen(f->name), CHANNEL_NAME_MAX);
	assert_int_equal(directory_name(f->dir, 1, f->name), 0);
}

static void
test_directory_clear_frees(void **state)
{
	struct fixture *f = *state;

	directory_set(f->dir, 2, "old", 3, 1);
	directory_advance(f->dir, 2, 9, 9);
	directory_clear(f->dir, 2);
	assert_int_equal(directory_name(f->dir, 2, f->name), 0);
	directory_set(f->dir, 2, "new", 3, 50);
	assert_int_equal(directory_name(f->dir, 2, f->name), 3);
	assert_string_equal(f->name, "new");
	assert_int_equal(f->dir->entry[2].offset, 50);
	assert_int_equal(f->dir->entry[2].newest, 0);
}

static void
test_directory_advance_is_seen(void **state)
{
	struct fixture *f = *state;

	directory_set(f->dir, 0, "news", 4, 10);
	directory_advance(f->dir, 0, 11, 77);
	assert_int_equal(f->dir->entry[0].offset, 11);
	assert_int_equal(f->dir->entry[0].newest, 77);
	assert_int_equal(f->dir->entry[0].start, 10);
}

/* A writer that died in the middle leaves it unreadable until the next one is done. */
static void
test_directory_name_half_changed_is_not_given(void **state)
{
	struct fixture *f = *state;

	directory_set(f->dir, 0, "news", 4, 10);
	f->dir->entry[0].gen |= 1;
	assert_int_equal(directory_name(f->dir, 0, f->name), -EAGAIN);
	directory_set(f->dir, 0, "other", 5, 10);
	assert_int_equal(directory_name(f->dir, 0, f->name), 5);
}

/* The writer's process changes the entry all the time: each name that is given is one
 * of those that were set, whole. */
static void
test_directory_name_while_changed_is_whole(void **state)
{
	struct fixture *f = *state;
	unsigned given = 0;
	clock_t end;
	pid_t pid;

	directory_set(f->dir, 0, "aaaaaaaa", 8, 1);
	pid = process_start();
	if (pid == 0) {
		for (unsigned i = 0;; i++) {
			char name[CHANNEL_NAME_MAX];
			memset(name, 'a' + (int)(i % 26), sizeof(name));
			directory_set(f->dir, 0, name, 8 * (i % 25 + 1), i);
		}
	}
	for (end = clock() + CLOCKS_PER_SEC / 5; clock() < end;) {
		int len = directory_name(f->dir, 0, f->name);
		if (len == -EAGAIN)
			continue;
		given++;
		if (len % 8 != 0 ||
		    strspn(f->name, (char[2]){f->name[0]}) != (size_t)len)
			break;
	}
	process_end(pid);
	assert_true(clock() >= end);
	assert_true(given > 0);
}

/* What the map has of the kernel, in bytes. */
static size_t
taken(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

/* Its neighbours keep theirs, though they share a page with it. */
static void
test_directory_return_gives_memory_back(void **state)
{
	struct fixture *f = *state;
	size_t most;

	for (uint32_t i = 0; i < MANY; i++)
		directory_set(f->dir, i, "news", 4, 10);
	most = taken(f);
	for (uint32_t i = 100; i < MANY - 100; i++)
		directory_clear(f->dir, i);
	directory_return(f->dir, 100, MANY - 200);
	assert_true(taken(f) + (MANY - 200 - 32) * sizeof(f->dir->entry[0]) <= most);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(directory_name(f->dir, i, f->name),
		    i < 100 || i >= MANY - 100 ? 4 : 0);
	directory_return(f->dir, 101, 1); /* less than a page: nothing */
}

/* Whoever saw an entry before, and sees it now, can tell them apart. */
static void
test_directory_return_repeats_no_gen(void **state)
{
	struct fixture *f = *state;
	uint32_t before;

	directory_set(f->dir, 500, "old", 3, 10);
	before = f->dir->entry[500].gen;
	directory_clear(f->dir, 500);
	directory_return(f->dir, 0, MANY);
	assert_int_equal(f->dir->entry[500].gen, 0);
	directory_set(f->dir, 500, "new", 3, 10);
	assert_int_equal(f->dir->entry[500].gen % 2, 0);
	assert_true(f->dir->entry[500].gen > before);
	f->dir->gen = UINT32_MAX - 1; /* 0 is left out: it says that an entry is free */
	directory_set(f->dir, 500, "wrap", 4, 10);
	assert_int_equal(directory_name(f->dir, 500, f->name), 4);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_directory_new_is_free),
	    T(test_directory_name_out_of_bounds_refused),
	    T(test_directory_set_is_found),
	    T(test_directory_set_longest_name_fits),
	    T(test_directory_clear_frees),
	    T(test_directory_advance_is_seen),
	    T(test_directory_name_half_changed_is_not_given),
	    T(test_directory_name_while_changed_is_whole),
	    cmocka_unit_test_setup_teardown(
		test_directory_return_gives_memory_back, setup_many, teardown),
	    cmocka_unit_test_setup_teardown(
		test_directory_return_repeats_no_gen, setup_many, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
