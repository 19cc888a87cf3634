/* proto/origin.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/origin.h"

struct row {
	const char *origins, *origin, *host;
	bool want;
};

static struct slice
slice_of(const char *text)
{
	return (struct slice){text, text == NULL ? 0 : strlen(text)};
}

static void
check(const struct row *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (origin_ok(table[i].origins, slice_of(table[i].origin),
			slice_of(table[i].host)) != table[i].want)
			fail_msg("origin %s, host %s, allowed '%s': want %d",
			    table[i].origin, table[i].host, table[i].origins,
			    table[i].want);
}

#define CHECK(table) check(table, sizeof(table) / sizeof((table)[0]))

static void
test_origin_same_host_compares_host_and_port(void **state)
{
	static const struct row table[] = {
	    {"", NULL, "h", true},
	    {"", "http://h", "h", true},
	    {"", "http://h", "h:80", true},
	    {"", "http://h:80", "h", true},
	    {"", "https://h", "h:443", true},
	    {"", "https://h:443", "h", true},
	    /* TLS ended at a proxy that passes the Host on */
	    {"", "https://H.Example", "h.EXAMPLE", true},
	    {"", "http://h:8080", "h:8080", true},
	    {"", "http://[::1]", "[::1]:80", true},
	    {"", "http://[::1]:81", "[::1]:81", true},
	    {"", "http://[::1]", "[::2]", false},
	    {"", "http://h", "h:8080", false},
	    {"", "http://h:8080", "h", false},
	    {"", "https://h", "h:80", false},
	    {"", "http://other", "h", false},
	    {"", "http://h.other", "h", false},
	    {"", "http://other.h", "h", false},
	    {"", "chrome-extension://h", "h", false},
	};
	CHECK(table);
}

static void
test_origin_that_is_none_is_refused(void **state)
{
	static const char *const broken[] = {"", "null", "h", "//h", "://h", "http:/h",
	    "http://", "http://:80", "http://h/", "http://h:", "http://h:x",
	    "http://u@h", "http://h http://h", "http://h,http://h",
	    "http://evil/http://h", "http://h\\.evil", "http://h#", "http://h?",
	    "ht tp://h", "file://"};

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct row rows[] = {{"", broken[i], "h", false},
		    {"http://* x *.h", broken[i], "h", false},
		    {"*", broken[i], "h", true}};

		CHECK(rows);
	}
}

static void
test_origin_listed_table(void **state)
{
	static const struct row table[] = {
	    {"*", "null", "h", true}, {"*", "http://any", "h", true},
	    {"https://a.example", "https://a.example", "h", true},
	    {"https://A.Example", "https://a.eXample", "h", true},
	    {"https://a.example:443", "https://a.example", "h", true},
	    {"https://a.example", "https://a.example:443", "h", true},
	    {"https://a.example", "https://a.example:444", "h", false},
	    {"https://a.example", "http://a.example", "h", false},
	    {"https://a.example", "http://h", "h",
		false}, /* the list is all there is */
	    {"http://a.example:3000", "http://a.example:3000", "h", true},
	    {"http://a.example:3000", "http://a.example:30000", "h", false},
	    {"x https://*.example", "https://b.example", "h", true},
	    {"https://*.example", "https://example", "h", false},
	    {"https://*.example", "https://b.example:8443", "h", false},
	    {"https://*.example", "https://b.example.evil", "h", false},
	    {"https://*.example:*", "https://b.example:8443", "h", true},
	    {"http://localhost:*", "http://localhost", "h", true},
	    {"http*://a.example", "https://a.example", "h", true},
	    {"a.example", "http://a.example:99", "h", true},
	    {"a.example:99", "https://a.example:99", "h", true},
	    {"a.example:99", "http://a.example", "h", false},
	    {"a.example", "http://b.example", "h", false},
	    {"*.example", "null", "h", false}, {"null", "null", "h", true},
	    {"NULL", "null", "h", true},
	    {"null", "http://null", "h", true}, /* a host of that name */
	    {"file://", "file://", "h", true},
	    {"[::1]", "http://[::1]:3000", "h", true},
	    {"chrome-extension://abc*", "chrome-extension://abcdef", "h", true},
	    {"https://a.example", NULL, "h", true}, /* no browser */
	};
	CHECK(table);
}

static void
test_origin_too_long_is_refused(void **state)
{
	char origin[400] = "http://", list[800];

	memset(origin + 7, 'x', 293);
	origin[300] = '\0';
	(void)snprintf(list, sizeof(list), "%s http://*", origin);
	assert_false(origin_ok(list, slice_of(origin), slice_of("h")));
	/* Nor does a word that is too long hide the one behind it. */
	origin[299] = '\0';
	assert_true(origin_ok(list, slice_of(origin), slice_of("h")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_origin_same_host_compares_host_and_port),
	    cmocka_unit_test(test_origin_that_is_none_is_refused),
	    cmocka_unit_test(test_origin_listed_table),
	    cmocka_unit_test(test_origin_too_long_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
