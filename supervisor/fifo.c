/* fifo.c - see fifo.h */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/fifo.h"

#define CAP_KEPT 1024 /* items, by an empty one */

void *
fifo_at(const struct fifo *f, size_t i)
{
	assert(i < f->cap);
	return f->items + (f->first + i) % f->cap * f->item;
}

int
fifo_push(struct fifo *f, const void *item)
{
	if (f->len == f->cap) {
		struct fifo bigger = {.item = f->item,
		    .cap = f->cap == 0 ? 64 : 2 * f->cap,
		    .len = f->len};

		bigger.items = calloc(bigger.cap, f->item);
		if (bigger.items == NULL)
			return -ENOMEM;
		for (size_t i = 0; i < f->len; i++)
			memcpy(bigger.items + i * f->item, fifo_at(f, i), f->item);
		free(f->items);
		*f = bigger;
	}
	memcpy(fifo_at(f, f->len++), item, f->item);
	return 0;
}

void
fifo_unpush(struct fifo *f)
{
	assert(f->len > 0);
	f->len--;
}

bool
fifo_pop(struct fifo *f, void *ret_item)
{
	if (f->len == 0)
		return false;
	memcpy(ret_item, fifo_at(f, 0), f->item);
	f->first = (f->first + 1) % f->cap;
	f->len--;
	/* What one busy moment needed is not kept for ever. */
	if (f->len == 0 && f->cap > CAP_KEPT)
		fifo_clear(f);
	return true;
}

void
fifo_clear(struct fifo *f)
{
	free(f->items);
	*f = (struct fifo){.item = f->item};
}
