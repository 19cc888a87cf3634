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
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_utf8_every_code_point_only_shortest_form_valid),
	    cmocka_unit_test(test_utf8_cut_character_invalid),
	    cmocka_unit_test(test_utf8_broken_byte_found_at_each_place),
	    cmocka_unit_test(test_utf8_cut_keeps_characters_whole),
	    cmocka_unit_test(test_utf8_is_control_names_c0_del_c1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
