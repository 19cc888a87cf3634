#include <errno.h>
#define OPENSSL_API_COMPAT 10101 /* SHA1_Init() and the others: see sha1() */
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/http_reply.h"

#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 §1.3 */

/* By the plain functions: SHA1() and EVP look the algorithm up anew each time, which
 * costs more than the hash, and the first time load all that OpenSSL has: a megabyte in
 * each worker. */
static bool
sha1(const char *text, size_t len, unsigned char digest[SHA_DIGEST_LENGTH])
{
	SHA_CTX ctx;

	return SHA1_Init(&ctx) && SHA1_Update(&ctx, text, len) &&
	       SHA1_Final(digest, &ctx);
}

int
http_accept_key(struct slice key, char out[HTTP_ACCEPT_LEN + 1])
{
	char text[HTTP_KEY_LEN + sizeof(WEBSOCKET_GUID)];
	unsigned char digest[SHA_DIGEST_LENGTH];

	if (key.len != HTTP_KEY_LEN)
		return -EIO;
	memcpy(text, key.p, HTTP_KEY_LEN);
	memcpy(text + HTTP_KEY_LEN, WEBSOCKET_GUID, sizeof(WEBSOCKET_GUID));
	if (!sha1(text, sizeof(text) - 1, digest))
		return -EIO;
	out[base64_put(digest, sizeof(digest), out)] = '\0';
	return 0;
}

/* The header NAME: VALUE, if there is a value. Returns the end of what is written. */
static char *
put_optional(char *out, const char *name, struct slice value)
{
	if (value.p == NULL)
		return out;
	out = stpcpy(stpcpy(out, name), ": ");
	return stpcpy(mempcpy(out, value.p, value.len), "\r\n");
}

ptrdiff_t
http_upgrade_reply(const struct http_request *r, struct slice protocol,
    const char *extensions, char *out)
{
	static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n"
				   "Upgrade: websocket\r\n"
				   "Connection: Upgrade\r\n"
				   "Sec-WebSocket-Accept: ";
	char *p = out;
	int n;

	/* The rest takes less than a quarter. */
	if (protocol.len > HTTP_HEAD_MAX ||
	    (extensions != NULL && strlen(extensions) > HTTP_REPLY_MAX / 2))
		return -EMSGSIZE;
	p = stpcpy(p, head);
	n = http_accept_key(r->key, p);
	if (n < 0)
		return n;
	p = stpcpy(p + HTTP_ACCEPT_LEN, "\r\n");
	p = put_optional(p, "Sec-WebSocket-Protocol", protocol);
	p = put_optional(p, "Sec-WebSocket-Extensions",
	    (struct slice){extensions, extensions != NULL ? strlen(extensions) : 0});
	p = stpcpy(p, "\r\n");
	return p - out;
}

static const char *
status_text(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} known[] = {{200, "OK"}, {400, "Bad Request"}, {401, "Unauthorized"},
	    {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
	    {408, "Request Timeout"}, {413, "Content Too Large"}, {414, "URI Too Long"},
	    {426, "Upgrade Required"}, {429, "Too Many Requests"},
	    {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
	    {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (known[i].status == status)
			return known[i].text;
	}
	return "Refused";
}

/* Headers that only this status has, each with its CRLF. */
static void
put_extra(const struct http_fault *f, char *out, size_t size)
{
	out[0] = '\0';
	switch (f->status) {
	case 401:
		/* RFC 6750 §3 */
		if (f->bad_token)
			(void)snprintf(out, size,
			    "WWW-Authenticate: Bearer error=\"invalid_token\", "
			    "error_description=\"%.200s\"\r\n",
			    f->message);
		else
			(void)snprintf(out, size, "WWW-Authenticate: Bearer\r\n");
		break;
	case 405:
		(void)snprintf(out, size, "Allow: %s%s%s%s%s\r\n",
		    f->allow & HTTP_GET ? "GET" : "",
		    f->allow & HTTP_GET && f->allow & ~HTTP_GET ? ", " : "",
		    f->allow & HTTP_HEAD ? "HEAD" : "",
		    f->allow & HTTP_HEAD && f->allow & HTTP_POST ? ", " : "",
		    f->allow & HTTP_POST ? "POST" : "");
		break;
	case 426:
		(void)snprintf(
		    out, size, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
		break;
	default:
		if (f->retry_s > 0)
			(void)snprintf(out, size, "Retry-After: %u\r\n", f->retry_s);
	}
}

static size_t
put_head(
    unsigned status, const char *type, size_t body_len, const char *extra, char *out)
{
	/* RFC 9110 §7.8: who sends Upgrade names it in Connection. */
	int n = snprintf(out, HTTP_REPLY_MAX,
	    "HTTP/1.1 %u %s\r\n"
	    "Content-Type: %.100s\r\n"
	    "Content-Length: %zu\r\n"
	    "Cache-Control: no-store\r\n"
	    "X-Content-Type-Options: nosniff\r\n"
	    "Connection: close%s\r\n"
	    "%s\r\n",
	    status, status_text(status), type, body_len,
	    status == 426 ? ", Upgrade" : "", extra);

	return (size_t)n;
}

size_t
http_error_reply(const struct http_fault *f, char *out)
{
	size_t len = strlen(f->message), head;
	char extra[320];

	/* What the head takes is far less than the other half. */
	if (len > HTTP_REPLY_MAX / 2)
		len = HTTP_REPLY_MAX / 2;
	put_extra(f, extra, sizeof(extra));
	head = put_head(f->status, "text/plain; charset=utf-8", len + 1, extra, out);
	memcpy(out + head, f->message, len);
	out[head + len] = '\n';
	return head + len + 1;
}

size_t
http_reply_head(unsigned status, const char *type, size_t body_len, char *out)
{
	return put_head(status, type, body_len, "", out);
}

ptrdiff_t
http_text_reply(unsigned status, const char *type, const void *body, size_t body_len,
    bool head, char *out, size_t size)
{
	char buf[HTTP_REPLY_MAX];
	size_t len = http_reply_head(status, type, body_len, buf);
	size_t tail = head ? 0 : body_len;

	if (len > size || tail > size - len)
		return -EMSGSIZE;
	memcpy(out, buf, len);
	if (tail > 0)
		memcpy(out + len, body, tail);
	return (ptrdiff_t)(len + tail);
}
