#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/redis_url.h"

#define REDIS_PORT 6379

/* The password's place: from behind the first ':' of what stands between "://" and
 * the last '@' (a raw '@' in a password is common enough) to that '@'. Without a ':'
 * all of it counts, since some mean a password by that. */
static bool
find_password(const char *text, const char **ret_begin, const char **ret_at)
{
	const char *start = strstr(text, "://");
	const char *at, *colon;

	start = start ? start + 3 : text;
	at = strrchr(start, '@');
	if (at == NULL || *start == '/') /* unix: an '@' of the path */
		return false;
	colon = memchr(start, ':', (size_t)(at - start));
	*ret_begin = colon ? colon + 1 : start;
	*ret_at = at;
	return true;
}

const char *
redis_url_mask(const char *text, char *out, size_t size)
{
	const char *begin, *at;

	if (find_password(text, &begin, &at) && begin < at)
		(void)snprintf(out, size, "%.*s***%s", (int)(begin - text), text, at);
	else
		(void)snprintf(out, size, "%s", text);
	return out;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decode to a string; out has more than len bytes. */
static bool
decode(const char *s, size_t len, char *out)
{
	int high, low;

	for (size_t i = 0; i < len; i++) {
		if (s[i] != '%') {
			*out++ = s[i];
			continue;
		}
		if (len - i < 3)
			return false;
		high = hex_value(s[i + 1]);
		low = hex_value(s[i + 2]);
		if (high < 0 || low < 0 || (high == 0 && low == 0))
			return false;
		*out++ = (char)(high << 4 | low);
		i += 2;
	}
	*out = '\0';
	return true;
}

static bool
number(const char *s, size_t len, uint32_t max, uint32_t *ret_n)
{
	uint32_t n = 0;

	if (len == 0 || len > 7)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		n = n * 10 + (uint32_t)(s[i] - '0');
	}
	*ret_n = n;
	return n <= max;
}

/* USER:PASSWORD, from start to the '@'; begin: of the password. */
static int
parse_login(const char *start, const char *begin, const char *at, struct redis_url *url,
    const char **ret_why)
{
	if (begin == at || begin == start) {
		*ret_why = "there is no password before the '@': write "
			   "redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST";
		return -EINVAL;
	}
	if (!decode(start, (size_t)(begin - start) - 1, url->user) ||
	    !decode(begin, (size_t)(at - begin), url->password)) {
		*ret_why = "a '%' in user or password must be followed by two "
			   "hexadecimal digits (write %25 for '%' itself)";
		return -EINVAL;
	}
	return 0;
}

static int
parse_unix(const char *s, struct redis_url *url, const char **ret_why)
{
	const char *query = strchr(s, '?');
	size_t len = query ? (size_t)(query - s) : strlen(s);

	if (s[0] != '/' || len < 2 || len >= sizeof(url->path)) {
		*ret_why = "write the socket as unix:///run/redis/redis.sock, a path "
			   "of at most 107 bytes";
		return -EINVAL;
	}
	memcpy(url->path, s, len);
	url->path[len] = '\0';
	if (query &&
	    (strncmp(query, "?db=", 4) != 0 ||
		!number(query + 4, strlen(query + 4), REDIS_DB_MAX, &url->db))) {
		*ret_why = "behind the path only ?db=NUMBER can stand";
		return -EINVAL;
	}
	return 0;
}

static bool
host_char_ok(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
	       c == '.' || c == '-' || c == '_';
}

/* HOST or [V6], into url->host without brackets. Returns its length in the URL, 0 when
 * there is none that is valid. */
static size_t
parse_host(const char *s, struct redis_url *url)
{
	const char *from = s;
	size_t len;

	if (*s == '[') {
		from = s + 1;
		len = strspn(from, "0123456789abcdefABCDEF:.");
		if (len == 0 || from[len] != ']')
			return 0;
	} else {
		for (len = 0; host_char_ok(from[len]);)
			len++;
		if (len == 0)
			return 0;
	}
	memcpy(url->host, from, len);
	url->host[len] = '\0';
	return from == s ? len : len + 2;
}

static int
parse_tcp(const char *s, struct redis_url *url, const char **ret_why)
{
	size_t len = parse_host(s, url);
	uint32_t n;

	if (len == 0) {
		*ret_why = "write the host as redis://HOST:PORT/DB, an IPv6 address "
			   "in [brackets]";
		return -EINVAL;
	}
	s += len;
	if (*s == ':') {
		len = strcspn(++s, "/");
		if (!number(s, len, UINT16_MAX, &n) || n == 0) {
			*ret_why = "the port must be a number of 1 to 65535";
			return -EINVAL;
		}
		url->port = (uint16_t)n;
		s += len;
	}
	if (*s == '/' && s[1] != '\0' &&
	    number(s + 1, strlen(s + 1), REDIS_DB_MAX, &url->db))
		return 0;
	if (*s == '\0' || strcmp(s, "/") == 0)
		return 0;
	*ret_why = "behind the host only :PORT and /DATABASE (a number) can stand";
	return -EINVAL;
}

int
redis_url_parse(const char *text, struct redis_url *ret_url, const char **ret_why)
{
	struct redis_url url = {.port = REDIS_PORT};
	const char *start, *begin, *at;
	bool tcp = strncmp(text, "redis://", 8) == 0;
	int r;

	if (strlen(text) >= REDIS_URL_MAX) {
		*ret_why = "the URL is longer than 179 bytes";
		return -EINVAL;
	}
	if (!tcp && strncmp(text, "unix://", 7) != 0) {
		*ret_why = "this version knows redis://HOST:PORT/DB and unix:///PATH, "
			   "no other scheme";
		return -EINVAL;
	}
	start = text + (tcp ? 8 : 7);
	if (find_password(text, &begin, &at)) {
		r = parse_login(start, begin, at, &url, ret_why);
		if (r < 0)
			return r;
		start = at + 1;
	}
	r = tcp ? parse_tcp(start, &url, ret_why) : parse_unix(start, &url, ret_why);
	if (r < 0)
		return r;
	*ret_url = url;
	return 0;
}

const char *
redis_url_where(const struct redis_url *url, char *out, size_t size)
{
	if (url->path[0] != '\0')
		(void)snprintf(out, size, "%s", url->path);
	else
		(void)snprintf(out, size, strchr(url->host, ':') ? "[%s]:%u" : "%s:%u",
		    url->host, url->port);
	return out;
}
