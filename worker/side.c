#include <errno.h>
#include <stdlib.h>

#include "proto/dialect.h"
#include "proto/frame.h"
#include "worker/channels.h"
#include "worker/side.h"

/* A frame that was built; number 0 = none yet. */
struct built {
	uint64_t number;
	uint8_t *frame;
	size_t len, cap;
	unsigned dialect;
};

/* The oldest is replaced first, so that a caller may hold SIDE_FRAMES at once. */
struct side {
	struct built built[SIDE_FRAMES];
	unsigned next;
};

int
side_new(struct worker *w, struct side **ret)
{
	struct side *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	*ret = s;
	return 0;
}

void
side_free(struct side *s)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; i < SIDE_FRAMES; i++)
		free(s->built[i].frame);
	free(s);
}

static struct built *
side_find(struct side *s, unsigned dialect, uint64_t number)
{
	/* Newest first: a fanout asks for the same one for each subscriber. */
	for (unsigned i = 1; i <= SIDE_FRAMES; i++) {
		struct built *b = &s->built[(s->next - i) % SIDE_FRAMES];

		if (b->number == number && b->dialect == dialect)
			return b;
	}
	return NULL;
}

static struct built *
side_build(struct worker *w, unsigned dialect, uint64_t number, uint32_t channel)
{
	struct side *s = w->side;
	const struct ring_desc *desc = ring_at(w->ring, number);
	struct built *b = &s->built[s->next % SIDE_FRAMES];
	struct message m = {.offset = desc->offset, .kind = desc->data_kind};
	const void *raw;
	enum opcode op;
	size_t max;

	if (ring_frames(w->ring, DIALECT_RAW, number, number + 1, &raw) == 0)
		return NULL;
	m.data_len = frame_payload(raw, &op, &m.data);
	m.channel = channels_name(w, channel, &m.channel_len);
	max = dialect_frame_max(dialect, &m);
	if (max > b->cap) {
		uint8_t *frame = realloc(b->frame, max);

		if (frame == NULL)
			return NULL;
		b->frame = frame;
		b->cap = max;
	}
	b->len = dialect_frame(dialect, &m, b->frame);
	b->number = number;
	b->dialect = dialect;
	s->next++;
	page_add(w->page, PAGE_rebuilt, 1);
	return b;
}

size_t
side_frame(struct worker *w, unsigned dialect, uint64_t number, uint32_t channel,
    const void **ret_frame)
{
	size_t len = ring_frames(w->ring, dialect, number, number + 1, ret_frame);
	struct built *b;

	if (len > 0)
		return len;
	b = side_find(w->side, dialect, number);
	if (b == NULL)
		b = side_build(w, dialect, number, channel);
	if (b == NULL)
		return 0;
	*ret_frame = b->frame;
	return b->len;
}
