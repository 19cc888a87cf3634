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

#include "proto/slice.h"

/* Whether the whole name matches. Time is at most the product of the lengths,
 * whatever the pattern. pattern: NUL-terminated; name: len bytes of UTF-8. */
bool glob_match(const char *pattern, const char *name, size_t len);

/* Whether a name matches only itself: no *, ? or backslash in it. */
bool glob_is_literal(const char *pattern);

/* In a rule's glob this stands for the subject of whoever asks, and for it alone: a '*'
 * in it is a character like any other. Written \{sub}, it stands for itself. */
#define GLOB_SUBJECT "{sub}"
bool glob_has_subject(const char *pattern);

/*
 * Put a subject into a pattern.
 *
 * subject  absent: anybody's, at least one character.
 * out      size bytes; NUL-terminated. With GLOB_EXPANDED_MAX there is room for what
 *          a channel's name can match.
 *
 * Returns whether there was room.
 */
#define GLOB_EXPANDED_MAX 1024
bool glob_put_subject(const char *pattern, struct slice subject, char *out, size_t size)
    __attribute__((warn_unused_result));

#endif
