/*
 * tls_opening.h - a connection from its first byte to the end of its TLS handshake, and
 * the request that came behind it.
 *
 * OpenSSL does the handshake. Where the kernel has TLS nothing behind it is taken from
 * the socket, so that the kernel can go on from there.
 *
 * Source   RFC 8446, RFC 5246
 */
#ifndef WSCAST_WORKER_TLS_OPENING_H
#define WSCAST_WORKER_TLS_OPENING_H

#include <sys/types.h>

#include "worker/tls_context.h"
#include "worker/worker.h"

/* For tls_context_new(), where the kernel has TLS. */
extern const struct tls_watch tls_opening_watch;

/* Whether a connection in SLOT_HANDSHAKE is to begin with TLS, and has not. */
bool tls_is_due(const struct worker *w, const struct slot *s);

/* What the first bytes of such a connection are; TLS_HELLO_MORE: *ret_need of them will
 * tell. */
enum tls_hello { TLS_HELLO_MORE, TLS_HELLO_WHOLE, TLS_HELLO_HTTP, TLS_HELLO_BROKEN };
enum tls_hello tls_hello(const uint8_t *buf, size_t len, size_t *ret_need);

/* Begin with TLS as soon as the ClientHello is there. Returns whether it has begun: if
 * not, that is still to come, or the connection was refused or closed. */
bool tls_take(struct worker *w, uint32_t slot);

/*
 * Go on with the handshake as far as the socket has bytes, and show what the client has
 * sent in it. It stays until tls_consume().
 *
 * Returns how many bytes there are, at most len; 0 at their end; -EAGAIN, or what ended
 * the connection.
 */
ssize_t tls_peek(struct worker *w, uint32_t slot, uint8_t *buf, size_t len);
void tls_consume(struct worker *w, uint32_t slot, size_t len);

/* Whether the handshake is not done: events of its socket are for tls_peek(). */
bool tls_is_opening(const struct worker *w, uint32_t slot);

#endif
