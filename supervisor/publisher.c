/* publisher.c - see publisher.h */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/directory.h"
#include "supervisor/publisher.h"

#define QUEUE_KEPT 1024 /* records, by an empty queue */

void
publisher_init(
    struct publisher *p, struct ring *ring, struct page *const *pages, unsigned npages)
{
	memset(p, 0, sizeof(*p));
	p->ring = ring;
	p->pages = pages;
	p->npages = npages;
}

static void
queue_free(struct publisher *p)
{
	free(p->queue);
	p->queue = NULL;
	p->queue_cap = p->queue_first = p->nqueue = 0;
}

void
publisher_done(struct publisher *p)
{
	if (p == NULL)
		return;
	queue_free(p);
	deflater_free(p->deflater);
	p->deflater = NULL;
}

int
publisher_set_compression(struct publisher *p, const struct settings *settings)
{
	struct deflater *z = NULL;

	if (settings->compression && deflater_new(settings->compression_level, &z) < 0)
		return -ENOMEM;
	deflater_free(p->deflater);
	p->deflater = z;
	p->threshold = settings->compression_threshold;
	p->min_saving = settings->compression_min_saving;
	return 0;
}

static bool
dialect_demanded(const struct publisher *p, unsigned dialect)
{
	/* Any other dialect can be rebuilt from the raw one, also by a successor. */
	if (dialect == DIALECT_RAW)
		return true;
	for (unsigned i = 0; i < p->npages; i++)
		if (page_demand(p->pages[i], dialect) > 0)
			return true;
	return false;
}

static int
block(struct publisher *p)
{
	if (!p->blocked)
		p->blocked_times++;
	p->blocked = true;
	return -ENOBUFS;
}

/* A message's plain frame where it lies in the ring; len 0 = not there. */
struct plain {
	const void *frame;
	size_t len;
};

/* Put the message's frame in a plain dialect. */
static int
put_plain(struct publisher *p, enum dialect d, const struct message *m,
    struct plain *ret_plain)
{
	void *room;

	if (!dialect_demanded(p, d))
		return 0;
	room = ring_room(p->ring, d, dialect_frame_max(d, m));
	if (room != NULL) {
		ret_plain->frame = room;
		ret_plain->len = dialect_frame(d, m, room);
		ring_put(p->ring, d, ret_plain->len);
		return 0;
	}
	if (errno != EMSGSIZE)
		return block(p);
	/* Escaping can make a frame six times as long as its payload. The workers build
	 * what is missing; only the raw one must be there. */
	return d == DIALECT_RAW ? -EMSGSIZE : 0;
}

/* Put the deflated frame, if that is worth it: nothing depends on its being there. */
static void
put_deflated(struct publisher *p, enum dialect d, const struct plain *plain)
{
	size_t max = plain->len - plain->len * p->min_saving / 100, len;
	void *room;

	if (!dialect_demanded(p, d))
		return;
	if (max == plain->len)
		max--;
	room = ring_room(p->ring, d, max);
	if (room == NULL)
		return;
	len = deflater_frame(p->deflater, plain->frame, max, room);
	ring_put(p->ring, d, len);
	p->deflated += len > 0;
	p->deflate_tried += len == 0;
	if (len > 0)
		p->deflate_saved += plain->len - len;
}

/* Put the message's frame in each demanded dialect. */
static int
put_frames(struct publisher *p, const struct message *m)
{
	for (unsigned d = 0; d < DIALECT_PLAIN_COUNT; d++) {
		struct plain plain = {.len = 0};
		int r = put_plain(p, d, m, &plain);

		if (r < 0)
			return r;
		if (p->deflater != NULL && plain.len > 0 && m->data_len >= p->threshold)
			put_deflated(p, dialect_deflated(d), &plain);
	}
	return 0;
}

static uint64_t
realtime_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* How far back the channel's previous record lies, 0 when the ring lost it. */
static uint32_t
previous(const struct publisher *p, const struct directory *dir, uint32_t channel)
{
	uint64_t newest = directory_newest(dir, channel);

	if (newest == 0 || newest < ring_oldest(p->ring))
		return 0;
	return (uint32_t)(ring_head(p->ring) - newest);
}

int
publisher_message(struct publisher *p, uint32_t channel, const void *data, size_t len)
{
	return publisher_keyed(p, channel, (struct slice){NULL, 0}, data, len);
}

int
publisher_keyed(struct publisher *p, uint32_t channel, struct slice key,
    const void *data, size_t len)
{
	struct directory *dir = ring_directory(p->ring);
	const struct directory_entry *e = &dir->entry[channel];
	struct message m = {
	    .channel = e->name,
	    .channel_len = e->name_len,
	    .offset = directory_offset(dir, channel) + 1,
	    .data = data,
	    .data_len = len,
	};
	struct ring_desc desc = {.type = RING_MESSAGE, .channel = channel};
	uint64_t number;
	int r;

	assert(e->name_len > 0);
	if (p->nqueue > 0)
		return block(p); /* control records come first */
	if (len > ring_frame_max(p->ring)) {
		p->too_long++;
		return -EMSGSIZE; /* before a long look at what it is */
	}
	message_classify(&m);
	r = put_frames(p, &m);
	if (r < 0) {
		ring_abort(p->ring);
		p->too_long += r == -EMSGSIZE;
		return r;
	}
	desc.offset = m.offset;
	desc.time_ns = realtime_ns();
	desc.data_kind = (uint8_t)m.kind;
	desc.prev = previous(p, dir, channel);
	if (key.len > 0)
		ring_key(p->ring, channel, key.p, key.len);
	number = ring_commit(p->ring, &desc);
	if (number == 0) {
		ring_abort(p->ring);
		return block(p);
	}
	p->messages++;
	p->message_bytes += len;
	p->published = true;
	if (p->on_message != NULL)
		p->on_message(p->owner, channel, &m, desc.time_ns);
	return 0;
}

int
publisher_frame(
    struct publisher *p, const struct ring_desc *desc, const void *frame, size_t len)
{
	enum dialect d = desc->type == RING_PUSH ? DIALECT_V1 : DIALECT_RAW;
	void *room;

	if (p->nqueue > 0)
		return block(p);
	room = ring_room(p->ring, d, len);
	if (room == NULL)
		return errno == EMSGSIZE ? -EMSGSIZE : block(p);
	memcpy(room, frame, len);
	ring_put(p->ring, d, len);
	if (ring_commit(p->ring, desc) == 0) {
		ring_abort(p->ring);
		return block(p);
	}
	p->published = true;
	return 0;
}

static int
queue_grow(struct publisher *p)
{
	size_t cap = p->queue_cap == 0 ? 64 : 2 * p->queue_cap;
	struct ring_desc *q = calloc(cap, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < p->nqueue; i++)
		q[i] = p->queue[(p->queue_first + i) % p->queue_cap];
	free(p->queue);
	p->queue = q;
	p->queue_cap = cap;
	p->queue_first = 0;
	return 0;
}

uint64_t
publisher_control(struct publisher *p, const struct ring_desc *desc)
{
	uint64_t number;

	if (p->nqueue == 0) {
		number = ring_commit(p->ring, desc);
		if (number != 0) {
			p->published = true;
			return number;
		}
	}
	(void)block(p);
	if (p->nqueue == p->queue_cap && queue_grow(p) < 0)
		return 0;
	p->queue[(p->queue_first + p->nqueue) % p->queue_cap] = *desc;
	p->nqueue++;
	/* Exact: no message is published before the queue is empty. */
	return ring_head(p->ring) + p->nqueue - 1;
}

bool
publisher_retry(struct publisher *p)
{
	while (p->nqueue > 0) {
		if (ring_commit(p->ring, &p->queue[p->queue_first]) == 0)
			return false;
		p->published = true;
		p->queue_first = (p->queue_first + 1) % p->queue_cap;
		p->nqueue--;
	}
	if (p->queue_cap > QUEUE_KEPT)
		queue_free(p); /* what one busy moment needed is not kept for ever */
	/* Whether a message fits only its source can tell, by trying. */
	p->blocked = false;
	return true;
}

bool
publisher_take_batch(struct publisher *p)
{
	bool published = p->published;

	p->published = false;
	return published;
}
