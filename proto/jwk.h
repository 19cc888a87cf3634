/*
 * jwk.h - a key as a JSON Web Key. For keyring.h.
 *
 * Source   RFC 7517 §4; RFC 7518 §6; RFC 8037 §2
 */
#ifndef WSCAST_PROTO_JWK_H
#define WSCAST_PROTO_JWK_H

#include <jansson.h>

#include "proto/key.h"

/* Reads one key, which may be anything. Returns as key_take_secret() does; 0 also when
 * it is for something else. key: all zero; on failure the caller's to key_done(). */
typedef int jwk_take_fn(struct key *key, const json_t *jwk, char *why);

jwk_take_fn jwk_take_secret, jwk_take_public;

#endif
