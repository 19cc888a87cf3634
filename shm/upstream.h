/*
 * upstream.h - one worker's messages to the supervisor: a byte ring with one
 * writer and one reader, in a memfd of its own that outlives the serving process.
 *
 *   [u32 len][u32 type][len bytes][pad to 8]   the map is doubled: none straddles
 *
 * Process  written by the worker (head, bytes); the supervisor writes the tail,
 *          128 bytes apart. The supervisor copies and checks before it uses.
 * Order    U1 head after the bytes (worker), U2 tail after the last use (supervisor)
 */
#ifndef WSCAST_SHM_UPSTREAM_H
#define WSCAST_SHM_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct upstream;

/* size: bytes, a power of two, at least 64 KiB. */
int upstream_create(uint32_t size, struct upstream **ret_up, int *ret_fd)
    __attribute__((warn_unused_result));
int upstream_open(int fd, struct upstream **ret_up) __attribute__((warn_unused_result));
void upstream_close(struct upstream *u);

/* Longest message that can ever be written: a quarter of the size. */
size_t upstream_max(const struct upstream *u);

/* Worker: room for one message of len bytes, then make it visible.
 * upstream_room() returns NULL with errno EMSGSIZE or EAGAIN (full). */
void *upstream_room(struct upstream *u, size_t len);
void upstream_send(struct upstream *u, uint32_t type, size_t len);

/*
 * Supervisor: the next message where it lies. The worker may be changing it in
 * bad faith: copy what is checked, then use the copy.
 *
 * Returns 1 with a message, 0 when there is none, -EPROTO when head or length
 * break the bounds: upstream_reset(), then end the worker, in this order, since its
 * successor may write at once.
 */
int upstream_next(struct upstream *u, uint32_t *ret_type, const void **ret_buf,
    size_t *ret_len) __attribute__((warn_unused_result));
/* Done with the message that upstream_next() gave. */
void upstream_consume(struct upstream *u);
/* Forget all that waits. */
void upstream_reset(struct upstream *u);

/* Doorbell: like page_sleep()/page_must_ring(), with the supervisor asleep. The
 * worker's send returns whether its doorbell eventfd must be written. */
bool upstream_sleep(struct upstream *u) __attribute__((warn_unused_result));
void upstream_wake(struct upstream *u);
bool upstream_must_ring(struct upstream *u) __attribute__((warn_unused_result));

#endif
