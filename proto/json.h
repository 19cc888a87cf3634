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

/* Write s, which is valid UTF-8, as a JSON string to out, with room for
 * json_string_len(). Returns the number of bytes written. */
size_t json_put_string(const void *s, size_t len, char *out);

/* White space between tokens. */
static inline bool
json_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

#endif
