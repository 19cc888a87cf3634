/* namemap.c - open addressing; see namemap.h */
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "shm/namemap.h"

#define CELLS_MIN 16u

/* The hash is kept, so that growing asks for no names and most cells that do not
 * match are passed by without one. */
struct namemap_cell {
	uint32_t hash;
	uint32_t number; /* NAMEMAP_NONE = empty */
};

_Static_assert(sizeof(((struct namemap *)0)->key) == crypto_shorthash_KEYBYTES, "key");

void
namemap_init(struct namemap *m, namemap_name_fn name, void *owner)
{
	*m = (struct namemap){.name = name, .owner = owner};
	randombytes_buf(m->key, sizeof(m->key));
}

void
namemap_done(struct namemap *m)
{
	if (m == NULL)
		return;
	free(m->cells);
	m->cells = NULL;
	m->mask = m->len = 0;
}

static uint32_t
hash_name(const struct namemap *m, const char *name, size_t len)
{
	unsigned char out[crypto_shorthash_BYTES];
	uint32_t hash;

	(void)crypto_shorthash(out, (const unsigned char *)name, len, m->key);
	memcpy(&hash, out, sizeof(hash));
	return hash;
}

static bool
is_named(const struct namemap *m, uint32_t number, const char *name, size_t len)
{
	size_t have_len;
	const char *have = m->name(m->owner, number, &have_len);

	return have_len == len && memcmp(have, name, len) == 0;
}

uint32_t
namemap_get(const struct namemap *m, const char *name, size_t len)
{
	uint32_t hash, i;

	if (m->len == 0)
		return NAMEMAP_NONE;
	hash = hash_name(m, name, len);
	for (i = hash & m->mask; m->cells[i].number != NAMEMAP_NONE;
	     i = (i + 1) & m->mask) {
		if (m->cells[i].hash == hash &&
		    is_named(m, m->cells[i].number, name, len))
			return m->cells[i].number;
	}
	return NAMEMAP_NONE;
}

static void
insert(struct namemap_cell *cells, uint32_t mask, struct namemap_cell cell)
{
	uint32_t i = cell.hash & mask;

	while (cells[i].number != NAMEMAP_NONE)
		i = (i + 1) & mask;
	cells[i] = cell;
}

static int
resize(struct namemap *m, uint32_t ncells)
{
	struct namemap_cell *cells = malloc(ncells * sizeof(*cells));

	assert(ncells >= CELLS_MIN);
	if (cells == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < ncells; i++)
		cells[i] = (struct namemap_cell){.number = NAMEMAP_NONE};
	for (uint32_t i = 0; m->cells != NULL && i <= m->mask; i++) {
		if (m->cells[i].number != NAMEMAP_NONE)
			insert(cells, ncells - 1, m->cells[i]);
	}
	free(m->cells);
	m->cells = cells;
	m->mask = ncells - 1;
	return 0;
}

int
namemap_put(struct namemap *m, uint32_t number)
{
	size_t len;
	const char *name = m->name(m->owner, number, &len);
	uint64_t ncells = m->cells == NULL ? 0 : (uint64_t)m->mask + 1;

	assert(number != NAMEMAP_NONE);
	/* At most three quarters are in use: a search always meets an empty cell. */
	if (m->cells == NULL || (m->len + 1ull) * 4 > ncells * 3) {
		if (ncells > UINT32_MAX / 2)
			return -ENOMEM; /* `mask` has no bit left */
		int r = resize(m, ncells == 0 ? CELLS_MIN : (uint32_t)ncells * 2);
		if (r < 0)
			return r;
	}
	insert(m->cells, m->mask,
	    (struct namemap_cell){.hash = hash_name(m, name, len), .number = number});
	m->len++;
	return 0;
}

/* Empty a cell, and move those behind it up, so that no search ends too early and
 * no cell is lost to a tombstone. */
static void
remove_cell(struct namemap *m, uint32_t hole)
{
	for (uint32_t i = (hole + 1) & m->mask; m->cells[i].number != NAMEMAP_NONE;
	     i = (i + 1) & m->mask) {
		uint32_t home = m->cells[i].hash & m->mask;

		if (((i - home) & m->mask) >= ((i - hole) & m->mask)) {
			m->cells[hole] = m->cells[i];
			hole = i;
		}
	}
	m->cells[hole].number = NAMEMAP_NONE;
}

void
namemap_del(struct namemap *m, uint32_t number)
{
	size_t len;
	const char *name = m->name(m->owner, number, &len);
	uint32_t i = hash_name(m, name, len) & m->mask;

	if (m->len == 0)
		return;
	while (m->cells[i].number != number) {
		if (m->cells[i].number == NAMEMAP_NONE)
			return; /* was not in the map */
		i = (i + 1) & m->mask;
	}
	remove_cell(m, i);
	m->len--;
	/* What one busy hour needed is not kept for ever. Without memory it is. */
	if ((m->mask + 1) / 4 >= CELLS_MIN && m->len < (m->mask + 1) / 8)
		(void)!resize(m, (m->mask + 1) / 4);
}
