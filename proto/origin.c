#include "proto/origin.h"
#include "proto/address.h"
#include "proto/glob.h"

#define ORIGIN_MAX 300

/* An origin, an authority or a word of the setting, in lower case; what it has not is
 * absent. */
struct parts {
	struct slice scheme, host, port;
};

/* Returns false when it is too long. out: ORIGIN_MAX bytes; NUL-terminated. */
static bool
lower(struct slice s, char *out)
{
	if (s.len >= ORIGIN_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++)
		out[i] =
		    s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 0x20) : s.p[i];
	out[s.len] = '\0';
	return true;
}

/* Take text apart. A ':' within brackets begins no port. */
static struct parts
split(const char *text)
{
	const char *slashes = strstr(text, "://"), *host = text, *colon, *bracket;
	struct parts p = {.scheme = {NULL, 0}};

	if (slashes != NULL) {
		p.scheme = (struct slice){text, (size_t)(slashes - text)};
		host = slashes + 3;
	}
	colon = strrchr(host, ':');
	bracket = strrchr(host, ']');
	if (colon != NULL && (bracket == NULL || colon > bracket))
		p.port = (struct slice){colon + 1, strlen(colon + 1)};
	else
		colon = host + strlen(host);
	p.host = (struct slice){host, (size_t)(colon - host)};
	return p;
}

static bool
consists_of(struct slice s, const char *others)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
		    (c == '\0' || strchr(others, c) == NULL))
			return false;
	}
	return s.len > 0;
}

/* SCHEME://HOST[:PORT] and nothing more: else a path or a user's name could make it
 * match a glob that it should not. */
static bool
is_whole(const struct parts *p)
{
	return consists_of(p->scheme, "+-.") && consists_of(p->host, "-._~:[]") &&
	       (p->port.p == NULL || consists_of(p->port, ""));
}

/* The port that counts where none is named; absent: nobody knows. */
static struct slice
port_of(const struct parts *p, struct slice scheme)
{
	if (p->port.p != NULL)
		return p->port;
	if (slice_is(scheme, "https") || slice_is(scheme, "wss"))
		return (struct slice){"443", 3};
	if (slice_is(scheme, "http") || slice_is(scheme, "ws"))
		return (struct slice){"80", 2};
	return (struct slice){NULL, 0};
}

static bool
slices_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static bool
same_host(const struct parts *origin, struct slice host)
{
	char text[ORIGIN_MAX];
	struct slice port = port_of(origin, origin->scheme);
	struct parts asked;

	if (port.p == NULL || !lower(host, text))
		return false;
	asked = split(text);
	return slices_equal(origin->host, asked.host) &&
	       slices_equal(port, port_of(&asked, origin->scheme));
}

static bool
part_matches(struct slice pattern, struct slice s)
{
	char glob[ORIGIN_MAX];

	memcpy(glob, pattern.p, pattern.len);
	glob[pattern.len] = '\0';
	return glob_match(glob, s.p == NULL ? "" : s.p, s.len);
}

/* word: of the setting, in lower case. */
static bool
word_matches(const char *word, const struct parts *origin)
{
	struct parts w = split(word);
	struct slice port = port_of(origin, origin->scheme);

	if (w.scheme.p != NULL && !part_matches(w.scheme, origin->scheme))
		return false;
	if (!part_matches(w.host, origin->host))
		return false;
	if (w.port.p != NULL)
		return part_matches(w.port, port);
	return w.scheme.p == NULL || slices_equal(port, port_of(&w, origin->scheme));
}

bool
origin_ok(const char *origins, struct slice origin, struct slice host)
{
	char text[ORIGIN_MAX], word[ORIGIN_MAX];
	struct slice item;
	struct parts parts;
	bool whole;

	if (origin.p == NULL)
		return true;
	if (!lower(origin, text))
		return false;
	parts = split(text);
	whole = is_whole(&parts);
	if (*origins == '\0')
		return whole && same_host(&parts, host);
	while ((item.len = list_next(&origins, &item.p)) > 0) {
		if (!lower(item, word))
			continue;
		if (strcmp(word, "*") == 0)
			return true;
		/* "null", and what browsers say of a file: matched as it stands. */
		if (whole ? word_matches(word, &parts) : strcmp(word, text) == 0)
			return true;
	}
	return false;
}
