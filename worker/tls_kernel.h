/*
 * tls_kernel.h - connections whose TLS the kernel goes on with: how they get there, and
 * what their slots say.
 *
 * OpenSSL does the handshake. Then the kernel has the keys, and the stream that is sent
 * and received is plain bytes as far as we see. Once nothing of it is in our memory the
 * slot has SLOT_KTLS, and a successor can go on.
 *
 * What was sent. Each record is noted in its slot before it goes (slot_set_record()),
 * and the kernel counts those that it has made. A record goes as a whole or not at all,
 * so that the two tell what the kernel has taken: as exactly as TCP's counts tell it of
 * a plain connection, which here would also count what TLS adds, and miss what it holds
 * back.
 */
#ifndef WSCAST_WORKER_TLS_KERNEL_H
#define WSCAST_WORKER_TLS_KERNEL_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "shm/table.h"
#include "worker/tls_keys.h"

struct tls_kernel {
	struct tls_secrets *secrets; /* while a handshake lasts */
	uint16_t records;            /* that the kernel has made, modulo 2^16 */
	bool has_keys;
	bool said_end;
};

/* A handshake begins whose keys the kernel may get. Without memory it does not. */
void tls_kernel_want(struct tls_kernel *k);

/*
 * The handshake is done, and nothing behind it was read from the socket or waits to be
 * sent: give the kernel the keys. From then on ssl is of no use.
 *
 * Returns 0; -EOPNOTSUPP: it is for OpenSSL to go on, as nothing has changed; another
 * -errno: nobody can.
 */
int tls_kernel_take(struct tls_kernel *k, int fd, const SSL *ssl)
    __attribute__((warn_unused_result));

/* No secret is left in memory. Any number of times. */
void tls_kernel_forget(struct tls_kernel *k);

/* As tls_send(), for a socket that has its keys. */
ssize_t tls_kernel_send(
    struct tls_kernel *k, struct slot *s, const struct iovec *iov, int niov);

/* Say once that nothing more is sent: close_notify, or that what the client sent was
 * not to be understood. It is lost where the socket takes nothing now. */
void tls_kernel_end(struct tls_kernel *k, struct slot *s, bool failed);

/* Nothing of the connection is in our memory from now on. */
void tls_kernel_settle(const struct tls_kernel *k, struct slot *s);

/* Go on with a predecessor's connection that has SLOT_KTLS. Returns 0 or -errno. */
int tls_kernel_adopt(struct tls_kernel *k, const struct slot *s)
    __attribute__((warn_unused_result));

/* SLOT_KTLS: how many bytes of the stream the kernel ever took, modulo 2^32. Returns 0
 * or -errno. */
int tls_kernel_taken(const struct slot *s, uint32_t *ret_taken)
    __attribute__((warn_unused_result));

#endif
