#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#include "proto/address.h"
#include "proto/http.h"

static bool
refuse(struct http_fault *f, unsigned status, const char *message)
{
	*f = (struct http_fault){.status = status, .message = message};
	return false;
}

/* ---- characters ---- */

static bool
is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z');
}

/* RFC 9110 §5.6.2: what a token is made of. */
static const bool token_char[256] = {['0' ... '9'] = true,
    ['A' ... 'Z'] = true,
    ['a' ... 'z'] = true,
    ['!'] = true,
    ['#' ... '\''] = true,
    ['*'] = true,
    ['+'] = true,
    ['-'] = true,
    ['.'] = true,
    ['^' ... '`'] = true,
    ['|'] = true,
    ['~'] = true};

bool
http_is_token(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!token_char[(unsigned char)s.p[i]])
			return false;
	}
	return s.len > 0;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct slice
trim(const char *p, const char *end)
{
	while (p < end && is_blank(*p))
		p++;
	while (p < end && is_blank(end[-1]))
		end--;
	return (struct slice){p, (size_t)(end - p)};
}

/* ---- lines ---- */

enum line { LINE_MORE, LINE_WHOLE, LINE_BROKEN, LINE_LONG };

/* No control character but the tab. */
static const bool line_char[256] = {
    ['\t'] = true, [0x20 ... 0x7e] = true, [0x80 ... 0xff] = true};

/* Find the CRLF that ends the line at p. Bytes are judged one by one, in order: what a
 * part of the line is refused for, the whole is refused for, too. */
static enum line
line_end(const char *p, size_t len, size_t max, struct slice *ret_line)
{
	size_t end = len < max ? len : max, i = 0;

	while (i < end && line_char[(unsigned char)p[i]])
		i++;
	if (i == len)
		return LINE_MORE;
	if (p[i] != '\r')
		return line_char[(unsigned char)p[i]] ? LINE_LONG : LINE_BROKEN;
	if (i + 1 == len)
		return LINE_MORE;
	if (p[i + 1] != '\n')
		return LINE_BROKEN;
	*ret_line = (struct slice){p, i};
	return LINE_WHOLE;
}

/* ---- the first line ---- */

/* Every '%' with its two digits, no NUL made of them, and nothing that a URL cannot
 * hold. Browsers leave some characters as they are that RFC 3986 would encode, like
 * '|': these are taken. */
static bool
is_encoded(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c <= 0x20 || c >= 0x7f || c == '#')
			return false;
		if (c != '%')
			continue;
		if (s.len - i < 3 || hex_value(s.p[i + 1]) < 0 ||
		    hex_value(s.p[i + 2]) < 0 ||
		    (s.p[i + 1] == '0' && s.p[i + 2] == '0'))
			return false;
		i += 2;
	}
	return true;
}

/* A host and port: no user, no path, nothing that could end a line of a log. */
static bool
is_authority(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!is_alnum(s.p[i]) &&
		    (s.p[i] == '\0' || strchr("-._~:[]", s.p[i]) == NULL))
			return false;
	}
	return s.len > 0;
}

/* Bytes of "scheme://" at the start of an absolute target, 0 when it has none. */
static size_t
scheme_len(struct slice target)
{
	static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t len = strlen(schemes[i]);

		if (target.len > len && strncasecmp(target.p, schemes[i], len) == 0)
			return len;
	}
	return 0;
}

static bool
parse_target(struct slice target, struct http_request *r, struct http_fault *f)
{
	size_t scheme = scheme_len(target);
	const char *end = target.p + target.len, *p = target.p + scheme, *question;

	if (!is_encoded(target))
		return refuse(
		    f, 400, "The request's target is not properly percent-encoded.");
	if (scheme > 0) {
		r->host.p = p;
		while (p < end && *p != '/' && *p != '?')
			p++;
		r->host.len = (size_t)(p - r->host.p);
		if (!is_authority(r->host))
			return refuse(
			    f, 400, "The request's target has no proper host.");
	}
	if (scheme > 0 && p == end) {
		r->path = (struct slice){"/", 1};
		return true;
	}
	if (*p != '/')
		return refuse(f, 400, "The request's target must begin with '/'.");
	question = memchr(p, '?', (size_t)(end - p));
	r->path = (struct slice){p, (size_t)((question ? question : end) - p)};
	if (question)
		r->query = (struct slice){question + 1, (size_t)(end - question - 1)};
	return true;
}

static bool
parse_method(
    struct slice method, unsigned methods, struct http_request *r, struct http_fault *f)
{
	unsigned m = slice_is(method, "GET")    ? HTTP_GET
		     : slice_is(method, "HEAD") ? HTTP_HEAD
		     : slice_is(method, "POST") ? HTTP_POST
						: 0;

	if (m & methods) {
		r->method = (enum http_method)m;
		return true;
	}
	refuse(f, 405, "This method is not served here; see the header Allow.");
	f->allow = methods;
	return false;
}

static bool
parse_version(struct slice version, struct http_fault *f)
{
	if (slice_is(version, "HTTP/1.1"))
		return true;
	if (version.len == 8 && memcmp(version.p, "HTTP/", 5) == 0 &&
	    version.p[5] >= '0' && version.p[5] <= '9' && version.p[6] == '.' &&
	    version.p[7] >= '0' && version.p[7] <= '9')
		return refuse(f, 505, "Only HTTP/1.1 is spoken here.");
	return refuse(f, 400, "The request's first line must end with HTTP/1.1.");
}

/* METHOD SP TARGET SP VERSION, with one blank each. */
static bool
parse_first(
    struct slice line, unsigned methods, struct http_request *r, struct http_fault *f)
{
	const char *end = line.p + line.len;
	const char *a = memchr(line.p, ' ', line.len);
	const char *b = a ? memchr(a + 1, ' ', (size_t)(end - a - 1)) : NULL;
	struct slice method;

	if (b == NULL || b == a + 1)
		return refuse(f, 400,
		    "The first line must be a request: GET /ws HTTP/1.1. (If this "
		    "is TLS, it belongs to another port.)");
	method = (struct slice){line.p, (size_t)(a - line.p)};
	if (!http_is_token(method))
		return refuse(f, 400, "The request's method is broken.");
	/* The version first: the preface of HTTP/2 is told what is wrong with it. */
	return parse_version((struct slice){b + 1, (size_t)(end - b - 1)}, f) &&
	       parse_method(method, methods, r, f) &&
	       parse_target((struct slice){a + 1, (size_t)(b - a - 1)}, r, f);
}

/* ---- headers ---- */

static bool
parse_header(struct slice line, struct http_header *ret, struct http_fault *f)
{
	const char *end = line.p + line.len;
	const char *colon = memchr(line.p, ':', line.len);

	if (is_blank(line.p[0]))
		return refuse(f, 400, "A header may not go on in the next line.");
	ret->name = (struct slice){line.p, colon ? (size_t)(colon - line.p) : 0};
	if (colon == NULL || !http_is_token(ret->name))
		return refuse(
		    f, 400, "A header must be NAME: VALUE, without blanks in NAME.");
	ret->value = trim(colon + 1, end);
	return true;
}

/* Keep one of those that may come only once. Returns false when it is the second. */
static bool
keep_single(struct slice *field, struct slice value, struct http_fault *f)
{
	if (field->p != NULL)
		return refuse(f, 400, "A header that can come only once came twice.");
	*field = value;
	return true;
}

static bool
parse_length(struct slice v, struct http_request *r, struct http_fault *f)
{
	uint64_t n = 0;

	if (v.len == 0 || v.len > 18)
		return refuse(f, 400, "Content-Length must be a number.");
	for (size_t i = 0; i < v.len; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return refuse(f, 400, "Content-Length must be a number.");
		n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	if (n > 0 && r->method != HTTP_POST)
		return refuse(f, 400, "This request cannot have a body.");
	r->content_length = n;
	return true;
}

/* What is looked at while parsing: host is that of the Host header, since the request
 * may have one in its target. */
struct singles {
	struct slice host, length;
};

/* Where a header is kept that may come only once; NULL: it may come again. */
static struct slice *
single_of(struct slice name, struct singles *s, struct http_request *r)
{
	if (slice_is_nocase(name, "Host"))
		return &s->host;
	if (slice_is_nocase(name, "Content-Length"))
		return &s->length;
	if (slice_is_nocase(name, "Origin"))
		return &r->origin;
	if (slice_is_nocase(name, "Authorization"))
		return &r->authorization;
	if (slice_is_nocase(name, "Sec-WebSocket-Key"))
		return &r->key;
	if (slice_is_nocase(name, "Sec-WebSocket-Version"))
		return &r->version;
	return NULL;
}

static bool
note_header(const struct http_header *h, struct singles *s, struct http_request *r,
    struct http_fault *f)
{
	struct slice *single = single_of(h->name, s, r);

	if (slice_is_nocase(h->name, "Transfer-Encoding"))
		return refuse(f, 400, "This request cannot have a chunked body.");
	if (slice_is_nocase(h->name, "Sec-WebSocket-Extensions") &&
	    r->extensions.p == NULL)
		r->extensions = h->value;
	return single == NULL || keep_single(single, h->value, f);
}

static bool
list_has(const struct http_request *r, const char *name, const char *word)
{
	struct http_list l;
	struct slice item;

	http_list_begin(&l, r, name);
	while (http_list_next(&l, &item)) {
		if (slice_is_nocase(item, word))
			return true;
	}
	return false;
}

/* The head is whole: what its headers say together. */
static bool
finish(const struct singles *s, struct http_request *r, struct http_fault *f)
{
	if (s->host.p == NULL)
		return refuse(f, 400, "The header Host is missing.");
	if (!is_authority(s->host))
		return refuse(f, 400, "The header Host must be HOST or HOST:PORT.");
	/* RFC 9112 §3.2.2: an absolute target's host counts, not the header. */
	if (r->host.p == NULL)
		r->host = s->host;
	if (s->length.p != NULL && !parse_length(s->length, r, f))
		return false;
	r->upgrade =
	    list_has(r, "Connection", "upgrade") && list_has(r, "Upgrade", "websocket");
	return true;
}

static enum http_result
bad_line(enum line l, bool first, struct http_fault *f)
{
	if (l == LINE_BROKEN)
		refuse(f, 400,
		    "The request holds a control character, or a line that does not "
		    "end with CR LF.");
	else if (first)
		refuse(f, 414, "The request's target is too long: shorten it.");
	else
		refuse(f, 431, "The request's head is longer than 8192 bytes.");
	return HTTP_BAD;
}

enum http_result
http_parse(const char *buf, size_t len, unsigned methods,
    struct http_request *ret_request, struct http_fault *ret_fault)
{
	struct singles s = {.host = {.p = NULL}};
	struct http_request *r = ret_request;
	bool cut = len > HTTP_HEAD_MAX;
	struct slice text;
	enum line line;
	size_t pos;

	memset(r, 0, offsetof(struct http_request, header));
	len = cut ? HTTP_HEAD_MAX : len;
	line = line_end(buf, len, HTTP_LINE_MAX, &text);
	if (line == LINE_MORE)
		return HTTP_MORE;
	if (line != LINE_WHOLE)
		return bad_line(line, true, ret_fault);
	if (!parse_first(text, methods, r, ret_fault))
		return HTTP_BAD;
	for (pos = text.len + 2;; pos += text.len + 2) {
		line = line_end(buf + pos, len - pos, HTTP_HEAD_MAX, &text);
		if (line == LINE_MORE && len == HTTP_HEAD_MAX)
			line = LINE_LONG;
		if (line == LINE_MORE)
			return HTTP_MORE;
		if (line != LINE_WHOLE)
			return bad_line(line, false, ret_fault);
		if (text.len == 0)
			break;
		if (r->nheaders == HTTP_HEADERS_MAX) {
			refuse(ret_fault, 431, "The request has more than 64 headers.");
			return HTTP_BAD;
		}
		if (!parse_header(text, &r->header[r->nheaders], ret_fault) ||
		    !note_header(&r->header[r->nheaders++], &s, r, ret_fault))
			return HTTP_BAD;
	}
	r->len = pos + 2;
	return finish(&s, r, ret_fault) ? HTTP_WHOLE : HTTP_BAD;
}

/* ---- the handshake ---- */

/* 16 bytes in base64: 22 characters and "==". Bits that no byte holds may be set, as
 * in the RFC's own example. */
static bool
key_ok(struct slice key)
{
	if (key.len != HTTP_KEY_LEN || key.p[22] != '=' || key.p[23] != '=')
		return false;
	for (size_t i = 0; i < 22; i++) {
		if (!is_alnum(key.p[i]) && key.p[i] != '+' && key.p[i] != '/')
			return false;
	}
	return true;
}

bool
http_is_handshake(const struct http_request *r, struct http_fault *ret_fault)
{
	struct http_list l;
	struct slice item;

	if (r->method != HTTP_GET) {
		refuse(ret_fault, 405, "A WebSocket is opened with GET.");
		ret_fault->allow = HTTP_GET;
		return false;
	}
	if (!r->upgrade)
		return refuse(ret_fault, 426,
		    "This is a WebSocket: connect with Connection: Upgrade and "
		    "Upgrade: websocket. (A proxy in between must pass both on.)");
	if (!slice_is(r->version, "13"))
		return refuse(
		    ret_fault, 426, "Sec-WebSocket-Version must be 13, once.");
	if (!key_ok(r->key))
		return refuse(
		    ret_fault, 400, "Sec-WebSocket-Key must be 16 bytes in base64.");
	http_list_begin(&l, r, "Sec-WebSocket-Protocol");
	while (http_list_next(&l, &item)) {
		if (!http_is_token(item))
			return refuse(ret_fault, 400,
			    "Sec-WebSocket-Protocol must be a list of tokens.");
	}
	return true;
}

/* ---- what is in a request ---- */

struct slice
http_header(const struct http_request *r, const char *name)
{
	for (unsigned i = 0; i < r->nheaders; i++) {
		if (slice_is_nocase(r->header[i].name, name))
			return r->header[i].value;
	}
	return (struct slice){NULL, 0};
}

void
http_list_begin(struct http_list *l, const struct http_request *r, const char *name)
{
	*l = (struct http_list){.request = r, .name = name};
}

bool
http_list_next(struct http_list *l, struct slice *ret_item)
{
	for (;;) {
		const char *comma;
		struct slice item;

		if (l->p == NULL || l->p == l->end) {
			const struct http_header *h;

			if (l->line == l->request->nheaders)
				return false;
			h = &l->request->header[l->line++];
			if (!slice_is_nocase(h->name, l->name))
				continue;
			l->p = h->value.p;
			l->end = h->value.p + h->value.len;
			continue;
		}
		comma = memchr(l->p, ',', (size_t)(l->end - l->p));
		item = trim(l->p, comma ? comma : l->end);
		l->p = comma ? comma + 1 : l->end;
		/* RFC 9110 §5.6.1.2: empty items are passed over. */
		if (item.len > 0) {
			*ret_item = item;
			return true;
		}
	}
}

void
http_query_begin(struct http_query *q, const struct http_request *r)
{
	q->p = r->query.p;
	q->end = r->query.p ? r->query.p + r->query.len : NULL;
}

bool
http_query_next(struct http_query *q, struct slice *ret_name, struct slice *ret_value)
{
	while (q->p != q->end) {
		const char *begin = q->p;
		const char *end = memchr(begin, '&', (size_t)(q->end - begin));
		const char *equals;

		q->p = end ? end + 1 : q->end;
		end = end ? end : q->end;
		if (begin == end)
			continue;
		equals = memchr(begin, '=', (size_t)(end - begin));
		equals = equals ? equals : end;
		*ret_name = (struct slice){begin, (size_t)(equals - begin)};
		begin = equals < end ? equals + 1 : end;
		*ret_value = (struct slice){begin, (size_t)(end - begin)};
		return true;
	}
	return false;
}

ptrdiff_t
http_decode(struct slice s, bool plus, char *out, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (len + 1 >= size)
			return -EMSGSIZE;
		if (c == '%' && s.len - i >= 3) {
			c = (char)((unsigned)hex_value(s.p[i + 1]) << 4 |
				   (unsigned)hex_value(s.p[i + 2]));
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		out[len++] = c;
	}
	if (size == 0)
		return -EMSGSIZE;
	out[len] = '\0';
	return (ptrdiff_t)len;
}

bool
http_name_is(struct slice name, const char *text)
{
	char buf[64];
	ptrdiff_t len = http_decode(name, true, buf, sizeof(buf));

	return len >= 0 && slice_is((struct slice){buf, (size_t)len}, text);
}

/* ---- the client behind proxies ---- */

/* An IPv4 address mapped into IPv6 is the IPv4 address. */
static void
unmap(int *family, unsigned char addr[16])
{
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (*family != AF_INET6 || memcmp(addr, mapped, sizeof(mapped)) != 0)
		return;
	memmove(addr, addr + sizeof(mapped), 4);
	*family = AF_INET;
}

/* ADDRESS, [ADDRESS], ADDRESS:PORT or [ADDRESS]:PORT. */
static bool
parse_forwarded(struct slice s, int *ret_family, unsigned char addr[16])
{
	struct sockaddr_storage ss;
	const char *why = NULL;
	struct network n;
	socklen_t len;

	if (s.len > 2 && s.p[0] == '[' && s.p[s.len - 1] == ']') {
		s.p++;
		s.len -= 2;
	}
	if (memchr(s.p, '/', s.len) == NULL && network_parse(s.p, s.len, &n) == 0 &&
	    n.family != AF_UNIX) {
		*ret_family = n.family;
		memcpy(addr, n.addr, sizeof(n.addr));
		unmap(ret_family, addr);
		return true;
	}
	/* The words that a listener may have for an address are none of a client's. */
	if (s.p[0] != '[' && (s.p[0] < '0' || s.p[0] > '9'))
		return false;
	if (address_parse(s.p, s.len, &ss, &len, &why) < 0)
		return false;
	*ret_family = ss.ss_family;
	if (ss.ss_family == AF_INET)
		memcpy(addr, &((struct sockaddr_in *)&ss)->sin_addr, 4);
	else
		memcpy(addr, &((struct sockaddr_in6 *)&ss)->sin6_addr, 16);
	unmap(ret_family, addr);
	return true;
}

void
http_client_address(const struct http_request *r, const char *trusted, int *family,
    unsigned char addr[16])
{
	unsigned char item_addr[16], peer[16];
	int item_family, peer_family = *family;
	bool chain = false; /* what is in addr came from the list */
	struct http_list l;
	struct slice item;

	if (!network_list_has(trusted, *family, addr))
		return;
	memcpy(peer, addr, sizeof(peer));
	http_list_begin(&l, r, "X-Forwarded-For");
	/* From the left: each address that is no proxy's hides those before it, and
	 * so does one that cannot be read, which leaves the peer until the next. */
	while (http_list_next(&l, &item)) {
		if (!parse_forwarded(item, &item_family, item_addr)) {
			*family = peer_family;
			memcpy(addr, peer, sizeof(peer));
			chain = false;
		} else if (!chain ||
			   !network_list_has(trusted, item_family, item_addr)) {
			*family = item_family;
			memcpy(addr, item_addr, item_family == AF_INET ? 4 : 16);
			chain = true;
		}
	}
}
