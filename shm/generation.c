/* generation.c - see generation.h */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/generation.h"
#include "shm/map.h"

#define NAME_MAX_LEN 64
#define TRIES 1000
#define WORD sizeof(uint64_t)

/* Written by the supervisor alone. */
struct half {
	_Atomic uint64_t
	    number;           /* of the generation in it; 0 = none, or being written */
	_Atomic uint64_t len; /* bytes */
};

struct header {
	uint32_t version;
	uint32_t max; /* bytes of a half */
	_Atomic uint64_t current;
	struct half half[2];
};

struct generation {
	struct header *header;
};

struct piece {
	uint32_t name_len, len;
};

#define MAP_LEN (MAP_PAGE + 2 * (size_t)GENERATION_MAX)

static _Atomic uint64_t *
half_words(const struct generation *g, uint64_t number)
{
	char *base = (char *)g->header + MAP_PAGE;

	return (_Atomic uint64_t *)(base + (number & 1) * (size_t)GENERATION_MAX);
}

static struct half *
half_of(const struct generation *g, uint64_t number)
{
	return &g->header->half[number & 1];
}

static size_t
padded(size_t len)
{
	return (len + WORD - 1) & ~(WORD - 1);
}

/* ---- the map ---- */

int
generation_create(struct generation **ret_gen, int *ret_fd)
{
	struct generation *g = calloc(1, sizeof(*g));
	void *map = NULL;
	int fd = -1, r;

	if (g == NULL)
		return -ENOMEM;
	r = map_memfd("wscast-settings", MAP_LEN, &fd);
	if (r == 0)
		r = map_open(fd, MAP_LEN, true, &map);
	if (r != 0) {
		if (fd >= 0)
			(void)close(fd);
		free(g);
		return r;
	}
	g->header = map;
	g->header->version = GENERATION_VERSION;
	g->header->max = GENERATION_MAX;
	*ret_gen = g;
	*ret_fd = fd;
	return 0;
}

int
generation_open(int fd, struct generation **ret_gen)
{
	struct generation *g;
	ssize_t size = map_size(fd);
	void *map;
	int r;

	if (size < 0)
		return (int)size;
	if ((size_t)size != MAP_LEN)
		return -EPROTO;
	g = calloc(1, sizeof(*g));
	if (g == NULL)
		return -ENOMEM;
	r = map_open(fd, MAP_LEN, false, &map);
	if (r < 0)
		goto fail;
	g->header = map;
	if (g->header->version != GENERATION_VERSION ||
	    g->header->max != GENERATION_MAX) {
		r = -EPROTO;
		map_close(map, MAP_LEN);
		goto fail;
	}
	*ret_gen = g;
	return 0;
fail:
	free(g);
	return r;
}

void
generation_close(struct generation *g)
{
	if (g == NULL)
		return;
	map_close(g->header, MAP_LEN);
	free(g);
}

/* ---- writing ---- */

/* All parts as one run of bytes, padded with zeros. ret_words: malloc'd. */
static int
pack(const struct generation_part *parts, size_t nparts, uint64_t **ret_words,
    size_t *ret_len)
{
	size_t len = 0;
	char *buf, *p;

	if (nparts > GENERATION_PARTS_MAX)
		return -EMSGSIZE;
	for (size_t i = 0; i < nparts; i++) {
		if (strlen(parts[i].name) > NAME_MAX_LEN)
			return -EINVAL;
		if (parts[i].len > GENERATION_MAX)
			return -EMSGSIZE;
		len +=
		    padded(sizeof(struct piece) + strlen(parts[i].name) + parts[i].len);
	}
	if (len > GENERATION_MAX)
		return -EMSGSIZE;
	buf = p = calloc(1, len + WORD);
	if (buf == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < nparts; i++) {
		struct piece piece = {
		    (uint32_t)strlen(parts[i].name), (uint32_t)parts[i].len};

		memcpy(p, &piece, sizeof(piece));
		memcpy(p + sizeof(piece), parts[i].name, piece.name_len);
		if (piece.len > 0)
			memcpy(p + sizeof(piece) + piece.name_len, parts[i].data,
			    piece.len);
		p += padded(sizeof(piece) + piece.name_len + piece.len);
	}
	*ret_words = (uint64_t *)buf;
	*ret_len = len;
	return 0;
}

static size_t
half_len(const struct generation *g, uint64_t number)
{
	return (size_t)atomic_load_explicit(
	    &half_of(g, number)->len, memory_order_relaxed);
}

/* Fill a half from words, or with zeros (NULL), and say what it holds. */
static void
half_fill(struct generation *g, uint64_t where, const uint64_t *words, size_t len,
    uint64_t number)
{
	struct half *half = half_of(g, where);
	_Atomic uint64_t *to = half_words(g, where);

	atomic_store_explicit(&half->number, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release); /* G1 */
	atomic_store_explicit(&half->len, number == 0 ? 0 : len, memory_order_relaxed);
	for (size_t i = 0; i < len / WORD; i++)
		atomic_store_explicit(
		    &to[i], words == NULL ? 0 : words[i], memory_order_relaxed);
	atomic_store_explicit(&half->number, number, memory_order_relaxed);
}

/*
 * G1 half's number 0, then its bytes  |  its bytes, then its number
 *    Fences on both sides: whoever copied one byte of what comes next sees that the
 *    number is no longer the one that was asked for, and drops the copy.
 * G2 current after the half's bytes and number  |  current, then the half
 *    Whoever saw a generation to be the current one sees the whole of it, unless G1
 *    tells that it has gone since.
 */
int
generation_write(
    struct generation *g, const struct generation_part *parts, size_t nparts)
{
	uint64_t old = generation_number(g), *words;
	size_t len;
	int r = pack(parts, nparts, &words, &len);

	if (r < 0)
		return r;
	half_fill(g, old + 1, words, len, old + 1);
	atomic_store_explicit(
	    &g->header->current, old + 1, memory_order_release); /* G2 */
	half_fill(g, old, NULL, half_len(g, old), 0);
	explicit_bzero(words, len);
	free(words);
	return 0;
}

uint64_t
generation_number(const struct generation *g)
{
	return atomic_load_explicit(&g->header->current, memory_order_acquire);
}

/* ---- reading ---- */

/* Find the parts in what follows the copy. */
static int
unpack(struct generation_copy *copy, char *p, size_t len)
{
	struct piece piece;

	while (len > 0) {
		struct generation_part *part = &copy->part[copy->nparts];
		size_t whole;

		if (len < sizeof(piece) || copy->nparts == GENERATION_PARTS_MAX)
			return -EPROTO;
		memcpy(&piece, p, sizeof(piece));
		whole = padded(sizeof(piece) + (size_t)piece.name_len + piece.len);
		if (piece.name_len > NAME_MAX_LEN || whole > len)
			return -EPROTO;
		/* The name moves over its head, to make room for its end. */
		memmove(p, p + sizeof(piece), piece.name_len);
		p[piece.name_len] = '\0';
		part->name = p;
		part->data = p + sizeof(piece) + piece.name_len;
		part->len = piece.len;
		copy->nparts++;
		p += whole;
		len -= whole;
	}
	return 0;
}

/* Copy generation `number`; *ret_len is what it takes. Returns false when it was
 * replaced meanwhile. */
static bool
half_copy(const struct generation *g, uint64_t number, uint64_t *words, size_t *ret_len)
{
	const struct half *half = half_of(g, number);
	const _Atomic uint64_t *from = half_words(g, number);
	size_t len = half_len(g, number);

	if (len > GENERATION_MAX)
		len = GENERATION_MAX;
	for (size_t i = 0; i < len / WORD; i++)
		words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire); /* G1 */
	*ret_len = len / WORD * WORD;
	return atomic_load_explicit(&half->number, memory_order_relaxed) == number;
}

/* What generation_copy_free() must know. */
struct copy_room {
	size_t len;
	struct generation_copy copy;
	uint64_t words[];
};

static struct copy_room *
room_of(struct generation_copy *copy)
{
	return (struct copy_room *)((char *)copy - offsetof(struct copy_room, copy));
}

int
generation_read(const struct generation *g, struct generation_copy **ret_copy)
{
	struct copy_room *room = malloc(sizeof(*room) + GENERATION_MAX);
	uint64_t number = 0;
	int r = -EBUSY;

	if (room == NULL)
		return -ENOMEM;
	memset(&room->copy, 0, sizeof(room->copy));
	room->len = 0;
	for (int i = 0; r == -EBUSY && i < TRIES; i++) {
		size_t len = 0;

		number = generation_number(g); /* G2 */
		if (number == 0)
			r = -ENODATA;
		else if (half_copy(g, number, room->words, &len))
			r = 0;
		if (len > room->len)
			room->len = len; /* to be wiped, whatever it was */
		if (r == 0)
			r = unpack(&room->copy, (char *)room->words, len);
	}
	if (r < 0) {
		generation_copy_free(&room->copy);
		return r;
	}
	room->copy.number = number;
	*ret_copy = &room->copy;
	return 0;
}

const struct generation_part *
generation_find(const struct generation_copy *copy, const char *name)
{
	for (size_t i = 0; i < copy->nparts; i++)
		if (strcmp(copy->part[i].name, name) == 0)
			return &copy->part[i];
	return NULL;
}

void
generation_copy_free(struct generation_copy *copy)
{
	struct copy_room *room;

	if (copy == NULL)
		return;
	room = room_of(copy);
	explicit_bzero(room->words, room->len);
	free(room);
}
