/* tls_context.c - see tls_context.h */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tls_context.h"

/* What TLS 1.2 has of forward secrecy with authenticated encryption, and nothing else.
 * TLS 1.3 has no others. Which of them: as the client prefers, who knows its hardware.
 */
static const char ciphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/* OpenSSL knows the first list from 3.5 on. Its defaults also have finite fields, with
 * which a client could make us compute for long. */
static const char *const groups[] = {
    "X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384"};

static const unsigned char session_context[] = "wscast";

/* What a load replaces as a whole. The first certificate is for those whose name no
 * other is for, or who say none. */
struct loaded {
	struct certificates certificates;
	SSL_CTX *ctx[CERTIFICATES_MAX]; /* of each certificate */
	struct tickets tickets;
};

/* An SSL_CTX lives as long as a connection that began with it, and points here: so a
 * handshake that a reload overtakes goes on with what is loaded by then. */
struct tls_context {
	struct loaded now;
	EVP_CIPHER *cipher; /* of tickets */
	size_t record;
	const struct tls_watch *watch;
};

/* ---- what is asked in a handshake ---- */

/* The subprotocol of TLS (ALPN) is HTTP/1.1, or none is spoken of: WebSocket over
 * HTTP/2 (RFC 8441) is another thing. */
static int
on_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
    const unsigned char *in, unsigned inlen, void *arg)
{
	static const unsigned char http11[] = "\x08http/1.1";

	if (SSL_select_next_proto((unsigned char **)out, outlen, http11,
		sizeof(http11) - 1, in, inlen) == OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_OK;
	return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 §3.2 */
}

/* A name that is not known gets the first certificate, and the client judges. */
static int
on_name(SSL *ssl, int *alert, void *arg)
{
	const struct tls_context *c = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	if (name == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	for (unsigned i = 0; i < c->now.certificates.n; i++) {
		if (certificate_is_for(&c->now.certificates.certificate[i], name)) {
			(void)SSL_set_SSL_CTX(ssl, c->now.ctx[i]);
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_NOACK;
}

static bool
mac_begin(EVP_MAC_CTX *mac, const struct ticket_key *key)
{
	const OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_octet_string(
		OSSL_MAC_PARAM_KEY, (void *)key->mac, sizeof(key->mac)),
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
	    OSSL_PARAM_construct_end()};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int
seal_begin(const struct tls_context *c, unsigned char *name, unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	const struct ticket_key *key = &c->now.tickets.key[0];

	memcpy(name, key->name, sizeof(key->name));
	if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(c->cipher)) != 1 ||
	    EVP_EncryptInit_ex2(cipher, c->cipher, key->cipher, iv, NULL) != 1 ||
	    !mac_begin(mac, key))
		return -1;
	return 1;
}

/* Returns 1, 2 when another ticket should be given in its place, 0 when it is sealed
 * with none of our keys, or -1. */
static int
open_begin(const struct tls_context *c, const unsigned char *name,
    const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	static const uint8_t none[sizeof(c->now.tickets.key[0].name)];

	for (unsigned i = 0; i < TICKET_KEYS; i++) {
		const struct ticket_key *key = &c->now.tickets.key[i];

		if (memcmp(name, key->name, sizeof(key->name)) != 0 ||
		    memcmp(key->name, none, sizeof(none)) == 0)
			continue;
		if (EVP_DecryptInit_ex2(cipher, c->cipher, key->cipher, iv, NULL) !=
			1 ||
		    !mac_begin(mac, key))
			return -1;
		return i == 0 ? 1 : 2;
	}
	return 0;
}

static int
on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int seal)
{
	const struct tls_context *c = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	return seal ? seal_begin(c, name, iv, cipher, mac)
		    : open_begin(c, name, iv, cipher, mac);
}

/* ---- making it ---- */

static void
set_modes(SSL_CTX *ctx, size_t record)
{
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	/* A write is taken whole, in more than one record where the client asked for
	 * short ones (RFC 6066 §4): nothing of it is ever to be tried again. */
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(ctx, 0);
	(void)SSL_CTX_set_max_send_fragment(ctx, (long)record);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_timeout(ctx, TICKET_LIFETIME_S);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
}

static const char *
set_algorithms(SSL_CTX *ctx)
{
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
		return "this OpenSSL has no TLS 1.2 with modern ciphers";
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (SSL_CTX_set1_groups_list(ctx, groups[i]) == 1)
			return NULL;
	return "this OpenSSL knows no X25519";
}

static void
set_tickets(SSL_CTX *ctx, bool given)
{
	if (!given) {
		(void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		(void)SSL_CTX_set_num_tickets(ctx, 0);
		return;
	}
	(void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
	/* By default it is two, for browsers that connect several times at once. */
	(void)SSL_CTX_set_num_tickets(ctx, 1);
}

/* A context for one certificate. Returns NULL, or why not. */
static const char *
context_make(
    struct tls_context *c, const struct certificate *cert, bool tickets, SSL_CTX **ret)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	const char *why;

	if (ctx == NULL)
		return "no memory";
	set_modes(ctx, c->record);
	why = set_algorithms(ctx);
	if (why == NULL &&
	    SSL_CTX_use_cert_and_key(ctx, cert->leaf, cert->key, cert->chain, 1) != 1)
		why = "OpenSSL does not take the certificate: its key may be too short";
	if (why == NULL && SSL_CTX_set_session_id_context(
			       ctx, session_context, sizeof(session_context)) != 1)
		why = "no memory";
	if (why != NULL) {
		SSL_CTX_free(ctx);
		return why;
	}
	(void)SSL_CTX_set_app_data(ctx, c);
	set_tickets(ctx, tickets);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	if (c->watch != NULL) {
		SSL_CTX_set_keylog_callback(ctx, c->watch->on_key);
		SSL_CTX_set_msg_callback(ctx, c->watch->on_message);
	}
	(void)SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
	(void)SSL_CTX_set_tlsext_servername_arg(ctx, c);
	*ret = ctx;
	return NULL;
}

/* Returns NULL, or why not; what is made by then is in *l. */
static const char *
load(struct tls_context *c, const struct tls_files *files, struct loaded *l)
{
	bool tickets = files->tickets.len == sizeof(l->tickets);
	struct certificate_fault fault;
	const char *why = NULL;
	int r;

	if (files->certificate.len == 0)
		return "none is named (tls.certificate)";
	if (tickets)
		memcpy(&l->tickets, files->tickets.p, sizeof(l->tickets));
	r = certificates_parse(
	    files->certificate, files->key, &l->certificates, &fault);
	if (r < 0)
		return r == -EINVAL ? fault.why : "no memory";
	for (unsigned i = 0; why == NULL && i < l->certificates.n; i++)
		why = context_make(
		    c, &l->certificates.certificate[i], tickets, &l->ctx[i]);
	return why;
}

static void
loaded_done(struct loaded *l)
{
	for (unsigned i = 0; i < CERTIFICATES_MAX; i++)
		SSL_CTX_free(l->ctx[i]);
	certificates_done(&l->certificates);
	OPENSSL_cleanse(l, sizeof(*l));
}

int
tls_context_load(
    struct tls_context *c, const struct tls_files *files, const char **ret_why)
{
	struct loaded l = {0};
	const char *why = load(c, files, &l);

	ERR_clear_error();
	if (why != NULL) {
		loaded_done(&l);
		*ret_why = why;
		return -EINVAL;
	}
	loaded_done(&c->now);
	c->now = l;
	OPENSSL_cleanse(&l, sizeof(l));
	return 0;
}

int
tls_context_new(size_t record, const struct tls_watch *watch, struct tls_context **ret)
{
	struct tls_context *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->record = record;
	c->watch = watch;
	c->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	if (c->cipher == NULL) {
		tls_context_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void
tls_context_free(struct tls_context *c)
{
	if (c == NULL)
		return;
	loaded_done(&c->now);
	EVP_CIPHER_free(c->cipher);
	free(c);
}

SSL *
tls_context_accept(struct tls_context *c)
{
	SSL *ssl = c->now.ctx[0] != NULL ? SSL_new(c->now.ctx[0]) : NULL;

	if (ssl != NULL)
		SSL_set_accept_state(ssl);
	return ssl;
}
