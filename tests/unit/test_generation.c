/* test_generation.c - shm/generation.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "shm/generation.h"
#include "shm/map.h"
#include "tests/unit/processes.h"

struct fixture {
	struct generation *writer, *reader;
	int fd;
};

static int
setup(void **state)
{
	static struct fixture f;

	assert_int_equal(generation_create(&f.writer, &f.fd), 0);
	assert_int_equal(generation_open(f.fd, &f.reader), 0);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	generation_close(f->writer);
	generation_close(f->reader);
	(void)close(f->fd);
	return 0;
}

static void
test_generation_none_yet_is_told(void **state)
{
	struct fixture *f = *state;
	struct generation_copy *copy = NULL;

	assert_int_equal(generation_number(f->reader), 0);
	assert_int_equal(generation_read(f->reader, &copy), -ENODATA);
	assert_null(copy);
}

static void
test_generation_parts_come_back(void **state)
{
	static const struct generation_part parts[] = {
	    {GENERATION_SETTINGS, "[a]\nb = c\n", 10}, {"tls.key", "k\0y", 3},
	    {"empty", NULL, 0}};
	struct fixture *f = *state;
	struct generation_copy *copy = NULL;

	for (uint64_t n = 1; n <= 5; n++) {
		assert_int_equal(generation_write(f->writer, parts, 3), 0);
		assert_int_equal(generation_read(f->reader, &copy), 0);
		assert_int_equal(copy->number, n);
		assert_int_equal(copy->nparts, 3);
		for (size_t i = 0; i < 3; i++) {
			const struct generation_part *p =
			    generation_find(copy, parts[i].name);

			assert_non_null(p);
			assert_int_equal(p->len, parts[i].len);
			if (p->len > 0)
				assert_memory_equal(p->data, parts[i].data, p->len);
		}
		assert_null(generation_find(copy, "tls.certificate"));
		generation_copy_free(copy);
	}
}

/* The bounds, and a byte more. */
static void
test_generation_too_large_keeps_the_old(void **state)
{
	struct fixture *f = *state;
	struct generation_copy *copy = NULL;
	char *big = calloc(1, GENERATION_MAX);
	struct generation_part part = {"p", big, GENERATION_MAX - 9};
	struct generation_part many[GENERATION_PARTS_MAX + 1];
	char name[66];

	assert_non_null(big);
	assert_int_equal(generation_write(f->writer, &part, 1), 0);
	part.len++;
	assert_int_equal(generation_write(f->writer, &part, 1), -EMSGSIZE);
	for (size_t i = 0; i <= GENERATION_PARTS_MAX; i++)
		many[i] = (struct generation_part){"p", big, 1};
	assert_int_equal(
	    generation_write(f->writer, many, GENERATION_PARTS_MAX + 1), -EMSGSIZE);
	memset(name, 'n', 65);
	name[65] = '\0';
	assert_int_equal(
	    generation_write(f->writer, &(struct generation_part){name, big, 1}, 1),
	    -EINVAL);
	assert_int_equal(generation_read(f->reader, &copy), 0);
	assert_int_equal(copy->number, 1);
	assert_int_equal(copy->part[0].len, GENERATION_MAX - 9);
	generation_copy_free(copy);
	free(big);
}

/* A key that was replaced is nowhere in the map. */
static void
test_generation_replaced_is_wiped(void **state)
{
	static const struct generation_part secret = {"tls.key", "sesame-open!", 12};
	static const struct generation_part other = {"tls.key", "other", 5};
	struct fixture *f = *state;
	ssize_t size = map_size(f->fd);
	void *map;

	assert_int_equal(map_open(f->fd, (size_t)size, false, &map), 0);
	assert_int_equal(generation_write(f->writer, &secret, 1), 0);
	assert_non_null(memmem(map, (size_t)size, "sesame-open!", 12));
	assert_int_equal(generation_write(f->writer, &other, 1), 0);
	assert_null(memmem(map, (size_t)size, "sesame", 6));
	map_close(map, (size_t)size);
}

static void
test_generation_foreign_map_is_refused(void **state)
{
	struct generation *g = NULL;
	int fd;

	assert_int_equal(map_memfd("test", MAP_PAGE, &fd), 0);
	assert_int_equal(generation_open(fd, &g), -EPROTO);
	(void)close(fd);
	assert_int_equal(map_memfd("test", MAP_PAGE + 2 * GENERATION_MAX, &fd), 0);
	assert_int_equal(generation_open(fd, &g), -EPROTO);
	assert_null(g);
	(void)close(fd);
}

/* ---- a writer that never rests ---- */

#define BYTES 40000

/* One byte over and over, and the length follows from it: a mixture shows. */
static void
write_one(struct generation *g, unsigned n)
{
	static uint8_t bytes[BYTES + 256];
	const struct generation_part parts[] = {
	    {"first", bytes, BYTES + n % 256}, {"second", bytes, 1 + n % 256}};

	memset(bytes, (int)(n % 256), sizeof(bytes));
	if (generation_write(g, parts, 2) < 0)
		_exit(1);
}

static void
assert_whole(const struct generation_copy *copy)
{
	const uint8_t *p = copy->part[0].data;
	unsigned n = p[0];

	assert_int_equal(copy->nparts, 2);
	assert_int_equal(copy->part[0].len, BYTES + n);
	assert_int_equal(copy->part[1].len, 1 + n);
	for (size_t i = 0; i < copy->part[0].len; i++)
		if (p[i] != n)
			fail_msg("byte %zu is %u, not %u", i, p[i], n);
	p = copy->part[1].data;
	for (size_t i = 0; i < copy->part[1].len; i++)
		if (p[i] != n)
			fail_msg("byte %zu of the second is %u, not %u", i, p[i], n);
}

static _Atomic bool stop;

static void *
write_many(void *arg)
{
	for (unsigned n = 1; !atomic_load(&stop); n++) {
		write_one(arg, n);
		(void)usleep(50); /* a reader must get through at times */
	}
	return NULL;
}

static void
test_generation_read_while_written_is_whole(void **state)
{
	struct fixture *f = *state;
	uint64_t last = 0, changes = 0;
	pthread_t thread;

	atomic_store(&stop, false);
	write_one(f->writer, 0);
	assert_int_equal(pthread_create(&thread, NULL, write_many, f->writer), 0);
	while (changes < 300) {
		struct generation_copy *copy = NULL;

		if (generation_read(f->reader, &copy) == -EBUSY)
			continue;
		assert_whole(copy);
		assert_true(copy->number >= last);
		changes += copy->number > last;
		last = copy->number;
		generation_copy_free(copy);
	}
	atomic_store(&stop, true);
	(void)pthread_join(thread, NULL);
}

static void
test_generation_writer_killed_leaves_a_whole_one(void **state)
{
	struct fixture *f = *state;
	uint64_t last = 0;

	write_one(f->writer, 0);
	for (unsigned round = 0; round < 100; round++) {
		struct generation_copy *copy = NULL;
		uint64_t begin = generation_number(f->reader);
		pid_t pid = process_start();

		assert_true(pid >= 0);
		if (pid == 0)
			for (unsigned n = round;; n++)
				write_one(f->writer, n);
		while (generation_number(f->reader) < begin + 3)
			(void)usleep(10);
		process_end(pid);
		assert_int_equal(generation_read(f->reader, &copy), 0);
		assert_whole(copy);
		assert_true(copy->number > last);
		last = copy->number;
		generation_copy_free(copy);
		write_one(f->writer, round); /* and it goes on */
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		test_generation_none_yet_is_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_generation_parts_come_back, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_generation_too_large_keeps_the_old, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_generation_replaced_is_wiped, setup, teardown),
	    cmocka_unit_test(test_generation_foreign_map_is_refused),
	    cmocka_unit_test_setup_teardown(
		test_generation_read_while_written_is_whole, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_generation_writer_killed_leaves_a_whole_one, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
