/*
 * slice.h - bytes within a buffer that someone else owns.
 */
#ifndef WSCAST_PROTO_SLICE_H
#define WSCAST_PROTO_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* Not NUL-terminated. p is NULL when absent (len is then 0). */
struct slice {
	const char *p;
	size_t len;
};

static inline bool
slice_is(struct slice s, const char *text)
{
	return s.len == strlen(text) && (s.len == 0 || memcmp(s.p, text, s.len) == 0);
}

/* ASCII letters in any case. */
static inline bool
slice_is_nocase(struct slice s, const char *text)
{
	return s.len == strlen(text) &&
	       (s.len == 0 || strncasecmp(s.p, text, s.len) == 0);
}

#endif
