/* map.c - see map.h */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/map.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; the headers of Debian 12 lack it */
#endif

static int
memfd(const char *name)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	/* Where vm.memfd_noexec = 2 no other is given; an older kernel knows it not. */
	int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

	return fd < 0 && errno == EINVAL ? memfd_create(name, flags) : fd;
}

int
map_memfd(const char *name, size_t len, int *ret_fd)
{
	int r;
	int fd = memfd(name);

	if (fd < 0)
		return -errno;
	/* Who is handed a read-only descriptor, and is neither root nor our user, must
	 * not be able to open the file behind it for writing: a memfd is born 0777. */
	if (fchmod(fd, S_IRUSR | S_IWUSR) < 0 || ftruncate(fd, (off_t)len) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int
map_reader_fd(int fd, int *ret_fd)
{
	char path[sizeof("/proc/self/fd/") + 11];
	int reader;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	if (reader < 0)
		return -errno;
	*ret_fd = reader;
	return 0;
}

ssize_t
map_size(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? (ssize_t)st.st_size : -EPROTO;
}

static int
protection(bool writable)
{
	return writable ? PROT_READ | PROT_WRITE : PROT_READ;
}

int
map_open(int fd, size_t len, bool writable, void **ret_map)
{
	void *map = mmap(NULL, len, protection(writable), MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	*ret_map = map;
	return 0;
}

int
map_reserve(size_t len, void **ret_map)
{
	void *map = mmap(
	    NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return -errno;
	*ret_map = map;
	return 0;
}

int
map_place(void *at, int fd, off_t offset, size_t len, bool writable)
{
	void *map =
	    mmap(at, len, protection(writable), MAP_SHARED | MAP_FIXED, fd, offset);

	return map == MAP_FAILED ? -errno : 0;
}

int
map_place_twice(void *at, int fd, off_t offset, size_t len, bool writable)
{
	int r = map_place(at, fd, offset, len, writable);

	return r < 0 ? r : map_place((char *)at + len, fd, offset, len, writable);
}

int
map_private(size_t len, void **ret_map)
{
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return -errno;
	*ret_map = map;
	return 0;
}

void
map_return(void *at, size_t len, bool shared)
{
	const size_t before = -(uintptr_t)at % MAP_PAGE;

	len = len > before ? (len - before) / MAP_PAGE * MAP_PAGE : 0;
	if (len > 0)
		(void)madvise(
		    (char *)at + before, len, shared ? MADV_REMOVE : MADV_DONTNEED);
}

void
map_close(void *map, size_t len)
{
	if (map != NULL)
		(void)munmap(map, len);
}
