/*
 * key.h - one key: what it must be like, and whether it made a signature. For
 * keyring.h, which has all of them.
 */
#ifndef WSCAST_PROTO_KEY_H
#define WSCAST_PROTO_KEY_H

#include <openssl/evp.h>
#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

enum alg { ALG_HS256, ALG_EDDSA, ALG_ES256, ALG_RS256, ALG_COUNT };

#define KEY_RSA_BITS_MAX 8192 /* more would be slow, and no one's wish */

struct key { /* all zero: none */
	enum alg alg;
	char *kid; /* NULL: it has none */
	/* HS256 */
	uint8_t *secret;
	size_t secret_len;
	uint8_t ed25519[crypto_sign_PUBLICKEYBYTES]; /* EdDSA */
	EVP_PKEY *pkey;                              /* ES256, RS256 */
};

/* Free what it has, wipe its secret, and make it none. */
void key_done(struct key *key);

const char *alg_name(enum alg alg);

/*
 * Make it a key of what is given, which is copied, or referred to once more.
 *
 * why  KEYRING_WHY_MAX bytes of keyring.h.
 *
 * Return 1; 0 when it is of a kind that we do not have; -EINVAL with why filled;
 * -ENOMEM.
 */
int key_take_secret(struct key *key, const void *buf, size_t len, char *why)
    __attribute__((warn_unused_result));
int key_take_ed25519(struct key *key, const uint8_t *point, size_t len, char *why)
    __attribute__((warn_unused_result));
int key_take_pkey(struct key *key, EVP_PKEY *pkey, char *why)
    __attribute__((warn_unused_result));

/* Whether it made this signature. */
bool key_verify(const struct key *key, struct slice data, struct slice signature)
    __attribute__((warn_unused_result));
/* A secret's signature: KEYRING_MAC bytes. */
void key_mac(const struct key *key, struct slice data, uint8_t *out);

/* Say why it cannot be, and forget what OpenSSL has to say. Returns -EINVAL. */
int key_bad(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
