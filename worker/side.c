#include <errno.h>
#include <stdlib.h>

#include "proto/dialect.h"
#include "proto/frame.h"
#include "worker/channels.h"
#include "worker/side.h"

/* A frame that was built; number 0 = none yet. */
struct built {
	uint64_t number;
	uint64_t asked; /* side.clock when it was last asked for */
	uint8_t *frame;
	size_t len, cap;
	unsigned dialect;
};

struct side {
	struct built built[SIDE_FRAMES];
	uint64_t clock;
	unsigned newest; /* a fanout asks for the same one for each subscriber */
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
	for (unsigned i = 0; i < SIDE_FRAMES; i++) {
		struct built *b = &s->built[(s->newest + i) % SIDE_FRAMES];

		if (b->number == number && b->dialect == dialect)
			return b;
	}
	return NULL;
}

/* The one that nobody has asked for longest, so that a caller may hold the others. */
static struct built *
side_oldest(struct side *s)
{
	struct built *oldest = &s->built[0];

	for (unsigned i = 1; i < SIDE_FRAMES; i++)
		if (s->built[i].asked < oldest->asked)
			oldest = &s->built[i];
	return oldest;
}

static struct built *
side_build(struct worker *w, unsigned dialect, uint64_t number, uint32_t channel)
{
	struct side *s = w->side;
	const struct ring_desc *desc = ring_at(w->ring, number);
	struct built *b = side_oldest(s);
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
	s->newest = (unsigned)(b - s->built);
	page_add(w->page, PAGE_rebuilt, 1);
	return b;
}

size_t
side_ring_frame(
    const struct worker *w, unsigned dialect, uint64_t number, const void **ret_frame)
{
	size_t len = ring_frames(w->ring, dialect, number, number + 1, ret_frame);

	if (len == 0 && dialect_is_deflated(dialect))
		len = ring_frames(
		    w->ring, dialect_plain(dialect), number, number + 1, ret_frame);
	return len;
}

size_t
side_frame(struct worker *w, unsigned dialect, uint64_t number, uint32_t channel,
    const void **ret_frame)
{
	size_t len = side_ring_frame(w, dialect, number, ret_frame);
	struct built *b;

	if (len > 0)
		return len;
	/* Deflated ones are never built: zlib's next version may pack them otherwise.
	 */
	dialect = dialect_plain(dialect);
	b = side_find(w->side, dialect, number);
	if (b == NULL)
		b = side_build(w, dialect, number, channel);
	if (b == NULL)
		return 0;
	b->asked = ++w->side->clock;
	*ret_frame = b->frame;
	return b->len;
}
