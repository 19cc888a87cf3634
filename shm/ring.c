/*
 * ring.c - see ring.h.
 *
 * The memfd:  header | directory | revoked | keys | index | frames of each dialect
 * Mapped:     the same, but each dialect's frames twice in a row.
 *
 * Which records are whole is one range, [oldest, head). Head rises by ring_commit();
 * oldest rises before anything is overwritten, up to the lowest floor at most.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/directory.h"
#include "shm/keys.h"
#include "shm/map.h"
#include "shm/page.h"
#include "shm/revoked.h"
#include "shm/ring.h"

#define INDEX_MIN 64u /* a page of descriptors */
#define INDEX_MAX (1u << 26)
#define CHANNELS_LIMIT (1u << 24)

static const char ring_magic[8] = "wscring";

/* All written by the writer. What never changes, what readers poll, and what moves
 * while they use records lie on lines of their own. */
struct ring_header {
	char magic[8];
	uint32_t version;
	uint32_t dialects;
	uint32_t frames_size;
	uint32_t index_len;
	uint32_t channels_max;
	char epoch[RING_EPOCH_LEN + 4]; /* NUL-terminated */
	uint8_t pad0[84];

	_Atomic uint64_t head; /* W1 */
	uint8_t pad1[120];

	_Atomic uint64_t oldest; /* W3 */
	uint8_t pad2[120];

	_Atomic uint64_t feed_down_ms;
	_Atomic uint32_t draining;
};
_Static_assert(offsetof(struct ring_header, head) == 128, "a line of its own");
_Static_assert(sizeof(struct ring_header) <= MAP_PAGE, "a page");

struct ring {
	struct ring_header *header;
	struct directory *directory;
	struct revoked *revoked;
	struct keys *keys;
	struct ring_desc *index;
	uint8_t *frames[RING_DIALECTS];
	struct ring_config cfg; /* as checked: the map is not asked again */
	char epoch[RING_EPOCH_LEN + 1];
	size_t map_len;

	/* the writer's own */
	uint64_t head;                /* of the header */
	uint64_t oldest;              /* of the header */
	uint64_t min_floor;           /* what it was at least when last looked at */
	uint32_t put[RING_DIALECTS];  /* bytes of the frame that waits for its commit */
	uint32_t room[RING_DIALECTS]; /* bytes of the room that was given for it */
	uint64_t *of_key; /* the newest record of its key; NULL: of the channel's own */
	const struct page **workers; /* RING_WORKERS_MAX */
	unsigned nworkers;           /* all at or above are NULL */
	unsigned laggard;
};

/* ---- layout ---- */

static bool
power_of_two(uint32_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

static bool
config_ok(const struct ring_config *cfg)
{
	return power_of_two(cfg->frames_size) && cfg->frames_size >= RING_FRAMES_MIN &&
	       cfg->frames_size <= RING_FRAMES_MAX && power_of_two(cfg->index_len) &&
	       cfg->index_len >= INDEX_MIN && cfg->index_len <= INDEX_MAX &&
	       cfg->channels_max > 0 && cfg->channels_max <= CHANNELS_LIMIT;
}

static size_t
directory_len(const struct ring_config *cfg)
{
	return map_round(sizeof(struct directory) +
			 (size_t)cfg->channels_max * sizeof(struct directory_entry));
}

static size_t
revoked_offset(const struct ring_config *cfg)
{
	return MAP_PAGE + directory_len(cfg);
}

static size_t
keys_offset(const struct ring_config *cfg)
{
	return revoked_offset(cfg) + map_round(sizeof(struct revoked));
}

static size_t
index_offset(const struct ring_config *cfg)
{
	return keys_offset(cfg) + map_round(keys_len(cfg->index_len));
}

static size_t
frames_offset(const struct ring_config *cfg)
{
	return index_offset(cfg) + (size_t)cfg->index_len * RING_DESC_LEN;
}

static size_t
file_len(const struct ring_config *cfg)
{
	return frames_offset(cfg) + (size_t)cfg->frames_size * RING_DIALECTS;
}

/* Map everything where it belongs; r->cfg says how large it is. */
static int
map_parts(struct ring *r, int fd, bool writer)
{
	const size_t meta_len = frames_offset(&r->cfg);
	const size_t size = r->cfg.frames_size;
	const size_t len = meta_len + 2 * size * RING_DIALECTS;
	void *map;
	int err = map_reserve(len, &map);

	if (err < 0)
		return err;
	r->header = map;
	r->map_len = len;
	r->directory = (struct directory *)((char *)map + MAP_PAGE);
	r->revoked = (struct revoked *)((char *)map + revoked_offset(&r->cfg));
	r->keys = (struct keys *)((char *)map + keys_offset(&r->cfg));
	r->index = (struct ring_desc *)((char *)map + index_offset(&r->cfg));
	err = map_place(map, fd, 0, meta_len, writer);
	for (unsigned d = 0; d < RING_DIALECTS && err == 0; d++) {
		r->frames[d] = (uint8_t *)map + meta_len + 2 * size * d;
		err = map_place_twice(
		    r->frames[d], fd, (off_t)(meta_len + size * d), size, writer);
	}
	return err;
}

static struct ring_desc *
desc_at(const struct ring *r, uint64_t number)
{
	return &r->index[number & (r->cfg.index_len - 1)];
}

static void
make_epoch(char *epoch)
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	unsigned char bytes[RING_EPOCH_LEN];

	randombytes_buf(bytes, sizeof(bytes));
	for (size_t i = 0; i < RING_EPOCH_LEN; i++)
		epoch[i] = digits[bytes[i] & 31];
	epoch[RING_EPOCH_LEN] = '\0';
}

/* Everything else starts as zeros: all frames begin at 0. */
static void
write_header(struct ring_header *h, const struct ring_config *cfg)
{
	memcpy(h->magic, ring_magic, sizeof(h->magic));
	h->version = RING_VERSION;
	h->dialects = RING_DIALECTS;
	h->frames_size = cfg->frames_size;
	h->index_len = cfg->index_len;
	h->channels_max = cfg->channels_max;
	make_epoch(h->epoch);
	atomic_init(&h->head, 1);
	atomic_init(&h->oldest, 1);
}

/* The last writer may have died within ring_commit(): what it marked as superseded by a
 * record that nobody will see is not. */
static void
undo_commit(struct ring *r)
{
	for (uint64_t n = r->oldest; n < r->head; n++) {
		struct ring_desc *desc = desc_at(r, n);

		if (ring_superseded(desc, n, UINT64_MAX) &&
		    !ring_superseded(desc, n, r->head))
			atomic_store_explicit(&desc->newer, 0, memory_order_relaxed);
	}
	atomic_store_explicit(&desc_at(r, r->head)->number, 0, memory_order_relaxed);
}

/* Go on where the header says that the last writer was. */
static int
become_writer(struct ring *r)
{
	r->workers = calloc(RING_WORKERS_MAX, sizeof(struct page *));
	if (r->workers == NULL)
		return -ENOMEM;
	r->head = atomic_load_explicit(&r->header->head, memory_order_relaxed);
	r->oldest = atomic_load_explicit(&r->header->oldest, memory_order_relaxed);
	r->min_floor = r->oldest;
	undo_commit(r);
	return 0;
}

int
ring_create(const struct ring_config *cfg, struct ring **ret_ring, int *ret_fd)
{
	struct ring *r;
	int fd, err;

	if (!config_ok(cfg))
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return -ENOMEM;
	r->cfg = *cfg;
	err = map_memfd("wscast-ring", file_len(cfg), &fd);
	if (err < 0)
		goto fail_ring;
	err = map_parts(r, fd, true);
	if (err < 0)
		goto fail_fd;
	write_header(r->header, cfg);
	memcpy(r->epoch, r->header->epoch, RING_EPOCH_LEN);
	r->directory->max = cfg->channels_max;
	revoked_init(r->revoked);
	keys_init(r->keys);
	err = become_writer(r);
	if (err < 0)
		goto fail_fd;
	*ret_ring = r;
	*ret_fd = fd;
	return 0;
fail_fd:
	(void)close(fd);
fail_ring:
	ring_close(r);
	return err;
}

/* Read the sizes from a ring's header, and compare them with the file's. */
static int
read_config(int fd, struct ring_config *ret_cfg)
{
	ssize_t size = map_size(fd);
	const struct ring_header *h;
	struct ring_config cfg;
	bool ok;
	void *map;
	int err;

	if (size < 0)
		return (int)size;
	if (size < (ssize_t)MAP_PAGE)
		return -EPROTO;
	err = map_open(fd, MAP_PAGE, false, &map);
	if (err < 0)
		return err;
	h = map;
	cfg = (struct ring_config){.frames_size = h->frames_size,
	    .index_len = h->index_len,
	    .channels_max = h->channels_max};
	ok = memcmp(h->magic, ring_magic, sizeof(h->magic)) == 0 &&
	     h->version == RING_VERSION && h->dialects == RING_DIALECTS &&
	     config_ok(&cfg) && file_len(&cfg) == (size_t)size;
	map_close(map, MAP_PAGE);
	if (!ok)
		return -EPROTO;
	*ret_cfg = cfg;
	return 0;
}

int
ring_open(int fd, bool writer, struct ring **ret_ring)
{
	struct ring *r = calloc(1, sizeof(*r));
	int err;

	if (r == NULL)
		return -ENOMEM;
	err = read_config(fd, &r->cfg);
	if (err == 0)
		err = map_parts(r, fd, writer);
	if (err == 0 && writer)
		err = become_writer(r);
	if (err < 0) {
		ring_close(r);
		return err;
	}
	memcpy(r->epoch, r->header->epoch, RING_EPOCH_LEN);
	*ret_ring = r;
	return 0;
}

void
ring_close(struct ring *r)
{
	if (r == NULL)
		return;
	map_close(r->header, r->map_len);
	free(r->workers);
	free(r);
}

const char *
ring_epoch(const struct ring *r)
{
	return r->epoch;
}

uint32_t
ring_frames_size(const struct ring *r)
{
	return r->cfg.frames_size;
}

uint32_t
ring_index_len(const struct ring *r)
{
	return r->cfg.index_len;
}

struct directory *
ring_directory(struct ring *r)
{
	return r->directory;
}

struct revoked *
ring_revoked(struct ring *r)
{
	return r->revoked;
}

/* ---- floors ---- */

void
ring_set_worker(struct ring *r, unsigned worker, const struct page *page)
{
	assert(worker < RING_WORKERS_MAX);
	r->workers[worker] = page;
	if (page != NULL && worker >= r->nworkers)
		r->nworkers = worker + 1;
	while (r->nworkers > 0 && r->workers[r->nworkers - 1] == NULL)
		r->nworkers--;
	r->min_floor = r->oldest; /* look anew: it may be lower now */
}

/* A worker may write anything. One that names a record which is not there yet needs
 * none of those that are; one that names a record which has gone can only hold what
 * is left, and is then the laggard. */
static uint64_t
floor_of(const struct ring *r, const struct page *page)
{
	uint64_t floor =
	    atomic_load_explicit(&page->floor, memory_order_acquire); /* W2 */

	if (floor > r->head)
		return r->head;
	return floor < r->oldest ? r->oldest : floor;
}

static uint64_t
lowest_floor(const struct ring *r, unsigned *ret_worker)
{
	uint64_t lowest = r->head;

	for (unsigned i = 0; i < r->nworkers; i++) {
		uint64_t floor;

		if (r->workers[i] == NULL)
			continue;
		floor = floor_of(r, r->workers[i]);
		if (floor < lowest) {
			lowest = floor;
			*ret_worker = i;
		}
	}
	return lowest;
}

/* Give up all records below `number`, for what lies there to be overwritten. Returns
 * 0, or -ENOBUFS when a floor is below. */
static int
raise_oldest(struct ring *r, uint64_t number)
{
	unsigned worker = 0;

	if (number <= r->oldest)
		return 0;
	/* The last minimum is enough nearly always: floors only ever rise. */
	if (number > r->min_floor) {
		r->min_floor = lowest_floor(r, &worker);
		if (number > r->min_floor) {
			r->laggard = worker;
			return -ENOBUFS;
		}
	}
	r->oldest = number;
	atomic_store_explicit(
	    &r->header->oldest, number, memory_order_release); /* W3 */
	atomic_thread_fence(memory_order_release);
	return 0;
}

unsigned
ring_laggard(const struct ring *r)
{
	return r->laggard;
}

/* ---- writing ---- */

/*
 * W1 head after the record, its frames, and  |  R1 head, then any record below it,
 *    where the next record begins            |     and begin[] of head itself
 *    Whoever saw the new head sees whole all that it counts.
 * R2 floor after the last use of what lies   |  W2 floors, then oldest, then the bytes
 *    below it (page_set_floor)               |     of frames and descriptors
 *    Whoever saw the risen floor may overwrite what lay below it: that reader has
 *    done with it. Below no floor nothing changes, so its reader checks nothing.
 * W3 oldest (and number = 0), then the bytes |  R3 the bytes, then oldest (or number)
 *    For a reader without a floor. If any byte that it used was overwritten, then the
 *    fence behind its use pairs with the fence behind W3, and it sees a risen oldest:
 *    what it used is void. If it still sees the old one, all that it used was whole.
 *    Both fences are needed: the loads of the bytes must not pass that of oldest, nor
 *    the stores to the bytes that to oldest. And oldest itself is released: whoever
 *    begins there sees whole what was published when it rose.
 * K1 newer of an older record, then head  |  K2 a head (R1), then newer
 *    Whoever saw a head finds in each record below it whether the next of its key lies
 *    below that head, too. It is stored once, so who asks again about the same head,
 *    or one below, gets the same answer: also a successor that retraces what was sent.
 *    The older record is no older than oldest, so its place is still its own.
 */
void *
ring_room(struct ring *r, unsigned dialect, size_t len)
{
	uint32_t pos;
	uint64_t keep = r->oldest;

	assert(dialect < RING_DIALECTS);
	if (len > ring_frame_max(r)) {
		errno = EMSGSIZE;
		return NULL;
	}
	/* The room is what lay a ring's size below: who began there must go. At head
	 * itself this ends, since len is far less than the ring. */
	pos = desc_at(r, r->head)->begin[dialect];
	while ((uint32_t)(pos + len - desc_at(r, keep)->begin[dialect]) >
	       r->cfg.frames_size)
		keep++;
	if (raise_oldest(r, keep) < 0) {
		errno = ENOBUFS;
		return NULL;
	}
	r->room[dialect] = (uint32_t)len;
	return r->frames[dialect] + (pos & (r->cfg.frames_size - 1));
}

void
ring_put(struct ring *r, unsigned dialect, size_t len)
{
	assert(dialect < RING_DIALECTS && len <= r->room[dialect]);
	r->put[dialect] = (uint32_t)len;
}

size_t
ring_frame_max(const struct ring *r)
{
	return r->cfg.frames_size / 8;
}

void
ring_key(struct ring *r, uint32_t channel, const void *key, size_t len)
{
	assert(len > 0);
	r->of_key =
	    keys_newest(r->keys, r->cfg.index_len, r->oldest, channel, key, len);
}

uint64_t
ring_keys_forgotten(const struct ring *r)
{
	return r->keys->forgotten;
}

void
ring_abort(struct ring *r)
{
	memset(r->put, 0, sizeof(r->put));
	memset(r->room, 0, sizeof(r->room));
	r->of_key = NULL;
}

/* Where the record behind `cur` begins, before head makes it public. */
static void
prepare_next(struct ring *r, const struct ring_desc *cur)
{
	struct ring_desc *next = desc_at(r, r->head + 1);

	atomic_store_explicit(&next->number, 0, memory_order_relaxed); /* W3 */
	atomic_thread_fence(memory_order_release);
	for (unsigned d = 0; d < RING_DIALECTS; d++)
		next->begin[d] = cur->begin[d] + r->put[d];
}

/* Where the newest record of a message's key is noted. */
static uint64_t *
newest_of_key(const struct ring *r, const struct ring_desc *desc)
{
	if (desc->type != RING_MESSAGE || desc->channel >= r->cfg.channels_max)
		return NULL;
	return r->of_key != NULL ? r->of_key
				 : &r->directory->entry[desc->channel].newest_unkeyed;
}

/* The record `older`, if it is still there, has a newer one of its key. */
static void
supersede(struct ring *r, uint64_t older, uint64_t number)
{
	struct ring_desc *desc = desc_at(r, older);

	/* Marked already: by a writer that died before it noted its own as the newest.
	 */
	if (older >= r->oldest && !ring_superseded(desc, older, UINT64_MAX))
		atomic_store_explicit(&desc->newer, (uint32_t)(number - older),
		    memory_order_relaxed); /* K1 */
}

uint64_t
ring_commit(struct ring *r, const struct ring_desc *desc)
{
	const uint64_t number = r->head;
	struct ring_desc *cur = desc_at(r, number);
	uint64_t *newest = newest_of_key(r, desc);

	/* Descriptors of [oldest, number + 1] must have a place each. */
	if (number + 2 > r->cfg.index_len &&
	    raise_oldest(r, number + 2 - r->cfg.index_len) < 0) {
		errno = ENOBUFS;
		return 0;
	}
	prepare_next(r, cur);
	cur->offset = desc->offset;
	cur->time_ns = desc->time_ns;
	cur->channel = desc->channel;
	cur->prev = desc->prev;
	atomic_store_explicit(&cur->newer, 0, memory_order_relaxed);
	cur->type = desc->type;
	cur->data_kind = desc->data_kind;
	cur->worker = desc->worker;
	atomic_store_explicit(&cur->number, number, memory_order_release);
	/* Before the head: whoever sees this record finds the directory at least as
	 * new, and whoever sees the directory ahead finds the descriptor whole (D1). */
	if (newest != NULL) {
		directory_advance(r->directory, desc->channel, desc->offset, number);
		supersede(r, *newest, number);
	}

	r->head = number + 1;
	atomic_store_explicit(&r->header->head, r->head, memory_order_release); /* W1 */
	if (newest != NULL)
		*newest = number; /* behind the head: it names no record that is not */
	ring_abort(r);            /* nothing waits any more */
	return number;
}

void
ring_set_feed_down(struct ring *r, uint64_t since_ms)
{
	atomic_store_explicit(&r->header->feed_down_ms, since_ms, memory_order_relaxed);
}

uint64_t
ring_feed_down(const struct ring *r)
{
	return atomic_load_explicit(&r->header->feed_down_ms, memory_order_relaxed);
}

void
ring_set_draining(struct ring *r, bool draining)
{
	atomic_store_explicit(&r->header->draining, draining, memory_order_relaxed);
}

bool
ring_draining(const struct ring *r)
{
	return atomic_load_explicit(&r->header->draining, memory_order_relaxed) != 0;
}

/* ---- reading ---- */

uint64_t
ring_head(const struct ring *r)
{
	return atomic_load_explicit(&r->header->head, memory_order_acquire); /* R1 */
}

uint64_t
ring_oldest(const struct ring *r)
{
	atomic_thread_fence(memory_order_acquire); /* R3: behind the use */
	return atomic_load_explicit(&r->header->oldest, memory_order_acquire);
}

const struct ring_desc *
ring_at(const struct ring *r, uint64_t number)
{
	return desc_at(r, number);
}

size_t
ring_frames(const struct ring *r, unsigned dialect, uint64_t first, uint64_t end,
    const void **ret_frames)
{
	uint32_t begin = desc_at(r, first)->begin[dialect];
	uint32_t len = desc_at(r, end)->begin[dialect] - begin;

	assert(dialect < RING_DIALECTS && first <= end);
	/* More than there is: a reader without a floor was overtaken, and will see. */
	if (len == 0 || len > r->cfg.frames_size)
		return 0;
	*ret_frames = r->frames[dialect] + (begin & (r->cfg.frames_size - 1));
	return len;
}

/* How many bytes the frames of [first, end) take in the dialect where that is most. */
static uint32_t
widest(const struct ring *r, uint64_t first, uint64_t end)
{
	const struct ring_desc *from = desc_at(r, first), *to = desc_at(r, end);
	uint32_t most = 0;

	for (unsigned d = 0; d < RING_DIALECTS; d++) {
		uint32_t len = to->begin[d] - from->begin[d];
		if (len > most)
			most = len;
	}
	return most;
}

unsigned
ring_distance(const struct ring *r, uint64_t number)
{
	const uint64_t head = ring_head(r);
	uint64_t bytes, records;

	if (number >= head)
		return 0;
	if (number < ring_oldest(r))
		return 1024;
	bytes = (uint64_t)widest(r, number, head) * 1024 / r->cfg.frames_size;
	records = (head - number) * 1024 / r->cfg.index_len;
	if (bytes < records)
		bytes = records;
	return number < ring_oldest(r) || bytes > 1024 ? 1024 : (unsigned)bytes;
}

uint64_t
ring_retain(const struct ring *r, uint64_t done)
{
	const uint32_t max_bytes = r->cfg.frames_size / 4 * 3;
	const uint32_t max_records = r->cfg.index_len / 4 * 3;
	const uint64_t head = ring_head(r);
	const uint64_t end = done > head ? head : done;
	uint64_t low = ring_oldest(r), high = end;

	if (end > max_records && low < end - max_records)
		low = end - max_records;
	/* The first that is near enough, by halves; `end` itself always is. */
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;
		bool near = widest(r, mid, end) <= max_bytes;

		/* mid may lie below our floor, and go while it is looked at: R3. */
		if (near && mid >= ring_oldest(r))
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}
