/*
 * tls.h - TLS between a client's socket and the rest of the worker.
 *
 * What others see of a connection with SLOT_TLS are plain bytes, and tx, part and pos
 * count those. It is told from a plain one in transport.h alone.
 *
 * Memory   nothing until a ClientHello lies whole in the kernel's buffer; an SSL object
 *          from then on. The buffers for what is read, and for a record that is
 *          gathered from several pieces, are one for all. What waits for a slow client
 *          lies in the ring as ever, but for what its socket did not take of the one
 *          record that was encrypted last.
 * Life     an SSL object dies with its process. A successor closes what it finds with
 *          SLOT_TLS; at a planned restart its clients are told before (serve.c).
 *
 * Source   RFC 8446, RFC 5246, RFC 7301; the library is OpenSSL
 */
#ifndef WSCAST_WORKER_TLS_H
#define WSCAST_WORKER_TLS_H

#include <sys/types.h>
#include <sys/uio.h>

#include "worker/worker.h"

/* Plain bytes in one record that we send: a client must have it whole before it can use
 * any of it, and what it does not take of it is memory of ours. */
#define TLS_RECORD 8192

struct tls;

/* Before the sandbox. Where no listener wants TLS nothing is made. Returns 0; -ENOMEM;
 * -EINVAL when there is no certificate that can be used, which is logged. */
int tls_new(struct worker *w, struct tls **ret) __attribute__((warn_unused_result));
void tls_free(struct tls *t);

/* Take other certificates or keys for tickets: for handshakes from now on. On failure,
 * which is logged, what was goes on. */
void tls_reload(struct worker *w);

/* Once in each turn of the loop: so many handshakes may cost time in it. */
void tls_turn(struct worker *w);

/* ---- handshakes ---- */

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

/* ---- data ---- */

/* What the client has sent. buf: READER_BUFFER bytes. Returns as recv(2), but -errno.
 */
ssize_t tls_recv(struct worker *w, uint32_t slot, uint8_t *buf, size_t len);

/* Whether tls_recv() has something that no event will tell of. */
bool tls_has_more(const struct worker *w, uint32_t slot);

/*
 * Send. What is taken is encrypted and counts as sent, also where the socket did not
 * take all of the last record: then the connection tls_is_holding() the rest.
 *
 * Returns how many bytes were taken, at least one; or -errno, -EAGAIN when something is
 * held.
 */
ssize_t tls_send(struct worker *w, uint32_t slot, const struct iovec *iov, int niov);

/* Something that was taken is not sent: it waits for the socket, and then for
 * tls_flush(). Returns 0 when all of it is; -EAGAIN; or what ended the connection. */
bool tls_is_holding(const struct worker *w, uint32_t slot);
int tls_flush(struct worker *w, uint32_t slot) __attribute__((warn_unused_result));

/* Nothing more will be sent: say so (close_notify, RFC 8446 §6.1), once, and unless a
 * part of a record is held, behind which nobody could read it. */
void tls_shutdown(struct worker *w, uint32_t slot);

/* The connection goes. */
void tls_drop(struct worker *w, uint32_t slot);

/* How many connections have SLOT_TLS. */
uint32_t tls_connections(const struct worker *w);

#endif
