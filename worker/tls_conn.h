/*
 * tls_conn.h - one connection's OpenSSL, between what its socket has and what is plain.
 *
 * All connections share one BIO: what it reads and writes is the socket's whose turn it
 * is. So there is no buffer for each, and OpenSSL never waits: what a socket does not
 * take is held here, and what was not yet received ends a call.
 */
#ifndef WSCAST_WORKER_TLS_CONN_H
#define WSCAST_WORKER_TLS_CONN_H

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "worker/tls_context.h"
#include "worker/tls_kernel.h"
#include "worker/worker.h"

#define TLS_FEED_MAX (32u << 10) /* encrypted bytes read at once */

struct tls_conn {
	SSL *ssl; /* NULL: the kernel goes on */
	struct tls_kernel kernel;
	/* Encrypted, and not taken by the socket. */
	uint8_t *held;
	uint32_t held_len;
	/* Decrypted before anybody could use it: a request in pieces, or what came with
	 * its end. */
	uint32_t unread_len;
	uint8_t *unread;
	bool opened; /* the handshake is done */
	bool ended;  /* the client sends no more */
	bool failed; /* nothing can be asked of ssl any more */
	bool waits;  /* for the rest of a record (edge.h) */
};

struct tls {
	struct worker *w;
	struct tls_context *context;
	struct tls_conn *conn; /* [nslots], touched when used */
	size_t conn_len;       /* bytes */
	uint32_t nconns;       /* that are bound to this process */
	unsigned steps;        /* left for this turn */
	bool kernel;           /* has TLS */
	/* One for all connections: its other side is what follows. */
	BIO *bio;
	BIO_METHOD *method;
	uint32_t slot;       /* whose turn it is */
	const uint8_t *feed; /* what its socket gave, as far as it is not taken */
	size_t feed_len;
	uint8_t *in;     /* TLS_FEED_MAX */
	uint8_t *gather; /* TLS_RECORD */
};

static inline struct tls_conn *
tls_conn_of(const struct worker *w, uint32_t slot)
{
	return &w->tls->conn[slot];
}

/* Make the BIO, for good. Returns 0 or -ENOMEM. */
int tls_conn_bio(struct tls *t) __attribute__((warn_unused_result));

/* What OpenSSL reads and writes from here on is this connection's. feed: what its
 * socket gave; what is not taken of it stays in t->feed. */
void tls_conn_enter(struct tls *t, uint32_t slot, const uint8_t *feed, size_t feed_len);

/* A call of OpenSSL's did not succeed. Returns 0 at the end of what the client sends,
 * -EAGAIN when more of it is needed, or -EPROTO. */
int tls_conn_outcome(struct tls_conn *c, int ret);

/* Decrypt all that was fed. Returns how many bytes came, or as tls_conn_outcome(). */
ssize_t tls_conn_read(struct tls_conn *c, uint8_t *buf, size_t len);

/* Send what is encrypted. Returns how many bytes the socket took, 0 when it would
 * block, or -errno. */
ssize_t tls_conn_send(struct worker *w, uint32_t slot, const void *buf, size_t len);

/* Where the kernel has the keys: receive what it opens. Returns as ktls_recv(). */
ssize_t tls_conn_recv(struct worker *w, uint32_t slot, uint8_t *buf, size_t len);

#endif
