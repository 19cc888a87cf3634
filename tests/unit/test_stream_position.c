/* test_stream_position.c - ids, what XINFO STREAM says, and what that tells of a loss.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/stream_position.h"

static bool
parses(const char *text, struct stream_id *ret)
{
	return stream_id_parse(text, strlen(text), ret);
}

static void
test_stream_id_parse_table(void **state)
{
	static const char *const good[] = {"0-0", "1-2", "1700000000000-15",
	    "18446744073709551615-18446744073709551615"};
	static const char *const bad[] = {"", "-", "1", "1-", "-1", "1-x", "x-1",
	    "1-2-3", " 1-2", "1-2 ", "18446744073709551616-0", "1-18446744073709551616",
	    "000000000000000000001-0", "+1-2"};
	char out[STREAM_ID_TEXT_MAX];
	struct stream_id id;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(parses(good[i], &id));
		assert_int_equal(stream_id_print(&id, out), strlen(good[i]));
		assert_string_equal(out, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parses(bad[i], &id))
			fail_msg("taken: %s", bad[i]);
}

static void
test_stream_id_compare_is_by_time_then_sequence(void **state)
{
	struct stream_id a = {1, 9}, b = {2, 0}, c = {2, 1};

	assert_true(stream_id_compare(&a, &b) < 0);
	assert_true(stream_id_compare(&c, &b) > 0);
	assert_int_equal(stream_id_compare(&b, &b), 0);
}

/* The reply that these bytes are; the caller frees it. */
static redisReply *
reply(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *r = NULL;

	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &r), REDIS_OK);
	assert_non_null(r);
	redisReaderFree(reader);
	return r;
}

static bool
info_of(const char *text, struct stream_info *ret)
{
	redisReply *r = reply(text);
	bool ok = stream_info_parse(r, ret);

	freeReplyObject(r);
	return ok;
}

static void
test_stream_info_parse_redis_7(void **state)
{
	struct stream_info info;

	assert_true(info_of("*8\r\n$6\r\nlength\r\n:2\r\n"
			    "$17\r\nlast-generated-id\r\n$3\r\n5-0\r\n"
			    "$13\r\nentries-added\r\n:5\r\n"
			    "$11\r\nfirst-entry\r\n*2\r\n$3\r\n4-1\r\n*0\r\n",
	    &info));
	assert_int_equal(info.length, 2);
	assert_int_equal(info.last.ms, 5);
	assert_true(info.has_added);
	assert_int_equal(info.added, 5);
	assert_int_equal(info.first.seq, 1);
}

static void
test_stream_info_parse_redis_6_does_not_count(void **state)
{
	struct stream_info info;

	assert_true(info_of("*6\r\n$6\r\nlength\r\n:0\r\n"
			    "$17\r\nlast-generated-id\r\n$3\r\n5-0\r\n"
			    "$11\r\nfirst-entry\r\n$-1\r\n",
	    &info));
	assert_false(info.has_added);
	assert_int_equal(info.length, 0);
}

static void
test_stream_info_parse_bad(void **state)
{
	static const char *const bad[] = {"+OK\r\n", "*0\r\n", ":1\r\n", "$-1\r\n",
	    "*2\r\n$6\r\nlength\r\n:1\r\n", "*3\r\n$6\r\nlength\r\n:1\r\n:1\r\n",
	    "*4\r\n$6\r\nlength\r\n:-1\r\n$17\r\nlast-generated-id\r\n$3\r\n5-0\r\n",
	    "*4\r\n$6\r\nlength\r\n:0\r\n$17\r\nlast-generated-id\r\n:5\r\n",
	    "*4\r\n$6\r\nlength\r\n:1\r\n$17\r\nlast-generated-id\r\n$3\r\n5-0\r\n",
	    ("*6\r\n$6\r\nlength\r\n:1\r\n$17\r\nlast-generated-id\r\n$3\r\n5-0\r\n"
	     "$11\r\nfirst-entry\r\n*1\r\n:1\r\n")};
	struct stream_info info;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (info_of(bad[i], &info))
			fail_msg("taken: %s", bad[i]);
}

/* Read up to 10-0, with which 10 entries had been added; then the stream says this. */
static void
test_stream_position_check_table(void **state)
{
	const struct {
		const char *what;
		uint64_t last, first, length, added;
		bool had_counted, counts;
		enum stream_loss want;
		uint64_t want_last, want_added;
	} table[] = {
	    {"nothing new", 10, 1, 10, 10, true, true, STREAM_WHOLE, 10, 10},
	    {"new ones", 15, 1, 15, 15, true, true, STREAM_WHOLE, 10, 10},
	    {"ours went, none is new", 10, 0, 0, 10, true, true, STREAM_WHOLE, 10, 10},
	    {"ours went, all new are there", 15, 11, 5, 15, true, true, STREAM_WHOLE,
		10, 10},
	    {"two new went", 15, 13, 3, 15, true, true, STREAM_LOST, 10, 12},
	    {"all new went", 15, 0, 0, 15, true, true, STREAM_LOST, 10, 15},
	    {"same end, more were added", 10, 0, 0, 11, true, true, STREAM_LOST, 10,
		11},
	    {"an older state", 8, 1, 8, 8, true, true, STREAM_OTHER, 8, 8},
	    {"none any more", 0, 0, 0, 0, true, true, STREAM_OTHER, 0, 0},
	    {"made anew, longer since", 20, 18, 3, 3, true, true, STREAM_OTHER, 10, 0},
	    {"Redis 6: ours is there", 15, 10, 6, 0, false, false, STREAM_WHOLE, 10, 0},
	    {"Redis 6: ours went", 15, 12, 4, 0, false, false, STREAM_LOST, 10, 0},
	    {"Redis 6: nothing new", 10, 0, 0, 0, false, false, STREAM_WHOLE, 10, 0},
	    {"it begins to count", 10, 1, 10, 10, false, true, STREAM_WHOLE, 10, 10},
	    {"a counter set by hand", 15, 11, 5, 3, true, true, STREAM_LOST, 10, 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct stream_position p = {.last = {10, 0},
		    .known = true,
		    .added = table[i].had_counted ? 10 : 0,
		    .counts = table[i].had_counted};
		struct stream_info info = {.last = {table[i].last, 0},
		    .first = {table[i].first, 0},
		    .length = table[i].length,
		    .added = table[i].added,
		    .has_added = table[i].counts};
		enum stream_loss loss = stream_position_check(&p, &info);

		if (loss != table[i].want || p.last.ms != table[i].want_last ||
		    p.added != (table[i].counts || table[i].had_counted
				       ? table[i].want_added
				       : p.added))
			fail_msg("%s: %d, at %lu, %lu", table[i].what, loss,
			    (unsigned long)p.last.ms, (unsigned long)p.added);
	}
}

static void
test_stream_position_nowhere_begins_at_the_end(void **state)
{
	struct stream_info info = {
	    .last = {7, 3}, .length = 9, .added = 9, .has_added = true};
	struct stream_position p = {.known = false};

	assert_int_equal(stream_position_check(&p, &info), STREAM_WHOLE);
	assert_int_equal(p.last.ms, 7);
	assert_int_equal(p.last.seq, 3);
	assert_int_equal(p.added, 9);
}

/* Reading counts as the stream does: what was read is not missed. */
static void
test_stream_position_advance_counts(void **state)
{
	struct stream_info info = {.last = {10, 0}, .added = 10, .has_added = true};
	struct stream_position p = {.known = false};

	(void)stream_position_check(&p, &info);
	for (uint64_t ms = 11; ms <= 15; ms++)
		stream_position_advance(&p, &(struct stream_id){ms, 0});
	info = (struct stream_info){.last = {15, 0}, .added = 15, .has_added = true};
	assert_int_equal(stream_position_check(&p, &info), STREAM_WHOLE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_stream_id_parse_table),
	    cmocka_unit_test(test_stream_id_compare_is_by_time_then_sequence),
	    cmocka_unit_test(test_stream_info_parse_redis_7),
	    cmocka_unit_test(test_stream_info_parse_redis_6_does_not_count),
	    cmocka_unit_test(test_stream_info_parse_bad),
	    cmocka_unit_test(test_stream_position_check_table),
	    cmocka_unit_test(test_stream_position_nowhere_begins_at_the_end),
	    cmocka_unit_test(test_stream_position_advance_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
