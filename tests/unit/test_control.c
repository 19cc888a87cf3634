/* proto/control.c: lines, requests, and the lines of a tail. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "proto/control.h"
#include "proto/json.h"

/* ---- bytes to lines ---- */

static void
feed(struct control_line *l, const void *bytes, size_t len)
{
	while (len > 0) {
		size_t room;
		void *p = control_line_room(l, &room);

		assert_non_null(p);
		if (room > len)
			room = len;
		memcpy(p, bytes, room);
		control_line_fed(l, room);
		bytes = (const char *)bytes + room;
		len -= room;
	}
}

/* However the bytes are cut, the same lines come out. */
static void
test_control_line_cut_anywhere_splits_alike(void **state)
{
	static const char text[] = "one\n\nthree is longer\nfour";
	const char *want[] = {"one", "", "three is longer"};

	for (size_t cut = 1; cut <= sizeof(text) - 1; cut++) {
		struct control_line l;
		size_t at = 0, len = 0, n = 0;
		char *line = NULL;

		control_line_init(&l, 100);
		for (; at < sizeof(text) - 1; at += cut) {
			size_t piece = sizeof(text) - 1 - at;

			feed(&l, text + at, piece < cut ? piece : cut);
			while (control_line_next(&l, &line, &len) == 1) {
				assert_in_range(n, 0, 2);
				assert_string_equal(line, want[n % 3]);
				assert_int_equal(len, strlen(want[n % 3]));
				n++;
			}
		}
		assert_int_equal(n, 3);
		assert_int_equal(l.len, 4);
		control_line_done(&l);
	}
}

static void
test_control_line_of_max_length_is_taken(void **state)
{
	struct control_line l;
	char *line;
	size_t len;

	control_line_init(&l, 10);
	feed(&l, "0123456789\n", 11);
	assert_int_equal(control_line_next(&l, &line, &len), 1);
	assert_int_equal(len, 10);
	control_line_done(&l);
}

static void
test_control_line_too_long_is_refused(void **state)
{
	struct control_line l;
	char *line;
	size_t len;

	control_line_init(&l, 10);
	feed(&l, "0123456789X", 11);
	assert_int_equal(control_line_next(&l, &line, &len), -EMSGSIZE);
	assert_int_equal(control_line_next(&l, &line, &len), -EMSGSIZE);
	assert_null(control_line_room(&l, &len));
	assert_int_equal(errno, EMSGSIZE);
	control_line_done(&l);
}

/* The newline does not make a line right that is too long. */
static void
test_control_line_too_long_with_newline_is_refused(void **state)
{
	struct control_line l;
	char *line;
	size_t len;

	control_line_init(&l, 100);
	feed(&l, "0123456789X\n", 12);
	l.max = 10;
	assert_int_equal(control_line_next(&l, &line, &len), -EMSGSIZE);
	assert_null(control_line_room(&l, &len));
	control_line_done(&l);
}

/* A long line's memory goes once it was taken. */
static void
test_control_line_long_gives_its_buffer_back(void **state)
{
	struct control_line l;
	char *line, *big = malloc(1u << 20);
	size_t len;

	assert_non_null(big);
	memset(big, 'x', 1u << 20);
	big[(1u << 20) - 1] = '\n';
	control_line_init(&l, CONTROL_LINE_MAX);
	feed(&l, big, 1u << 20);
	assert_int_equal(control_line_next(&l, &line, &len), 1);
	assert_int_equal(len, (1u << 20) - 1);
	assert_memory_equal(line, big, len);
	feed(&l, "short\n", 6);
	assert_in_range(l.size, 1, 65536);
	assert_int_equal(control_line_next(&l, &line, &len), 1);
	assert_string_equal(line, "short");
	control_line_done(&l);
	free(big);
}

/* A buffer that is never quite empty does not grow for that. */
static void
test_control_line_stream_stays_small(void **state)
{
	struct control_line l;
	char *line;
	size_t len;

	control_line_init(&l, CONTROL_LINE_MAX);
	feed(&l, "he", 2);
	for (int i = 0; i < 100000; i++) {
		feed(&l, "llo\nhe", 6);
		assert_int_equal(control_line_next(&l, &line, &len), 1);
		assert_string_equal(line, "hello");
	}
	assert_in_range(l.size, 1, 65536);
	control_line_done(&l);
}

/* ---- requests ---- */

static int
parse(const char *text)
{
	char why[200] = "";
	json_t *request;
	int r = control_request_parse(text, strlen(text), &request, why, sizeof(why));

	if (r == 0)
		json_decref(request);
	else
		assert_string_not_equal(why, "");
	return r;
}

static void
test_control_request_good_is_parsed(void **state)
{
	assert_int_equal(
	    parse("{\"cmd\":\"tail\",\"channels\":[\"a\",\"[[[[[[[[[[\"]}"), 0);
}

static void
test_control_request_broken_is_refused(void **state)
{
	assert_int_equal(parse(""), -EBADMSG);
	assert_int_equal(parse("{\"cmd\""), -EBADMSG);
	assert_int_equal(parse("[\"cmd\"]"), -EBADMSG);
	assert_int_equal(parse("{\"cmd\":7}"), -EBADMSG);
	assert_int_equal(parse("{\"cmd\":\"a\",\"cmd\":\"b\"}"), -EBADMSG);
	assert_int_equal(parse("{\"cmd\":\"a\\u0000b\"}"), -EBADMSG);
	assert_int_equal(parse("{\"cmd\":\"\xff\"}"), -EBADMSG);
	assert_int_equal(parse("{\"cmd\":\"a\"} x"), -EBADMSG);
}

static void
test_control_request_deep_is_refused(void **state)
{
	assert_int_equal(parse("{\"cmd\":\"a\",\"x\":[[[[[[[0]]]]]]]}"), 0);
	assert_int_equal(parse("{\"cmd\":\"a\",\"x\":[[[[[[[[0]]]]]]]]}"), -EBADMSG);
}

static void
test_control_request_with_many_values_is_refused(void **state)
{
	size_t n = CONTROL_VALUES_MAX;
	char *text = malloc(n * 2 + 100), *p = text;

	assert_non_null(text);
	p += sprintf(p, "{\"cmd\":\"a\",\"x\":[0");
	for (size_t i = 0; i < n; i++)
		p += sprintf(p, ",0");
	sprintf(p, "]}");
	assert_int_equal(parse(text), -EBADMSG);
	free(text);
}

static int
payload_of(const char *text, void **ret_data, size_t *ret_len)
{
	json_t *request = json_loads(text, 0, NULL);
	int r;

	assert_non_null(request);
	r = control_payload(request, ret_data, ret_len);
	json_decref(request);
	return r;
}

static void
test_control_payload_forms_are_decoded(void **state)
{
	void *data;
	size_t len;

	assert_int_equal(payload_of("{\"data\":\"h\\u00e9\"}", &data, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(data, "h\xc3\xa9", 3);
	free(data);
	assert_int_equal(payload_of("{\"base64\":\"/wA=\"}", &data, &len), 0);
	assert_int_equal(len, 2);
	assert_memory_equal(data, "\xff\0", 2);
	free(data);
	assert_int_equal(payload_of("{\"data\":\"\"}", &data, &len), 0);
	assert_non_null(data);
	assert_int_equal(len, 0);
	free(data);
}

static void
test_control_payload_broken_is_refused(void **state)
{
	void *data;
	size_t len;

	assert_int_equal(payload_of("{}", &data, &len), -EINVAL);
	assert_int_equal(payload_of("{\"data\":7}", &data, &len), -EINVAL);
	assert_int_equal(payload_of("{\"base64\":\"/wA\"}", &data, &len), -EINVAL);
	assert_int_equal(
	    payload_of("{\"data\":\"x\",\"base64\":\"/wA=\"}", &data, &len), -EINVAL);
}

/* What is put into a request is what the other side takes out. */
static void
test_control_payload_comes_back(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		const char *key;
	} cases[] = {
	    {"", 0, "data"},
	    {"plain", 5, "data"},
	    {"\xe2\x82\xac\n\"", 5, "data"},
	    {"\xff\xfe", 2, "base64"},
	    {"a\0b", 3, "base64"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *request = json_object();
		void *data;
		size_t len;

		assert_int_equal(
		    control_put_payload(request, cases[i].data, cases[i].len), 0);
		assert_non_null(json_object_get(request, cases[i].key));
		assert_int_equal(control_payload(request, &data, &len), 0);
		assert_int_equal(len, cases[i].len);
		assert_memory_equal(data, cases[i].data, len);
		free(data);
		json_decref(request);
	}
}

/* ---- lines to send ---- */

static void
test_control_error_names_its_code(void **state)
{
	size_t len;
	char *line = control_error(CONTROL_NOT_FOUND, &len, "no client %d", 7);

	assert_string_equal(
	    line, "{\"error\":{\"code\":\"not_found\",\"message\":\"no client 7\"}}\n");
	assert_int_equal(len, strlen(line));
	free(line);
}

static void
test_control_error_with_broken_utf8_is_still_json(void **state)
{
	size_t len;
	char *line = control_error(CONTROL_BAD_REQUEST, &len, "no \xff%s", "\n");

	assert_string_equal(
	    line, "{\"error\":{\"code\":\"bad_request\",\"message\":\"no ?\\n\"}}\n");
	free(line);
}

static void
test_control_ok_wraps_its_object(void **state)
{
	size_t len;
	char *line = control_ok(json_pack("{s:i}", "n", 1), &len);

	assert_string_equal(line, "{\"ok\":{\"n\":1}}\n");
	assert_int_equal(len, strlen(line));
	free(line);
	assert_null(control_ok(NULL, &len));
}

/* ---- a tail's lines ---- */

#define TIME_NS 1700000000123456789ull

static char *
message_line(enum data_kind kind, const void *data, size_t data_len, size_t *ret_len)
{
	struct message m = {.channel = "n\"s",
	    .channel_len = 3,
	    .offset = UINT64_C(9007199254740993),
	    .data = data,
	    .data_len = data_len,
	    .kind = kind};
	char *line = control_message(&m, TIME_NS, ret_len);

	assert_non_null(line);
	assert_int_equal(strlen(line), *ret_len);
	assert_ptr_equal(strchr(line, '\n'), line + *ret_len - 1);
	return line;
}

static void
test_control_message_json_is_embedded(void **state)
{
	static const char data[] =
	    "{\n\"a\": 1.10,\r\n\"b\":123456789012345678901234567890}";
	size_t len;
	char *line = message_line(DATA_JSON, data, sizeof(data) - 1, &len);

	assert_string_equal(line,
	    "{\"channel\":\"n\\\"s\",\"offset\":9007199254740993,"
	    "\"time\":1700000000.123456,"
	    "\"data\":{ \"a\": 1.10,  \"b\":123456789012345678901234567890}}\n");
	free(line);
}

/* Numbers keep their digits; text and bytes are as they were published. */
static void
test_control_event_gives_the_payload_back(void **state)
{
	static const struct {
		enum data_kind kind;
		const char *data;
		size_t len;
	} cases[] = {
	    {DATA_JSON, "{\"a\":[1.10,\"}]\\\"\",1e999]}", 25},
	    {DATA_JSON, "null", 4},
	    {DATA_JSON, " \t7 ", 4},
	    {DATA_JSON, "\",\"", 3},
	    {DATA_TEXT, "pl\"ain\n", 7},
	    {DATA_TEXT, "", 0},
	    {DATA_TEXT, "a\0b", 3},
	    {DATA_BINARY, "\xff\0\n", 3},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct control_event e;
		size_t len;
		char *line =
		    message_line(cases[i].kind, cases[i].data, cases[i].len, &len);

		assert_int_equal(control_event_parse(line, len - 1, &e), 0);
		assert_int_equal(e.kind, cases[i].kind);
		assert_int_equal(e.data_len, cases[i].len);
		assert_memory_equal(e.data, cases[i].data, cases[i].len);
		assert_string_equal(e.channel, "n\"s");
		assert_int_equal(e.offset, UINT64_C(9007199254740993));
		assert_true(e.time > 1700000000.12 && e.time < 1700000000.13);
		control_event_done(&e);
		free(line);
	}
}

/* As deep as json_valid() lets a payload be. */
static void
test_control_event_deep_payload_is_taken(void **state)
{
	char data[2 * JSON_DEPTH_MAX];
	struct control_event e;
	size_t len;
	char *line;

	memset(data, '[', JSON_DEPTH_MAX);
	memset(data + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	line = message_line(DATA_JSON, data, sizeof(data), &len);
	assert_int_equal(control_event_parse(line, len - 1, &e), 0);
	assert_int_equal(e.data_len, sizeof(data));
	control_event_done(&e);
	free(line);
}

/* A kind that the payload does not keep to cannot break the line. */
static void
test_control_message_of_wrong_kind_is_base64(void **state)
{
	struct control_event e;
	size_t len;
	char *line = message_line(DATA_TEXT, "\xff", 1, &len);

	assert_int_equal(control_event_parse(line, len - 1, &e), 0);
	assert_int_equal(e.kind, DATA_BINARY);
	assert_int_equal(e.data_len, 1);
	control_event_done(&e);
	free(line);
}

static void
test_control_event_missed_is_counted(void **state)
{
	static const char line[] = "{\"missed\":17}";
	struct control_event e;

	assert_int_equal(control_event_parse(line, sizeof(line) - 1, &e), 0);
	assert_int_equal(e.missed, 17);
	control_event_done(&e);
}

/* Whatever becomes of it, nothing outside of the line is read: each copy is exactly
 * as long as the line, for the sanitizer to see. */
static void
parse_copy(const char *line, size_t len, size_t at, char c)
{
	struct control_event e;
	char *copy = malloc(len);

	assert_non_null(copy);
	memcpy(copy, line, len);
	copy[at] = c;
	if (control_event_parse(copy, len, &e) == 0)
		control_event_done(&e);
	free(copy);
}

static void
test_control_event_cut_is_refused(void **state)
{
	size_t len;
	char *line = message_line(DATA_TEXT, "hello", 5, &len);
	struct control_event e;

	for (size_t n = 0; n + 1 < len; n++)
		assert_int_equal(control_event_parse(line, n, &e), -EBADMSG);
	free(line);
}

static void
test_control_event_damaged_stays_within_bounds(void **state)
{
	static const char bytes[] = "\"\\{}[],: \xff\0x9";
	size_t len;
	char *line = message_line(DATA_TEXT, "hello", 5, &len);

	for (size_t at = 0; at < len; at++)
		for (size_t i = 0; i < sizeof(bytes); i++) {
			parse_copy(line, len, at, bytes[i]);
			parse_copy(line, at + 1, at, bytes[i]);
		}
	free(line);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_control_line_cut_anywhere_splits_alike),
	    cmocka_unit_test(test_control_line_of_max_length_is_taken),
	    cmocka_unit_test(test_control_line_too_long_is_refused),
	    cmocka_unit_test(test_control_line_too_long_with_newline_is_refused),
	    cmocka_unit_test(test_control_line_long_gives_its_buffer_back),
	    cmocka_unit_test(test_control_line_stream_stays_small),
	    cmocka_unit_test(test_control_request_good_is_parsed),
	    cmocka_unit_test(test_control_request_broken_is_refused),
	    cmocka_unit_test(test_control_request_deep_is_refused),
	    cmocka_unit_test(test_control_request_with_many_values_is_refused),
	    cmocka_unit_test(test_control_payload_forms_are_decoded),
	    cmocka_unit_test(test_control_payload_broken_is_refused),
	    cmocka_unit_test(test_control_payload_comes_back),
	    cmocka_unit_test(test_control_error_names_its_code),
	    cmocka_unit_test(test_control_error_with_broken_utf8_is_still_json),
	    cmocka_unit_test(test_control_ok_wraps_its_object),
	    cmocka_unit_test(test_control_message_json_is_embedded),
	    cmocka_unit_test(test_control_event_gives_the_payload_back),
	    cmocka_unit_test(test_control_event_deep_payload_is_taken),
	    cmocka_unit_test(test_control_message_of_wrong_kind_is_base64),
	    cmocka_unit_test(test_control_event_missed_is_counted),
	    cmocka_unit_test(test_control_event_cut_is_refused),
	    cmocka_unit_test(test_control_event_damaged_stays_within_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
