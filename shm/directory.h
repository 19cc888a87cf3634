/*
 * directory.h - the channels that the ring knows: names, offsets, newest record.
 *
 * Part of the ring's map, written by the supervisor alone. A record names its
 * channel by its index here. An index is given to another channel only when no
 * record in the ring and no worker refers to it any more.
 *
 * Offsets of a channel that comes back continue above all that were given out
 * before: a new entry starts at the ring's newest record, since a channel can never
 * have had more messages than there were records. So (epoch, offset) never names two
 * messages, and nothing needs to be remembered for a channel that went.
 */
#ifndef WSCAST_SHM_DIRECTORY_H
#define WSCAST_SHM_DIRECTORY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_NAME_MAX 200 /* bytes of UTF-8, no control characters */

struct directory_entry {
	_Atomic uint32_t gen; /* odd while the entry is being changed; 0 = free */
	uint16_t name_len;    /* 0 = free */
	uint16_t flags;
	_Atomic uint64_t offset; /* of the newest message */
	_Atomic uint64_t newest; /* its record number, 0 = none since it came */
	_Atomic uint64_t start;  /* offset before the first message; nobody knows
				  * how many were missed that came before */
	/* The writer's: the newest record without a key, of this channel or of one that
	 * had the index before, whose records have gone. */
	uint64_t newest_unkeyed;
	char name[CHANNEL_NAME_MAX]; /* not NUL-terminated */
	uint8_t spare[16];
};
_Static_assert(sizeof(struct directory_entry) == 256, "four cache lines");

struct directory {
	_Atomic uint32_t used; /* entries ever used: all at or above are free */
	uint32_t max;
	uint32_t gen; /* the writer's: the last that was given to an entry */
	uint8_t spare[116];
	struct directory_entry entry[];
};

/*
 * Copy an entry's name as of now, safely against its being changed meanwhile.
 *
 * name  room for CHANNEL_NAME_MAX + 1 bytes; NUL-terminated on success.
 *
 * Returns the name's length, 0 when the entry is free, -EINVAL for an index out
 * of bounds, -EAGAIN when it kept changing.
 */
int directory_name(const struct directory *dir, uint32_t idx, char *name)
    __attribute__((warn_unused_result));

/* Offset of the channel's newest message / its record's number, 0 = none. */
static inline uint64_t
directory_offset(const struct directory *dir, uint32_t idx)
{
	return atomic_load_explicit(&dir->entry[idx].offset, memory_order_acquire);
}

static inline uint64_t
directory_newest(const struct directory *dir, uint32_t idx)
{
	return atomic_load_explicit(&dir->entry[idx].newest, memory_order_acquire);
}

/* Offset before the channel's first message since it came, or since its last gap. */
static inline uint64_t
directory_start(const struct directory *dir, uint32_t idx)
{
	return atomic_load_explicit(&dir->entry[idx].start, memory_order_relaxed);
}

/* Writer: fill a free entry / free it. `start` is ring_head() - 1. */
void directory_set(
    struct directory *dir, uint32_t idx, const char *name, size_t len, uint64_t start);
void directory_clear(struct directory *dir, uint32_t idx);

/* Writer: give back the memory of n entries from `first` on, which are free and are
 * named by no record: whole pages of it, to the kernel. */
void directory_return(struct directory *dir, uint32_t first, uint32_t n);

/* Writer: a message of this channel was given this offset and number. ring_commit()
 * calls it between making the record whole and publishing it. */
void directory_advance(
    struct directory *dir, uint32_t idx, uint64_t offset, uint64_t number);

#endif
