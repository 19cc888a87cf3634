/*
 * api_keys.h - the keys of a file, one a line; empty lines and those that begin with
 * '#' do not count, nor does white space around a key.
 */
#ifndef WSCAST_PROTO_API_KEYS_H
#define WSCAST_PROTO_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#define API_KEY_MIN 16 /* bytes: what is shorter can be guessed */

/*
 * Look through a file.
 *
 * ret_line  of the first key that is shorter than API_KEY_MIN or holds white space or
 *           control characters; 0 = none.
 *
 * Returns the number of keys.
 */
size_t api_keys_count(const char *file, size_t len, unsigned *ret_line);

/* Whether the file has this key. How long that takes does not depend on how much of it
 * is right. */
bool api_keys_has(const char *file, size_t len, const char *key, size_t key_len);

#endif
