/*
 * ktls.h - TLS records that the kernel makes and opens, and what it counts of them.
 *
 * Once a socket has its keys it takes and gives plain bytes, whoever holds it. One send
 * is one record, taken whole or not at all, and the kernel tells how many records it
 * has made: that is what a successor goes by. What TCP acknowledged would not do, as a
 * record may wait between TLS and TCP.
 *
 * Source   RFC 8446 §5, §6; Documentation/networking/tls.rst of Linux
 */
#ifndef WSCAST_WORKER_KTLS_H
#define WSCAST_WORKER_KTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "worker/tls_keys.h"

#define KTLS_RECORD 16384 /* plain bytes in one record, at most */

/* Types of records. */
enum { KTLS_ALERT = 21, KTLS_DATA = 23 };

/* Whether the kernel has TLS at all. */
bool ktls_is_available(void);

/*
 * Give the socket its keys, for both directions. What the client sends must be in the
 * kernel from the record that its keys name, and nothing of ours may wait elsewhere.
 *
 * Returns 0; -EOPNOTSUPP: nothing has changed; another -errno: the socket is of no use
 * any more.
 */
int ktls_begin(int fd, const struct tls_keys *keys) __attribute__((warn_unused_result));

/* Send one record of at most KTLS_RECORD bytes. Returns how many bytes, which is all,
 * or -errno. */
ssize_t ktls_send(int fd, uint8_t type, const struct iovec *iov, int niov);

/* Returns as recv(2), but -errno: 0 also where the client said that it sends no more,
 * -EPROTO for what is no data, or cannot be opened. A KeyUpdate is such, and in TLS 1.2
 * a new handshake: the kernel could not follow. -EAGAIN: no record is whole; but a part
 * of one may keep the socket readable (Linux 6.0 to 6.5). -EINTR: one was empty. */
ssize_t ktls_recv(int fd, uint8_t *buf, size_t len);

/* How many records the kernel has made for this socket, those before its keys
 * included. Returns 0 or -errno. */
int ktls_records(int fd, uint64_t *ret_records) __attribute__((warn_unused_result));

#endif
