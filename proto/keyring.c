/* jwk.c - see jwk.h */
#include <errno.h>
#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/jwk.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192            /* more would be slow, and no one's wish */
#define RSA_EXPONENT_BITS 64         /* as OpenSSL bounds it for large moduli */
#define FIELD_MAX (RSA_BITS_MAX / 8) /* bytes of a number in a JWK */

enum alg { ALG_HS256, ALG_EDDSA, ALG_ES256, ALG_RS256, ALG_COUNT };
static const char *const alg_names[] = {"HS256", "EdDSA", "ES256", "RS256"};
_Static_assert(
    sizeof(alg_names) / sizeof(alg_names[0]) == ALG_COUNT, "a name for each");

struct key {
	enum alg alg;
	char *kid; /* NULL: it has none */
	/* HS256 */
	uint8_t *secret;
	size_t secret_len;
	uint8_t ed25519[crypto_sign_PUBLICKEYBYTES]; /* EdDSA */
	EVP_PKEY *pkey;                              /* ES256, RS256 */
};

struct keyring {
	size_t n;
	struct key keys[KEYRING_KEYS_MAX];
};

static int bad(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int
bad(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(why, KEYRING_WHY_MAX, fmt, ap);
	va_end(ap);
	ERR_clear_error(); /* nobody else is to find what OpenSSL left there */
	return -EINVAL;
}

/* ---- the ring ---- */

struct keyring *
keyring_new(void)
{
	/* It does nothing the second time, and chooses what this processor is good at.
	 */
	return sodium_init() < 0 ? NULL : calloc(1, sizeof(struct keyring));
}

static void
key_done(struct key *key)
{
	if (key->secret != NULL)
		sodium_memzero(key->secret, key->secret_len);
	free(key->secret);
	free(key->kid);
	EVP_PKEY_free(key->pkey);
	*key = (struct key){0};
}

/* Take the newest keys out again. */
static void
cut_to(struct keyring *k, size_t n)
{
	while (k->n > n)
		key_done(&k->keys[--k->n]);
}

void
keyring_free(struct keyring *k)
{
	if (k == NULL)
		return;
	cut_to(k, 0);
	free(k);
}

size_t
keyring_len(const struct keyring *k)
{
	return k->n;
}

/* Room for one more: zero, and not yet counted. NULL with why filled. */
static struct key *
next_key(struct keyring *k, char *why)
{
	if (k->n < KEYRING_KEYS_MAX)
		return &k->keys[k->n];
	(void)bad(why, "there are more than %d keys: leave out the old ones",
	    KEYRING_KEYS_MAX);
	return NULL;
}

/* Take a secret's bytes, which are copied. */
static int
take_secret(struct key *key, const void *buf, size_t len, char *why)
{
	if (len < KEYRING_SECRET_MIN)
		return bad(why,
		    "a secret must have at least %d bytes, and this one has %zu: make "
		    "one "
		    "with `openssl rand -base64 48`",
		    KEYRING_SECRET_MIN, len);
	key->secret = malloc(len);
	if (key->secret == NULL)
		return -ENOMEM;
	memcpy(key->secret, buf, len);
	key->secret_len = len;
	key->alg = ALG_HS256;
	return 0;
}

static int
add_plain_secret(struct keyring *k, const char *p, size_t len, char *why)
{
	struct key *key = next_key(k, why);
	int r;

	if (key == NULL)
		return -EINVAL;
	while (len > 0 && (p[len - 1] == '\n' || p[len - 1] == '\r'))
		len--;
	if (memmem(p, len, "-----BEGIN ", 11) != NULL)
		return bad(why,
		    "this is a key in PEM and no secret: if it is a public key, "
		    "name the file in public_key_file");
	r = take_secret(key, p, len, why);
	if (r == 0)
		k->n++;
	return r;
}

/* ---- what a key must be ---- */

static int
check_rsa(EVP_PKEY *pkey, char *why)
{
	int bits = EVP_PKEY_get_bits(pkey), r = 0;
	BIGNUM *n = NULL, *e = NULL;

	if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
		return bad(why,
		    "an RSA key must have %d to %d bits, and this one has %d",
		    RSA_BITS_MIN, RSA_BITS_MAX, bits);
	if (!EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n) ||
	    !EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e))
		r = -ENOMEM;
	else if (!BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e) ||
		 BN_num_bits(e) > RSA_EXPONENT_BITS)
		r = bad(why,
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
		: bad(why, "this EC key is broken: it is no point of its curve");
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

static int
take_ed25519(struct key *key, const uint8_t *point, size_t len, char *why)
{
	if (len != sizeof(key->ed25519) || !crypto_core_ed25519_is_valid_point(point))
		return bad(why,
		    "this Ed25519 key is broken: it must be 32 bytes, a point "
		    "of the curve and of no small order");
	memcpy(key->ed25519, point, len);
	key->alg = ALG_EDDSA;
	return 0;
}

/*
 * Take a key (borrowed).
 *
 * Returns 1; 0 when it is of a kind that we do not have; -EINVAL, -ENOMEM.
 */
static int
take_pkey(struct key *key, EVP_PKEY *pkey, char *why)
{
	uint8_t point[crypto_sign_PUBLICKEYBYTES];
	size_t len = sizeof(point);
	int r;

	switch (EVP_PKEY_get_base_id(pkey)) {
	case EVP_PKEY_ED25519:
		if (!EVP_PKEY_get_raw_public_key(pkey, point, &len))
			len = 0;
		r = take_ed25519(key, point, len, why);
		return r < 0 ? r : 1;
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

/* ---- PEM ---- */

/* One block of a PEM file. Returns 1; 0 behind the last; -EINVAL, -ENOMEM. */
static int
add_block(struct keyring *k, BIO *bio, char *why)
{
	char *name = NULL, *header = NULL;
	struct key *key = next_key(k, why);
	uint8_t *der = NULL;
	const uint8_t *p;
	EVP_PKEY *pkey;
	long len;
	int r;

	if (!PEM_read_bio(bio, &name, &header, &der, &len))
		return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE
			   ? 0
			   : bad(why, "a block of the PEM file is broken");
	p = der;
	pkey = strcmp(name, PEM_STRING_PUBLIC) == 0 ? d2i_PUBKEY(NULL, &p, len) : NULL;
	if (key == NULL)
		r = -EINVAL;
	else if (pkey == NULL || p != der + len)
		r = bad(why,
		    "a block \"BEGIN %.40s\" of the PEM file is no public key "
		    "(BEGIN PUBLIC KEY)",
		    name);
	else if ((r = take_pkey(key, pkey, why)) == 0)
		r = bad(why, "the keys in PEM must be Ed25519, EC on P-256, or RSA");
	if (r > 0)
		k->n++;
	else if (key != NULL)
		key_done(key);
	EVP_PKEY_free(pkey);
	OPENSSL_free(name);
	OPENSSL_free(header);
	OPENSSL_free(der);
	return r;
}

static int
add_pem(struct keyring *k, const char *text, size_t len, char *why)
{
	BIO *bio = BIO_new_mem_buf(text, (int)len);
	int r = 1;

	if (bio == NULL)
		return -ENOMEM;
	ERR_clear_error(); /* so that what is there after is of this file */
	while (r > 0)
		r = add_block(k, bio, why);
	BIO_free(bio);
	return r;
}

/* ---- JWK ---- */

/* A member that is base64url. Returns how many bytes, 0 when it is missing or wrong.
 * out: FIELD_MAX bytes. */
static size_t
get_bytes(const json_t *jwk, const char *name, uint8_t *out)
{
	const json_t *v = json_object_get(jwk, name);
	size_t len = json_string_length(v), n;

	if (len == 0 || base64_url_room(len) > FIELD_MAX + 3)
		return 0;
	if (base64_url_get(json_string_value(v), len, out, &n) < 0 || n > FIELD_MAX)
		return 0;
	return n;
}

/* Make a key of its parameters. Returns NULL when they are none. */
static EVP_PKEY *
make_pkey(const char *type, OSSL_PARAM_BLD *bld)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
	EVP_PKEY *pkey = NULL;

	if (ctx == NULL || params == NULL || EVP_PKEY_fromdata_init(ctx) <= 0 ||
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) <= 0)
		pkey = NULL;
	OSSL_PARAM_free(params);
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

static int
take_jwk_rsa(struct key *key, const json_t *jwk, char *why)
{
	uint8_t n[FIELD_MAX + 3], e[FIELD_MAX + 3];
	size_t n_len = get_bytes(jwk, "n", n), e_len = get_bytes(jwk, "e", e);
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *bn_n = BN_bin2bn(n, (int)n_len, NULL);
	BIGNUM *bn_e = BN_bin2bn(e, (int)e_len, NULL);
	EVP_PKEY *pkey = NULL;
	int r;

	if (n_len > 0 && e_len > 0 && bld != NULL && bn_n != NULL && bn_e != NULL &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn_n) &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, bn_e))
		pkey = make_pkey("RSA", bld);
	OSSL_PARAM_BLD_free(bld);
	BN_free(bn_n);
	BN_free(bn_e);
	if (pkey == NULL)
		return bad(why,
		    "an RSA key of the set is broken: it needs \"n\" and \"e\" "
		    "in base64url");
	r = take_pkey(key, pkey, why);
	EVP_PKEY_free(pkey);
	return r;
}

static int
take_jwk_ec(struct key *key, const json_t *jwk, char *why)
{
	uint8_t x[FIELD_MAX + 3], y[FIELD_MAX + 3], point[65];
	size_t x_len = get_bytes(jwk, "x", x), y_len = get_bytes(jwk, "y", y);
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY *pkey = NULL;
	int r;

	if (x_len == 32 && y_len == 32 && bld != NULL) {
		point[0] = 4; /* uncompressed: SEC 1 §2.3.3 */
		memcpy(point + 1, x, 32);
		memcpy(point + 33, y, 32);
		if (OSSL_PARAM_BLD_push_utf8_string(
			bld, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) &&
		    OSSL_PARAM_BLD_push_octet_string(
			bld, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)))
			pkey = make_pkey("EC", bld);
	}
	OSSL_PARAM_BLD_free(bld);
	if (pkey == NULL)
		return bad(why,
		    "an EC key of the set is broken: it needs \"x\" and \"y\" "
		    "of 32 bytes in base64url, a point of P-256");
	r = take_pkey(key, pkey, why);
	EVP_PKEY_free(pkey);
	return r;
}

static int
take_jwk_okp(struct key *key, const json_t *jwk, char *why)
{
	uint8_t x[FIELD_MAX + 3];
	int r = take_ed25519(key, x, get_bytes(jwk, "x", x), why);

	return r < 0 ? r : 1;
}

static bool
member_is(const json_t *jwk, const char *name, const char *text)
{
	const char *value = json_string_value(json_object_get(jwk, name));

	return value != NULL && strcmp(value, text) == 0;
}

/* Whether a key of a set is for verifying, as far as it says. */
static bool
is_for_verifying(const json_t *jwk)
{
	const json_t *ops = json_object_get(jwk, "key_ops");
	bool found = ops == NULL;

	for (size_t i = 0; i < json_array_size(ops); i++) {
		const char *op = json_string_value(json_array_get(ops, i));

		found = found || (op != NULL && strcmp(op, "verify") == 0);
	}
	return found &&
	       (json_object_get(jwk, "use") == NULL || member_is(jwk, "use", "sig"));
}

/* As take_jwk(), for a file of secrets. */
static int
take_jwk_secret(struct key *key, const json_t *jwk, char *why)
{
	uint8_t bytes[FIELD_MAX + 3];
	size_t len;
	int r;

	if (!member_is(jwk, "kty", "oct"))
		return bad(why,
		    "a key of the set is no shared secret (kty \"oct\"): name the "
		    "file of public keys in public_key_file");
	len = get_bytes(jwk, "k", bytes);
	r = len > 0 ? take_secret(key, bytes, len, why)
		    : bad(why,
			  "a secret of the set is broken: it needs \"k\" in base64url, "
			  "%d to %d bytes",
			  KEYRING_SECRET_MIN, FIELD_MAX);
	sodium_memzero(bytes, sizeof(bytes));
	return r < 0 ? r : 1;
}

/* As take_jwk(), for a file of public keys. */
static int
take_jwk_public(struct key *key, const json_t *jwk, char *why)
{
	if (member_is(jwk, "kty", "oct"))
		return bad(why,
		    "a key of the set is a shared secret (kty \"oct\"): name its "
		    "file in secret_file");
	if (json_object_get(jwk, "d") != NULL)
		return bad(why,
		    "a key of the set is private: only its public part belongs "
		    "on this server");
	if (member_is(jwk, "kty", "RSA"))
		return take_jwk_rsa(key, jwk, why);
	if (member_is(jwk, "kty", "EC") && member_is(jwk, "crv", "P-256"))
		return take_jwk_ec(key, jwk, why);
	if (member_is(jwk, "kty", "OKP") && member_is(jwk, "crv", "Ed25519"))
		return take_jwk_okp(key, jwk, why);
	return 0;
}

/* Reads one key of a set. Returns 1; 0 when it is of a kind that we do not have, or for
 * something else; -EINVAL, -ENOMEM. */
typedef int take_jwk_fn(struct key *key, const json_t *jwk, char *why);

static int
take_jwk(struct key *key, const json_t *jwk, take_jwk_fn *take, char *why)
{
	const char *kid = json_string_value(json_object_get(jwk, "kid"));
	int r;

	if (!is_for_verifying(jwk))
		return 0;
	if (kid != NULL && strlen(kid) > KEYRING_KID_MAX)
		return bad(why, "the \"kid\" of a key is longer than %d bytes",
		    KEYRING_KID_MAX);
	r = take(key, jwk, why);
	/* Made for RS512, say: it signs nothing that we take. */
	if (r > 0 && json_object_get(jwk, "alg") != NULL &&
	    !member_is(jwk, "alg", alg_names[key->alg]))
		r = 0;
	if (r > 0 && kid != NULL && (key->kid = strdup(kid)) == NULL)
		r = -ENOMEM;
	return r;
}

static int
add_jwk(struct keyring *k, const json_t *jwk, take_jwk_fn *take, char *why)
{
	struct key *key = next_key(k, why);
	int r;

	if (key == NULL)
		return -EINVAL;
	r = take_jwk(key, jwk, take, why);
	if (r > 0)
		k->n++;
	else
		key_done(key);
	return r < 0 ? r : 0;
}

static int
add_jwks(struct keyring *k, const char *text, size_t len, take_jwk_fn *take, char *why)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	const json_t *set;
	int r = 0;

	if (root == NULL)
		return bad(why, "this is no right JSON: line %d: %.100s", error.line,
		    error.text);
	set = json_object_get(root, "keys");
	if (json_is_array(set)) {
		for (size_t i = 0; r == 0 && i < json_array_size(set); i++)
			r = add_jwk(k, json_array_get(set, i), take, why);
	} else {
		r = add_jwk(k, root, take, why);
	}
	json_decref(root);
	return r;
}

/* Where the first character that is no blank stands. */
static size_t
skip_blanks(const char *p, size_t len)
{
	size_t n = 0;

	while (n < len && p[n] != '\0' && strchr(" \t\r\n", p[n]) != NULL)
		n++;
	return n;
}

/* Whether it is meant to be JSON with keys. A secret of any bytes may begin with a
 * brace, but has not these names in it. */
static bool
is_jwks(const char *p, size_t len)
{
	size_t blanks = skip_blanks(p, len);

	return blanks < len && p[blanks] == '{' &&
	       (memmem(p, len, "\"keys\"", 6) != NULL ||
		   memmem(p, len, "\"kty\"", 5) != NULL);
}

int
keyring_add_secret(struct keyring *k, const void *buf, size_t len, char *why)
{
	size_t before = k->n;
	int r;

	if (!is_jwks(buf, len))
		return add_plain_secret(k, buf, len, why);
	r = add_jwks(k, buf, len, take_jwk_secret, why);
	if (r == 0 && k->n == before)
		r = bad(why, "no secret for HS256 was found in the JWK Set");
	if (r < 0)
		cut_to(k, before);
	return r;
}

int
keyring_add_public(struct keyring *k, const void *buf, size_t len, char *why)
{
	size_t before = k->n, blanks = skip_blanks(buf, len);
	const char *p = buf;
	int r;

	if (len > KEYRING_FILE_MAX)
		r = bad(why, "the file is longer than %u KiB", KEYRING_FILE_MAX >> 10);
	else if (memmem(p, len, "PRIVATE KEY-----", 16) != NULL)
		r = bad(why,
		    "this is a private key: only its public part belongs on this "
		    "server (`openssl pkey -in KEY -pubout`)");
	else if (blanks < len && p[blanks] == '{')
		r = add_jwks(k, p, len, take_jwk_public, why);
	else
		r = add_pem(k, p, len, why);
	if (r == 0 && k->n == before)
		r = bad(why,
		    "no key was found in it: write PEM (BEGIN PUBLIC KEY) or a JWK "
		    "Set with an Ed25519, P-256 or RSA key");
	ERR_clear_error();
	if (r < 0)
		cut_to(k, before);
	return r;
}

/* ---- signatures ---- */

static void
mac_of(const struct key *key, struct slice data, uint8_t *out)
{
	crypto_auth_hmacsha256_state state;

	(void)crypto_auth_hmacsha256_init(&state, key->secret, key->secret_len);
	(void)crypto_auth_hmacsha256_update(
	    &state, (const unsigned char *)data.p, data.len);
	(void)crypto_auth_hmacsha256_final(&state, out);
	sodium_memzero(&state, sizeof(state));
}

_Static_assert(KEYRING_MAC == crypto_auth_hmacsha256_BYTES, "a whole one");

bool
keyring_sign(const struct keyring *k, struct slice data, uint8_t *out)
{
	if (k->n == 0 || k->keys[0].alg != ALG_HS256)
		return false;
	mac_of(&k->keys[0], data, out);
	return true;
}

const char *
keyring_kid(const struct keyring *k)
{
	return k->n > 0 ? k->keys[0].kid : NULL;
}

static bool
verify_hs256(const struct key *key, struct slice data, struct slice sig)
{
	uint8_t mac[KEYRING_MAC];

	mac_of(key, data, mac);
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

static bool
verify(const struct key *key, struct slice data, struct slice sig)
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

enum keyring_result
keyring_verify(const struct keyring *k, struct slice alg, struct slice kid,
    struct slice data, struct slice signature)
{
	enum keyring_result r = KEYRING_NO_KEY;
	int known = 0;

	while (known < ALG_COUNT && !slice_is(alg, alg_names[known]))
		known++;
	if (known == ALG_COUNT)
		return KEYRING_UNSUPPORTED;
	for (size_t i = 0; k != NULL && i < k->n; i++) {
		const struct key *key = &k->keys[i];

		if ((int)key->alg != known ||
		    (kid.p != NULL && key->kid != NULL && !slice_is(kid, key->kid)))
			continue;
		if (verify(key, data, signature))
			return KEYRING_OK;
		r = KEYRING_BAD;
	}
	return r;
}
