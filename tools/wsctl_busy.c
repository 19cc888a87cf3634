/* wsctl_busy.c - see wsctl_busy.h */
#include <errno.h>
#include <stdlib.h>

#include "proto/dialect.h"
#include "tools/wsctl_busy.h"

#define CAP_MIN 256

static struct busy_channel *
cell_of(struct busy_channel *cells, size_t cap, uint32_t channel)
{
	size_t i = (channel * UINT32_C(2654435761)) & (cap - 1);

	while (cells[i].messages != 0 && cells[i].channel != channel)
		i = (i + 1) & (cap - 1);
	return &cells[i];
}

static int
grow(struct busy *b)
{
	size_t cap = b->cap == 0 ? CAP_MIN : b->cap * 2;
	struct busy_channel *cells = calloc(cap, sizeof(*cells));

	if (cells == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < b->cap; i++)
		if (b->cells[i].messages != 0)
			*cell_of(cells, cap, b->cells[i].channel) = b->cells[i];
	free(b->cells);
	b->cells = cells;
	b->cap = cap;
	return 0;
}

/* The payload of an unmasked frame of so many bytes (RFC 6455 §5.2). */
static uint64_t
payload_of(uint32_t frame)
{
	return frame < 2 + 126 ? frame - 2 : frame < 4 + 65536 ? frame - 4 : frame - 10;
}

static int
count(struct busy *b, uint32_t channel, uint32_t frame)
{
	struct busy_channel *cell;
	uint64_t bytes = frame < 2 ? 0 : payload_of(frame);

	if (b->len * 2 >= b->cap && grow(b) < 0)
		return -ENOMEM;
	cell = cell_of(b->cells, b->cap, channel);
	if (cell->messages == 0) {
		*cell = (struct busy_channel){.channel = channel};
		b->len++;
	}
	cell->messages++;
	cell->bytes += bytes;
	b->messages++;
	b->bytes += bytes;
	return 0;
}

int
busy_scan(struct busy *b, const struct ring *r)
{
	uint64_t head = ring_head(r);

	if (b->next == 0)
		b->next = head;
	while (b->next < head) {
		const struct ring_desc *desc = ring_at(r, b->next);
		uint32_t channel = desc->channel;
		uint32_t frame = ring_at(r, b->next + 1)->begin[DIALECT_RAW] -
				 desc->begin[DIALECT_RAW];
		uint8_t type = desc->type;
		uint64_t oldest = ring_oldest(r); /* behind the use: it was whole */

		if (oldest > b->next) {
			b->unseen += oldest - b->next;
			b->next = oldest;
			continue;
		}
		b->next++;
		if (type == RING_MESSAGE && count(b, channel, frame) < 0) {
			b->unseen += head - b->next + 1;
			b->next = head;
			return -ENOMEM;
		}
	}
	return 0;
}

void
busy_reset(struct busy *b)
{
	free(b->cells);
	*b = (struct busy){.next = b->next};
}

const struct busy_channel *
busy_channels(struct busy *b, size_t *ret_n)
{
	size_t n = 0;

	/* Densely in the table itself: no look-up is done any more before a reset. */
	for (size_t i = 0; i < b->cap; i++)
		if (b->cells[i].messages != 0)
			b->cells[n++] = b->cells[i];
	*ret_n = n;
	return b->cells;
}

void
busy_done(struct busy *b)
{
	free(b->cells);
	*b = (struct busy){0};
}
