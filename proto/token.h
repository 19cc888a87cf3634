/*
 * token.h - tokens that say who a client is and what it may do: JSON Web Tokens,
 * signed, in compact form.
 *
 *   BASE64URL(header) '.' BASE64URL(claims) '.' BASE64URL(signature)
 *
 * The key decides the algorithm (proto/keyring.h). What the token says of it only
 * selects among the keys that we have: a token cannot name an algorithm, key or address
 * that would make us trust more. Claims are not looked at before the signature is
 * right.
 *
 * Source   RFC 7515 §3.1, §4.1, §5.2; RFC 7519 §4.1, §7.2; RFC 7518 §3; RFC 8037 §3.1;
 *          RFC 8725 §3 (what went wrong elsewhere)
 */
#ifndef WSCAST_PROTO_TOKEN_H
#define WSCAST_PROTO_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

struct keyring;

#define TOKEN_MAX 8192      /* bytes of a token */
#define TOKEN_TEXT_MAX 200  /* ... of its sub, jti, and of each name and glob */
#define TOKEN_INFO_MAX 1024 /* ... of info as compact JSON */
#define TOKEN_LIST_MAX 256  /* items of channels, subscribe or publish */

/* Why a token is refused. Each has a sentence for the client: token_result_text(). */
enum token_result {
	TOKEN_OK,
	TOKEN_TOO_LONG,
	TOKEN_MALFORMED,   /* not three parts of canonical base64url, no JSON */
	TOKEN_UNSUPPORTED, /* crit, or none of our algorithms */
	TOKEN_NO_KEY,      /* no key of ours has its alg and kid */
	TOKEN_BAD_SIGNATURE,
	TOKEN_EXPIRED,
	TOKEN_NOT_YET, /* nbf lies ahead */
	TOKEN_WRONG_AUDIENCE,
	TOKEN_WRONG_ISSUER,
	TOKEN_BAD_CLAIM, /* of a wrong type, or too long */
	TOKEN_NO_MEMORY,
};

/* What a token must say besides. Lists of words as of a setting: separated by one
 * blank; empty: not checked. */
struct token_policy {
	const char *audience;
	const char *issuer;
	uint32_t leeway_s; /* by how much clocks may differ */
};

/* A token that holds. text has subject, jti, info, then the channels and the globs of
 * subscribe and publish, each with a NUL at its end. */
struct token {
	int64_t expires_s;                       /* seconds since 1970; 0 = never */
	uint16_t subject_len, jti_len, info_len; /* without NUL; 0 = it has none */
	uint16_t nchannels, nsubscribe, npublish;
	size_t len;
	char *text; /* len bytes */
};

/*
 * Check a token.
 *
 * keys    borrowed; NULL: there are none.
 * policy  borrowed.
 * now_s   seconds since 1970.
 *
 * Returns TOKEN_OK with *ret_token for the caller to token_done().
 */
enum token_result token_check(const struct keyring *keys,
    const struct token_policy *policy, const char *text, size_t len, int64_t now_s,
    struct token *ret_token) __attribute__((warn_unused_result));
void token_done(struct token *t);

/* What to say to whoever sent it: what is wrong and what to do, and no secret. Without
 * characters that a header or JSON string escapes. */
const char *token_result_text(enum token_result r);

/*
 * Make a token, for trying things out: what needs many has an issuer of its own.
 *
 * key     the bytes of a key file: a private Ed25519 key in PEM (EdDSA), else a shared
 *         secret, or a set of them, as keyring_add_secret() takes it (HS256): the
 *         first one signs.
 * claims  a JSON object.
 * why     KEYRING_WHY_MAX bytes of proto/keyring.h.
 *
 * Returns 0 with a string for the caller to free(); -EINVAL with why filled; -ENOMEM.
 */
int token_make(const void *key, size_t key_len, const char *claims, char **ret_token,
    char *why) __attribute__((warn_unused_result));

#endif
