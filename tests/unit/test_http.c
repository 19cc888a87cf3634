/* proto/http.c: requests good and bad, whole and in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/socket.h>

#include "proto/http.h"

/* Add to the text in a buffer of this size. */
static void
append(char *text, size_t size, const char *more)
{
	size_t len = strlen(text);

	assert_true(len + strlen(more) < size);
	memcpy(text + len, more, strlen(more) + 1);
}

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ANY (HTTP_GET | HTTP_HEAD)

/* The example of RFC 6455 §1.2 with what browsers add. */
static const char browser[] = "GET /ws?channel=news HTTP/1.1\r\n"
			      "Host: server.example.com:8080\r\n"
			      "Connection: keep-alive, Upgrade\r\n"
			      "UPGRADE:WebSocket\r\n"
			      "Origin: http://example.com\r\n"
			      "Sec-WebSocket-Version: 13\r\n"
			      "Sec-WebSocket-Key: " KEY "\r\n"
			      "Sec-WebSocket-Protocol: bearer.abc, wscast.v1\r\n"
			      "Sec-WebSocket-Protocol:\t,other,\t\r\n"
			      "Sec-WebSocket-Extensions: permessage-deflate; a=1\r\n"
			      "Authorization: Bearer x\r\n"
			      "Cookie: a=b\r\n"
			      "X-Empty:\r\n"
			      "\r\n";

/* From memory of exactly the length, which is kept until the next call. */
static enum http_result
parse_n(const char *text, size_t len, unsigned methods, struct http_request *r,
    struct http_fault *f)
{
	static char *kept;

	free(kept);
	kept = malloc(len > 0 ? len : 1);
	assert_non_null(kept);
	memcpy(kept, text, len);
	return http_parse(kept, len, methods, r, f);
}

static enum http_result
parse(const char *text, struct http_request *r, struct http_fault *f)
{
	return parse_n(text, strlen(text), ANY, r, f);
}

/* A request with these first line and headers, Host and the end added. */
static const char *
request(const char *first, const char *headers)
{
	static char text[20000];

	(void)snprintf(text, sizeof(text), "%s\r\nHost: h\r\n%s\r\n", first, headers);
	return text;
}

static void
test_http_parse_browsers_handshake(void **state)
{
	struct http_request r;
	struct http_fault f;
	struct http_list l;
	struct slice item;

	assert_int_equal(parse(browser, &r, &f), HTTP_WHOLE);
	assert_int_equal(r.len, strlen(browser));
	assert_int_equal(r.method, HTTP_GET);
	assert_true(slice_is(r.path, "/ws"));
	assert_true(slice_is(r.query, "channel=news"));
	assert_true(slice_is(r.host, "server.example.com:8080"));
	assert_true(slice_is(r.origin, "http://example.com"));
	assert_true(slice_is(r.authorization, "Bearer x"));
	assert_true(slice_is(r.extensions, "permessage-deflate; a=1"));
	assert_true(r.upgrade);
	assert_true(http_is_handshake(&r, &f));
	http_list_begin(&l, &r, "sec-websocket-protocol");
	assert_true(http_list_next(&l, &item));
	assert_true(slice_is(item, "bearer.abc"));
	assert_true(http_list_next(&l, &item));
	assert_true(slice_is(item, "wscast.v1"));
	assert_true(http_list_next(&l, &item));
	assert_true(slice_is(item, "other"));
	assert_false(http_list_next(&l, &item));
	assert_true(slice_is(http_header(&r, "cookie"), "a=b"));
	assert_non_null(http_header(&r, "x-empty").p);
	assert_null(http_header(&r, "x-none").p);
}

/* Each part of a right head is right so far; bytes behind it are left alone. */
static void
test_http_parse_every_cut_needs_more(void **state)
{
	char text[sizeof(browser) + 10];
	struct http_request r;
	struct http_fault f;

	for (size_t len = 0; len < strlen(browser); len++)
		assert_int_equal(parse_n(browser, len, ANY, &r, &f), HTTP_MORE);
	(void)snprintf(text, sizeof(text), "%s\x81\x80", browser);
	assert_int_equal(parse(text, &r, &f), HTTP_WHOLE);
	assert_int_equal(r.len, strlen(browser));
}

static const struct {
	const char *text;
	unsigned status;
} bad[] = {
    {"\r\n", 400},
    {"\n", 400},
    {"\x16\x03\x01", 400},
    {"GET\r\n", 400},
    {"GET /\r\n", 400},
    {"GET  / HTTP/1.1\r\n", 400},
    {"GET / HTTP/1.1 \r\n", 400},
    {" GET / HTTP/1.1\r\n", 400},
    {"GET /\tx HTTP/1.1\r\n", 400},
    {"GET / HTTP/1.1\n", 400},
    {"GET / HTTP/1.1\rX", 400},
    {"GET / http/1.1\r\n", 400},
    {"GET / HTTP/1.10\r\n", 400},
    {"GET / HTTP/1.0\r\n", 505},
    {"GET / HTTP/2.0\r\n", 505},
    {"PRI * HTTP/2.0\r\n", 505},
    {"POST / HTTP/1.1\r\n", 405},
    {"get / HTTP/1.1\r\n", 405},
    {"G(T / HTTP/1.1\r\n", 400},
    {"OPTIONS * HTTP/1.1\r\n", 405},
    {"GET * HTTP/1.1\r\n", 400},
    {"GET x HTTP/1.1\r\n", 400},
    {"GET h:80 HTTP/1.1\r\n", 400},
    {"GET /#a HTTP/1.1\r\n", 400},
    {"GET /% HTTP/1.1\r\n", 400},
    {"GET /%4 HTTP/1.1\r\n", 400},
    {"GET /%zz HTTP/1.1\r\n", 400},
    {"GET /%00 HTTP/1.1\r\n", 400},
    {"GET /?a=%0 HTTP/1.1\r\n", 400},
    {"GET /\xc3\xa4 HTTP/1.1\r\n", 400},
    {"GET http:///x HTTP/1.1\r\n", 400},
    {"GET http://u@h/ HTTP/1.1\r\n", 400},
    {"GET ftp://h/ HTTP/1.1\r\n", 400},
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n", 400},
    {"GET / HTTP/1.1\r\nHost : a\r\n", 400},
    {"GET / HTTP/1.1\r\n Host: a\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n b\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n", 400},
    {"GET / HTTP/1.1\r\nHost\r\n", 400},
    {"GET / HTTP/1.1\r\n: a\r\n", 400},
    {"GET / HTTP/1.1\r\nX Y: a\r\n", 400},
    {"GET / HTTP/1.1\r\nX: a\nY: b\r\n", 400},
    {"GET / HTTP/1.1\r\nX: a\x01\r\n", 400},
    {"GET / HTTP/1.1\r\nX: a\x7f\r\n", 400},
    {"GET / HTTP/1.1\r\nOrigin: a\r\nOrigin: a\r\n", 400},
    {"GET / HTTP/1.1\r\nAuthorization: a\r\nAuthorization: a\r\n", 400},
    {"GET / HTTP/1.1\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Key: a\r\n", 400},
    {"GET / HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13\r\n",
	400},
    {"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n", 400},
    {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -0\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x0\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 0\r\n\r\n", 400},
};

static void
test_http_parse_bad_requests_refused(void **state)
{
	struct http_request r;
	struct http_fault f;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		f.status = 0;
		if (parse(bad[i].text, &r, &f) != HTTP_BAD || f.status != bad[i].status)
			fail_msg("%u instead of %u: %s", f.status, bad[i].status,
			    bad[i].text);
		assert_true(strlen(f.message) > 10);
	}
	assert_int_equal(parse_n("GET /\0 HTTP/1.1\r\n", 17, ANY, &r, &f), HTTP_BAD);
}

/* What comes a byte at a time is refused for the same as what comes at once. */
static void
test_http_parse_bad_requests_refused_alike_in_pieces(void **state)
{
	struct http_request r;
	struct http_fault whole = {.message = ""}, part = {.message = ""};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enum http_result result = HTTP_MORE;
		size_t len = 0;

		assert_int_equal(parse(bad[i].text, &r, &whole), HTTP_BAD);
		while (result == HTTP_MORE && len++ < strlen(bad[i].text))
			result = parse_n(bad[i].text, len, ANY, &r, &part);
		assert_int_equal(result, HTTP_BAD);
		assert_int_equal(part.status, whole.status);
		assert_string_equal(part.message, whole.message);
	}
}

static void
test_http_parse_targets(void **state)
{
	const struct {
		const char *first, *path, *query, *host;
	} table[] = {
	    {"GET / HTTP/1.1", "/", NULL, "h"},
	    {"GET /a/b?c?d=/e HTTP/1.1", "/a/b", "c?d=/e", "h"},
	    {"GET /? HTTP/1.1", "/", "", "h"},
	    {"GET /a|b{} HTTP/1.1", "/a|b{}", NULL, "h"},
	    {"GET http://x:81/a?b HTTP/1.1", "/a", "b", "x:81"},
	    {"GET WS://x HTTP/1.1", "/", NULL, "x"},
	    {"GET wss://[::1]:1/ HTTP/1.1", "/", NULL, "[::1]:1"},
	    {"HEAD /health HTTP/1.1", "/health", NULL, "h"},
	};
	struct http_request r;
	struct http_fault f;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(
		    parse(request(table[i].first, ""), &r, &f), HTTP_WHOLE);
		assert_true(slice_is(r.path, table[i].path));
		assert_true(slice_is(r.host, table[i].host));
		if (table[i].query == NULL)
			assert_null(r.query.p);
		else
			assert_true(slice_is(r.query, table[i].query));
	}
}

static void
test_http_parse_limits(void **state)
{
	static char text[20000], headers[20000];
	struct http_request r;
	struct http_fault f;

	/* 64 headers, Host among them; one more is too many */
	headers[0] = '\0';
	for (int i = 0; i < 63; i++)
		append(headers, sizeof(headers), "X: y\r\n");
	assert_int_equal(parse(request("GET / HTTP/1.1", headers), &r, &f), HTTP_WHOLE);
	assert_int_equal(r.nheaders, 64);
	append(headers, sizeof(headers), "X: y\r\n");
	assert_int_equal(parse(request("GET / HTTP/1.1", headers), &r, &f), HTTP_BAD);
	assert_int_equal(f.status, 431);

	/* a first line of 4096 bytes; one more is too long, whether it ends or not */
	memset(text, 'a', sizeof(text));
	memcpy(text, "GET /", 5);
	(void)snprintf(text + 4096 - 9, 100, " HTTP/1.1\r\nHost: h\r\n\r\n");
	assert_int_equal(parse(text, &r, &f), HTTP_WHOLE);
	memset(text, 'a', 4500);
	memcpy(text, "GET /", 5);
	assert_int_equal(parse_n(text, 4096, ANY, &r, &f), HTTP_MORE);
	assert_int_equal(parse_n(text, 4097, ANY, &r, &f), HTTP_BAD);
	assert_int_equal(f.status, 414);

	/* a head of 8192 bytes; one more is too long */
	memset(headers, 'x', 8192);
	memcpy(headers, "X: ", 3);
	(void)snprintf(headers + 8192 - 16 - 9 - 2 - 2, 10, "\r\n");
	assert_int_equal(strlen(request("GET / HTTP/1.1", headers)), 8192);
	assert_int_equal(parse(request("GET / HTTP/1.1", headers), &r, &f), HTTP_WHOLE);
	assert_int_equal(r.len, 8192);
	(void)snprintf(headers + 8192 - 16 - 9 - 2 - 2, 10, "x\r\n");
	assert_int_equal(parse(request("GET / HTTP/1.1", headers), &r, &f), HTTP_BAD);
	assert_int_equal(f.status, 431);
	assert_int_equal(
	    parse_n(request("GET / HTTP/1.1", headers), 8191, ANY, &r, &f), HTTP_MORE);
	assert_int_equal(
	    parse_n(request("GET / HTTP/1.1", headers), 8192, ANY, &r, &f), HTTP_BAD);
}

static void
test_http_parse_post_where_it_is_served(void **state)
{
	struct http_request r;
	struct http_fault f;
	const char *text = request("POST /publish HTTP/1.1", "Content-Length: 12\r\n");

	assert_int_equal(parse_n(text, strlen(text), HTTP_POST, &r, &f), HTTP_WHOLE);
	assert_int_equal(r.method, HTTP_POST);
	assert_int_equal(r.content_length, 12);
	assert_int_equal(parse_n(text, strlen(text), ANY, &r, &f), HTTP_BAD);
	assert_int_equal(f.allow, ANY);
}

static void
test_http_is_handshake_refuses(void **state)
{
#define UP "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define V "Sec-WebSocket-Version: 13\r\n"
#define K "Sec-WebSocket-Key: " KEY "\r\n"
	const struct {
		const char *headers;
		unsigned status; /* 0: taken */
	} table[] = {
	    {UP V K, 0},
	    {"Upgrade: h2c, WebSocket\r\nConnection: a\r\nConnection: b , UPGRADE\r\n" V
		    K,
		0},
	    {"", 426},
	    {"Upgrade: websocket\r\n" V K, 426},
	    {"Connection: Upgrade\r\n" V K, 426},
	    {"Upgrade: websockets\r\nConnection: Upgrade\r\n" V K, 426},
	    {"Upgrade: websocket\r\nConnection: Upgrades\r\n" V K, 426},
	    {UP K, 426},
	    {UP K "Sec-WebSocket-Version: 8\r\n", 426},
	    {UP K "Sec-WebSocket-Version: 13, 8\r\n", 426},
	    {UP V, 400},
	    {UP V "Sec-WebSocket-Key: \r\n", 400},
	    {UP V "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", 400},
	    {UP V "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n", 400},
	    {UP V "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-Q==\r\n", 400},
	    {UP V "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n",
		0}, /* RFC 6455 §1.3 */
	    {UP V K "Sec-WebSocket-Protocol: a b\r\n", 400},
	    {UP V K "Sec-WebSocket-Protocol: a, b\r\n", 0},
	};
	struct http_request r;
	struct http_fault f;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(
		    parse(request("GET /ws HTTP/1.1", table[i].headers), &r, &f),
		    HTTP_WHOLE);
		f.status = 0;
		if (http_is_handshake(&r, &f) != (table[i].status == 0) ||
		    f.status != table[i].status)
			fail_msg("%u instead of %u: %s", f.status, table[i].status,
			    table[i].headers);
	}
	assert_int_equal(
	    parse(request("HEAD /ws HTTP/1.1", UP V K), &r, &f), HTTP_WHOLE);
	assert_false(http_is_handshake(&r, &f));
	assert_int_equal(f.status, 405);
}

static void
test_http_query_walks_parameters(void **state)
{
	const char *want[] = {
	    "channel", "x", "ch%61nnel", "%C3%A4+y", "flag", "", "e", ""};
	struct slice name = {NULL, 0}, value = {NULL, 0};
	struct http_request r;
	struct http_query q;
	struct http_fault f;
	size_t n = 0;
	char out[16];

	assert_int_equal(
	    parse(request("GET /?channel=x&&ch%61nnel=%C3%A4+y&flag&e= HTTP/1.1", ""),
		&r, &f),
	    HTTP_WHOLE);
	http_query_begin(&q, &r);
	while (http_query_next(&q, &name, &value)) {
		assert_true(slice_is(name, want[n++]));
		assert_true(slice_is(value, want[n++]));
		assert_int_equal(http_name_is(name, "channel"), n <= 4);
		if (n == 4) {
			assert_int_equal(http_decode(value, true, out, sizeof(out)), 4);
			assert_string_equal(out, "\xc3\xa4 y");
			assert_int_equal(http_decode(value, true, out, 4), -EMSGSIZE);
		}
	}
	assert_int_equal(n, 8);
	assert_int_equal(parse(request("GET / HTTP/1.1", ""), &r, &f), HTTP_WHOLE);
	http_query_begin(&q, &r);
	assert_false(http_query_next(&q, &name, &value));
	assert_int_equal(
	    http_decode((struct slice){"a+%2f", 5}, false, out, sizeof(out)), 3);
	assert_string_equal(out, "a+/");
}

static void
test_http_client_address_behind_proxies(void **state)
{
	const struct {
		const char *trusted, *forwarded, *want;
	} table[] = {
	    {"", "X-Forwarded-For: 1.1.1.1\r\n", "10.0.0.1"},
	    {"192.0.2.1", "X-Forwarded-For: 1.1.1.1\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "", "10.0.0.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 1.1.1.1\r\n", "1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 9.9.9.9, 1.1.1.1, 10.0.0.2\r\n",
		"1.1.1.1"},
	    {"10.0.0.0/8",
		"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 1.1.1.1:77\r\n",
		"1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"},
	    {"10.0.0.0/8", "X-Forwarded-For: 1.1.1.1, unknown\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: unknown, 1.1.1.1\r\n", "1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"},
	    {"10.0.0.0/8", "X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1"},
	    {"10.0.0.0/8", "X-Forwarded-For: ::ffff:1.1.1.1\r\n", "1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: [::ffff:1.1.1.1]:80\r\n", "1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 9.9.9.9, 1.1.1.1,::ffff:10.0.0.2\r\n",
		"1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: ,, 1.1.1.1 ,\t, 10.0.0.2,\r\n", "1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 9.9.9.9, what, 10.0.0.2\r\n", "10.0.0.2"},
	    {"10.0.0.0/8",
		"X-Forwarded-For: 9.9.9.9\r\nHost2: x\r\nX-Forwarded-For: "
		"1.1.1.1\r\nx-forwarded-for: 10.0.0.2\r\n",
		"1.1.1.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 10.0.0.0/8\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: unix:\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: 1.1.1.1:99999\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: localhost:80\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: *:80\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "X-Forwarded-For: \"1.1.1.1\"\r\n", "10.0.0.1"},
	    {"10.0.0.0/8", "Forwarded: for=1.1.1.1\r\n", "10.0.0.1"},
	};
	struct http_request r;
	struct http_fault f;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		unsigned char addr[16] = {10, 0, 0, 1};
		char text[INET6_ADDRSTRLEN];
		int family = AF_INET;

		assert_int_equal(
		    parse(request("GET / HTTP/1.1", table[i].forwarded), &r, &f),
		    HTTP_WHOLE);
		http_client_address(&r, table[i].trusted, &family, addr);
		assert_non_null(inet_ntop(family, addr, text, sizeof(text)));
		assert_string_equal(text, table[i].want);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_http_parse_browsers_handshake),
	    cmocka_unit_test(test_http_parse_every_cut_needs_more),
	    cmocka_unit_test(test_http_parse_bad_requests_refused),
	    cmocka_unit_test(test_http_parse_bad_requests_refused_alike_in_pieces),
	    cmocka_unit_test(test_http_parse_targets),
	    cmocka_unit_test(test_http_parse_limits),
	    cmocka_unit_test(test_http_parse_post_where_it_is_served),
	    cmocka_unit_test(test_http_is_handshake_refuses),
	    cmocka_unit_test(test_http_query_walks_parameters),
	    cmocka_unit_test(test_http_client_address_behind_proxies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
