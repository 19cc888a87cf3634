/*
 * keyring.h - the keys that sign tokens: read from the bytes of key files, and asked
 * whether a signature is right.
 *
 * A key has one algorithm, and is used with no other. So a public key can never be
 * taken for a shared secret, whatever a token says.
 *
 *   HS256  HMAC with SHA-256: a shared secret of at least 32 bytes
 *   EdDSA  Ed25519
 *   ES256  ECDSA on P-256 with SHA-256
 *   RS256  RSASSA-PKCS1-v1_5 with SHA-256: a modulus of 2048 to 8192 bits
 *
 * Source   RFC 7517 §4, §5 (JWK, JWKS); RFC 7518 §3, §6; RFC 8037 §2; RFC 7468 §13
 *          (PEM)
 */
#ifndef WSCAST_PROTO_KEYRING_H
#define WSCAST_PROTO_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

#define KEYRING_KEYS_MAX 64           /* keys in one ring: each may have to be tried */
#define KEYRING_SECRET_MIN 32         /* bytes: RFC 7518 §3.2 */
#define KEYRING_FILE_MAX (256u << 10) /* bytes of one key file */
#define KEYRING_KID_MAX 200           /* bytes of a key's id */
#define KEYRING_WHY_MAX 240

struct keyring;

/* Returns an empty one, or NULL: no memory. key.c has one key, jwk.c reads it. */
struct keyring *keyring_new(void);
void keyring_free(struct keyring *k); /* wipes the secrets */
size_t keyring_len(const struct keyring *k);

/*
 * Add the shared secrets of a file: a JWK Set of them (kty "oct"), or a single JWK;
 * else one, the bytes as they are, but for line ends (CR, LF) behind them, which
 * editors add.
 *
 * why  KEYRING_WHY_MAX bytes: what is wrong, and how to do it right.
 *
 * Returns 0; -EINVAL with why filled; -ENOMEM: on failure none was added.
 */
int keyring_add_secret(struct keyring *k, const void *buf, size_t len, char *why)
    __attribute__((warn_unused_result));

/*
 * Add public keys: one or several in PEM ("PUBLIC KEY"), or a JWK Set or a single JWK.
 * Keys of a set that are for something else, or of a kind that we do not have, are
 * passed over; at least one must be left. Private keys are refused: they have no
 * business here.
 *
 * Returns as keyring_add_secret() does; on failure none was added.
 */
int keyring_add_public(struct keyring *k, const void *buf, size_t len, char *why)
    __attribute__((warn_unused_result));

enum keyring_result {
	KEYRING_OK,
	KEYRING_UNSUPPORTED, /* an algorithm that no key can have */
	KEYRING_NO_KEY,      /* no key has this algorithm, and this kid */
	KEYRING_BAD,         /* no such key made this signature */
};

/*
 * Whether one of the keys made a signature.
 *
 * alg  what the token says: only keys of that algorithm are tried.
 * kid  if not absent: keys with another id are not tried. A key without one (PEM, a
 *      secret) is: files have no place to write it.
 */
enum keyring_result keyring_verify(const struct keyring *k, struct slice alg,
    struct slice kid, struct slice data, struct slice signature)
    __attribute__((warn_unused_result));

#define KEYRING_MAC 32 /* bytes */

/* Sign with the first key, if it is a secret: for token_make(). out: KEYRING_MAC bytes.
 * Returns whether it did. */
bool keyring_sign(const struct keyring *k, struct slice data, uint8_t *out)
    __attribute__((warn_unused_result));
const char *keyring_kid(const struct keyring *k); /* of the first key; NULL: none */

#endif
