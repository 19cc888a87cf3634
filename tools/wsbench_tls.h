/*
 * wsbench_tls.h - the client's side of TLS, for wss:// URLs. Whose certificate it is,
 * is not looked at: it is load that is made, and nothing is told to anybody.
 */
#ifndef WSCAST_TOOLS_WSBENCH_TLS_H
#define WSCAST_TOOLS_WSBENCH_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/types.h>

/* One for a process. */
struct tls_client;

/* resume  come again with the ticket that was got last, whoever got it.
 * Returns 0 or -ENOMEM. */
int tls_client_new(bool resume, struct tls_client **ret)
    __attribute__((warn_unused_result));
void tls_client_free(struct tls_client *t);

/* A connection over fd, which stays the caller's. NULL: no memory. */
SSL *tls_client_begin(struct tls_client *t, int fd);

/* Go on with the handshake. Returns 0 when it is done, -EAGAIN or -EPROTO. */
int tls_client_handshake(SSL *ssl) __attribute__((warn_unused_result));
bool tls_client_resumed(SSL *ssl);

/* As send(2) and recv(2) on a socket that does not block; recv() fills the buffer as
 * far as there is something. */
ssize_t tls_client_send(SSL *ssl, const void *buf, size_t len);
ssize_t tls_client_recv(SSL *ssl, void *buf, size_t len);

#endif
