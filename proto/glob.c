#include <string.h>

#include "proto/glob.h"
#include "proto/utf8.h"

/*
 * One step of the pattern other than '*', against what is at name.
 *
 * Returns how many bytes of the name it takes, 0 when it does not match; *ret_next
 * is then the rest of the pattern.
 */
static size_t
match_one(const char *p, const char *name, size_t len, const char **ret_next)
{
	size_t n;

	if (len == 0)
		return 0;
	if (*p == '?') {
		n = utf8_char_len((const unsigned char *)name, len);
		*ret_next = p + 1;
		return n > 0 ? n : 1; /* a broken byte counts as a character */
	}
	if (*p == '\\' && p[1] != '\0')
		p++;
	if (*p == '\0' || *p != *name)
		return 0;
	*ret_next = p + 1;
	return 1;
}

/* Only the last '*' is ever tried again: an earlier one that took more could find
 * nothing that the last one does not. */
bool
glob_match(const char *pattern, const char *name, size_t len)
{
	const char *star = NULL, *next = NULL;
	size_t i = 0, star_i = 0, n;

	for (;;) {
		if (*pattern == '*') {
			star = ++pattern;
			star_i = i;
			continue;
		}
		if (*pattern == '\0' && i == len)
			return true;
		n = *pattern ? match_one(pattern, name + i, len - i, &next) : 0;
		if (n > 0) {
			pattern = next;
			i += n;
			continue;
		}
		if (star == NULL || star_i == len)
			return false;
		pattern = star;
		i = ++star_i;
	}
}

bool
glob_is_literal(const char *pattern)
{
	return strpbrk(pattern, "*?\\") == NULL;
}
