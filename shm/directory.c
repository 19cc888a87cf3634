/* directory.c - see directory.h */
#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "shm/directory.h"
#include "shm/map.h"

#define NAME_TRIES 1000 /* an entry changes seldom: more means a broken writer */

/*
 * D1 gen odd, then the entry, then gen even  |  D2 gen even, the entry, gen the same
 *    Whoever saw the same even number on both sides of its copy has an entry that
 *    was whole. The copy itself may race; it is thrown away then.
 *
 * An entry whose memory was given back is all zeros, without a word. So 0 says that it
 * is free, whatever else is read of it, and no other number comes twice: they are
 * counted for all entries together.
 */
static void
change_begin(struct directory_entry *e)
{
	uint32_t gen = atomic_load_explicit(&e->gen, memory_order_relaxed);

	/* Odd already: a writer died within. */
	atomic_store_explicit(&e->gen, gen | 1, memory_order_relaxed); /* D1 */
	atomic_thread_fence(memory_order_release);
}

static void
change_end(struct directory *dir, struct directory_entry *e)
{
	dir->gen += 2;
	if (dir->gen == 0)
		dir->gen = 2;
	atomic_store_explicit(&e->gen, dir->gen, memory_order_release); /* D1 */
}

/* Returns the length, or -EAGAIN when the entry changed meanwhile. */
static int
try_name(const struct directory_entry *e, char *name)
{
	uint32_t gen = atomic_load_explicit(&e->gen, memory_order_acquire); /* D2 */
	size_t len = e->name_len;

	if (gen == 0)
		return 0;
	if (gen % 2 != 0 || len > CHANNEL_NAME_MAX)
		return -EAGAIN;
	memcpy(name, e->name, len);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&e->gen, memory_order_relaxed) != gen) /* D2 */
		return -EAGAIN;
	name[len] = '\0';
	return (int)len;
}

int
directory_name(const struct directory *dir, uint32_t idx, char *name)
{
	int len = -EAGAIN;

	if (idx >= dir->max)
		return -EINVAL;
	for (int i = 0; i < NAME_TRIES && len == -EAGAIN; i++)
		len = try_name(&dir->entry[idx], name);
	return len;
}

void
directory_set(
    struct directory *dir, uint32_t idx, const char *name, size_t len, uint64_t start)
{
	struct directory_entry *e = &dir->entry[idx];

	assert(idx < dir->max && len > 0 && len <= CHANNEL_NAME_MAX);
	change_begin(e);
	memcpy(e->name, name, len);
	e->name_len = (uint16_t)len;
	e->flags = 0;
	atomic_store_explicit(&e->start, start, memory_order_relaxed);
	atomic_store_explicit(&e->offset, start, memory_order_relaxed);
	atomic_store_explicit(&e->newest, 0, memory_order_relaxed);
	change_end(dir, e);
	if (idx >= atomic_load_explicit(&dir->used, memory_order_relaxed))
		atomic_store_explicit(&dir->used, idx + 1, memory_order_release);
}

void
directory_clear(struct directory *dir, uint32_t idx)
{
	struct directory_entry *e = &dir->entry[idx];

	assert(idx < dir->max);
	change_begin(e);
	e->name_len = 0;
	change_end(dir, e);
}

void
directory_return(struct directory *dir, uint32_t first, uint32_t n)
{
	assert(first <= dir->max && n <= dir->max - first);
	map_return(&dir->entry[first], n * sizeof(dir->entry[0]), true);
}

void
directory_advance(struct directory *dir, uint32_t idx, uint64_t offset, uint64_t number)
{
	struct directory_entry *e = &dir->entry[idx];

	assert(idx < dir->max);
	/* The record before its number (D1), and the offset last: whoever reads the
	 * offset and then the number finds a record at least as new. */
	atomic_store_explicit(&e->newest, number, memory_order_release);
	atomic_store_explicit(&e->offset, offset, memory_order_release);
}
