/*
 * arena.h - blocks of variable size in the connection table's map.
 *
 * What is allocated is durable: it stays when the serving process dies. What is
 * free is not written down anywhere in the map: a successor marks the blocks that
 * it finds referenced, and everything else is free. So no crash can leave the
 * allocator in a broken state, and what was allocated but not yet referenced comes
 * back by itself.
 *
 * Units    a reference counts ARENA_UNIT bytes from the start, plus one; 0 = none.
 * Process  one process allocates at a time; others only read what is referenced.
 */
#ifndef WSCAST_SHM_ARENA_H
#define WSCAST_SHM_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define ARENA_UNIT 32
#define ARENA_HEAD 8               /* bytes of a block before those that are used */
#define ARENA_BLOCK_MAX (1u << 24) /* bytes, block head included */
#define ARENA_LEN_MAX (1ull << 36) /* bytes of an arena */

typedef uint32_t arena_ref; /* a number with its own meaning, hence the name */

struct arena;

/* base: borrowed, len bytes of the table's map, aligned to a page. Everything is
 * free until marked: mark all before the first arena_alloc(). Returns 0, -ENOMEM or
 * -EINVAL. */
int arena_new(void *base, size_t len, struct arena **ret_arena)
    __attribute__((warn_unused_result));
void arena_free_all(struct arena *a); /* frees the handle, never the map */

/* Returns a reference to at least len bytes (contents undefined), or 0 when there is
 * no room. O(log size). Free blocks of 64 KiB and more give their memory back to
 * the kernel. */
arena_ref arena_alloc(struct arena *a, size_t len);
void arena_free(struct arena *a, arena_ref ref); /* 0 is fine */
void *arena_at(const struct arena *a, arena_ref ref);
size_t arena_len(const struct arena *a, arena_ref ref); /* usable bytes */
size_t arena_used(const struct arena *a); /* bytes, heads and rounding included */

/* Adoption: this block is referenced. Returns 0, -EINVAL when ref is no block's
 * start within bounds or overlaps a marked one (whoever refers to it is broken). */
int arena_mark(struct arena *a, arena_ref ref) __attribute__((warn_unused_result));

#endif
