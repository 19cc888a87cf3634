/*
 * fuzz_http.c - a request's head, in pieces and whole, and all that reads it.
 */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/http.h"
#include "proto/http_reply.h"
#include "proto/origin.h"
#include "tests/fuzz/target.h"

/* All there is to read in a request that was taken. */
static void
use(const struct http_request *r)
{
	unsigned char addr[16] = {127, 0, 0, 1};
	struct slice name, value;
	char out[HTTP_HEAD_MAX], reply[HTTP_REPLY_MAX];
	struct http_query q;
	struct http_list l;
	struct http_fault f;
	int family = AF_INET;
	ptrdiff_t n;

	must(r->path.len > 0 && r->path.p[0] == '/' && r->host.len > 0);
	n = http_decode(r->path, false, out, sizeof(out));
	must(n > 0 && strlen(out) == (size_t)n);
	http_query_begin(&q, r);
	while (http_query_next(&q, &name, &value)) {
		n = http_decode(value, true, out, sizeof(out));
		must(n >= 0 && strlen(out) == (size_t)n);
		(void)http_name_is(name, "channel");
	}
	http_list_begin(&l, r, "Sec-WebSocket-Protocol");
	while (http_list_next(&l, &value))
		must(value.len > 0);
	(void)origin_ok("", r->origin, r->host);
	(void)origin_ok("https://*.example:* example *.x null", r->origin, r->host);
	http_client_address(r, "127.0.0.0/8 10.0.0.0/8 ::1", &family, addr);
	must(family == AF_INET || family == AF_INET6);
	if (http_is_handshake(r, &f))
		must(http_upgrade_reply(
			 r, (struct slice){"wscast.v1", 9}, NULL, reply) > 0);
	else
		must(http_error_reply(&f, reply) <= sizeof(reply));
}

/* What part of a head is taken for must hold for the whole. */
static void
check_prefix(const char *text, size_t len, enum http_result whole,
    const struct http_fault *whole_fault, size_t head_len)
{
	struct http_request r;
	struct http_fault f = {.status = 0};
	enum http_result part = http_parse(text, len, HTTP_GET | HTTP_HEAD, &r, &f);

	if (part == HTTP_WHOLE)
		must(whole == HTTP_WHOLE && r.len == head_len && r.len <= len);
	else if (part == HTTP_BAD)
		must(whole == HTTP_BAD && f.status == whole_fault->status &&
		     f.message == whole_fault->message);
	else
		must(whole != HTTP_WHOLE || len < head_len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	char reply[HTTP_REPLY_MAX];
	struct http_request r;
	struct http_fault f = {.status = 0};
	enum http_result whole = http_parse(text, len, HTTP_GET | HTTP_HEAD, &r, &f);

	must(whole != HTTP_MORE || len < HTTP_HEAD_MAX);
	if (whole == HTTP_WHOLE)
		use(&r);
	if (whole == HTTP_BAD)
		must(f.status >= 400 && http_error_reply(&f, reply) > 0);
	/* Each cut of a short one, some of a long one. */
	for (size_t cut = 0; cut < len; cut += 1 + len / 64)
		check_prefix(text, cut, whole, &f, r.len);
	return 0;
}
