/* upstream.c - see upstream.h */
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "shm/map.h"
#include "shm/upstream.h"

#define UPSTREAM_VERSION 1
#define SIZE_MIN (64u << 10)
#define SIZE_LIMIT (512u << 20)
#define ALIGN 8u

/* Positions count bytes since the ring was made. */
struct upstream_header {
	uint32_t version;
	uint32_t size;
	uint8_t pad0[120];

	_Atomic uint64_t head; /* U1; the worker writes it */
	uint8_t pad1[120];

	_Atomic uint64_t tail;   /* U2; the supervisor writes both */
	_Atomic uint32_t asleep; /* odd = asleep; a value of its own for each sleep */
};
_Static_assert(offsetof(struct upstream_header, tail) == 256, "apart from the head");

struct message_head {
	_Atomic uint32_t len;
	_Atomic uint32_t type;
};
_Static_assert(sizeof(struct message_head) == ALIGN, "a head never straddles");

struct upstream {
	struct upstream_header *header;
	uint8_t *bytes; /* mapped twice */
	uint32_t size;
	size_t map_len;
	uint64_t head;      /* worker: where it goes on */
	uint32_t rung;      /* worker: the sleep for which it last rang */
	uint64_t tail;      /* supervisor: never taken from the map again */
	uint64_t next_tail; /* supervisor: behind the message that was given out */
};

static bool
size_ok(uint32_t size)
{
	return size >= SIZE_MIN && size <= SIZE_LIMIT && (size & (size - 1)) == 0;
}

static size_t
span(size_t len)
{
	return sizeof(struct message_head) + ((len + ALIGN - 1) & ~(size_t)(ALIGN - 1));
}

static int
map_parts(struct upstream *u, int fd)
{
	void *map;
	int r;

	u->map_len = MAP_PAGE + 2 * (size_t)u->size;
	r = map_reserve(u->map_len, &map);
	if (r < 0)
		return r;
	u->header = map;
	u->bytes = (uint8_t *)map + MAP_PAGE;
	r = map_place(map, fd, 0, MAP_PAGE, true);
	return r < 0 ? r : map_place_twice(u->bytes, fd, MAP_PAGE, u->size, true);
}

int
upstream_create(uint32_t size, struct upstream **ret_up, int *ret_fd)
{
	struct upstream *u;
	int fd, r;

	if (!size_ok(size))
		return -EINVAL;
	u = calloc(1, sizeof(*u));
	if (u == NULL)
		return -ENOMEM;
	u->size = size;
	r = map_memfd("wscast-upstream", MAP_PAGE + (size_t)size, &fd);
	if (r < 0)
		goto fail_up;
	r = map_parts(u, fd);
	if (r < 0)
		goto fail_fd;
	u->header->version = UPSTREAM_VERSION;
	u->header->size = size;
	*ret_up = u;
	*ret_fd = fd;
	return 0;
fail_fd:
	(void)close(fd);
fail_up:
	upstream_close(u);
	return r;
}

/* Both sides go on where the map says that they were, unless it makes no sense: then
 * a bad predecessor wrote it, and nothing waits. */
static void
take_positions(struct upstream *u)
{
	uint64_t head = atomic_load_explicit(&u->header->head, memory_order_acquire);

	u->tail = atomic_load_explicit(&u->header->tail, memory_order_relaxed);
	u->tail &= ~(uint64_t)(ALIGN - 1);
	u->head = head % ALIGN == 0 && head - u->tail <= u->size ? head : u->tail;
	u->next_tail = u->tail;
}

int
upstream_open(int fd, struct upstream **ret_up)
{
	struct upstream *u;
	ssize_t size = map_size(fd);
	int r;

	if (size < 0)
		return (int)size;
	if (size <= MAP_PAGE || size > UINT32_MAX ||
	    !size_ok((uint32_t)size - MAP_PAGE))
		return -EPROTO;
	u = calloc(1, sizeof(*u));
	if (u == NULL)
		return -ENOMEM;
	u->size = (uint32_t)size - MAP_PAGE;
	r = map_parts(u, fd);
	if (r == 0 &&
	    (u->header->version != UPSTREAM_VERSION || u->header->size != u->size))
		r = -EPROTO;
	if (r < 0) {
		upstream_close(u);
		return r;
	}
	take_positions(u);
	*ret_up = u;
	return 0;
}

void
upstream_close(struct upstream *u)
{
	if (u == NULL)
		return;
	map_close(u->header, u->map_len);
	free(u);
}

size_t
upstream_max(const struct upstream *u)
{
	return u->size / 4;
}

static struct message_head *
head_at(const struct upstream *u, uint64_t pos)
{
	return (struct message_head *)(u->bytes + (pos & (u->size - 1)));
}

/*
 * U1 head after the message       |  U1 head, then the message (upstream_next)
 *    Whoever saw the new head sees whole all that it counts. The supervisor still
 *    believes none of it: a bad worker may write at any time.
 * U2 tail, then the bytes         |  U2 tail after the last use (upstream_consume)
 *    Whoever saw the risen tail may overwrite what lay below it.
 */
void *
upstream_room(struct upstream *u, size_t len)
{
	uint64_t tail =
	    atomic_load_explicit(&u->header->tail, memory_order_acquire); /* U2 */

	if (len > upstream_max(u)) {
		errno = EMSGSIZE;
		return NULL;
	}
	if (u->head - tail > u->size || u->size - (u->head - tail) < span(len)) {
		errno = EAGAIN;
		return NULL;
	}
	return head_at(u, u->head) + 1;
}

void
upstream_send(struct upstream *u, uint32_t type, size_t len)
{
	struct message_head *h = head_at(u, u->head);

	assert(len <= upstream_max(u));
	atomic_store_explicit(&h->len, (uint32_t)len, memory_order_relaxed);
	atomic_store_explicit(&h->type, type, memory_order_relaxed);
	u->head += span(len);
	atomic_store_explicit(&u->header->head, u->head, memory_order_release); /* U1 */
}

/* Whether head may be what an honest worker wrote. */
static bool
head_ok(const struct upstream *u, uint64_t head)
{
	return head % ALIGN == 0 && head - u->tail <= u->size;
}

int
upstream_next(
    struct upstream *u, uint32_t *ret_type, const void **ret_buf, size_t *ret_len)
{
	uint64_t head =
	    atomic_load_explicit(&u->header->head, memory_order_acquire); /* U1 */
	const struct message_head *h = head_at(u, u->tail);
	uint32_t len;

	if (head == u->tail)
		return 0;
	if (!head_ok(u, head))
		return -EPROTO;
	len = atomic_load_explicit(
	    &h->len, memory_order_relaxed); /* once: it may change */
	if (len > upstream_max(u) || span(len) > head - u->tail)
		return -EPROTO;
	u->next_tail = u->tail + span(len);
	*ret_type = atomic_load_explicit(&h->type, memory_order_relaxed);
	*ret_buf = h + 1;
	*ret_len = len;
	return 1;
}

static void
set_tail(struct upstream *u, uint64_t tail)
{
	u->tail = u->next_tail = tail;
	atomic_store_explicit(&u->header->tail, tail, memory_order_release); /* U2 */
}

void
upstream_consume(struct upstream *u)
{
	set_tail(u, u->next_tail);
}

void
upstream_reset(struct upstream *u)
{
	uint64_t head = atomic_load_explicit(&u->header->head, memory_order_acquire);

	if (head_ok(u, head)) {
		set_tail(u, head);
		return;
	}
	/* Its writer is to be ended: put it right for the successor, which otherwise
	 * would be taken for a bad one too until it sends. */
	atomic_store_explicit(&u->header->head, u->tail, memory_order_relaxed);
	set_tail(u, u->tail);
}

/*
 * The doorbell, as in page.c with the sides exchanged:
 *
 *   supervisor                     worker
 *   S1 asleep = odd                U1 head = ... (upstream_send)
 *      fence seq_cst                  fence seq_cst
 *   S2 head: more than tail?       S3 asleep: odd, and not rung for yet?
 *
 * The first fence of the two is seen by the other side's load: either the worker
 * rings, or the supervisor does not sleep.
 */
bool
upstream_sleep(struct upstream *u)
{
	uint32_t asleep =
	    atomic_load_explicit(&u->header->asleep, memory_order_relaxed);

	asleep += asleep % 2 == 0 ? 1 : 2; /* a new value, also behind an exec */
	atomic_store_explicit(
	    &u->header->asleep, asleep, memory_order_relaxed); /* S1 */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&u->header->head, memory_order_relaxed) == u->tail)
		return true; /* S2 */
	upstream_wake(u);
	return false;
}

void
upstream_wake(struct upstream *u)
{
	uint32_t asleep =
	    atomic_load_explicit(&u->header->asleep, memory_order_relaxed);

	if (asleep % 2 != 0)
		atomic_store_explicit(
		    &u->header->asleep, asleep + 1, memory_order_relaxed);
}

bool
upstream_must_ring(struct upstream *u)
{
	uint32_t asleep;

	atomic_thread_fence(memory_order_seq_cst); /* after U1's store */
	asleep =
	    atomic_load_explicit(&u->header->asleep, memory_order_relaxed); /* S3 */
	if (asleep % 2 == 0 || asleep == u->rung)
		return false;
	u->rung = asleep;
	return true;
}
