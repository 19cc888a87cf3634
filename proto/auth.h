/*
 * auth.h - the settings of [auth] made ready: the keys of its files, and what tokens
 * must say.
 */
#ifndef WSCAST_PROTO_AUTH_H
#define WSCAST_PROTO_AUTH_H

#include "proto/keyring.h"
#include "proto/settings.h"
#include "proto/token.h"

/*
 * Read the keys of the files that the settings name.
 *
 * ret_keys  for keyring_free(); NULL when the mode is none.
 * ret_key   the key of [auth] that is at fault, when there is one.
 * why       KEYRING_WHY_MAX bytes: what is wrong with it.
 *
 * Returns 0; -EINVAL with *ret_key and why set; -ENOMEM.
 */
int auth_load_keys(const struct settings *s, struct keyring **ret_keys,
    const char **ret_key, char *why) __attribute__((warn_unused_result));

/* What tokens must say besides. Valid as long as the settings. */
struct token_policy auth_policy(const struct settings *s);

#endif
