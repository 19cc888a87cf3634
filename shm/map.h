/*
 * map.h - memfds of a size that nobody can change, and maps of them.
 *
 * Process  an fd is the caller's to close; a map may outlive it.
 */
#ifndef WSCAST_SHM_MAP_H
#define WSCAST_SHM_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The size that every part of a map is rounded up to. */
#define MAP_PAGE 4096u

static inline size_t
map_round(size_t len)
{
	return (len + MAP_PAGE - 1) & ~(size_t)(MAP_PAGE - 1);
}

/*
 * Make a memfd of len zero bytes, close-on-exec. It is sealed against growing and
 * shrinking, so that no process which has it can make another's access fail; nobody
 * but root and our user can open it anew.
 *
 * name  what /proc/PID/maps shows.
 */
int map_memfd(const char *name, size_t len, int *ret_fd)
    __attribute__((warn_unused_result));

/* A descriptor of the same memfd that cannot write, close-on-exec. */
int map_reader_fd(int fd, int *ret_fd) __attribute__((warn_unused_result));

/* The size of a memfd in bytes, or -errno; -EPROTO when it is no plain file. */
ssize_t map_size(int fd) __attribute__((warn_unused_result));

/* Map len bytes from the start of fd. */
int map_open(int fd, size_t len, bool writable, void **ret_map)
    __attribute__((warn_unused_result));

/* Reserve addresses, unusable until map_place() fills them. */
int map_reserve(size_t len, void **ret_map) __attribute__((warn_unused_result));

/* Map len bytes of fd from offset on, at an address within what was reserved. */
int map_place(void *at, int fd, off_t offset, size_t len, bool writable)
    __attribute__((warn_unused_result));

/* ... and the same bytes again right behind: what begins within the first len
 * bytes can then be used without a break at the end. Fills 2 * len bytes. */
int map_place_twice(void *at, int fd, off_t offset, size_t len, bool writable)
    __attribute__((warn_unused_result));

/* Map len private bytes, all zeros, for what is large and mostly unused: it costs what
 * is touched. */
int map_private(size_t len, void **ret_map) __attribute__((warn_unused_result));

/* Give the pages that lie wholly within len bytes at `at` back to the kernel: they are
 * zeros then, for all who have the memfd when it is a `shared` map's. A kernel that
 * refuses leaves them as they are. */
void map_return(void *at, size_t len, bool shared);

void map_close(void *map, size_t len); /* NULL is fine */

#endif
