/* proto/glob.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <time.h>

#include "proto/glob.h"

/* Add to the text in a buffer of this size. */
static void
append(char *text, size_t size, const char *more)
{
	size_t len = strlen(text);

	assert_true(len + strlen(more) < size);
	memcpy(text + len, more, strlen(more) + 1);
}

static void
test_glob_match_table(void **state)
{
	const struct {
		const char *pattern, *name;
		bool want;
	} table[] = {
	    {"news", "news", true},
	    {"news", "new", false},
	    {"news", "newsx", false},
	    {"", "", true},
	    {"", "a", false},
	    {"*", "", true},
	    {"*", "any:thing/at all", true},
	    {"chat:*", "chat:", true},
	    {"chat:*", "chat:a:b", true},
	    {"chat:*", "chat", false},
	    {"*:a", "x:b:a", true},
	    {"*a*b*", "xxaxxbxx", true},
	    {"*a*b*", "xxbxxaxx", false},
	    {"a*b*c", "abcbc", true},
	    {"a**c", "ac", true},
	    {"?", "a", true},
	    {"?", "", false},
	    {"?", "\xc3\xa4", true},
	    {"??", "\xc3\xa4", false},
	    {"?", "\xff", true},
	    {"a?c", "abc", true},
	    {"\\*", "*", true},
	    {"\\*", "a", false},
	    {"\\?x", "?x", true},
	    {"\\\\", "\\", true},
	    {"a\\", "a\\", true},
	    {"[a]", "[a]", true},
	    {"[a]", "a", false},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (glob_match(table[i].pattern, table[i].name,
			strlen(table[i].name)) != table[i].want)
			fail_msg("%s on %s", table[i].pattern, table[i].name);
	}
	assert_true(glob_match("a*", "a\0b", 3));
}

static void
test_glob_match_many_stars_ends_soon(void **state)
{
	char pattern[201] = "", name[201];
	clock_t begin = clock();

	for (int i = 0; i < 99; i++)
		append(pattern, sizeof(pattern), "*a");
	append(pattern, sizeof(pattern), "*b");
	memset(name, 'a', 200);
	assert_false(glob_match(pattern, name, 200));
	assert_true(clock() - begin < CLOCKS_PER_SEC);
}

static void
test_glob_is_literal_names(void **state)
{
	assert_true(glob_is_literal("news:a.b"));
	assert_false(glob_is_literal("news*"));
	assert_false(glob_is_literal("n?ws"));
	assert_false(glob_is_literal("\\news"));
}

static void
test_glob_put_subject_table(void **state)
{
	static const struct {
		const char *pattern, *subject, *want;
	} table[] = {
	    {"user:{sub}", "ann", "user:ann"},
	    {"{sub}:{sub}", "a", "a:a"},
	    {"user:{sub}:*", "a*?\\b", "user:a\\*\\?\\\\b:*"},
	    {"user:\\{sub}", "ann", "user:\\{sub}"},
	    {"user:{su", "ann", "user:{su"},
	    {"user:{sub}:x", NULL, "user:?*:x"},
	    {"a\\", "ann", "a\\"},
	};
	char out[64];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *sub = table[i].subject;

		assert_true(glob_put_subject(table[i].pattern,
		    (struct slice){sub, sub != NULL ? strlen(sub) : 0}, out,
		    sizeof(out)));
		assert_string_equal(out, table[i].want);
	}
	assert_true(glob_has_subject("x{sub}"));
	assert_false(glob_has_subject("x\\{sub}"));
}

static void
test_glob_put_subject_no_room_is_said(void **state)
{
	char out[8];

	assert_true(
	    glob_put_subject("a{sub}b", (struct slice){"12345", 5}, out, sizeof(out)));
	assert_string_equal(out, "a12345b");
	assert_false(
	    glob_put_subject("a{sub}b", (struct slice){"123456", 6}, out, sizeof(out)));
	assert_false(
	    glob_put_subject("a{sub}b", (struct slice){"***", 3}, out, sizeof(out)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_glob_match_table),
	    cmocka_unit_test(test_glob_match_many_stars_ends_soon),
	    cmocka_unit_test(test_glob_is_literal_names),
	    cmocka_unit_test(test_glob_put_subject_table),
	    cmocka_unit_test(test_glob_put_subject_no_room_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
