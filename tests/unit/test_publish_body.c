/* test_publish_body.c - proto/publish_body.h, proto/api_keys.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "proto/api_keys.h"
#include "proto/publish_body.h"

/* All messages of a body, as "channel=data;"; malloc'd. What is read lies in memory of
 * exactly its length. NULL: it was refused. */
static char *
read_all(const char *body, size_t len)
{
	size_t n = 0, cap = 2 * len + 10;
	char *text = malloc(len == 0 ? 1 : len), *out = calloc(1, cap);
	char why[PUBLISH_WHY_MAX] = "";
	struct publish_item item;
	struct publish_body b;
	int r;

	assert_non_null(text);
	assert_non_null(out);
	memcpy(text, body, len);
	r = publish_body_begin(&b, text, len, why);
	while (r == 0 && (r = publish_body_next(&b, &item, why)) > 0) {
		n += (size_t)snprintf(out + n, cap - n, "%.*s%s%.*s=%.*s;",
		    (int)item.channel.len, item.channel.p,
		    item.key.p == NULL ? "" : "#", (int)item.key.len,
		    item.key.p == NULL ? "" : item.key.p, (int)item.data.len,
		    item.data.p);
		assert_true(n < cap);
		r = 0;
	}
	free(text);
	if (r == 0)
		return out;
	assert_int_equal(r, -EBADMSG);
	assert_string_not_equal(why, "");
	free(out);
	return NULL;
}

static void
test_publish_body_messages_come_out(void **state)
{
	static const char *const table[][2] = {
	    {"{\"channel\":\"a\",\"data\":1}", "a=1;"},
	    {" { \"data\" : [ 1 , 2 ] , \"channel\" : \"a\" } ", "a=[1,2];"},
	    {"{\"channel\":\"\\u00e4\",\"data\":\"x\"}", "\xc3\xa4=\"x\";"},
	    {"{\"channel\":\"a\",\"base64\":\"aGk=\"}", "a=hi;"},
	    {"{\"channel\":\"a\",\"base64\":\"\"}", "a=;"},
	    {"[{\"channel\":\"a\",\"data\":{ }}]", "a={};"},
	    {"{\"key\":\"\\u00e4b\",\"channel\":\"a\",\"data\":1}", "a#\xc3\xa4"
								    "b=1;"},
	    {"[ {\"channel\":\"a\",\"data\":1.50} ,\n{\"channel\":\"b\",\"data\": "
	     "null} ]",
		"a=1.50;b=null;"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *got = read_all(table[i][0], strlen(table[i][0]));

		assert_non_null(got);
		assert_string_equal(got, table[i][1]);
		free(got);
	}
}

/* Cut anywhere it is refused, or (white space at its end) the same. */
static void
test_publish_body_cut_is_refused(void **state)
{
	static const char body[] = "[{\"channel\":\"a\",\"data\":[1,{\"x\":\"\\n\"}]},"
				   "{\"channel\":\"b\",\"base64\":\"aGk=\"}]";

	for (size_t len = 0; len < sizeof(body) - 1; len++)
		assert_null(read_all(body, len));
}

static void
test_publish_body_faults_refused(void **state)
{
	static const char *const table[] = {"7", "\"x\"", "null", "[]", "[[]]", "[1]",
	    "{}", "{\"channel\":\"a\"}", "{\"data\":1}",
	    "{\"channel\":null,\"data\":1}", "{\"channel\":\"\",\"data\":1}",
	    "{\"channel\":\"\\u0000\",\"data\":1}",
	    "{\"channel\":\"\\ud800\",\"data\":1}",
	    "{\"channel\":\"a\",\"data\":1,\"data\":1}",
	    "{\"channel\":\"a\",\"data\":1,\"x\":1}",
	    "{\"channel\":\"a\",\"data\":1,\"base64\":\"\"}",
	    "{\"channel\":\"a\",\"base64\":1}", "{\"channel\":\"a\",\"base64\":\"a\"}",
	    "{\"channel\":\"a\",\"data\":1,\"key\":\"\"}",
	    "{\"channel\":\"a\",\"data\":1,\"key\":1}",
	    "{\"channel\":\"a\",\"data\":1,\"key\":\"\\u0000\"}",
	    "{\"channel\":\"a\",\"data\":1}{}"};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (read_all(table[i], strlen(table[i])) != NULL)
			fail_msg("%s was taken", table[i]);
}

static void
test_api_keys_are_found_whole(void **state)
{
	static const char file[] =
	    "# comment\n\n  0123456789abcdef \r\n\tfedcba9876543210";
	static const char *const no[] = {"", "# comment", "0123456789abcde",
	    "0123456789abcdef ", "0123456789abcdefg", "comment"};
	unsigned line = 7;

	assert_int_equal(api_keys_count(file, sizeof(file) - 1, &line), 2);
	assert_int_equal(line, 0);
	assert_true(api_keys_has(file, sizeof(file) - 1, "0123456789abcdef", 16));
	assert_true(api_keys_has(file, sizeof(file) - 1, "fedcba9876543210", 16));
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		assert_false(
		    api_keys_has(file, sizeof(file) - 1, no[i], strlen(no[i])));
	assert_false(api_keys_has("", 0, "", 0));
}

static void
test_api_keys_bad_ones_are_named_by_line(void **state)
{
	unsigned line;

	assert_int_equal(api_keys_count("", 0, &line), 0);
	assert_int_equal(api_keys_count("#\n0123456789abcde\n", 18, &line), 1);
	assert_int_equal(line, 2);
	assert_int_equal(api_keys_count("0123456789 abcdef\n", 18, &line), 1);
	assert_int_equal(line, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_publish_body_messages_come_out),
	    cmocka_unit_test(test_publish_body_cut_is_refused),
	    cmocka_unit_test(test_publish_body_faults_refused),
	    cmocka_unit_test(test_api_keys_are_found_whole),
	    cmocka_unit_test(test_api_keys_bad_ones_are_named_by_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
