/*
 * fifo.h - a growing ring of items of one size.
 */
#ifndef WSCAST_SUPERVISOR_FIFO_H
#define WSCAST_SUPERVISOR_FIFO_H

#include <stdbool.h>
#include <stddef.h>

struct fifo { /* all zero but `item` is an empty one */
	char *items;
	size_t item; /* bytes of each */
	size_t cap, first, len;
};

/* Item number i from the front, below len. */
void *fifo_at(const struct fifo *f, size_t i);
/* Append a copy. Returns 0 or -ENOMEM. */
int fifo_push(struct fifo *f, const void *item) __attribute__((warn_unused_result));
/* Take back what was pushed last. */
void fifo_unpush(struct fifo *f);
/* Returns false when it is empty. */
bool fifo_pop(struct fifo *f, void *ret_item);
void fifo_clear(struct fifo *f); /* and free its memory */

#endif
