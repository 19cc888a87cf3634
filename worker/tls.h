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
 * Life     an SSL object dies with its process, and with it the connection: a
 *          successor closes what it finds so (slot_is_bound()), and at a planned
 *          restart the clients are told before (serve.c). Where the kernel has TLS,
 *          it goes on after the handshake, without one: tls_kernel.h.
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

/* Whether connections may get their TLS from the kernel. */
bool tls_has_kernel(const struct worker *w);

/* Once in each turn of the loop: so many handshakes may cost time in it. */
void tls_turn(struct worker *w);

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
 * part of a record is held, behind which nobody could read it. Returns whether a FIN
 * may follow: one would overtake records that wait between the kernel's TLS and TCP. */
bool tls_shutdown(struct worker *w, uint32_t slot);

/* The connection goes. */
void tls_drop(struct worker *w, uint32_t slot);

/* ---- a successor ---- */

/* The connection is open: if nothing of it is in our memory, a successor can go on with
 * it from now on. */
void tls_settle(struct worker *w, uint32_t slot);

/* Go on with a predecessor's. Returns false when that cannot be. */
bool tls_adopt(struct worker *w, uint32_t slot);

/* How many connections end with this process: slot_is_bound(). */
uint32_t tls_connections(const struct worker *w);

#endif
