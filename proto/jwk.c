/* jwk.c - see jwk.h */
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/jwk.h"
#include "proto/keyring.h"

#define FIELD_MAX (KEY_RSA_BITS_MAX / 8) /* bytes of a number in a JWK */

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

/* Take what `bld` has, if it is whole; it is freed. needs: what such a key must have.
 */
static int
take_params(struct key *key, const char *type, OSSL_PARAM_BLD *bld, bool whole,
    const char *needs, char *why)
{
	EVP_PKEY *pkey = whole ? make_pkey(type, bld) : NULL;
	int r = pkey != NULL
		    ? key_take_pkey(key, pkey, why)
		    : key_bad(why, "an %s key of the set is broken: it needs %s", type,
			  needs);

	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_free(pkey);
	return r;
}

static int
take_rsa(struct key *key, const json_t *jwk, char *why)
{
	uint8_t n[FIELD_MAX + 3], e[FIELD_MAX + 3];
	size_t n_len = get_bytes(jwk, "n", n), e_len = get_bytes(jwk, "e", e);
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *bn_n = BN_bin2bn(n, (int)n_len, NULL);
	BIGNUM *bn_e = BN_bin2bn(e, (int)e_len, NULL);
	bool whole = n_len > 0 && e_len > 0 && bld != NULL && bn_n != NULL &&
		     bn_e != NULL &&
		     OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn_n) &&
		     OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, bn_e);
	int r =
	    take_params(key, "RSA", bld, whole, "\"n\" and \"e\" in base64url", why);

	BN_free(bn_n);
	BN_free(bn_e);
	return r;
}

static int
take_ec(struct key *key, const json_t *jwk, char *why)
{
	/* Uncompressed: SEC 1 §2.3.3. */
	uint8_t x[FIELD_MAX + 3], y[FIELD_MAX + 3], point[1 + 32 + 32] = {4};
	bool whole = get_bytes(jwk, "x", x) == 32 && get_bytes(jwk, "y", y) == 32;
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();

	if (whole) {
		memcpy(point + 1, x, 32);
		memcpy(point + 33, y, 32);
	}
	whole = whole && bld != NULL &&
		OSSL_PARAM_BLD_push_utf8_string(
		    bld, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) &&
		OSSL_PARAM_BLD_push_octet_string(
		    bld, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point));
	return take_params(key, "EC", bld, whole,
	    "\"x\" and \"y\" of 32 bytes in base64url, a point of P-256", why);
}

static int
take_okp(struct key *key, const json_t *jwk, char *why)
{
	uint8_t x[FIELD_MAX + 3];

	return key_take_ed25519(key, x, get_bytes(jwk, "x", x), why);
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

static int
take_secret(struct key *key, const json_t *jwk, char *why)
{
	uint8_t bytes[FIELD_MAX + 3];
	size_t len;
	int r;

	if (!member_is(jwk, "kty", "oct"))
		return key_bad(why,
		    "a key of the set is no shared secret (kty \"oct\"): name the "
		    "file of public keys in public_key_file");
	len = get_bytes(jwk, "k", bytes);
	r = len > 0 ? key_take_secret(key, bytes, len, why)
		    : key_bad(why,
			  "a secret of the set is broken: it needs \"k\" in base64url, "
			  "%d to %d bytes",
			  KEYRING_SECRET_MIN, FIELD_MAX);
	sodium_memzero(bytes, sizeof(bytes));
	return r;
}

static int
take_public(struct key *key, const json_t *jwk, char *why)
{
	if (member_is(jwk, "kty", "oct"))
		return key_bad(why,
		    "a key of the set is a shared secret (kty \"oct\"): name its "
		    "file in secret_file");
	if (json_object_get(jwk, "d") != NULL)
		return key_bad(why,
		    "a key of the set is private: only its public part belongs "
		    "on this server");
	if (member_is(jwk, "kty", "RSA"))
		return take_rsa(key, jwk, why);
	if (member_is(jwk, "kty", "EC") && member_is(jwk, "crv", "P-256"))
		return take_ec(key, jwk, why);
	if (member_is(jwk, "kty", "OKP") && member_is(jwk, "crv", "Ed25519"))
		return take_okp(key, jwk, why);
	return 0;
}

/* What all keys have in common. */
static int
take_any(struct key *key, const json_t *jwk, jwk_take_fn *take, char *why)
{
	const char *kid = json_string_value(json_object_get(jwk, "kid"));
	int r;

	if (!is_for_verifying(jwk))
		return 0;
	if (kid != NULL && strlen(kid) > KEYRING_KID_MAX)
		return key_bad(why, "the \"kid\" of a key is longer than %d bytes",
		    KEYRING_KID_MAX);
	r = take(key, jwk, why);
	/* Made for RS512, say: it signs nothing that we take. */
	if (r > 0 && json_object_get(jwk, "alg") != NULL &&
	    !member_is(jwk, "alg", alg_name(key->alg)))
		r = 0;
	if (r > 0 && kid != NULL && (key->kid = strdup(kid)) == NULL)
		r = -ENOMEM;
	return r;
}

int
jwk_take_secret(struct key *key, const json_t *jwk, char *why)
{
	return take_any(key, jwk, take_secret, why);
}

int
jwk_take_public(struct key *key, const json_t *jwk, char *why)
{
	return take_any(key, jwk, take_public, why);
}
