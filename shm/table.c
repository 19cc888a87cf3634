/* table.c - see table.h */
#include <errno.h>
#include <unistd.h>

#include "shm/map.h"
#include "shm/table.h"

#define SLOTS_MAX (1u << 26)
#define CHANNELS_MAX (1u << 26)

_Static_assert(offsetof(struct slot, client) == 64, "fanout touches one line");

static bool
sizes_ok(uint64_t nslots, uint64_t nchannels, uint64_t arena_len)
{
	return nslots > 0 && nslots <= SLOTS_MAX && nchannels > 0 &&
	       nchannels <= CHANNELS_MAX && arena_len >= MAP_PAGE &&
	       arena_len % MAP_PAGE == 0 && arena_len <= ARENA_LEN_MAX;
}

/* A page's start, so that the arena's memory can be given back. */
static size_t
arena_offset(uint32_t nslots, uint32_t nchannels)
{
	return map_round(sizeof(struct table_header) +
			 (size_t)nslots * sizeof(struct slot) +
			 (size_t)nchannels * sizeof(struct channel));
}

static void
place_parts(struct table *t, void *map, size_t len, uint32_t nslots, uint32_t nchannels)
{
	t->header = map;
	t->slots = (struct slot *)(t->header + 1);
	t->channels = (struct channel *)(t->slots + nslots);
	t->arena = (char *)map + arena_offset(nslots, nchannels);
	t->len = len;
}

int
table_create(uint32_t nslots, uint32_t nchannels, uint64_t arena_len,
    struct table *ret_table, int *ret_fd)
{
	size_t len;
	void *map;
	int fd, r;

	if (!sizes_ok(nslots, nchannels, arena_len))
		return -EINVAL;
	len = arena_offset(nslots, nchannels) + arena_len;
	r = map_memfd("wscast-table", len, &fd);
	if (r < 0)
		return r;
	r = map_open(fd, len, true, &map);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	place_parts(ret_table, map, len, nslots, nchannels);
	ret_table->header->version = TABLE_VERSION;
	ret_table->header->nslots = nslots;
	ret_table->header->nchannels = nchannels;
	ret_table->header->arena_len = arena_len;
	*ret_fd = fd;
	return 0;
}

int
table_open(int fd, bool writer, struct table *ret_table)
{
	struct table_header h;
	ssize_t size = map_size(fd);
	void *map;
	int r;

	if (size < 0)
		return (int)size;
	if ((size_t)size < sizeof(h))
		return -EPROTO;
	r = map_open(fd, (size_t)size, writer, &map);
	if (r < 0)
		return r;
	h = *(const struct table_header *)map; /* a worker could change it meanwhile */
	if (h.version != TABLE_VERSION ||
	    !sizes_ok(h.nslots, h.nchannels, h.arena_len) ||
	    arena_offset(h.nslots, h.nchannels) + h.arena_len != (size_t)size) {
		map_close(map, (size_t)size);
		return -EPROTO;
	}
	place_parts(ret_table, map, (size_t)size, h.nslots, h.nchannels);
	return 0;
}

void
table_close(struct table *t)
{
	if (t == NULL)
		return;
	map_close(t->header, t->len);
	*t = (struct table){0};
}

const void *
table_arena_peek(const struct table *t, arena_ref ref, size_t len)
{
	size_t arena_len = t->len - (size_t)((char *)t->arena - (char *)t->header);
	size_t offset = ((size_t)ref - 1) * ARENA_UNIT + ARENA_HEAD;

	if (ref == 0 || offset > arena_len || len > arena_len - offset)
		return NULL;
	return (const char *)t->arena + offset;
}
