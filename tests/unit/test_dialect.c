/* proto/dialect.c: one message, the frames of each dialect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "proto/dialect.h"
#include "proto/frame.h"

static struct message
message_of(const char *channel, const void *data, size_t len)
{
	struct message m = {.channel = channel,
	    .channel_len = strlen(channel),
	    .offset = 43,
	    .data = data,
	    .data_len = len};

	message_classify(&m);
	return m;
}

/* Frame it into exactly the room it asks for; its payload must be this. */
static void
assert_frame(enum dialect d, const struct message *m, enum opcode op, const void *want,
    size_t len)
{
	size_t max = dialect_frame_max(d, m);
	uint8_t *out = malloc(max);
	const void *payload;
	enum opcode got;

	assert_non_null(out);
	assert_int_equal(dialect_frame(d, m, out), max);
	assert_int_equal(frame_payload(out, &got, &payload), len);
	assert_int_equal(got, op);
	assert_memory_equal(payload, want, len);
	free(out);
}

static void
assert_v1(const struct message *m, const char *want)
{
	assert_frame(DIALECT_V1, m, OPCODE_TEXT, want, strlen(want));
}

static void
test_message_classify_finds_kinds(void **state)
{
	assert_int_equal(message_of("c", "{\"a\":1}", 7).kind, DATA_JSON);
	assert_int_equal(message_of("c", " 1 ", 3).kind, DATA_JSON);
	assert_int_equal(message_of("c", "hello", 5).kind, DATA_TEXT);
	assert_int_equal(message_of("c", "", 0).kind, DATA_TEXT);
	assert_int_equal(message_of("c", "\xff", 1).kind, DATA_BINARY);
	assert_int_equal(message_of("c", "\"\xff\"", 3).kind, DATA_BINARY);
}

/* What was found with the kind, and what a worker finds without it. */
static void
test_dialect_frame_is_same_without_quoted_len(void **state)
{
	static const char *const texts[] = {"hello", "", "a\nb", "say \"hi\"",
	    "\xc3\xa4 long enough for more than sixteen bytes \x01 of it"};
	uint8_t with[400], without[400];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct message m = message_of("c", texts[i], strlen(texts[i]));
		size_t len = dialect_frame(DIALECT_V1, &m, with);

		assert_int_equal(m.kind, DATA_TEXT);
		assert_true(m.quoted_len > 0);
		m.quoted_len = 0;
		assert_int_equal(dialect_frame(DIALECT_V1, &m, without), len);
		assert_memory_equal(with, without, len);
	}
}

static void
test_dialect_raw_is_payload_alone(void **state)
{
	struct message m = message_of("news", "hello", 5);

	assert_frame(DIALECT_RAW, &m, OPCODE_TEXT, "hello", 5);
	m = message_of("news", "\xff\x00", 2);
	assert_frame(DIALECT_RAW, &m, OPCODE_BINARY, "\xff\x00", 2);
	m = message_of("news", NULL, 0);
	assert_frame(DIALECT_RAW, &m, OPCODE_TEXT, "", 0);
}

static void
test_dialect_v1_by_kind(void **state)
{
	struct message m = message_of("news", "{\"a\": 1}", 8);

	assert_v1(&m, "{\"channel\":\"news\",\"offset\":43,\"data\":{\"a\": 1}}");
	m = message_of("a\"b\\", "say \"hi\"\n", 9);
	assert_v1(&m, "{\"channel\":\"a\\\"b\\\\\",\"offset\":43,\"data\":\"say "
		      "\\\"hi\\\"\\n\"}");
	m = message_of("news", "\xff\xfe", 2);
	assert_v1(&m, "{\"channel\":\"news\",\"offset\":43,\"base64\":\"//4=\"}");
	m = message_of("news", NULL, 0);
	assert_v1(&m, "{\"channel\":\"news\",\"offset\":43,\"data\":\"\"}");
	m.offset = UINT64_MAX;
	assert_v1(
	    &m, "{\"channel\":\"news\",\"offset\":18446744073709551615,\"data\":\"\"}");
	m.offset = 0;
	assert_v1(&m, "{\"channel\":\"news\",\"offset\":0,\"data\":\"\"}");
}

/* Whatever is published, a v1 client gets JSON with the same payload in it. */
static void
test_dialect_v1_every_length_reads_back(void **state)
{
	static char data[70000], frame[600000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i % 0x7f + 1);
	for (size_t len = 0; len < sizeof(data); len += len < 300 ? 1 : 6001) {
		struct message m = message_of("c", data, len);
		const void *payload;
		enum opcode op;
		json_t *json;
		size_t n;

		assert_true(dialect_frame_max(DIALECT_V1, &m) <= sizeof(frame));
		assert_int_equal(dialect_frame(DIALECT_V1, &m, frame),
		    dialect_frame_max(DIALECT_V1, &m));
		n = frame_payload(frame, &op, &payload);
		json = json_loadb(payload, n, 0, NULL);
		assert_non_null(json);
		if (m.kind == DATA_TEXT)
			assert_memory_equal(
			    json_string_value(json_object_get(json, "data")), data,
			    len);
		json_decref(json);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_message_classify_finds_kinds),
	    cmocka_unit_test(test_dialect_frame_is_same_without_quoted_len),
	    cmocka_unit_test(test_dialect_raw_is_payload_alone),
	    cmocka_unit_test(test_dialect_v1_by_kind),
	    cmocka_unit_test(test_dialect_v1_every_length_reads_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
