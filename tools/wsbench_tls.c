/* wsbench_tls.c - see wsbench_tls.h */
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "tools/wsbench_tls.h"

struct tls_client {
	SSL_CTX *ctx;
	SSL_SESSION *session; /* the newest; NULL: none yet */
};

/* A ticket came. A copy is kept: the connection's own is no good any more once that
 * ends without close_notify, as those of a storm do. */
static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_client *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	SSL_SESSION *copy = SSL_SESSION_dup(session);

	if (copy != NULL) {
		SSL_SESSION_free(t->session);
		t->session = copy;
	}
	return 0; /* not taken over */
}

int
tls_client_new(bool resume, struct tls_client **ret)
{
	struct tls_client *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (t->ctx == NULL) {
		free(t);
		return -ENOMEM;
	}
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);
	(void)SSL_CTX_set_mode(
	    t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	(void)SSL_CTX_set_app_data(t->ctx, t);
	if (resume) {
		(void)SSL_CTX_set_session_cache_mode(
		    t->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(t->ctx, on_session);
	}
	*ret = t;
	return 0;
}

void
tls_client_free(struct tls_client *t)
{
	if (t == NULL)
		return;
	SSL_SESSION_free(t->session);
	SSL_CTX_free(t->ctx);
	free(t);
}

SSL *
tls_client_begin(struct tls_client *t, int fd)
{
	SSL *ssl = SSL_new(t->ctx);
	SSL_SESSION *session;

	if (ssl == NULL)
		return NULL;
	if (SSL_set_fd(ssl, fd) != 1) {
		SSL_free(ssl);
		return NULL;
	}
	/* A copy: OpenSSL gives one of TLS 1.3 up when it has been used. */
	if (t->session != NULL && (session = SSL_SESSION_dup(t->session)) != NULL) {
		(void)SSL_set_session(ssl, session);
		SSL_SESSION_free(session);
	}
	SSL_set_connect_state(ssl);
	return ssl;
}

/* What a call that did not succeed would have set errno to; 0: the end. */
static int
error_of(SSL *ssl, int r)
{
	switch (SSL_get_error(ssl, r)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		return EPROTO;
	}
}

int
tls_client_handshake(SSL *ssl)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(ssl);
	return r == 1 ? 0 : -error_of(ssl, r);
}

bool
tls_client_resumed(SSL *ssl)
{
	return SSL_session_reused(ssl);
}

ssize_t
tls_client_send(SSL *ssl, const void *buf, size_t len)
{
	int r;

	ERR_clear_error();
	r = SSL_write(ssl, buf, len > INT_MAX ? INT_MAX : (int)len);
	if (r > 0)
		return r;
	errno = error_of(ssl, r);
	return -1;
}

ssize_t
tls_client_recv(SSL *ssl, void *buf, size_t len)
{
	size_t total = 0, n;
	int r = 1;

	ERR_clear_error();
	while (total < len &&
	       (r = SSL_read_ex(ssl, (char *)buf + total, len - total, &n)) == 1)
		total += n;
	if (total > 0)
		return (ssize_t)total;
	errno = error_of(ssl, r);
	return errno == 0 ? 0 : -1;
}
