/* proto/utf8.c against RFC 3629, every code point and every broken form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/utf8.h"

/* Encode without asking whether that is allowed: with as many bytes as wanted. */
static size_t
encode(uint32_t c, size_t n, unsigned char *out)
{
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

	if (n == 1) {
		out[0] = (unsigned char)c;
		return 1;
	}
	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		out[i] = (unsigned char)(0x80 | (c & 63));
	out[0] = (unsigned char)(lead[n] | c);
	return n;
}

static size_t
shortest(uint32_t c)
{
	return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

/* The check of text in parts says what utf8_valid() says of the whole, and that it is
 * wrong not later than with its first wrong byte. */
static void
test_utf8_check_in_parts_as_whole(void **state)
{
	unsigned char buf[4 + 12];

	memset(buf, 'a', sizeof(buf));
	for (uint32_t c = 0; c < 0x1fffff; c += c < 0x11000 ? 1 : 61) {
		for (size_t n = shortest(c); n <= 4; n++) {
			size_t len = encode(c, n, buf), more = len + c % 12;
			struct utf8_check one = {0}, two = {0}, all = {0};
			bool ok = true;

			memset(buf + len, 'a', sizeof(buf) - len);
			for (size_t i = 0; i < len && ok; i++)
				ok = utf8_check_add(&one, buf + i, 1);
			assert_int_equal(
			    ok && utf8_check_done(&one), utf8_valid(buf, len));
			ok = utf8_check_add(&two, buf, len / 2) &&
			     utf8_check_add(&two, buf + len / 2, more - len / 2);
			assert_int_equal(
			    ok && utf8_check_done(&two), utf8_valid(buf, more));
			ok = utf8_check_add(&all, buf, more);
			assert_int_equal(
			    ok && utf8_check_done(&all), utf8_valid(buf, more));
		}
	}
}

static void
test_utf8_check_cut_is_no_end(void **state)
{
	static const char *const cut[] = {
	    "\xc3", "\xe2", "\xe2\x82", "\xf0", "\xf0\x9f", "abcdefgh\xf0\x9f\x8e"};

	for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		struct utf8_check u = {0};

		assert_true(utf8_check_add(&u, cut[i], strlen(cut[i])));
		assert_false(utf8_check_done(&u));
		assert_true(utf8_check_add(&u, "", 0));
		assert_false(utf8_check_add(&u, "a", 1));
	}
}

static void
test_utf8_every_code_point_only_shortest_form_valid(void **state)
{
	unsigned char buf[4];

	for (uint32_t c = 0; c < 0x1fffff; c += c < 0x11000 ? 1 : 61) {
		bool real = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);

		for (size_t n = shortest(c); n <= 4; n++) {
			size_t len = encode(c, n, buf);

			assert_int_equal(
			    utf8_valid(buf, len), real && n == shortest(c));
		}
	}
}

static void
test_utf8_cut_character_invalid(void **state)
{
	static const char *const whole[] = {
	    "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};

	for (size_t i = 0; i < 3; i++) {
		size_t len = strlen(whole[i]);

		assert_true(utf8_valid(whole[i], len));
		assert_int_equal(
		    utf8_char_len((const unsigned char *)whole[i], len), len);
		for (size_t cut = 1; cut < len; cut++)
			assert_false(utf8_valid(whole[i], cut));
	}
	assert_false(utf8_valid("\x80", 1));
	assert_false(utf8_valid("\xff", 1));
	assert_false(utf8_valid("\xc3\x28", 2));
	assert_true(utf8_valid("", 0));
}

/* A broken byte is found wherever it lies in the words of 8. */
static void
test_utf8_broken_byte_found_at_each_place(void **state)
{
	char buf[40];

	for (size_t i = 0; i < sizeof(buf); i++) {
		memset(buf, 'a', sizeof(buf));
		assert_true(utf8_valid(buf, sizeof(buf)));
		buf[i] = (char)0xfe;
		assert_false(utf8_valid(buf, sizeof(buf)));
	}
}

static void
test_utf8_cut_keeps_characters_whole(void **state)
{
	const char *s = "a\xe2\x82\xac"
			"b";

	assert_int_equal(utf8_cut(s, 5, 9), 5);
	assert_int_equal(utf8_cut(s, 5, 4), 4);
	assert_int_equal(utf8_cut(s, 5, 3), 1);
	assert_int_equal(utf8_cut(s, 5, 2), 1);
	assert_int_equal(utf8_cut(s, 5, 0), 0);
}

static void
test_utf8_is_control_names_c0_del_c1(void **state)
{
	assert_true(utf8_is_control((const unsigned char *)"\n", 1));
	assert_true(utf8_is_control((const unsigned char *)"\x7f", 1));
	assert_true(utf8_is_control((const unsigned char *)"\xc2\x85", 2));
	assert_false(utf8_is_control((const unsigned char *)"\xc2\xa0", 2));
	assert_false(utf8_is_control((const unsigned char *)" ", 1));
	assert_true(utf8_is_text("", 0));
	assert_true(utf8_is_text("a \xc3\xa9", 4));
	assert_false(utf8_is_text("a\xc2\x85", 3));
	assert_false(utf8_is_text("a\nb", 3));
	assert_false(utf8_is_text("a\xc3", 2));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_utf8_every_code_point_only_shortest_form_valid),
	    cmocka_unit_test(test_utf8_check_in_parts_as_whole),
	    cmocka_unit_test(test_utf8_check_cut_is_no_end),
	    cmocka_unit_test(test_utf8_cut_character_invalid),
	    cmocka_unit_test(test_utf8_broken_byte_found_at_each_place),
	    cmocka_unit_test(test_utf8_cut_keeps_characters_whole),
	    cmocka_unit_test(test_utf8_is_control_names_c0_del_c1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
