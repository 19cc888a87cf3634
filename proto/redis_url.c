#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/redis_url.h"

#define REDIS_PORT 6379
#define SENTINEL_PORT 26379

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

/* [USER][:PASSWORD], from start to the '@'; begin: of the password. Without a ':' it
 * is the user alone, and begin is start. */
static int
parse_login(const char *start, const char *begin, const char *at, struct redis_url *url,
    const char **ret_why)
{
	const char *user_end = begin == start ? at : begin - 1;

	if (start == at || (begin != start && begin == at)) {
		*ret_why = "there is no password before the '@': write "
			   "redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST";
		return -EINVAL;
	}
	if (!decode(start, (size_t)(user_end - start), url->user) ||
	    (begin != start && !decode(begin, (size_t)(at - begin), url->password))) {
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
	char *path = url->address[0].path;

	if (s[0] != '/' || len < 2 || len >= sizeof(url->address[0].path)) {
		*ret_why = "write the socket as unix:///run/redis/redis.sock, a path "
			   "of at most 107 bytes";
		return -EINVAL;
	}
	memcpy(path, s, len);
	path[len] = '\0';
	url->naddresses = 1;
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

/* HOST or [V6], without brackets. Returns its length in the URL, 0 when there is none
 * that is valid. */
static size_t
parse_host(const char *s, char *host)
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
	memcpy(host, from, len);
	host[len] = '\0';
	return from == s ? len : len + 2;
}

/* HOST[:PORT]. Returns its length, 0 with *ret_why. */
static size_t
parse_address(const char *s, struct redis_address *a, const char **ret_why)
{
	size_t len = parse_host(s, a->host), digits;
	uint32_t n;

	if (len == 0) {
		*ret_why = "write the host as redis://HOST:PORT/DB, an IPv6 address "
			   "in [brackets]";
		return 0;
	}
	if (s[len] != ':')
		return len;
	digits = strcspn(s + len + 1, "/,");
	if (!number(s + len + 1, digits, UINT16_MAX, &n) || n == 0) {
		*ret_why = "the port must be a number of 1 to 65535";
		return 0;
	}
	a->port = (uint16_t)n;
	return len + 1 + digits;
}

/* One address, or several where there may be. Returns what is behind them, NULL with
 * *ret_why. */
static const char *
parse_addresses(const char *s, struct redis_url *url, const char **ret_why)
{
	for (;;) {
		struct redis_address *a = &url->address[url->naddresses];
		size_t len;

		if (url->naddresses == REDIS_ADDRESSES_MAX) {
			*ret_why = "there can be no more than 8 hosts";
			return NULL;
		}
		a->port = url->form == REDIS_SENTINEL ? SENTINEL_PORT : REDIS_PORT;
		len = parse_address(s, a, ret_why);
		if (len == 0)
			return NULL;
		url->naddresses++;
		s += len;
		if (*s != ',' || url->form == REDIS_SERVER)
			return s;
		s++;
	}
}

/* /MASTER: its name, to the next '/'. Returns what is behind it, or NULL. */
static const char *
parse_master(const char *s, struct redis_url *url)
{
	size_t len;

	if (*s != '/')
		return NULL;
	len = strcspn(++s, "/");
	for (size_t i = 0; i < len; i++)
		if (!host_char_ok(s[i]))
			return NULL;
	if (len == 0)
		return NULL;
	memcpy(url->master, s, len);
	url->master[len] = '\0';
	return s + len;
}

static int
parse_tcp(const char *s, struct redis_url *url, const char **ret_why)
{
	s = parse_addresses(s, url, ret_why);
	if (s == NULL)
		return -EINVAL;
	if (url->form == REDIS_SENTINEL) {
		s = parse_master(s, url);
		*ret_why = "write redis-sentinel://HOST,HOST/MASTER, with the name "
			   "under which the sentinels know the master";
		if (s == NULL)
			return -EINVAL;
	}
	if (*s == '\0' || strcmp(s, "/") == 0)
		return 0;
	if (url->form == REDIS_CLUSTER) {
		*ret_why = "behind the hosts of a cluster nothing can stand: it has "
			   "but one database";
		return -EINVAL;
	}
	if (*s == '/' && number(s + 1, strlen(s + 1), REDIS_DB_MAX, &url->db))
		return 0;
	*ret_why = "behind the host only :PORT and /DATABASE (a number) can stand";
	return -EINVAL;
}

struct scheme {
	const char *text;
	enum redis_form form;
	bool tls, local;
};

static const struct scheme *
find_scheme(const char *text)
{
	static const struct scheme schemes[] = {
	    {.text = "redis://"},
	    {.text = "rediss://", .tls = true},
	    {.text = "unix://", .local = true},
	    {.text = "redis-sentinel://", .form = REDIS_SENTINEL},
	    {.text = "rediss-sentinel://", .form = REDIS_SENTINEL, .tls = true},
	    {.text = "redis-cluster://", .form = REDIS_CLUSTER},
	    {.text = "rediss-cluster://", .form = REDIS_CLUSTER, .tls = true},
	};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncmp(text, schemes[i].text, strlen(schemes[i].text)) == 0)
			return &schemes[i];
	return NULL;
}

int
redis_url_parse(const char *text, struct redis_url *ret_url, const char **ret_why)
{
	const struct scheme *scheme = find_scheme(text);
	struct redis_url url = {.form = REDIS_SERVER};
	const char *start, *begin, *at;
	int r;

	if (strlen(text) >= REDIS_URL_MAX) {
		*ret_why = "the URL is longer than 179 bytes";
		return -EINVAL;
	}
	if (scheme == NULL) {
		*ret_why = "write redis://HOST:PORT/DB, unix:///PATH, "
			   "redis-sentinel://HOST,HOST/MASTER or "
			   "redis-cluster://HOST,HOST (rediss... for TLS)";
		return -EINVAL;
	}
	url.form = scheme->form;
	url.tls = scheme->tls;
	start = text + strlen(scheme->text);
	if (find_password(text, &begin, &at)) {
		r = parse_login(start, begin, at, &url, ret_why);
		if (r < 0)
			return r;
		start = at + 1;
	}
	r = scheme->local ? parse_unix(start, &url, ret_why)
			  : parse_tcp(start, &url, ret_why);
	if (r < 0)
		return r;
	*ret_url = url;
	return 0;
}

const char *
redis_address_text(const struct redis_address *a, char *out, size_t size)
{
	if (a->path[0] != '\0')
		(void)snprintf(out, size, "%s", a->path);
	else
		(void)snprintf(out, size, strchr(a->host, ':') ? "[%s]:%u" : "%s:%u",
		    a->host, a->port);
	return out;
}

static uint16_t
crc16(const char *s, size_t len)
{
	uint16_t crc = 0;

	for (size_t i = 0; i < len; i++) {
		crc ^= (uint16_t)((unsigned char)s[i] << 8);
		for (int bit = 0; bit < 8; bit++)
			crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
	}
	return crc;
}

uint16_t
redis_slot(const char *name, size_t len)
{
	const char *open = memchr(name, '{', len), *close = NULL;

	if (open != NULL)
		close = memchr(open + 1, '}', len - (size_t)(open + 1 - name));
	if (close != NULL && close > open + 1)
		return crc16(open + 1, (size_t)(close - open - 1)) % REDIS_SLOTS;
	return crc16(name, len) % REDIS_SLOTS;
}
