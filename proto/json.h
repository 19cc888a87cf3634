/*
 * json.h - the little JSON that the hot path needs, without allocating: is it valid,
 * where does a value end, and how is a string written.
 *
 * Every published payload passes json_valid() once, in the supervisor. That is why
 * it is not a library's call.
 *
 * Source   RFC 8259; numbers of any size are valid, and so are lone surrogates when
 *          escaped (§8.2). Strings must be UTF-8 (§8.1).
 */
#ifndef WSCAST_PROTO_JSON_H
#define WSCAST_PROTO_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

#define JSON_DEPTH_MAX 1024 /* arrays and objects within each other */

/* Whether the bytes are one JSON text, white space around it allowed, nested at most
 * JSON_DEPTH_MAX deep. */
bool json_valid(const void *buf, size_t len);

/*
 * The value that begins at buf (no white space before it).
 *
 * Returns its length in bytes, or 0 when none that is valid begins there.
 */
size_t json_value_len(const void *buf, size_t len);

/* Bytes that json_put_string() writes: quotes included. */
size_t json_string_len(const void *s, size_t len);
/* The same for bytes that need not be UTF-8: false when they are not. */
bool json_string_measure(const void *s, size_t len, size_t *ret_len);

/* Write s, which is valid UTF-8, as a JSON string to out, with room for
 * json_string_len(). Returns the number of bytes written. */
size_t json_put_string(const void *s, size_t len, char *out);

/*
 * Read a string, quotes included, that json_valid() has passed, into out as
 * NUL-terminated UTF-8.
 *
 * Returns its length; -EMSGSIZE when out (size bytes) is too small; -EBADMSG when it
 * holds an escaped NUL or half a surrogate pair, which no UTF-8 string can.
 */
ptrdiff_t json_get_string(struct slice string, char *out, size_t size)
    __attribute__((warn_unused_result));

/* Read a whole number without sign, point or exponent. */
bool json_get_u64(struct slice value, uint64_t *ret_n);

/* The members of an object in text that json_valid() has passed. */
struct json_members {
	const char *p, *end;
};
/* Returns false when the text is no object. */
bool json_members_begin(struct json_members *m, struct slice text);
/* ret_name   what is between the quotes, escapes and all.
 * ret_value  the bytes of the value. */
bool json_members_next(
    struct json_members *m, struct slice *ret_name, struct slice *ret_value);

/* Leave out the white space between tokens. text: passed by json_valid(); out: room for
 * len bytes, may be text itself. Returns the new length. */
size_t json_compact(const char *text, size_t len, char *out);

/* White space between tokens. */
static inline bool
json_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

#endif
