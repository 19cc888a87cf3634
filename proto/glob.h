/*
 * glob.h - names matched against patterns: channels, origins.
 *
 *   *  any bytes, also none, also ':' and '/'      ?  any one character
 *   \x the character x itself                      all else stands for itself
 */
#ifndef WSCAST_PROTO_GLOB_H
#define WSCAST_PROTO_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the whole name matches. Time is at most the product of the lengths,
 * whatever the pattern. pattern: NUL-terminated; name: len bytes of UTF-8. */
bool glob_match(const char *pattern, const char *name, size_t len);

/* Whether a name matches only itself: no *, ? or backslash in it. */
bool glob_is_literal(const char *pattern);

#endif
