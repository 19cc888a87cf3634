/* proto/http_reply.c: each reply to its last byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "proto/http_reply.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="

/* RFC 6455 §1.3 */
static void
test_http_reply_accept_key_of_rfc(void **state)
{
	char out[HTTP_ACCEPT_LEN + 1];

	assert_int_equal(http_accept_key((struct slice){KEY, 24}, out), 0);
	assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	assert_int_equal(http_accept_key((struct slice){KEY, 23}, out), -EIO);
}

static void
test_http_reply_upgrade_whole(void **state)
{
	char out[HTTP_UPGRADE_MAX], longer[HTTP_HEAD_MAX];
	struct slice none = {NULL, 0}, token = {longer, sizeof(longer)};
	const struct http_request r = {.key = {KEY, HTTP_KEY_LEN}};
	ptrdiff_t len;

	len = http_upgrade_reply(&r, (struct slice){"wscast.v1", 9}, NULL, out);
	assert_true(len > 0);
	assert_int_equal(len, strlen(out));
	assert_string_equal(out,
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
	    "Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	    "Sec-WebSocket-Protocol: wscast.v1\r\n\r\n");
	len = http_upgrade_reply(&r, none, "permessage-deflate", out);
	assert_true(len > 0);
	assert_null(strstr(out, "Protocol:"));
	assert_non_null(
	    strstr(out, "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"));
	/* Whatever a request's head can offer has room. */
	memset(longer, 'p', sizeof(longer));
	len = http_upgrade_reply(&r, token, "permessage-deflate", out);
	assert_true(len > HTTP_HEAD_MAX && len < HTTP_UPGRADE_MAX);
	assert_memory_equal(out + len - 4, "\r\n\r\n", 4);
	token.len++;
	assert_int_equal(http_upgrade_reply(&r, token, NULL, out), -EMSGSIZE);
	longer[HTTP_REPLY_MAX / 2 + 1] = '\0';
	assert_int_equal(http_upgrade_reply(&r, none, longer, out), -EMSGSIZE);
}

static void
test_http_reply_error_says_what_its_status_needs(void **state)
{
	const struct {
		struct http_fault fault;
		const char *line;
	} table[] = {
	    {{.status = 405, .message = "no", .allow = HTTP_GET | HTTP_HEAD},
		"\r\nAllow: GET, HEAD\r\n"},
	    {{.status = 405, .message = "no", .allow = HTTP_POST},
		"\r\nAllow: POST\r\n"},
	    {{.status = 405, .message = "no", .allow = HTTP_GET | HTTP_POST},
		"\r\nAllow: GET, POST\r\n"},
	    {{.status = 426, .message = "no"}, "\r\nSec-WebSocket-Version: 13\r\n"},
	    {{.status = 426, .message = "no"}, "\r\nConnection: close, Upgrade\r\n"},
	    {{.status = 401, .message = "no"}, "\r\nWWW-Authenticate: Bearer\r\n"},
	    {{.status = 401, .message = "no", .bad_token = true},
		"\r\nWWW-Authenticate: Bearer error=\"invalid_token\", "
		"error_description=\"no\"\r\n"},
	    {{.status = 503, .message = "no", .retry_s = 5}, "\r\nRetry-After: 5\r\n"},
	    {{.status = 503, .message = "no"}, "HTTP/1.1 503 Service Unavailable\r\n"},
	    {{.status = 400, .message = "no"}, "\r\nConnection: close\r\n"},
	    {{.status = 400, .message = "no"}, "\r\nContent-Length: 3\r\n"},
	};
	char out[HTTP_REPLY_MAX + 1], longer[2000];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		out[http_error_reply(&table[i].fault, out)] = '\0';
		assert_non_null(strstr(out, table[i].line));
		assert_string_equal(out + strlen(out) - 7, "\r\n\r\nno\n");
	}
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_true(
	    http_error_reply(&(struct http_fault){.status = 431, .message = longer},
		out) <= HTTP_REPLY_MAX);
}

static void
test_http_reply_text_with_and_without_body(void **state)
{
	char out[HTTP_REPLY_MAX];
	ptrdiff_t len =
	    http_text_reply(200, "application/json", "{}", 2, false, out, sizeof(out));
	ptrdiff_t head;

	assert_true(len > 0);
	assert_memory_equal(
	    out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", 49);
	assert_memory_equal(out + len - 6, "\r\n\r\n{}", 6);
	head =
	    http_text_reply(200, "application/json", "{}", 2, true, out, sizeof(out));
	assert_int_equal(head, len - 2);
	assert_int_equal(http_reply_head(200, "application/json", 2, out), head);
	assert_int_equal(
	    http_text_reply(200, "a", "{}", 2, false, out, (size_t)100), -EMSGSIZE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_http_reply_accept_key_of_rfc),
	    cmocka_unit_test(test_http_reply_upgrade_whole),
	    cmocka_unit_test(test_http_reply_error_says_what_its_status_needs),
	    cmocka_unit_test(test_http_reply_text_with_and_without_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
