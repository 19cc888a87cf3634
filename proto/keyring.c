/* keyring.c - see keyring.h */
#include <errno.h>
#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "proto/jwk.h"
#include "proto/key.h"
#include "proto/keyring.h"

struct keyring {
	size_t n;
	struct key keys[KEYRING_KEYS_MAX];
};

/* ---- the ring ---- */

struct keyring *
keyring_new(void)
{
	/* It does nothing the second time, and chooses what this processor is good at.
	 */
	return sodium_init() < 0 ? NULL : calloc(1, sizeof(struct keyring));
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
	(void)key_bad(why, "there are more than %d keys: leave out the old ones",
	    KEYRING_KEYS_MAX);
	return NULL;
}

/* ---- files ---- */

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
		return key_bad(why,
		    "this is a key in PEM and no secret: if it is a public key, "
		    "name the file in public_key_file");
	r = key_take_secret(key, p, len, why);
	if (r < 0)
		return r;
	k->n++;
	return 0;
}

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
			   : key_bad(why, "a block of the PEM file is broken");
	p = der;
	pkey = strcmp(name, PEM_STRING_PUBLIC) == 0 ? d2i_PUBKEY(NULL, &p, len) : NULL;
	if (key == NULL)
		r = -EINVAL;
	else if (pkey == NULL || p != der + len)
		r = key_bad(why,
		    "a block \"BEGIN %.40s\" of the PEM file is no public key "
		    "(BEGIN PUBLIC KEY)",
		    name);
	else if ((r = key_take_pkey(key, pkey, why)) == 0)
		r = key_bad(
		    why, "the keys in PEM must be Ed25519, EC on P-256, or RSA");
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

static int
add_jwk(struct keyring *k, const json_t *jwk, jwk_take_fn *take, char *why)
{
	struct key *key = next_key(k, why);
	int r;

	if (key == NULL)
		return -EINVAL;
	r = take(key, jwk, why);
	if (r > 0)
		k->n++;
	else
		key_done(key);
	return r < 0 ? r : 0;
}

static int
add_jwks(struct keyring *k, const char *text, size_t len, jwk_take_fn *take, char *why)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	const json_t *set;
	int r = 0;

	if (root == NULL)
		/* Not what stands there: it may be a secret. */
		return key_bad(why, "this is no right JSON: line %d, column %d",
		    error.line, error.column);
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
	r = add_jwks(k, buf, len, jwk_take_secret, why);
	if (r == 0 && k->n == before)
		r = key_bad(why, "no secret for HS256 was found in the JWK Set");
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
		r = key_bad(
		    why, "the file is longer than %u KiB", KEYRING_FILE_MAX >> 10);
	else if (memmem(p, len, "PRIVATE KEY-----", 16) != NULL)
		r = key_bad(why,
		    "this is a private key: only its public part belongs on this "
		    "server (`openssl pkey -in KEY -pubout`)");
	else if (blanks < len && p[blanks] == '{')
		r = add_jwks(k, p, len, jwk_take_public, why);
	else
		r = add_pem(k, p, len, why);
	if (r == 0 && k->n == before)
		r = key_bad(why,
		    "no key was found in it: write PEM (BEGIN PUBLIC KEY) or a JWK "
		    "Set with an Ed25519, P-256 or RSA key");
	ERR_clear_error();
	if (r < 0)
		cut_to(k, before);
	return r;
}

/* ---- signatures ---- */

bool
keyring_sign(const struct keyring *k, struct slice data, uint8_t *out)
{
	if (k->n == 0 || k->keys[0].alg != ALG_HS256)
		return false;
	key_mac(&k->keys[0], data, out);
	return true;
}

const char *
keyring_kid(const struct keyring *k)
{
	return k->n > 0 ? k->keys[0].kid : NULL;
}

enum keyring_result
keyring_verify(const struct keyring *k, struct slice alg, struct slice kid,
    struct slice data, struct slice signature)
{
	enum keyring_result r = KEYRING_NO_KEY;
	int known = 0;

	while (known < ALG_COUNT && !slice_is(alg, alg_name((enum alg)known)))
		known++;
	if (known == ALG_COUNT)
		return KEYRING_UNSUPPORTED;
	for (size_t i = 0; k != NULL && i < k->n; i++) {
		const struct key *key = &k->keys[i];

		if ((int)key->alg != known ||
		    (kid.p != NULL && key->kid != NULL && !slice_is(kid, key->kid)))
			continue;
		if (key_verify(key, data, signature))
			return KEYRING_OK;
		r = KEYRING_BAD;
	}
	return r;
}
