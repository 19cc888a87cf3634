/* proto/frame.c and proto/base64.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "proto/base64.h"
#include "proto/frame.h"

static void
test_frame_head_lengths_at_their_edges(void **state)
{
	const struct {
		size_t len, head;
		uint8_t bytes[FRAME_HEAD_MAX];
	} table[] = {
	    {0, 2, {0x81, 0}},
	    {125, 2, {0x81, 125}},
	    {126, 4, {0x81, 126, 0, 126}},
	    {65535, 4, {0x81, 126, 255, 255}},
	    {65536, 10, {0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
	    {0x123456789a, 10, {0x81, 127, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a}},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint8_t out[FRAME_HEAD_MAX] = {0};
		const void *payload;
		enum opcode op;

		assert_int_equal(frame_head_len(table[i].len), table[i].head);
		assert_int_equal(
		    frame_head(OPCODE_TEXT, table[i].len, out), table[i].head);
		assert_memory_equal(out, table[i].bytes, table[i].head);
		assert_int_equal(frame_payload(out, &op, &payload), table[i].len);
		assert_int_equal(op, OPCODE_TEXT);
		assert_ptr_equal(payload, out + table[i].head);
	}
}

static void
test_frame_close_cuts_reason_between_characters(void **state)
{
	uint8_t out[FRAME_HEAD_MAX + FRAME_CONTROL_MAX];
	char reason[300];

	assert_int_equal(frame_close(1012, "service restart", out), 19);
	assert_memory_equal(out, "\x88\x11\x03\xf4service restart", 19);
	memset(reason, 'a', 122);
	(void)snprintf(reason + 122, 20, "\xe2\x82\xac more");
	assert_int_equal(frame_close(1000, reason, out), 2 + 2 + 122);
	assert_int_equal(out[1], 124);
	assert_int_equal(frame_close(1000, "", out), 4);
}

static void
test_frame_close_code_ok_follows_rfc(void **state)
{
	static const uint16_t good[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
	    1011, 1012, 1013, 1014, 3000, 4401, 4999};
	static const uint16_t bad[] = {
	    0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(frame_close_code_ok(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(frame_close_code_ok(bad[i]));
}

/* RFC 4648 §10, both ways. */
static void
test_base64_vectors_of_rfc(void **state)
{
	static const char *const table[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
	    {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
	    {"foobar", "Zm9vYmFy"}, {"\xff\xfe\xfd", "//79"}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t len = strlen(table[i][0]), n = strlen(table[i][1]);
		char out[16];

		assert_int_equal(base64_len(len), n);
		assert_int_equal(base64_put(table[i][0], len, out), n);
		assert_memory_equal(out, table[i][1], n);
		assert_int_equal(base64_get(table[i][1], n, out, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(out, table[i][0], len);
	}
}

static void
test_base64_get_broken_refused(void **state)
{
	static const char *const bad[] = {"Z", "Zg",
	    "Zg=", "Zh==", "Zm9=", "====", "Z===", "Zg==Zg==", "Zm 8", "Zm8\n", "Zm-_"};
	char out[16];
	size_t n;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base64_get(bad[i], strlen(bad[i]), out, &n), -EBADMSG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_frame_head_lengths_at_their_edges),
	    cmocka_unit_test(test_frame_close_cuts_reason_between_characters),
	    cmocka_unit_test(test_frame_close_code_ok_follows_rfc),
	    cmocka_unit_test(test_base64_vectors_of_rfc),
	    cmocka_unit_test(test_base64_get_broken_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
