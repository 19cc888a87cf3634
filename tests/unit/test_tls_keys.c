/* test_tls_keys.c - keys that open what OpenSSL makes, and those of RFC 8448. */
#include <errno.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tickets.h"
#include "tests/unit/pem.h"
#include "worker/tls_context.h"
#include "worker/tls_keys.h"

#define HEAD 5
#define TAG 16
#define ROOM 4096

/* RFC 8448 §3, "derive write traffic keys for application data": server, client. */
static void
test_tls_key_expand_of_rfc_8448(void **state)
{
	static const struct {
		uint8_t secret[32], key[16], iv[12];
	} table[] = {
	    {{0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b,
		 0x45, 0xa9, 0x50, 0x32, 0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a,
		 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43},
		{0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef, 0xc2, 0x6b, 0xb9, 0xf2,
		    0xac, 0x92, 0xe3, 0x56},
		{0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1, 0xe9,
		    0x84}},
	    {{0x9e, 0x40, 0x64, 0x6c, 0xe7, 0x9a, 0x7f, 0x9d, 0xc0, 0x5a, 0xf8, 0x88,
		 0x9b, 0xce, 0x65, 0x52, 0x87, 0x5a, 0xfa, 0x0b, 0x06, 0xdf, 0x00, 0x87,
		 0xf7, 0x92, 0xeb, 0xb7, 0xc1, 0x75, 0x04, 0xa5},
		{0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9, 0xac, 0xd8, 0x90, 0xe3,
		    0xc6, 0x3f, 0x50, 0x51},
		{0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08, 0x57, 0x90, 0x33, 0xe5, 0x23,
		    0xd9}},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct tls_key k;

		assert_int_equal(tls_key_expand(TLS_AES_128_GCM, table[i].secret,
				     sizeof(table[i].secret), &k),
		    0);
		assert_memory_equal(k.key, table[i].key, sizeof(table[i].key));
		assert_memory_equal(k.iv, table[i].iv, sizeof(table[i].iv));
	}
}

/* ---- what a handshake gives away ---- */

static void
test_tls_secrets_take_the_traffic_s_alone(void **state)
{
	static const char random[] =
	    "0000000000000000000000000000000000000000000000000000000000000000";
	struct tls_secrets s = {.written = 0};
	char line[256];

	(void)snprintf(
	    line, sizeof(line), "SERVER_HANDSHAKE_TRAFFIC_SECRET %s 0102", random);
	tls_secrets_on_key(&s, line);
	(void)snprintf(line, sizeof(line), "CLIENT_RANDOM %s 0102", random);
	tls_secrets_on_key(&s, line);
	tls_secrets_on_key(&s, "");
	assert_int_equal(s.len[TLS_OURS] + s.len[TLS_CLIENTS], 0);
	/* Before our secret is in use, records are none of its. */
	tls_secrets_on_message(&s, true, SSL3_RT_HEADER);
	assert_int_equal(s.written, 0);
	(void)snprintf(line, sizeof(line), "SERVER_TRAFFIC_SECRET_0 %s 0102", random);
	tls_secrets_on_key(&s, line);
	assert_int_equal(s.len[TLS_OURS], 2);
	assert_int_equal(s.secret[TLS_OURS][1], 2);
	tls_secrets_on_message(&s, false, SSL3_RT_HEADER);
	tls_secrets_on_message(&s, true, SSL3_RT_HANDSHAKE);
	assert_int_equal(s.written, 0);
	tls_secrets_on_message(&s, true, SSL3_RT_HEADER);
	assert_int_equal(s.written, 1);
}

static void
test_tls_secrets_that_are_too_long_or_broken_are_none(void **state)
{
	struct tls_secrets s = {.written = 0};
	char line[256] = "CLIENT_TRAFFIC_SECRET_0 00 ";

	tls_secrets_on_key(&s, "CLIENT_TRAFFIC_SECRET_0 00 01x2");
	assert_int_equal(s.len[TLS_CLIENTS], 0);
	memset(line + strlen(line), 'a', 2 * (TLS_SECRET_MAX + 1));
	tls_secrets_on_key(&s, line);
	assert_int_equal(s.len[TLS_CLIENTS], 0);
}

/* ---- records that OpenSSL makes ---- */

static struct pem pem;
static struct tls_secrets secrets; /* of the handshake that is under way */
static SSL_SESSION *session;       /* that the client got last */

static void
on_key(const SSL *ssl, const char *line)
{
	tls_secrets_on_key(&secrets, line);
}

static void
on_message(
    int write, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	tls_secrets_on_message(&secrets, write, type);
}

static int
on_session(SSL *ssl, SSL_SESSION *s)
{
	SSL_SESSION_free(session);
	session = s;
	return 1;
}

/* A client and a server whose handshake is done. */
struct pair {
	struct tls_context *context;
	SSL_CTX *ctx;
	SSL *client, *server;
	BIO *at_client, *at_server;
};

static void
pair_open(struct pair *p, int version, const char *cipher, SSL_SESSION *with)
{
	static const struct tls_watch watch = {
	    .on_key = on_key, .on_message = on_message};
	static const struct tickets tickets = {.key = {{.name = {1}}}};
	const struct tls_files files = {
	    .certificate = pem_slice(pem.certificate),
	    .key = pem_slice(pem.key),
	    .tickets = {(const char *)&tickets, sizeof(tickets)},
	};
	const char *why = "";

	secrets = (struct tls_secrets){.written = 0};
	assert_int_equal(tls_context_new(8192, &watch, &p->context), 0);
	assert_int_equal(tls_context_load(p->context, &files, &why), 0);
	p->ctx = SSL_CTX_new(TLS_client_method());
	(void)SSL_CTX_set_session_cache_mode(
	    p->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(p->ctx, on_session);
	(void)SSL_CTX_set_max_proto_version(p->ctx, version);
	assert_int_equal(version == TLS1_3_VERSION
			     ? SSL_CTX_set_ciphersuites(p->ctx, cipher)
			     : SSL_CTX_set_cipher_list(p->ctx, cipher),
	    1);
	p->client = SSL_new(p->ctx);
	p->server = tls_context_accept(p->context);
	assert_int_equal(BIO_new_bio_pair(&p->at_client, 0, &p->at_server, 0), 1);
	SSL_set_bio(p->client, p->at_client, p->at_client);
	SSL_set_bio(p->server, p->at_server, p->at_server);
	SSL_set_connect_state(p->client);
	if (with != NULL)
		assert_int_equal(SSL_set_session(p->client, with), 1);
	for (int i = 0; i < 4; i++) {
		(void)SSL_do_handshake(p->client);
		(void)SSL_do_handshake(p->server);
	}
	assert_true(SSL_is_init_finished(p->client));
	assert_true(SSL_is_init_finished(p->server));
	assert_int_equal(SSL_version(p->server), version);
	assert_int_equal(SSL_session_reused(p->server), with != NULL);
}

static void
pair_close(struct pair *p)
{
	(void)SSL_shutdown(p->client); /* or its session would resume nothing */
	SSL_free(p->client);
	SSL_free(p->server);
	SSL_CTX_free(p->ctx);
	tls_context_free(p->context);
}

/* The nonce of a record, whose explicit part, if any, is at *record; that is passed. */
static void
nonce_of(const struct tls_keys *keys, const struct tls_key *k, const uint8_t **record,
    uint8_t *nonce)
{
	memcpy(nonce, k->iv, TLS_IV);
	if (keys->version == TLS1_2_VERSION && keys->aead != TLS_CHACHA20_POLY1305) {
		memcpy(nonce + 4, *record, 8);
		*record += 8;
		return;
	}
	for (int i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(k->record >> (56 - 8 * i));
}

/* What is authenticated beside the text: RFC 8446 §5.2, RFC 5246 §6.2.3.3 */
static size_t
beside(const struct tls_keys *keys, const struct tls_key *k, const uint8_t *head,
    size_t text_len, uint8_t *out)
{
	if (keys->version == TLS1_3_VERSION) {
		memcpy(out, head, HEAD);
		return HEAD;
	}
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(k->record >> (56 - 8 * i));
	memcpy(out + 8, head, 3);
	out[11] = (uint8_t)(text_len >> 8);
	out[12] = (uint8_t)text_len;
	return 13;
}

/* Open one whole record, and expect this text in it. */
static void
assert_opens(const struct tls_keys *keys, enum tls_side side, const uint8_t *record,
    size_t len, const char *text)
{
	static const char *const names[TLS_AEADS] = {
	    [TLS_AES_128_GCM] = "AES-128-GCM",
	    [TLS_AES_256_GCM] = "AES-256-GCM",
	    [TLS_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
	};
	const struct tls_key *k = &keys->of[side];
	const uint8_t *at = record + HEAD;
	uint8_t nonce[TLS_IV], aad[16], out[ROOM];
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, names[keys->aead], NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	size_t text_len, aad_len;
	int n;

	assert_int_equal(len, HEAD + (record[3] << 8 | record[4]));
	nonce_of(keys, k, &at, nonce);
	text_len = (size_t)(record + len - at) - TAG;
	aad_len = beside(keys, k, record, text_len, aad);
	assert_int_equal(EVP_CIPHER_get_key_length(cipher), tls_key_len(keys->aead));
	assert_int_equal(EVP_DecryptInit_ex2(ctx, cipher, k->key, nonce, NULL), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(
			     ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(at + text_len)),
	    1);
	assert_int_equal(EVP_DecryptUpdate(ctx, NULL, &n, aad, (int)aad_len), 1);
	assert_int_equal(EVP_DecryptUpdate(ctx, out, &n, at, (int)text_len), 1);
	assert_int_equal(EVP_DecryptFinal_ex(ctx, out + n, &n), 1);
	assert_true(text_len >= strlen(text));
	assert_memory_equal(out, text, strlen(text));
	EVP_CIPHER_CTX_free(ctx);
	EVP_CIPHER_free(cipher);
}

/* As many bytes as wait: tickets may lie before what is wanted. */
static size_t
drain(BIO *bio, uint8_t *buf)
{
	int n = BIO_read(bio, buf, ROOM);

	return n > 0 ? (size_t)n : 0;
}

static void
keys_open_both_ways(int version, const char *cipher, enum tls_aead aead, bool resumed)
{
	struct tls_keys keys;
	uint8_t record[ROOM];
	struct pair p;
	size_t len;

	pair_open(&p, version, cipher, resumed ? session : NULL);
	assert_int_equal(tls_keys_get(&secrets, p.server, &keys), 0);
	assert_int_equal(keys.version, version);
	assert_int_equal(keys.aead, aead);
	assert_int_equal(SSL_write(p.client, "of the client", 13), 13);
	len = drain(p.at_server, record);
	assert_opens(&keys, TLS_CLIENTS, record, len, "of the client");
	if (!resumed) /* the client takes its ticket */
		(void)SSL_read(p.client, record, 1);
	(void)drain(p.at_client, record);
	assert_int_equal(SSL_write(p.server, "of ours", 7), 7);
	len = drain(p.at_client, record);
	assert_opens(&keys, TLS_OURS, record, len, "of ours");
	pair_close(&p);
}

static void
test_tls_keys_of_1_3_open_what_openssl_makes(void **state)
{
	static const char *const suites[TLS_AEADS] = {
	    [TLS_AES_128_GCM] = "TLS_AES_128_GCM_SHA256",
	    [TLS_AES_256_GCM] = "TLS_AES_256_GCM_SHA384",
	    [TLS_CHACHA20_POLY1305] = "TLS_CHACHA20_POLY1305_SHA256",
	};

	for (int i = 0; i < TLS_AEADS; i++) {
		keys_open_both_ways(TLS1_3_VERSION, suites[i], (enum tls_aead)i, false);
		assert_true(secrets.written > 0); /* a ticket */
		keys_open_both_ways(TLS1_3_VERSION, suites[i], (enum tls_aead)i, true);
	}
}

static void
test_tls_keys_of_1_2_open_what_openssl_makes(void **state)
{
	static const char *const suites[TLS_AEADS] = {
	    [TLS_AES_128_GCM] = "ECDHE-ECDSA-AES128-GCM-SHA256",
	    [TLS_AES_256_GCM] = "ECDHE-ECDSA-AES256-GCM-SHA384",
	    [TLS_CHACHA20_POLY1305] = "ECDHE-ECDSA-CHACHA20-POLY1305",
	};

	for (int i = 0; i < TLS_AEADS; i++) {
		keys_open_both_ways(TLS1_2_VERSION, suites[i], (enum tls_aead)i, false);
		keys_open_both_ways(TLS1_2_VERSION, suites[i], (enum tls_aead)i, true);
	}
}

/* Nobody logged them: that is for OpenSSL to go on with. */
static void
test_tls_keys_get_without_secrets_is_refused(void **state)
{
	const struct tls_secrets none = {.written = 0};
	struct tls_keys keys;
	struct pair p;

	pair_open(&p, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", NULL);
	assert_int_equal(tls_keys_get(&none, p.server, &keys), -EOPNOTSUPP);
	pair_close(&p);
}

static int
setup(void **state)
{
	pem_make("first.example", -60, 3600, NULL, &pem);
	return 0;
}

static int
teardown(void **state)
{
	SSL_SESSION_free(session);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tls_key_expand_of_rfc_8448),
	    cmocka_unit_test(test_tls_secrets_take_the_traffic_s_alone),
	    cmocka_unit_test(test_tls_secrets_that_are_too_long_or_broken_are_none),
	    cmocka_unit_test(test_tls_keys_of_1_3_open_what_openssl_makes),
	    cmocka_unit_test(test_tls_keys_of_1_2_open_what_openssl_makes),
	    cmocka_unit_test(test_tls_keys_get_without_secrets_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
