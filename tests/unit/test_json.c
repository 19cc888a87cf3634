/* proto/json.c against RFC 8259 and, for what both know, jansson. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>

#include "proto/json.h"

/* Add to the text in a buffer of this size. */
static void
append(char *text, size_t size, const char *more)
{
	size_t len = strlen(text);

	assert_true(len + strlen(more) < size);
	memcpy(text + len, more, strlen(more) + 1);
}

static bool
valid(const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len + 1); /* exact, for the sanitizer */
	bool ok;

	assert_non_null(copy);
	memcpy(copy, text, len);
	ok = json_valid(copy, len);
	free(copy);
	return ok;
}

static const char *const good[] = {"0", "-0", "1", "-12.5e+3", "1E-2", "1e400",
    "123456789012345678901234567890", "true", "false", "null", "\"\"", "[]", "{}",
    " [ ] ", "\t{\r\n}\n", "[1,2]", "[[],{}]", "{\"a\":1}",
    "{\"a\":{\"b\":[1,{}]},\"c\":2}", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\"",
    "\"\\ud800\"", "\"\\u0000\"", "\"\x7f\"", "\"12345678\\n12345678\"",
    "\"1234567\xc3\xa4\"", "[1 , 2 , 3]", "{ \"a\" : 1 , \"b\" : 2 }",
    "{\"a\":1,\"a\":2}"};

static const char *const broken[] = {"", " ", "01", "-", "+1", "1.", ".5", "1e", "1e+",
    "0x1", "NaN", "tru", "True", "truex", "nul", "\"", "\"a", "\"\\\"", "\"\\x\"",
    "\"\\u12\"", "\"\\u12g4\"", "\"\n\"", "\"\x1f\"", "\"\xff\"", "\"\xc3\"",
    "\"\xed\xa0\x80\"", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "{", "}",
    "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}", "{\"a\" 1}",
    "{1:2}", "{\"a\":1]", "{,}", "{\"a\":}", "1 2", "[] []", "\xef\xbb\xbf[]", "'a'",
    "// c\n1", "\"a\tb\"", "--1", "1-", "{\"a\":1 \"b\":2}"};

static void
test_json_valid_good_texts_accepted(void **state)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (!valid(good[i]))
			fail_msg("refused: %s", good[i]);
	}
}

static void
test_json_valid_broken_texts_refused(void **state)
{
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		if (valid(broken[i]))
			fail_msg("accepted: %s", broken[i]);
	}
	assert_false(json_valid("1\0", 2));
	assert_false(json_valid("\"\0\"", 3));
}

/* No array or object is whole before its last byte. */
static void
test_json_valid_cut_anywhere_refused(void **state)
{
	const char *text =
	    "{\"a\":[1,true,null,\"\\u00e4\xc3\xa4 and more text\"],\"b\":{}}";

	assert_true(valid(text));
	for (size_t len = 0; len < strlen(text); len++)
		assert_false(json_valid(text, len));
}

/* Each byte of a string of every length is looked at, by words or not. */
static void
test_json_valid_control_in_string_found_at_each_place(void **state)
{
	for (size_t len = 1; len < 30; len++) {
		for (size_t i = 0; i < len; i++) {
			char buf[32];

			memset(buf, 'x', sizeof(buf));
			buf[0] = buf[len + 1] = '"';
			assert_true(json_valid(buf, len + 2));
			buf[1 + i] = 1;
			assert_false(json_valid(buf, len + 2));
			buf[1 + i] = '"';
			assert_false(json_valid(buf, len + 2));
		}
	}
}

static void
test_json_valid_depth_bounded(void **state)
{
	static char buf[2 * JSON_DEPTH_MAX + 2];

	memset(buf, '[', JSON_DEPTH_MAX);
	memset(buf + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	assert_true(json_valid(buf, 2 * JSON_DEPTH_MAX));
	memset(buf, '[', JSON_DEPTH_MAX + 1);
	memset(buf + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	assert_false(json_valid(buf, sizeof(buf)));
}

/* Objects and arrays mixed, across the words that remember which is which. */
static void
test_json_valid_deep_mixture_remembers_kinds(void **state)
{
	char text[4000] = "";

	for (int i = 0; i < 200; i++)
		append(text, sizeof(text), i % 3 ? "[" : "{\"a\":");
	append(text, sizeof(text), "1");
	for (int i = 199; i >= 0; i--)
		append(text, sizeof(text), i % 3 ? "]" : "}");
	assert_true(valid(text));
	text[strlen(text) - 70] ^= ']' ^ '}';
	assert_false(valid(text));
}

static uint32_t
next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Random texts of JSON's characters: as jansson judges, but for what it bounds. */
static void
test_json_valid_random_texts_agree_with_jansson(void **state)
{
	static const char *const parts[] = {"{", "}", "[", "]", ",", ":", "\"a\"",
	    "\"b\"", "1", "0", "-", ".5", "e1", "true", "null", " ", "\"\\n\"", "\""};
	uint32_t seed = 1;

	for (int i = 0; i < 100000; i++) {
		unsigned n = 1 + next_random(&seed) % 9;
		char text[64] = "";
		json_t *json;

		for (unsigned k = 0; k < n; k++)
			append(text, sizeof(text), parts[next_random(&seed) % 18]);
		json = json_loads(text, JSON_DECODE_ANY, NULL);
		if (valid(text) != (json != NULL))
			fail_msg("jansson says %d: %s", json != NULL, text);
		json_decref(json);
	}
}

static void
test_json_value_len_stops_behind_value(void **state)
{
	assert_int_equal(json_value_len("12,", 3), 2);
	assert_int_equal(json_value_len("\"a\" x", 5), 3);
	assert_int_equal(json_value_len("{\"a\":[]}}", 9), 8);
	assert_int_equal(json_value_len(" 1", 2), 0);
	assert_int_equal(json_value_len("", 0), 0);
	assert_int_equal(json_value_len("}", 1), 0);
}

static void
test_json_put_string_escapes_and_reads_back(void **state)
{
	char in[300], out[2000], back[300];
	size_t len = 0, n;

	for (int c = 0; c < 0x80; c++)
		in[len++] = (char)c;
	len += (size_t)sprintf(in + len, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
	n = json_put_string(in, len, out);
	assert_int_equal(n, json_string_len(in, len));
	assert_true(json_valid(out, n));
	/* The NUL cannot be read into a C string. */
	assert_int_equal(
	    json_get_string((struct slice){out, n}, back, sizeof(back)), -EBADMSG);
	n = json_put_string(in + 1, len - 1, out);
	assert_int_equal(
	    json_get_string((struct slice){out, n}, back, sizeof(back)), len - 1);
	assert_memory_equal(back, in + 1, len - 1);
}

/* Whatever lies where in a run of plain characters, it is found. */
static void
test_json_string_measure_finds_each_byte_everywhere(void **state)
{
	static const unsigned char bytes[] = {
	    '"', '\\', '\n', 0, 0x1f, ' ', 0x7f, 0x80, 0xff};
	char text[50];
	size_t quoted;

	for (size_t at = 0; at < sizeof(text); at++) {
		for (size_t i = 0; i < sizeof(bytes); i++) {
			size_t more = bytes[i] == 0x00 || bytes[i] == 0x1f  ? 5
				      : bytes[i] == ' ' || bytes[i] == 0x7f ? 0
									    : 1;

			memset(text, 'x', sizeof(text));
			text[at] = (char)bytes[i];
			if (bytes[i] >= 0x80) {
				assert_false(
				    json_string_measure(text, sizeof(text), &quoted));
				continue;
			}
			assert_true(json_string_measure(text, sizeof(text), &quoted));
			assert_int_equal(quoted, sizeof(text) + 2 + more);
			assert_int_equal(json_string_len(text, sizeof(text)), quoted);
		}
	}
}

static void
test_json_get_string_decodes_surrogates(void **state)
{
	const struct {
		const char *text, *want;
	} table[] = {{"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
	    {"\"\\u20AC\"", "\xe2\x82\xac"}, {"\"\\u00e4\\/\"", "\xc3\xa4/"},
	    {"\"\\ud83d\"", NULL}, {"\"\\ud83d\\n\"", NULL}, {"\"\\ude00\"", NULL},
	    {"\"\\ud83dx12345\"", NULL}, {"\"\\ud83d\\u0041\"", NULL},
	    {"\"\\u0000\"", NULL}, {"\"\"", ""}};
	char out[32];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct slice s = {table[i].text, strlen(table[i].text)};
		ptrdiff_t len = json_get_string(s, out, sizeof(out));

		if (table[i].want == NULL) {
			assert_int_equal(len, -EBADMSG);
		} else {
			assert_int_equal(len, strlen(table[i].want));
			assert_string_equal(out, table[i].want);
		}
	}
}

static void
test_json_get_string_too_small_refused(void **state)
{
	struct slice s = {"\"abc\"", 5};
	char out[4];

	assert_int_equal(json_get_string(s, out, 4), 3);
	assert_int_equal(json_get_string(s, out, 3), -EMSGSIZE);
	assert_int_equal(json_get_string(s, out, 0), -EMSGSIZE);
}

static void
test_json_get_u64_only_plain_numbers(void **state)
{
	static const char *const bad[] = {"", "-1", "1.0", "1e3", "\"1\"",
	    "18446744073709551616", "99999999999999999999"};
	uint64_t n = 7;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(json_get_u64((struct slice){bad[i], strlen(bad[i])}, &n));
	assert_int_equal(n, 7);
	assert_true(json_get_u64((struct slice){"18446744073709551615", 20}, &n));
	assert_true(n == UINT64_MAX);
}

static void
test_json_members_walks_object(void **state)
{
	const char *text = " { \"a\" : [1, 2] ,\"b\":\"x,y\" , \"c\":{\"d\":1} } ";
	const char *want[] = {"a", "[1, 2]", "b", "\"x,y\"", "c", "{\"d\":1}"};
	struct slice name = {NULL, 0}, value = {NULL, 0};
	struct json_members m;
	size_t n = 0;

	assert_true(json_members_begin(&m, (struct slice){text, strlen(text)}));
	while (n < 6 && json_members_next(&m, &name, &value)) {
		assert_true(slice_is(name, want[n++]));
		assert_true(slice_is(value, want[n++]));
	}
	assert_int_equal(n, 6);
	assert_false(json_members_next(&m, &name, &value));
	assert_false(json_members_begin(&m, (struct slice){"[1]", 3}));
	assert_true(json_members_begin(&m, (struct slice){"{ }", 3}));
	assert_false(json_members_next(&m, &name, &value));
}

static void
test_json_compact_keeps_strings(void **state)
{
	char text[] = " { \"a b\" : [ 1 , \"x \\\" \\\\\" , true ] }\n";
	size_t len = json_compact(text, strlen(text), text);

	text[len] = '\0';
	assert_string_equal(text, "{\"a b\":[1,\"x \\\" \\\\\",true]}");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_json_valid_good_texts_accepted),
	    cmocka_unit_test(test_json_valid_broken_texts_refused),
	    cmocka_unit_test(test_json_valid_cut_anywhere_refused),
	    cmocka_unit_test(test_json_valid_control_in_string_found_at_each_place),
	    cmocka_unit_test(test_json_valid_depth_bounded),
	    cmocka_unit_test(test_json_valid_deep_mixture_remembers_kinds),
	    cmocka_unit_test(test_json_valid_random_texts_agree_with_jansson),
	    cmocka_unit_test(test_json_value_len_stops_behind_value),
	    cmocka_unit_test(test_json_put_string_escapes_and_reads_back),
	    cmocka_unit_test(test_json_string_measure_finds_each_byte_everywhere),
	    cmocka_unit_test(test_json_get_string_decodes_surrogates),
	    cmocka_unit_test(test_json_get_string_too_small_refused),
	    cmocka_unit_test(test_json_get_u64_only_plain_numbers),
	    cmocka_unit_test(test_json_members_walks_object),
	    cmocka_unit_test(test_json_compact_keeps_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
