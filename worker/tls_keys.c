/* tls_keys.c - see tls_keys.h */
#include <endian.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>
#include <string.h>

#include "worker/tls_keys.h"

#define IV_IMPLICIT 4 /* RFC 5288 §3: the salt */

struct aead {
	int nid;
	size_t key_len;
	const char *digest; /* of all suites with it */
};

static const struct aead aeads[TLS_AEADS] = {
    [TLS_AES_128_GCM] = {NID_aes_128_gcm, 16, "SHA256"},
    [TLS_AES_256_GCM] = {NID_aes_256_gcm, 32, "SHA384"},
    [TLS_CHACHA20_POLY1305] = {NID_chacha20_poly1305, 32, "SHA256"},
};

size_t
tls_key_len(enum tls_aead aead)
{
	return aeads[aead].key_len;
}

/* ---- what a handshake gives away ---- */

void
tls_secrets_on_key(struct tls_secrets *s, const char *line)
{
	static const char *const names[TLS_SIDES] = {
	    [TLS_OURS] = "SERVER_TRAFFIC_SECRET_0 ",
	    [TLS_CLIENTS] = "CLIENT_TRAFFIC_SECRET_0 ",
	};
	const char *hex = strrchr(line, ' ');

	for (int i = 0; hex != NULL && i < TLS_SIDES; i++) {
		if (strncmp(line, names[i], strlen(names[i])) != 0)
			continue;
		if (OPENSSL_hexstr2buf_ex(s->secret[i], sizeof(s->secret[i]),
			&s->len[i], hex + 1, '\0') != 1)
			s->len[i] = 0;
	}
}

/* Its secret is logged as our side begins to use it: what goes from then on counts. */
void
tls_secrets_on_message(struct tls_secrets *s, bool write, int type)
{
	s->written += write && type == SSL3_RT_HEADER && s->len[TLS_OURS] > 0;
}

/* ---- keys ---- */

/* Returns 0 or -ENOMEM: OpenSSL's functions for it fail of nothing else. */
static int
derive(const char *name, OSSL_PARAM *params, uint8_t *out, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, name, NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int r = ctx == NULL ? 0 : EVP_KDF_derive(ctx, out, len, params);

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return r == 1 ? 0 : -ENOMEM;
}

/* HKDF-Expand-Label of RFC 8446 §7.1, with an empty context. label: with its "tls13 ".
 */
static int
expand_label(const char *digest, const uint8_t *secret, size_t secret_len,
    const char *label, uint8_t *out, size_t len)
{
	uint8_t info[32] = {0, (uint8_t)len, (uint8_t)strlen(label)};
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
	    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_KEY, (void *)secret, secret_len),
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_INFO, info, 3 + strlen(label) + 1),
	    OSSL_PARAM_construct_end()};

	memcpy(info + 3, label, strlen(label)); /* and a 0 behind it: no context */
	return derive("HKDF", params, out, len);
}

int
tls_key_expand(
    enum tls_aead aead, const uint8_t *secret, size_t len, struct tls_key *ret)
{
	const char *digest = aeads[aead].digest;
	int r = expand_label(
	    digest, secret, len, "tls13 key", ret->key, aeads[aead].key_len);

	if (r == 0)
		r = expand_label(digest, secret, len, "tls13 iv", ret->iv, TLS_IV);
	return r;
}

static int
get_13(const struct tls_secrets *s, struct tls_keys *ret)
{
	int r = 0;

	for (int i = 0; i < TLS_SIDES; i++) {
		if (s->len[i] == 0)
			return -EOPNOTSUPP;
		if (r == 0)
			r = tls_key_expand(
			    ret->aead, s->secret[i], s->len[i], &ret->of[i]);
	}
	ret->of[TLS_OURS].record = s->written;
	ret->of[TLS_CLIENTS].record = 0;
	return r;
}

/* "key expansion" of RFC 5246 §6.3: the PRF over the master secret and both randoms. */
static int
expand_block(const SSL *ssl, const char *digest, uint8_t *out, size_t len)
{
	static const char label[] = "key expansion";
	uint8_t master[TLS_SECRET_MAX], seed[2 * SSL3_RANDOM_SIZE];
	size_t master_len =
	    SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master));
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_SECRET, master, master_len),
	    OSSL_PARAM_construct_octet_string(
		OSSL_KDF_PARAM_SEED, (char *)label, sizeof(label) - 1),
	    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
	    OSSL_PARAM_construct_end()};
	int r;

	(void)SSL_get_server_random(ssl, seed, SSL3_RANDOM_SIZE);
	(void)SSL_get_client_random(ssl, seed + SSL3_RANDOM_SIZE, SSL3_RANDOM_SIZE);
	r = derive("TLS1-PRF", params, out, len);
	OPENSSL_cleanse(master, sizeof(master));
	return r;
}

/*
 * The block is both keys, then both IVs, the client's first of each. Of AES an IV is
 * the salt alone: the other 8 bytes of a nonce go with each record, and are its number,
 * as RFC 5288 §3 proposes. The one record that OpenSSL has made has random ones.
 */
static int
get_12(const SSL *ssl, struct tls_keys *ret)
{
	static const enum tls_side order[] = {TLS_CLIENTS, TLS_OURS};
	bool salted = ret->aead != TLS_CHACHA20_POLY1305;
	size_t key_len = aeads[ret->aead].key_len,
	       iv_len = salted ? IV_IMPLICIT : TLS_IV;
	uint8_t block[2 * (TLS_KEY_MAX + TLS_IV)];
	const uint8_t *at = block;
	int r =
	    expand_block(ssl, aeads[ret->aead].digest, block, 2 * (key_len + iv_len));

	for (int i = 0; i < TLS_SIDES; i++, at += key_len)
		memcpy(ret->of[order[i]].key, at, key_len);
	for (int i = 0; i < TLS_SIDES; i++, at += iv_len) {
		struct tls_key *k = &ret->of[order[i]];
		uint64_t nonce;

		k->record = 1; /* behind Finished */
		nonce = htobe64(k->record);
		memcpy(k->iv + IV_IMPLICIT, &nonce, sizeof(nonce));
		memcpy(k->iv, at, iv_len);
	}
	OPENSSL_cleanse(block, sizeof(block));
	return r;
}

int
tls_keys_get(const struct tls_secrets *s, const SSL *ssl, struct tls_keys *ret)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
	int aead = 0;

	memset(ret, 0, sizeof(*ret));
	while (cipher != NULL && aead < TLS_AEADS &&
	       aeads[aead].nid != SSL_CIPHER_get_cipher_nid(cipher))
		aead++;
	if (cipher == NULL || aead == TLS_AEADS)
		return -EOPNOTSUPP;
	ret->aead = (enum tls_aead)aead;
	ret->version = (uint16_t)SSL_version(ssl);
	switch (ret->version) {
	case TLS1_3_VERSION:
		return get_13(s, ret);
	case TLS1_2_VERSION:
		return get_12(ssl, ret);
	default:
		return -EOPNOTSUPP;
	}
}
