/*
 * small_ring.h - a ring that is full after a few records, for the tests of its
 * contract.
 */
#ifndef WSCAST_TESTS_UNIT_SMALL_RING_H
#define WSCAST_TESTS_UNIT_SMALL_RING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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

static inline int
small_ring_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f == NULL || ring_create(&small, &f->writer, &f->fd) < 0 ||
	       map_reader_fd(f->fd, &f->reader_fd) < 0 ||
	       ring_open(f->reader_fd, false, &f->reader) < 0 ||
	       page_create(0, &f->page, &f->page_fd) < 0;
}

static inline int
small_ring_teardown(void **state)
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
static inline bool
put(struct ring *r, unsigned dialect, size_t len, int value)
{
	void *room = ring_room(r, dialect, len);

	if (room == NULL)
		return false;
	memset(room, value, len);
	ring_put(r, dialect, len);
	return true;
}

static inline uint64_t
commit(struct ring *r)
{
	return ring_commit(r, &(struct ring_desc){.type = RING_MESSAGE});
}

/* A record with one frame in one dialect; 0 when a floor is in the way. */
static inline uint64_t
publish(struct ring *r, unsigned dialect, size_t len, int value)
{
	return put(r, dialect, len, value) ? commit(r) : 0;
}

static inline void
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

#define T(name)                                                                        \
	cmocka_unit_test_setup_teardown(name, small_ring_setup, small_ring_teardown)

#endif
