/* token_make.c - token_make() of token.h: no server signs anything. */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/jwk.h"
#include "proto/token.h"

#define SIGNATURE_MAX crypto_sign_BYTES
_Static_assert(SIGNATURE_MAX >= crypto_auth_hmacsha256_BYTES, "both have room");

/* A signing key: one of the two. */
struct signer {
	const void *secret; /* NULL: the other */
	size_t secret_len;
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

static int
load_secret(struct signer *s, const char *text, size_t len, char *why)
{
	struct keyring *k = keyring_new();
	/* So that what is signed with is what will be verified with. */
	int r = k == NULL ? -ENOMEM : keyring_add_secret(k, text, len, why);

	keyring_free(k);
	if (r < 0)
		return r;
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	s->secret = text;
	s->secret_len = len;
	return 0;
}

static size_t
sign(const struct signer *s, const char *data, size_t len, uint8_t *sig)
{
	crypto_auth_hmacsha256_state state;

	if (s->secret == NULL) {
		(void)crypto_sign_detached(
		    sig, NULL, (const uint8_t *)data, len, s->ed25519);
		return crypto_sign_BYTES;
	}
	(void)crypto_auth_hmacsha256_init(&state, s->secret, s->secret_len);
	(void)crypto_auth_hmacsha256_update(&state, (const uint8_t *)data, len);
	(void)crypto_auth_hmacsha256_final(&state, sig);
	return crypto_auth_hmacsha256_BYTES;
}

static char *
put_part(char *out, const void *buf, size_t len)
{
	return out + base64_url_put(buf, len, out);
}

int
token_make(
    const void *key, size_t key_len, const char *claims, char **ret_token, char *why)
{
	bool pem = memmem(key, key_len, "-----BEGIN ", 11) != NULL;
	const char *header = pem ? "{\"alg\":\"EdDSA\",\"typ\":\"JWT\"}"
				 : "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
	uint8_t sig[SIGNATURE_MAX];
	struct signer s = {0};
	char *token, *p;
	int r = sodium_init() < 0 ? -ENOMEM : 0;

	if (r == 0)
		r = pem ? load_pem(&s, key, key_len, why)
			: load_secret(&s, key, key_len, why);
	if (r < 0)
		return r;
	token = malloc(base64_url_len(strlen(header)) + base64_url_len(strlen(claims)) +
		       base64_url_len(SIGNATURE_MAX) + 3);
	if (token != NULL) {
		p = put_part(token, header, strlen(header));
		*p++ = '.';
		p = put_part(p, claims, strlen(claims));
		key_len = sign(&s, token, (size_t)(p - token), sig);
		*p++ = '.';
		*put_part(p, sig, key_len) = '\0';
		*ret_token = token;
	}
	sodium_memzero(&s, sizeof(s));
	return token != NULL ? 0 : -ENOMEM;
}
