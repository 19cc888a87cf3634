/* proto/uplink.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "proto/uplink.h"

/* Put and parse again, from memory of exactly the length. */
static int
round_trip(const struct uplink *u, size_t cut, struct uplink *ret, void **ret_buf)
{
	size_t len = uplink_len(u);
	char *buf = malloc(len), *exact;

	assert_non_null(buf);
	uplink_put(u, buf);
	exact = malloc(len - cut ? len - cut : 1);
	assert_non_null(exact);
	memcpy(exact, buf, len - cut);
	free(buf);
	*ret_buf = exact;
	return uplink_parse(u->type, exact, len - cut, ret);
}

static void
test_uplink_publish_round_trip(void **state)
{
	const struct uplink u = {.type = UPLINK_PUBLISH,
	    .slot = 3,
	    .cookie = 9,
	    .channel = "chat",
	    .channel_len = 4,
	    .key = "k1",
	    .key_len = 2,
	    .data = "\"hi\"",
	    .data_len = 4};
	struct uplink got;
	void *buf;

	assert_int_equal(round_trip(&u, 0, &got, &buf), 0);
	assert_int_equal(got.slot, 3);
	assert_int_equal(got.cookie, 9);
	assert_int_equal(got.channel_len, 4);
	assert_memory_equal(got.channel, "chat", 4);
	assert_int_equal(got.key_len, 2);
	assert_memory_equal(got.key, "k1", 2);
	assert_int_equal(got.data_len, 4);
	assert_memory_equal(got.data, "\"hi\"", 4);
	free(buf);
}

static void
test_uplink_want_round_trip(void **state)
{
	const struct uplink u = {.type = UPLINK_WANT,
	    .directory = UPLINK_NO_DIRECTORY,
	    .token = UINT64_MAX - 1,
	    .channel = "news",
	    .channel_len = 4};
	struct uplink got;
	void *buf;

	assert_int_equal(round_trip(&u, 0, &got, &buf), 0);
	assert_true(got.token == UINT64_MAX - 1);
	assert_int_equal(got.directory, UPLINK_NO_DIRECTORY);
	assert_int_equal(got.type, UPLINK_WANT);
	free(buf);
}

/* Without data, no cut of a message is a message. */
static void
test_uplink_cut_anywhere_refused(void **state)
{
	const struct uplink u = {
	    .type = UPLINK_WANT, .channel = "news", .channel_len = 4};

	for (size_t cut = 1; cut <= uplink_len(&u); cut++) {
		struct uplink got;
		void *buf;

		assert_int_equal(round_trip(&u, cut, &got, &buf), -EBADMSG);
		free(buf);
	}
}

static void
test_uplink_wrong_shapes_refused(void **state)
{
	char name[201], digits[1025];
	const struct uplink table[] = {
	    {.type = 0},
	    {.type = 6, .channel = "a", .channel_len = 1},
	    {.type = UPLINK_SYNC_BEGIN, .channel = "a", .channel_len = 1},
	    {.type = UPLINK_SYNC_END, .data = "a", .data_len = 1},
	    {.type = UPLINK_WANT},
	    {.type = UPLINK_DROP,
		.channel = "a",
		.channel_len = 1,
		.data = "a",
		.data_len = 1},
	    {.type = UPLINK_PUBLISH, .data = "a", .data_len = 1},
	    {.type = UPLINK_JOIN, .data = "u", .data_len = 1, .cookie = 1},
	    {.type = UPLINK_LEAVE},
	    {.type = UPLINK_PRESENCE},
	    {.type = UPLINK_MEMBERS_BEGIN, .channel = "a", .channel_len = 1},
	    {.type = UPLINK_MEMBERS_END, .data = "a", .data_len = 1},
	    /* more of a name than there is; no UTF-8; no JSON; both too long */
	    {.type = UPLINK_JOIN,
		.channel = "a",
		.channel_len = 1,
		.data = "u",
		.data_len = 1,
		.cookie = 2},
	    {.type = UPLINK_JOIN,
		.channel = "a",
		.channel_len = 1,
		.data = "\xff",
		.data_len = 1,
		.cookie = 1},
	    {.type = UPLINK_JOIN,
		.channel = "a",
		.channel_len = 1,
		.data = "u{",
		.data_len = 2,
		.cookie = 1},
	    {.type = UPLINK_JOIN,
		.channel = "a",
		.channel_len = 1,
		.data = name,
		.data_len = 201,
		.cookie = 201},
	    {.type = UPLINK_JOIN,
		.channel = "a",
		.channel_len = 1,
		.data = digits,
		.data_len = 1025},
	    {.type = UPLINK_WANT, .channel = "a\n", .channel_len = 2},
	    {.type = UPLINK_WANT, .channel = "\xff", .channel_len = 1},
	    {.type = UPLINK_WANT, .channel = name, .channel_len = 201},
	};

	memset(name, 'a', sizeof(name));
	memset(digits, '1', sizeof(digits));
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct uplink got;
		void *buf;

		assert_int_equal(round_trip(&table[i], 0, &got, &buf), -EBADMSG);
		free(buf);
	}
}

/* A length that the worker wrote in bad faith. */
static void
test_uplink_channel_len_beyond_message_refused(void **state)
{
	unsigned char buf[28] = {0};
	const uint16_t lie = 200;
	struct uplink got;

	memcpy(buf + 20, &lie, sizeof(lie));
	assert_int_equal(
	    uplink_parse(UPLINK_PUBLISH, buf, sizeof(buf), &got), -EBADMSG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_uplink_publish_round_trip),
	    cmocka_unit_test(test_uplink_want_round_trip),
	    cmocka_unit_test(test_uplink_cut_anywhere_refused),
	    cmocka_unit_test(test_uplink_wrong_shapes_refused),
	    cmocka_unit_test(test_uplink_channel_len_beyond_message_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
