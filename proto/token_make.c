/* token_make.c - token_make() of token.h: no server signs anything. */
#include <errno.h>
#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/keyring.h"
#include "proto/token.h"

#define SIGNATURE_MAX crypto_sign_BYTES
_Static_assert(SIGNATURE_MAX >= KEYRING_MAC, "both have room");

/* A signing key: one of the two. */
struct signer {
	struct keyring *secrets; /* NULL: the other */
	uint8_t ed25519[crypto_sign_SECRETKEYBYTES];
};

static int
bad(char *why, const char *text)
{
	(void)snprintf(why, KEYRING_WHY_MAX, "%s", text);
	return -EINVAL;
}

static int
load_pem(struct signer *s, const char *text, size_t len, char *why)
{
	uint8_t seed[crypto_sign_SEEDBYTES], point[crypto_sign_PUBLICKEYBYTES];
	size_t seed_len = sizeof(seed);
	BIO *bio = BIO_new_mem_buf(text, (int)len);
	EVP_PKEY *pkey = NULL;
	int r = 0;

	if (bio == NULL)
		return -ENOMEM;
	pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"");
	if (pkey == NULL || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_ED25519 ||
	    !EVP_PKEY_get_raw_private_key(pkey, seed, &seed_len) ||
	    seed_len != sizeof(seed))
		r = bad(why, "the key must be a private Ed25519 key without passphrase "
			     "(`openssl genpkey -algorithm ed25519`), or a secret");
	else
		(void)crypto_sign_seed_keypair(point, s->ed25519, seed);
	sodium_memzero(seed, sizeof(seed));
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	ERR_clear_error();
	return r;
}

/* So that what is signed with is what will be verified with. */
static int
load_secret(struct signer *s, const void *buf, size_t len, char *why)
{
	s->secrets = keyring_new();
	return s->secrets == NULL ? -ENOMEM
				  : keyring_add_secret(s->secrets, buf, len, why);
}

static size_t
sign(const struct signer *s, const char *data, size_t len, uint8_t *sig)
{
	if (s->secrets != NULL)
		return keyring_sign(s->secrets, (struct slice){data, len}, sig)
			   ? KEYRING_MAC
			   : 0;
	(void)crypto_sign_detached(sig, NULL, (const uint8_t *)data, len, s->ed25519);
	return crypto_sign_BYTES;
}

/* The header, malloc'd. The kid of a set's first secret, which is the one to sign
 * with, is told. */
static char *
header_of(const struct signer *s)
{
	const char *kid = s->secrets != NULL ? keyring_kid(s->secrets) : NULL;
	json_t *o = json_object();
	char *text;

	(void)json_object_set_new(
	    o, "alg", json_string(s->secrets != NULL ? "HS256" : "EdDSA"));
	(void)json_object_set_new(o, "typ", json_string("JWT"));
	if (kid != NULL)
		(void)json_object_set_new(o, "kid", json_string(kid));
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

static char *
put_part(char *out, const void *buf, size_t len)
{
	return out + base64_url_put(buf, len, out);
}

static char *
make(const struct signer *s, const char *header, const char *claims)
{
	uint8_t sig[SIGNATURE_MAX];
	char *p, *token = malloc(base64_url_len(strlen(header)) +
				 base64_url_len(strlen(claims)) +
				 base64_url_len(SIGNATURE_MAX) + 3);
	size_t n;

	if (token == NULL)
		return NULL;
	p = put_part(token, header, strlen(header));
	*p++ = '.';
	p = put_part(p, claims, strlen(claims));
	n = sign(s, token, (size_t)(p - token), sig);
	*p++ = '.';
	*put_part(p, sig, n) = '\0';
	return token;
}

int
token_make(
    const void *key, size_t key_len, const char *claims, char **ret_token, char *why)
{
	bool pem = memmem(key, key_len, "-----BEGIN ", 11) != NULL;
	struct signer s = {0};
	char *header = NULL, *token = NULL;
	int r = sodium_init() < 0 ? -ENOMEM : 0;

	if (r == 0)
		r = pem ? load_pem(&s, key, key_len, why)
			: load_secret(&s, key, key_len, why);
	if (r == 0)
		header = header_of(&s);
	if (header != NULL)
		token = make(&s, header, claims);
	if (r == 0 && token == NULL)
		r = -ENOMEM;
	if (r == 0)
		*ret_token = token;
	free(header);
	keyring_free(s.secrets);
	sodium_memzero(&s, sizeof(s));
	return r;
}
