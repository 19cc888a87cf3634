/* proto/proxy.c against HAProxy's proxy-protocol.txt, whole and cut at each byte. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proto/proxy.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define ADDRESSES4 "\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
#define ADDRESSES6                                                                     \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0"     \
	"\0\0\0\1\xdc\x04\x01\xbb"
#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

struct example {
	const uint8_t *bytes;
	size_t len;
	const char *want; /* address and port, "" for none, NULL: bad */
};

/* Parse from an allocation that ends with the bytes. */
static enum proxy_result
parse(const uint8_t *bytes, size_t len, struct proxy_header *ret)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	enum proxy_result r;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	r = proxy_parse(copy, len, ret);
	free(copy);
	return r;
}

static void
check_text(const struct proxy_header *h, const char *want)
{
	char host[INET6_ADDRSTRLEN], text[80] = "";

	if (h->family != AF_UNSPEC) {
		assert_non_null(inet_ntop(h->family, h->addr, host, sizeof(host)));
		(void)snprintf(text, sizeof(text), "%s %u", host, h->port);
	}
	assert_string_equal(text, want);
}

/* Whole at its last byte and at no byte before, whatever follows; or bad. */
static void
check(const struct example *e)
{
	uint8_t more[PROXY_MAX + 64];
	struct proxy_header h = {.family = -1};
	enum proxy_result r;

	assert_true(e->len + 5 < sizeof(more));
	memcpy(more, e->bytes, e->len);
	memcpy(more + e->len, "GET /", 5);
	r = parse(more, e->len + 5, &h);
	if (e->want == NULL) {
		assert_int_equal(r, PROXY_BAD);
		assert_int_equal(h.family, -1);
		return;
	}
	assert_int_equal(r, PROXY_WHOLE);
	assert_int_equal(h.len, e->len);
	check_text(&h, e->want);
	for (size_t cut = 0; cut < e->len; cut++)
		assert_int_equal(parse(e->bytes, cut, &h), PROXY_MORE);
	assert_int_equal(parse(e->bytes, e->len, &h), PROXY_WHOLE);
}

static void
test_proxy_v1_taken_to_the_letter(void **state)
{
	static const struct example table[] = {
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"),
		"192.0.2.7 56324"},
	    {BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
		"255.255.255.255 65535"},
	    {BYTES("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0 0"},
	    {BYTES("PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n"), "2001:db8::7 1"},
	    {BYTES("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n"), "192.0.2.7 1"},
	    {BYTES("PROXY UNKNOWN\r\n"), ""},
	    {BYTES("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"),
		""},
	    {BYTES("PROXY UNKNOWN  what\0ever \r\n"), ""},
	    {BYTES("PROXY\r\n"), NULL},
	    {BYTES("PROXY \r\n"), NULL},
	    {BYTES("PROXY  TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"), NULL},
	    {BYTES("proxy TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"), NULL},
	    {BYTES("PROXY tcp4 192.0.2.7 198.51.100.1 56324 443\r\n"), NULL},
	    {BYTES("PROXY TCP5 192.0.2.7 198.51.100.1 56324 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 1\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1  443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 056 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 +56 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.07 198.51.100.1 1 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2 198.51.100.1 1 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.256 1 443\r\n"), NULL},
	    {BYTES("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n"), NULL},
	    {BYTES("PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7\t198.51.100.1 1 2\r\n"), NULL},
	    {BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n"), NULL},
	    {BYTES("PROXY UNKNOWN \n\r\n"), NULL},
	    {BYTES("PROXY UNKNOWN \rx\r\n"), NULL},
	    {BYTES("GET / HTTP/1.1\r\n"), NULL},
	    {BYTES("\x16\x03\x01"), NULL},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		check(&table[i]);
}

/* A line may have 107 bytes, and is waited for no longer. */
static void
test_proxy_v1_line_of_107_bytes_and_no_more(void **state)
{
	char line[PROXY_V1_MAX + 3];
	struct proxy_header h;

	memset(line, 'x', sizeof(line));
	memcpy(line, "PROXY UNKNOWN ", 14);
	memcpy(line + PROXY_V1_MAX - 2, "\r\n", 2);
	check(&(struct example){(const uint8_t *)line, PROXY_V1_MAX, ""});
	memcpy(line + PROXY_V1_MAX - 2, "x\r\n", 3);
	assert_int_equal(parse((const uint8_t *)line, PROXY_V1_MAX + 1, &h), PROXY_BAD);
	assert_int_equal(parse((const uint8_t *)line, PROXY_V1_MAX, &h), PROXY_BAD);
	assert_int_equal(
	    parse((const uint8_t *)line, PROXY_V1_MAX - 1, &h), PROXY_MORE);
}

static void
test_proxy_v2_families_and_commands(void **state)
{
	static const struct example table[] = {
	    {BYTES(V2 "\x21\x11\0\x0c" ADDRESSES4), "192.0.2.7 56324"},
	    {BYTES(V2 "\x21\x21\0\x24" ADDRESSES6), "2001:db8::7 56324"},
	    {BYTES(V2 "\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\7"
		      "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0\2"),
		"192.0.2.7 1"},
	    {BYTES(V2 "\x21\x12\0\x0c" ADDRESSES4), ""}, /* datagrams */
	    {BYTES(V2 "\x21\x10\0\x0c" ADDRESSES4), ""}, /* no transport */
	    {BYTES(V2 "\x21\x00\0\0"), ""},
	    {BYTES(V2 "\x21\x00\0\3abc"), ""},
	    {BYTES(V2 "\x20\x00\0\0"), ""},
	    {BYTES(V2 "\x20\x11\0\x0c" ADDRESSES4), ""}, /* LOCAL: discarded */
	    {BYTES(V2 "\x20\x11\0\1x"), ""},
	    {BYTES(V2 "\x22\x11\0\x0c" ADDRESSES4), NULL},
	    {BYTES(V2 "\x11\x11\0\x0c" ADDRESSES4), NULL},
	    {BYTES(V2 "\x31\x11\0\x0c" ADDRESSES4), NULL},
	    {BYTES(V2 "\x21\x41\0\x0c" ADDRESSES4), NULL},
	    {BYTES(V2 "\x21\x13\0\x0c" ADDRESSES4), NULL},
	    {BYTES(V2 "\x20\x41\0\x0c" ADDRESSES4), NULL},
	    {BYTES(V2 "\x21\x11\0\x0b" ADDRESSES4), NULL}, /* too short for it */
	    {BYTES(V2 "\x21\x21\0\x0c" ADDRESSES4), NULL},
	    {BYTES("\r\n\r\n\0\r\nQUIT\r"), NULL},
	};
	uint8_t path[16 + 216] = V2 "\x21\x31\0\xd8/run/client";

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		check(&table[i]);
	check(&(struct example){path, sizeof(path), ""});
	path[15]--;
	check(&(struct example){path, sizeof(path), NULL});
}

static void
test_proxy_v2_tlvs_are_passed_over_within_bounds(void **state)
{
	static const struct example table[] = {
	    {BYTES(V2 "\x21\x11\0\x14" ADDRESSES4 "\1\0\2h2\4\0\0"), "192.0.2.7 56324"},
	    {BYTES(V2 "\x21\x11\0\x0f" ADDRESSES4 "\xff\0\0"), "192.0.2.7 56324"},
	    {BYTES(V2 "\x21\x11\0\x0d" ADDRESSES4 "\4"), NULL},
	    {BYTES(V2 "\x21\x11\0\x0e" ADDRESSES4 "\4\0"), NULL},
	    {BYTES(V2 "\x21\x11\0\x0f" ADDRESSES4 "\4\0\1"), NULL},
	    {BYTES(V2 "\x21\x11\0\x10" ADDRESSES4 "\4\xff\xff\0"), NULL},
	    {BYTES(V2 "\x21\x31\0\x0c" ADDRESSES4), NULL},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		check(&table[i]);
}

/* The checksum was made by another program. */
static void
test_proxy_v2_checksum_must_be_right(void **state)
{
	uint8_t header[] = V2 "\x21\x11\0\x1e" ADDRESSES4 "\1\0\2h2\3\0\4CRC.\4\0\3xyz";
	const size_t len = sizeof(header) - 1, at = 36;
	static const uint8_t crc[] = {0x99, 0x73, 0x62, 0x70};

	memcpy(header + at, crc, sizeof(crc));
	check(&(struct example){header, len, "192.0.2.7 56324"});
	for (size_t i = 16; i < len; i++) {
		if (i == 30 || i == 33)
			continue; /* the checksum's TLV is none any more */
		header[i] ^= 4;
		check(&(struct example){header, len, NULL});
		header[i] ^= 4;
	}
}

/* A header may be as long as PROXY_MAX; a longer one is refused by its head. */
static void
test_proxy_v2_length_is_bounded(void **state)
{
	static uint8_t header[PROXY_MAX + 1] = V2 "\x21\x00\x0f\xf0";
	struct proxy_header h;

	check(&(struct example){header, PROXY_MAX, ""});
	header[15]++;
	assert_int_equal(parse(header, 16, &h), PROXY_BAD);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_proxy_v1_taken_to_the_letter),
	    cmocka_unit_test(test_proxy_v1_line_of_107_bytes_and_no_more),
	    cmocka_unit_test(test_proxy_v2_families_and_commands),
	    cmocka_unit_test(test_proxy_v2_tlvs_are_passed_over_within_bounds),
	    cmocka_unit_test(test_proxy_v2_checksum_must_be_right),
	    cmocka_unit_test(test_proxy_v2_length_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
