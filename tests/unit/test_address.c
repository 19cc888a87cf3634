/* test_address.c - addresses to listen on, and lists of networks. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proto/address.h"

static void
test_address_parse_table(void **state)
{
	static const char *const good[] = {"1.2.3.4:1", "*:65535", "localhost:80",
	    "[::]:80", "[fe80::1]:443", "[::ffff:1.2.3.4]:1"};
	static const char *const bad[] = {"", ":", ":80", "1.2.3.4",
	    "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:x", "1.2.3:1", "::1:80",
	    "[::1]", "[::1]80", "[]:1", "[1.2.3.4]:1", "a.b:1", "1.2.3.4:-1",
	    "1.2.3.4: 1"};
	struct sockaddr_storage ss;
	const char *why;
	socklen_t len;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(
		    address_parse(good[i], strlen(good[i]), &ss, &len, &why), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    address_parse(bad[i], strlen(bad[i]), &ss, &len, &why), -EINVAL);
}

static bool
has(const char *list, const char *address)
{
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	unsigned char addr[16];

	assert_int_equal(inet_pton(family, address, addr), 1);
	return network_list_has(list, family, addr);
}

static void
test_network_list_has_table(void **state)
{
	const unsigned char none[16] = {0};

	assert_true(has("10.0.0.0/8", "10.255.0.1"));
	assert_false(has("10.0.0.0/8", "11.0.0.1"));
	assert_true(has("192.0.2.128/25", "192.0.2.200"));
	assert_false(has("192.0.2.128/25", "192.0.2.127"));
	assert_true(has("0.0.0.0/0", "1.2.3.4"));
	assert_false(has("0.0.0.0/0", "::1"));
	assert_true(has("fd00::/8, 127.0.0.1", "127.0.0.1"));
	assert_true(has("fd00::/8 127.0.0.1", "fd12::1"));
	assert_true(has("10.0.0.0/8", "::ffff:10.1.2.3"));
	assert_true(has("::1", "::1"));
	assert_false(has("", "::1"));
	assert_true(network_list_has("10.0.0.0/8 unix:", AF_UNIX, none));
	assert_false(network_list_has("0.0.0.0/0 ::/0", AF_UNIX, none));
	assert_false(has("unix:", "127.0.0.1"));
}

static void
test_network_parse_bad(void **state)
{
	static const char *const bad[] = {"", "x", "10.0.0.1/8", "10.0.0.0/33",
	    "10.0.0.0/", "::/129", "10.0.0.0/-1", "10.0.0.0/0008", "/8", "::1/64"};
	struct network n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(network_parse(bad[i], strlen(bad[i]), &n), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_address_parse_table),
	    cmocka_unit_test(test_network_list_has_table),
	    cmocka_unit_test(test_network_parse_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
