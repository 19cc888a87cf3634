/*
 * redis_tls.h - the client's side of TLS over a non-blocking socket.
 *
 * The server's certificate must be signed by the CA, and be for the name or address
 * that was connected to.
 */
#ifndef WSCAST_SUPERVISOR_REDIS_TLS_H
#define WSCAST_SUPERVISOR_REDIS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct redis_tls;

struct redis_tls_config {
	const char *ca;                /* PEM file; "": those of the system */
	const char *certificate, *key; /* ours, PEM files; "": none */
	const char *host;              /* name or address of the server */
};

/*
 * fd   connected; stays the caller's.
 * why  on failure one line that says what is wrong with which file.
 *
 * Returns 0 or -errno.
 */
int redis_tls_new(const struct redis_tls_config *cfg, int fd, char *why, size_t size,
    struct redis_tls **ret_tls) __attribute__((warn_unused_result));
void redis_tls_free(struct redis_tls *t);

/* Each of these returns what it did, or -EAGAIN: come again when the socket is
 * readable, or writable when redis_tls_wants_write(). -ECONNRESET: it ended without
 * a word; -EPROTO: redis_tls_why() says what is wrong. */
int redis_tls_handshake(struct redis_tls *t) __attribute__((warn_unused_result));
ssize_t redis_tls_read(struct redis_tls *t, void *buf, size_t len); /* 0: the end */
ssize_t redis_tls_write(struct redis_tls *t, const void *buf, size_t len);
bool redis_tls_wants_write(const struct redis_tls *t);
const char *redis_tls_why(const struct redis_tls *t);

#endif
