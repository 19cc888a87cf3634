/* proto/v1.c: commands good and bad, and every frame. */
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

#include "proto/frame.h"
#include "proto/v1.h"

/* From memory of exactly the length. */
static int
parse(const char *text, struct v1_command *c, char *why)
{
	static char *kept; /* the slices point into it until the next call */
	size_t len = strlen(text);

	free(kept);
	kept = malloc(len > 0 ? len : 1);
	assert_non_null(kept);
	memcpy(kept, text, len);
	why[0] = '\0';
	return v1_parse(kept, len, c, why);
}

static void
test_v1_parse_subscribe_with_since(void **state)
{
	struct v1_command c;
	char why[V1_WHY_MAX];

	assert_int_equal(parse("{\"id\":2,\"subscribe\":\"news\",\"since\":{\"epoch\":"
			       "\"k3f\",\"offset\":40}}",
			     &c, why),
	    0);
	assert_int_equal(c.kind, V1_SUBSCRIBE);
	assert_true(slice_is(c.id, "2"));
	assert_int_equal(c.channel_len, 4);
	assert_string_equal(c.channel, "news");
	assert_true(c.has_since);
	assert_string_equal(c.epoch, "k3f");
	assert_int_equal(c.offset, 40);
	v1_command_done(&c);
}

static void
test_v1_parse_each_kind(void **state)
{
	static const struct {
		const char *text;
		enum v1_kind kind;
	} table[] = {
	    {"{\"subscribe\":\"a\"}", V1_SUBSCRIBE},
	    {"{\"unsubscribe\":\"a\"}", V1_UNSUBSCRIBE},
	    {"{\"publish\":\"a\",\"data\":null}", V1_PUBLISH},
	    {"{\"history\":\"a\"}", V1_HISTORY},
	    {"{\"history\":\"a\",\"limit\":10}", V1_HISTORY},
	    {"{\"presence\":\"a\"}", V1_PRESENCE},
	    {"{\"presence\":\"a\",\"limit\":5,\"after\":7}", V1_PRESENCE},
	    {"{\"auth\":\"a.b.c\"}", V1_AUTH},
	    {"{\"ping\":{}}", V1_PING},
	    {" { \"ping\" : true } ", V1_PING},
	};
	struct v1_command c;
	char why[V1_WHY_MAX];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(parse(table[i].text, &c, why), 0);
		assert_int_equal(c.kind, table[i].kind);
		assert_null(c.id.p);
		v1_command_done(&c);
	}
}

/* Ids come back as they were written, whatever a C type would make of them. */
static void
test_v1_parse_ids_kept_as_written(void **state)
{
	static const char *const ids[] = {"1", "-0", "1.0", "1e400",
	    "123456789012345678901234567890", "\"\"", "\"a\\u00e4 b\"", "\"\\ud800\""};
	struct v1_command c;
	char text[200], why[V1_WHY_MAX];

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		(void)snprintf(text, sizeof(text), "{\"ping\":{},\"id\": %s }", ids[i]);
		assert_int_equal(parse(text, &c, why), 0);
		assert_true(slice_is(c.id, ids[i]));
	}
}

/* Numbers that no C type holds, odd spacing: data is passed on, only made compact. */
static void
test_v1_parse_data_kept_byte_for_byte(void **state)
{
	static const char *const table[][2] = {
	    {"1e400", "1e400"},
	    {"123456789012345678901234567890", "123456789012345678901234567890"},
	    {"{\"a\":1.0,\"a\":2}", "{\"a\":1.0,\"a\":2}"},
	    {"\" \\u0000 \\ud800 \"", "\" \\u0000 \\ud800 \""},
	    {"[ 1 ,\t\"a b\" ,\r\n{ } ]", "[1,\"a b\",{}]"},
	    {"\"\\\" \\\\\"", "\"\\\" \\\\\""},
	};
	struct v1_command c;
	char text[200], why[V1_WHY_MAX];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    "{\"publish\":\"a\",\"data\": %s ,\"id\":1}", table[i][0]);
		assert_int_equal(parse(text, &c, why), 0);
		assert_true(slice_is(c.data, table[i][1]));
		v1_command_done(&c);
	}
}

static void
test_v1_parse_channel_unescaped(void **state)
{
	struct v1_command c;
	char why[V1_WHY_MAX];

	assert_int_equal(
	    parse("{\"subscribe\":\"a\\/\\u00e4\\ud83d\\ude00\"}", &c, why), 0);
	assert_string_equal(c.channel, "a/\xc3\xa4\xf0\x9f\x98\x80");
}

#define NAME_WHY                                                                       \
	"a channel's name must be a string of 1 to 200 bytes without control "         \
	"characters, the first no '!'"
#define SINCE_WHY                                                                      \
	"\"since\" must be {\"epoch\":STRING,\"offset\":NUMBER}, as the server gave "  \
	"them"
#define ID_WHY "\"id\" must be a number or a string, of at most 64 bytes"

static void
test_v1_parse_each_fault_says_what_to_do(void **state)
{
	static const char *const table[][2] = {
	    {"", "a message must be one JSON object in UTF-8"},
	    {"hello", "a message must be one JSON object in UTF-8"},
	    {"{\"ping\":{}", "a message must be one JSON object in UTF-8"},
	    {"{\"ping\":\"\xff\"}", "a message must be one JSON object in UTF-8"},
	    {"[1]", "a message must be a JSON object, like "
		    "{\"id\":1,\"subscribe\":\"news\"}"},
	    {"{}", "a message needs one of: subscribe, unsubscribe, publish, history, "
		   "presence, "
		   "auth, ping"},
	    {"{\"ping\":1,\"ping\":2}", "\"ping\" came twice"},
	    {"{\"id\":1,\"id\":2,\"ping\":1}", "\"id\" came twice"},
	    {"{\"chanel\":\"a\"}", "there is no member \"chanel\""},
	    {"{\"\\n\":\"a\"}", "there is no member \"\\n\""},
	    {"{\"ping\":1,\"auth\":\"x\"}",
		"\"auth\" and \"ping\" are two commands: send two messages"},
	    {"{\"ping\":1,\"since\":{}}", "\"since\" goes with \"subscribe\" only"},
	    {"{\"subscribe\":\"a\",\"data\":1}", "\"data\" goes with \"publish\" only"},
	    {"{\"subscribe\":\"a\",\"limit\":1}",
		"\"limit\" goes with \"history\" and \"presence\" only"},
	    {"{\"history\":\"a\",\"after\":1}",
		"\"after\" goes with \"presence\" only"},
	    {"{\"presence\":\"a\",\"after\":-1}",
		"\"after\" must be the \"next\" of the answer before"},
	    {"{\"subscribe\":\"a\",\"before\":1}",
		"\"before\" goes with \"history\" only"},
	    {"{\"subscribe\":1}", NAME_WHY},
	    {"{\"subscribe\":\"\"}", NAME_WHY},
	    {"{\"subscribe\":\"a\\n\"}", NAME_WHY},
	    {"{\"subscribe\":\"!a\"}", NAME_WHY},
	    {"{\"subscribe\":\"\\u0021a\"}", NAME_WHY},
	    {"{\"subscribe\":\"a\\u0000\"}", NAME_WHY},
	    {"{\"subscribe\":\"\\ud800\"}", NAME_WHY},
	    {"{\"subscribe\":[\"a\"]}", NAME_WHY},
	    {"{\"publish\":\"a\"}", "\"publish\" needs \"data\": any JSON value"},
	    {"{\"subscribe\":\"a\",\"key\":\"k\"}",
		"\"key\" goes with \"publish\" only"},
	    {"{\"publish\":\"a\",\"data\":1,\"key\":\"\"}",
		"\"key\" must be a string of 1 to 200 bytes"},
	    {"{\"publish\":\"a\",\"data\":1,\"key\":7}",
		"\"key\" must be a string of 1 to 200 bytes"},
	    {"{\"subscribe\":\"a\",\"since\":1}", SINCE_WHY},
	    {"{\"subscribe\":\"a\",\"since\":{}}", SINCE_WHY},
	    {"{\"subscribe\":\"a\",\"since\":{\"epoch\":\"a\"}}", SINCE_WHY},
	    {"{\"subscribe\":\"a\",\"since\":{\"epoch\":1,\"offset\":1}}", SINCE_WHY},
	    {"{\"subscribe\":\"a\",\"since\":{\"epoch\":\"a\",\"offset\":-1}}",
		SINCE_WHY},
	    {"{\"subscribe\":\"a\",\"since\":{\"epoch\":\"a\",\"offset\":1,\"x\":1}}",
		SINCE_WHY},
	    {"{\"history\":\"a\",\"limit\":0}",
		"\"limit\" must be a number of 1 to 1000"},
	    {"{\"history\":\"a\",\"before\":0}",
		"\"before\" must be an offset: a number from 1 up"},
	    {"{\"history\":\"a\",\"before\":\"1\"}",
		"\"before\" must be an offset: a number from 1 up"},
	    {"{\"history\":\"a\",\"limit\":1001}",
		"\"limit\" must be a number of 1 to 1000"},
	    {"{\"auth\":1}", "\"auth\" must be a token: a string without escapes"},
	    {"{\"auth\":\"\\n\"}",
		"\"auth\" must be a token: a string without escapes"},
	    {"{\"id\":null,\"ping\":1}", ID_WHY},
	    {"{\"id\":{},\"ping\":1}", ID_WHY},
	    {"{\"id\":"
	     "\"12345678901234567890123456789012345678901234567890123456789012345\","
	     "\"ping\":1}",
		ID_WHY},
	};
	struct v1_command c;
	char why[V1_WHY_MAX];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (parse(table[i][0], &c, why) != -EBADMSG)
			fail_msg("taken: %s", table[i][0]);
		assert_string_equal(why, table[i][1]);
	}
}

/* So that the answer to a broken command finds whoever sent it. */
static void
test_v1_parse_broken_command_keeps_its_id(void **state)
{
	struct v1_command c;
	char why[V1_WHY_MAX];

	assert_int_equal(parse("{\"x\":1,\"id\":\"me\"}", &c, why), -EBADMSG);
	assert_true(slice_is(c.id, "\"me\""));
	assert_int_equal(parse("{\"id\":5,\"subscribe\":5}", &c, why), -EBADMSG);
	assert_true(slice_is(c.id, "5"));
	assert_int_equal(parse("{\"id\":[],\"subscribe\":5}", &c, why), -EBADMSG);
	assert_null(c.id.p);
}

static void
test_v1_parse_cut_anywhere_refused(void **state)
{
	const char *text =
	    "{\"id\":1,\"publish\":\"a\\u00e4\",\"data\":{\"a\":[1, 2]}}";
	struct v1_command c;
	char cut[100], why[V1_WHY_MAX];

	for (size_t len = 0; len < strlen(text); len++) {
		memcpy(cut, text, len);
		cut[len] = '\0';
		assert_int_equal(parse(cut, &c, why), -EBADMSG);
	}
}

/* The frame is a text frame, its payload this. */
static void
assert_frame(const char *frame, size_t len, const char *want)
{
	const void *payload;
	enum opcode op;
	size_t n = frame_payload(frame, &op, &payload);

	assert_int_equal(op, OPCODE_TEXT);
	assert_int_equal(n, strlen(want));
	assert_memory_equal(payload, want, n);
	assert_int_equal(len, frame_head_len(n) + n);
}

#define ID ((struct slice){"7", 1})
#define NO_ID ((struct slice){NULL, 0})

static void
test_v1_frames_small(void **state)
{
	char out[V1_FRAME_MAX];

	assert_frame(out, v1_hello("abc", "k3f", 25, out),
	    "{\"hello\":{\"client\":\"abc\",\"epoch\":\"k3f\",\"ping\":25}}");
	assert_frame(out, v1_ok(ID, out), "{\"id\":7,\"ok\":{}}");
	assert_frame(out, v1_error(ID, V1_FORBIDDEN, "no", out),
	    "{\"id\":7,\"error\":{\"code\":\"forbidden\",\"message\":\"no\"}}");
	assert_frame(out, v1_error(NO_ID, V1_INTERNAL, "a\"\xff", out),
	    "{\"error\":{\"code\":\"internal\",\"message\":\"a\\\"?\"}}");
	assert_frame(out,
	    v1_push_subscribed(
		&(struct v1_subscribed){
		    .channel = {"a\"", 2}, .epoch = "e", .offset = 7},
		out),
	    "{\"subscribed\":{\"channel\":\"a\\\"\",\"epoch\":\"e\",\"offset\":7}}");
	assert_frame(out, v1_auth((struct slice){"7", 1}, 1893456000, out),
	    "{\"id\":7,\"ok\":{\"expires\":1893456000}}");
	assert_frame(out, v1_auth((struct slice){"7", 1}, 0, out),
	    "{\"id\":7,\"ok\":{\"expires\":null}}");
	assert_frame(out, v1_expires_in(60, out), "{\"expires_in\":60}");
	assert_frame(out, v1_gap((struct slice){"a\"", 2}, 18, 41, out),
	    "{\"gap\":{\"channel\":\"a\\\"\",\"from\":18,\"to\":41}}");
	assert_frame(out, v1_gap((struct slice){"a", 1}, 18, UINT64_MAX, out),
	    "{\"gap\":{\"channel\":\"a\",\"from\":18,\"to\":null}}");
	assert_frame(out,
	    v1_unsubscribed((struct slice){"a", 1}, V1_FORBIDDEN, "no", out),
	    "{\"unsubscribed\":{\"channel\":\"a\",\"code\":\"forbidden\","
	    "\"message\":\"no\"}}");
	assert_frame(
	    out, v1_bye(1012, 500, out), "{\"bye\":{\"code\":1012,\"retry_ms\":500}}");
}

static void
test_v1_subscribed_says_what_was_recovered(void **state)
{
	struct v1_subscribed s = {.channel = {"news", 4}, .epoch = "k", .offset = 42};
	char out[V1_FRAME_MAX];

#define OK "{\"id\":7,\"ok\":{\"channel\":\"news\",\"epoch\":\"k\",\"offset\":42"
	assert_frame(out, v1_subscribed(ID, &s, out), OK "}}");
	s.asked_since = true;
	assert_frame(out, v1_subscribed(ID, &s, out),
	    OK ",\"recovered\":false,\"missed\":null}}");
	s.missed_known = true;
	s.missed = 17;
	assert_frame(
	    out, v1_subscribed(ID, &s, out), OK ",\"recovered\":false,\"missed\":17}}");
	s.recovered = true;
	assert_frame(out, v1_subscribed(ID, &s, out), OK ",\"recovered\":true}}");
#undef OK
}

/* The longest of all that can be said fits, and is valid JSON. */
static void
test_v1_frames_longest_fit(void **state)
{
	char out[V1_FRAME_MAX], text[1000], name[200], id[V1_ID_MAX];
	struct v1_subscribed s = {.channel = {name, 200},
	    .epoch = text,
	    .offset = UINT64_MAX,
	    .asked_since = true,
	    .missed_known = true,
	    .missed = UINT64_MAX};
	const void *payload;
	enum opcode op;
	json_t *json;
	size_t n;

	memset(id, '1', sizeof(id));
	memset(name, '"', sizeof(name));
	memset(text, 1, sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_true(v1_error((struct slice){id, V1_ID_MAX}, V1_BAD_REQUEST, text, out) <
		    V1_FRAME_MAX);
	n = frame_payload(out, &op, &payload);
	json = json_loadb(payload, n, JSON_DECODE_INT_AS_REAL, NULL);
	assert_non_null(json);
	json_decref(json);
	memset(text, 'e', 64);
	text[64] = '\0';
	assert_true(
	    v1_subscribed((struct slice){id, V1_ID_MAX}, &s, out) < V1_FRAME_MAX);
	n = frame_payload(out, &op, &payload);
	json = json_loadb(payload, n, JSON_DECODE_INT_AS_REAL, NULL);
	assert_non_null(json);
	json_decref(json);
}

static void
test_v1_history_lists_messages(void **state)
{
	const struct slice messages[] = {{"{\"a\":1}", 7}, {"{\"b\":2}", 7}};
	size_t len = 0;
	char *frame = v1_history(ID, messages, 2, "k", 9, &len);

	assert_non_null(frame);
	assert_frame(frame, len,
	    "{\"id\":7,\"ok\":{\"messages\":[{\"a\":1},{\"b\":2}],\"epoch\":\"k\","
	    "\"offset\":9}}");
	free(frame);
	frame = v1_history(ID, messages, 0, "k", 9, &len);
	assert_non_null(frame);
	assert_frame(frame, len,
	    "{\"id\":7,\"ok\":{\"messages\":[],\"epoch\":\"k\",\"offset\":9}}");
	free(frame);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_v1_parse_subscribe_with_since),
	    cmocka_unit_test(test_v1_parse_each_kind),
	    cmocka_unit_test(test_v1_parse_ids_kept_as_written),
	    cmocka_unit_test(test_v1_parse_data_kept_byte_for_byte),
	    cmocka_unit_test(test_v1_parse_channel_unescaped),
	    cmocka_unit_test(test_v1_parse_each_fault_says_what_to_do),
	    cmocka_unit_test(test_v1_parse_broken_command_keeps_its_id),
	    cmocka_unit_test(test_v1_parse_cut_anywhere_refused),
	    cmocka_unit_test(test_v1_frames_small),
	    cmocka_unit_test(test_v1_subscribed_says_what_was_recovered),
	    cmocka_unit_test(test_v1_frames_longest_fit),
	    cmocka_unit_test(test_v1_history_lists_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
