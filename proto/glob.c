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

/* The first {sub} of a pattern, or NULL. */
static const char *
find_subject(const char *p)
{
	for (; *p != '\0'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (strncmp(p, GLOB_SUBJECT, strlen(GLOB_SUBJECT)) == 0)
			return p;
	}
	return NULL;
}

bool
glob_has_subject(const char *pattern)
{
	return find_subject(pattern) != NULL;
}

/* Text gathered in the caller's buffer, as far as it has room. */
struct pattern {
	char *p;
	size_t len, size;
};

static void
put(struct pattern *out, const char *s, size_t len)
{
	if (len < out->size - out->len)
		memcpy(out->p + out->len, s, len);
	out->len += len < out->size - out->len ? len : out->size - out->len;
}

static void
put_escaped(struct pattern *out, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '*' || s.p[i] == '?' || s.p[i] == '\\')
			put(out, "\\", 1);
		put(out, s.p + i, 1);
	}
}

bool
glob_put_subject(const char *pattern, struct slice subject, char *out, size_t size)
{
	struct pattern o = {.p = out, .size = size};
	const char *at;

	while ((at = find_subject(pattern)) != NULL) {
		put(&o, pattern, (size_t)(at - pattern));
		if (subject.p != NULL)
			put_escaped(&o, subject);
		else
			put(&o, "?*", 2);
		pattern = at + strlen(GLOB_SUBJECT);
	}
	put(&o, pattern, strlen(pattern));
	if (o.len == size)
		return false;
	out[o.len] = '\0';
	return true;
}
