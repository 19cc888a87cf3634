/*
 * tls_context.h - what all handshakes of a worker share: certificates, ciphers, keys
 * for tickets.
 *
 * A client that comes again with a ticket is spared the costly half of a handshake, at
 * whichever worker it comes out: the tickets' keys are the host's, made and renewed by
 * the supervisor. A ticket says all, so that no session is kept here.
 *
 * Source   RFC 5077, RFC 8446 §4.6.1; ciphers and groups: Mozilla's "intermediate"
 */
#ifndef WSCAST_WORKER_TLS_CONTEXT_H
#define WSCAST_WORKER_TLS_CONTEXT_H

#include <openssl/ssl.h>

#include "proto/certificate.h"
#include "proto/slice.h"
#include "proto/tickets.h"

struct tls_context;

/* Who looks at handshakes: OpenSSL's callbacks of these names. */
struct tls_watch {
	SSL_CTX_keylog_cb_func on_key;
	void (*on_message)(int write, int version, int type, const void *buf,
	    size_t len, SSL *ssl, void *arg);
};

/* The bytes of the files. */
struct tls_files {
	struct slice certificate, key; /* as certificates_parse() takes them */
	struct slice tickets; /* struct tickets; another length: no tickets are given */
};

/*
 * Made without any certificate.
 *
 * record  bytes in a record that is sent, at most.
 * watch   borrowed; NULL: nobody looks.
 */
int tls_context_new(size_t record, const struct tls_watch *watch,
    struct tls_context **ret) __attribute__((warn_unused_result));
void tls_context_free(struct tls_context *c);

/*
 * Take certificates and keys, in place of those that it has: for handshakes from now
 * on.
 *
 * Returns 0; -ENOMEM; -EINVAL with *ret_why, a constant. On failure nothing changes.
 */
int tls_context_load(struct tls_context *c, const struct tls_files *files,
    const char **ret_why) __attribute__((warn_unused_result));

/* A connection's end, as a server. The context must outlive its handshake. NULL: no
 * memory, or no certificate. */
SSL *tls_context_accept(struct tls_context *c);

#endif
