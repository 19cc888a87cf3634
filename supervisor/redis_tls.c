/* redis_tls.c - see redis_tls.h */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/redis_tls.h"

#define WHY_MAX 200

struct redis_tls {
	SSL *ssl;
	bool wants_write;
	char why[WHY_MAX];
};

/* What OpenSSL noted last; its queue is emptied, or the next call would find it. */
static const char *
last_error(const char *otherwise)
{
	unsigned long e = ERR_peek_last_error();
	const char *text = e != 0 ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return text != NULL ? text : otherwise;
}

static int
load_files(SSL_CTX *ctx, const struct redis_tls_config *cfg, char *why, size_t size)
{
	const char *file = "the system's certificates";
	int ok;

	ERR_clear_error();
	if (cfg->ca[0] != '\0') {
		file = cfg->ca;
		ok = SSL_CTX_load_verify_file(ctx, file);
	} else {
		ok = SSL_CTX_set_default_verify_paths(ctx);
	}
	if (ok == 1 && cfg->certificate[0] != '\0') {
		file = cfg->certificate;
		ok = SSL_CTX_use_certificate_chain_file(ctx, file);
	}
	if (ok == 1 && cfg->certificate[0] != '\0') {
		file = cfg->key[0] != '\0' ? cfg->key : cfg->certificate;
		ok = SSL_CTX_use_PrivateKey_file(ctx, file, SSL_FILETYPE_PEM);
	}
	if (ok == 1)
		return 0;
	(void)snprintf(why, size, "cannot use %s: %s", file, last_error("unknown"));
	return -EINVAL;
}

/* An address is looked for among the certificate's addresses, a name among its names;
 * only a name is told to the server beforehand. */
static int
name_server(SSL *ssl, const char *host)
{
	unsigned char addr[16];

	if (inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
	return SSL_set1_host(ssl, host) == 1 &&
	       SSL_set_tlsext_host_name(ssl, host) == 1;
}

int
redis_tls_new(const struct redis_tls_config *cfg, int fd, char *why, size_t size,
    struct redis_tls **ret_tls)
{
	struct redis_tls *t = calloc(1, sizeof(*t));
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int r = -ENOMEM;

	if (t == NULL || ctx == NULL)
		goto fail;
	r = load_files(ctx, cfg, why, size);
	if (r < 0)
		goto fail;
	r = -ENOMEM;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	(void)SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	(void)SSL_CTX_set_mode(
	    ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	t->ssl = SSL_new(ctx);
	if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1 ||
	    name_server(t->ssl, cfg->host) != 1)
		goto fail;
	SSL_CTX_free(ctx); /* the SSL holds it */
	*ret_tls = t;
	return 0;
fail:
	if (r == -ENOMEM)
		(void)snprintf(why, size, "%s", strerror(ENOMEM));
	SSL_CTX_free(ctx);
	redis_tls_free(t);
	return r;
}

void
redis_tls_free(struct redis_tls *t)
{
	if (t == NULL)
		return;
	SSL_free(t->ssl);
	free(t);
}

/* What a call that returned n <= 0 means. */
static int
outcome(struct redis_tls *t, int n)
{
	long verify;

	switch (SSL_get_error(t->ssl, n)) {
	case SSL_ERROR_WANT_WRITE:
		t->wants_write = true;
		return -EAGAIN;
	case SSL_ERROR_WANT_READ:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		return errno != 0 ? -errno : -ECONNRESET;
	default:
		break;
	}
	verify = SSL_get_verify_result(t->ssl);
	(void)snprintf(t->why, sizeof(t->why), "TLS: %s",
	    verify != X509_V_OK ? X509_verify_cert_error_string(verify)
				: last_error("the server broke the protocol"));
	ERR_clear_error();
	return -EPROTO;
}

static void
begin(struct redis_tls *t)
{
	t->wants_write = false;
	ERR_clear_error();
	errno = 0;
}

int
redis_tls_handshake(struct redis_tls *t)
{
	int n;

	begin(t);
	n = SSL_connect(t->ssl);
	if (n == 1)
		return 0;
	n = outcome(t, n);
	return n == 0 ? -ECONNRESET : n;
}

ssize_t
redis_tls_read(struct redis_tls *t, void *buf, size_t len)
{
	size_t n;

	begin(t);
	if (SSL_read_ex(t->ssl, buf, len, &n) == 1)
		return (ssize_t)n;
	return outcome(t, 0);
}

ssize_t
redis_tls_write(struct redis_tls *t, const void *buf, size_t len)
{
	size_t n;
	int r;

	begin(t);
	if (SSL_write_ex(t->ssl, buf, len, &n) == 1)
		return (ssize_t)n;
	r = outcome(t, 0);
	return r == 0 ? -ECONNRESET : r;
}

bool
redis_tls_wants_write(const struct redis_tls *t)
{
	return t->wants_write;
}

const char *
redis_tls_why(const struct redis_tls *t)
{
	return t->why;
}
