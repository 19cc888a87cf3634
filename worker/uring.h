/*
 * uring.h - one send to each of many sockets in one system call, through io_uring.
 *
 * It never waits: what a socket does not take at once is reported as by send(2) with
 * MSG_DONTWAIT. When uring_submit() has returned nothing is under way. So a successor
 * finds in the kernel exactly what was reported, and what a kill -9 cut off before.
 *
 * The io_uring is restricted to IORING_OP_SEND before it is enabled: whoever takes over
 * a worker in its sandbox gains no system call by it.
 */
#ifndef WSCAST_WORKER_URING_H
#define WSCAST_WORKER_URING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Sends in one system call. */
#define URING_BATCH 256

struct uring;

/* Returns 0, -ENOMEM, -ENOSYS when built without liburing, or why the kernel does not
 * let us (-EPERM: kernel.io_uring_disabled or a container's filter). */
int uring_new(struct uring **ret) __attribute__((warn_unused_result));
void uring_free(struct uring *u);

/*
 * Queue one send.
 *
 * buf  borrowed until uring_submit() returns.
 * tag  given back with the result.
 *
 * At most URING_BATCH are queued at a time, and one for each socket.
 */
void uring_put(struct uring *u, int fd, const void *buf, size_t len, uint64_t tag);
unsigned uring_queued(const struct uring *u);

/* Bytes taken, or -errno. Queues nothing. */
typedef void (*uring_result_fn)(void *owner, uint64_t tag, ssize_t result);

/*
 * Make all queued sends, and report each.
 *
 * Returns 0, or -errno when the io_uring itself failed: then nobody knows what was sent
 * of what was not reported but the kernel, and a successor that asks it.
 */
int uring_submit(struct uring *u, uring_result_fn on_result, void *owner)
    __attribute__((warn_unused_result));

#endif
