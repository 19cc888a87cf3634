/* key.c - see key.h */
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/key.h"
#include "proto/keyring.h"

#define RSA_BITS_MIN 2048
#define RSA_EXPONENT_BITS 64 /* as OpenSSL bounds it for large moduli */

const char *
alg_name(enum alg alg)
{
	static const char *const names[ALG_COUNT] = {
	    "HS256", "EdDSA", "ES256", "RS256"};

	return names[alg];
}

int
key_bad(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, KEYRING_WHY_MAX, fmt, ap);
	va_end(ap);
	ERR_clear_error(); /* nobody else is to find it there */
	return -EINVAL;
}

void
key_done(struct key *key)
{
	if (key->secret != NULL)
		sodium_memzero(key->secret, key->secret_len);
	free(key->secret);
	free(key->kid);
	EVP_PKEY_free(key->pkey);
	*key = (struct key){0};
}

int
key_take_secret(struct key *key, const void *buf, size_t len, char *why)
{
	if (len < KEYRING_SECRET_MIN)
		return key_bad(why,
		    "a secret must have at least %d bytes, and this one has %zu: make "
		    "one with `openssl rand -base64 48`",
		    KEYRING_SECRET_MIN, len);
	key->secret = malloc(len);
	if (key->secret == NULL)
		return -ENOMEM;
	memcpy(key->secret, buf, len);
	key->secret_len = len;
	key->alg = ALG_HS256;
	return 1;
}

static int
check_rsa(EVP_PKEY *pkey, char *why)
{
	int bits = EVP_PKEY_get_bits(pkey), r = 0;
	BIGNUM *n = NULL, *e = NULL;

	if (bits < RSA_BITS_MIN || bits > KEY_RSA_BITS_MAX)
		return key_bad(why,
		    "an RSA key must have %d to %d bits, and this one has %d",
		    RSA_BITS_MIN, KEY_RSA_BITS_MAX, bits);
	if (!EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) ||
	    !EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e))
		r = -ENOMEM;
	else if (!BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e) ||
		 BN_num_bits(e) > RSA_EXPONENT_BITS)
		r = key_bad(why,
		    "this RSA key is broken: modulus and exponent must be odd, "
		    "and the exponent 3 to %d bits",
		    RSA_EXPONENT_BITS);
	BN_free(n);
	BN_free(e);
	return r;
}

static int
check_ec(EVP_PKEY *pkey, char *why)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
	int r;

	if (ctx == NULL)
		return -ENOMEM;
	r = EVP_PKEY_public_check(ctx) == 1
		? 0
		: key_bad(why, "this EC key is broken: it is no point of its curve");
	EVP_PKEY_CTX_free(ctx);
	return r;
}

static bool
is_p256(EVP_PKEY *pkey)
{
	char name[32];
	size_t len;

	return EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC &&
	       EVP_PKEY_get_group_name(pkey, name, sizeof(name), &len) &&
	       (strcmp(name, "prime256v1") == 0 || strcmp(name, "P-256") == 0);
}

int
key_take_ed25519(struct key *key, const uint8_t *point, size_t len, char *why)
{
	if (len != sizeof(key->ed25519) || !crypto_core_ed25519_is_valid_point(point))
		return key_bad(why,
		    "this Ed25519 key is broken: it must be 32 bytes, a point "
		    "of the curve and of no small order");
	memcpy(key->ed25519, point, len);
	key->alg = ALG_EDDSA;
	return 1;
}

int
key_take_pkey(struct key *key, EVP_PKEY *pkey, char *why)
{
	uint8_t point[crypto_sign_PUBLICKEYBYTES];
	size_t len = sizeof(point);
	int r;

	switch (EVP_PKEY_get_base_id(pkey)) {
	case EVP_PKEY_ED25519:
		if (!EVP_PKEY_get_raw_public_key(pkey, point, &len))
			len = 0;
		return key_take_ed25519(key, point, len, why);
	case EVP_PKEY_RSA:
		key->alg = ALG_RS256;
		r = check_rsa(pkey, why);
		break;
	case EVP_PKEY_EC:
		key->alg = ALG_ES256;
		if (!is_p256(pkey))
			return 0;
		r = check_ec(pkey, why);
		break;
	default:
		return 0;
	}
	if (r < 0)
		return r;
	(void)EVP_PKEY_up_ref(pkey);
	key->pkey = pkey;
	return 1;
}

/* ---- signatures ---- */

_Static_assert(KEYRING_MAC == crypto_auth_hmacsha256_BYTES, "a whole one");

void
key_mac(const struct key *key, struct slice data, uint8_t *out)
{
	crypto_auth_hmacsha256_state state;

	(void)crypto_auth_hmacsha256_init(&state, key->secret, key->secret_len);
	(void)crypto_auth_hmacsha256_update(
	    &state, (const unsigned char *)data.p, data.len);
	(void)crypto_auth_hmacsha256_final(&state, out);
	sodium_memzero(&state, sizeof(state));
}

static bool
verify_hs256(const struct key *key, struct slice data, struct slice sig)
{
	uint8_t mac[KEYRING_MAC];

	key_mac(key, data, mac);
	return sig.len == sizeof(mac) && sodium_memcmp(mac, sig.p, sizeof(mac)) == 0;
}

static bool
verify_eddsa(const struct key *key, struct slice data, struct slice sig)
{
	return sig.len == crypto_sign_BYTES &&
	       crypto_sign_verify_detached((const unsigned char *)sig.p,
		   (const unsigned char *)data.p, data.len, key->ed25519) == 0;
}

static bool
verify_pkey(EVP_PKEY *pkey, struct slice data, const uint8_t *sig, size_t sig_len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool right =
	    ctx != NULL &&
	    EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
	    EVP_DigestVerify(ctx, sig, sig_len, (const uint8_t *)data.p, data.len) == 1;

	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return right;
}

/* RFC 7518 §3.4 has r and s side by side, OpenSSL wants them in DER. */
static bool
verify_es256(const struct key *key, struct slice data, struct slice sig)
{
	const uint8_t *p = (const uint8_t *)sig.p;
	ECDSA_SIG *pair = NULL;
	BIGNUM *r, *s;
	uint8_t *der = NULL;
	bool right = false;
	int len;

	if (sig.len != 64)
		return false;
	r = BN_bin2bn(p, 32, NULL);
	s = BN_bin2bn(p + 32, 32, NULL);
	pair = ECDSA_SIG_new();
	if (r != NULL && s != NULL && pair != NULL && ECDSA_SIG_set0(pair, r, s)) {
		r = s = NULL; /* they are the pair's */
		len = i2d_ECDSA_SIG(pair, &der);
		right = len > 0 && verify_pkey(key->pkey, data, der, (size_t)len);
	}
	OPENSSL_free(der);
	ECDSA_SIG_free(pair);
	BN_free(r);
	BN_free(s);
	return right;
}

static bool
verify_rs256(const struct key *key, struct slice data, struct slice sig)
{
	return sig.len == (size_t)EVP_PKEY_get_size(key->pkey) &&
	       verify_pkey(key->pkey, data, (const uint8_t *)sig.p, sig.len);
}

bool
key_verify(const struct key *key, struct slice data, struct slice sig)
{
	switch (key->alg) {
	case ALG_HS256:
		return verify_hs256(key, data, sig);
	case ALG_EDDSA:
		return verify_eddsa(key, data, sig);
	case ALG_ES256:
		return verify_es256(key, data, sig);
	case ALG_RS256:
		return verify_rs256(key, data, sig);
	case ALG_COUNT:
		break;
	}
	return false;
}
