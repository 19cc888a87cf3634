/*
 * proto/inbound.c, fed whole, a byte at a time and cut in two at every place: what is
 * told must not depend on it. tests/interop/ has the rules of RFC 6455 one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/inbound.h"

#define MAX 1000
#define TOLD_MAX 4096

/* All that was told of some bytes, as text: T(abc) B(…) P(…) O(…) C1000 X1002. */
struct told {
	char text[TOLD_MAX];
	size_t len;
	bool idle, in_message, ended;
};

static void
note(struct told *t, char what, const void *buf, size_t len)
{
	assert_true(t->len + len + 8 < sizeof(t->text));
	t->len += (size_t)sprintf(t->text + t->len, "%c(", what);
	if (len > 0)
		memcpy(t->text + t->len, buf, len);
	t->len += len;
	t->len += (size_t)sprintf(t->text + t->len, ")");
}

static void
take(struct inbound *in, struct told *t, const uint8_t *buf, size_t len)
{
	struct inbound_item item;
	enum inbound_event event;

	if (t->ended)
		return;
	inbound_give(in, buf, len);
	while ((event = inbound_next(in, &item)) != INBOUND_MORE) {
		if (event == INBOUND_MESSAGE) {
			char what = item.op == OPCODE_TEXT ? 't' : 'b';

			note(t, item.deflated ? (char)(what - 32) : what, item.payload,
			    item.len);
		} else if (event == INBOUND_PING || event == INBOUND_PONG) {
			note(t, event == INBOUND_PING ? 'p' : 'o', item.payload,
			    item.len);
		} else {
			t->len += (size_t)sprintf(t->text + t->len, "%c%u",
			    event == INBOUND_CLOSE ? 'c' : 'x', item.code);
			t->ended = true;
			break;
		}
	}
	t->idle = inbound_is_idle(in);
	t->in_message = inbound_in_message(in);
}

/* Feed len bytes, of which the first `step` go one by one, then the rest. */
static void
feed(const uint8_t *buf, size_t len, size_t cut, size_t step, bool deflates,
    struct told *t)
{
	struct inbound *in;

	memset(t, 0, sizeof(*t));
	assert_int_equal(inbound_new(&in), 0);
	inbound_begin(in, MAX, deflates ? MAX + 100 : 0);
	for (size_t at = 0, n; at < len; at += n) {
		n = step > 0 ? step : at < cut ? cut - at : len - at;
		n = n < len - at ? n : len - at;
		/* In memory of its own: a byte read beyond it is seen. */
		uint8_t *copy = malloc(n);

		assert_non_null(copy);
		memcpy(copy, buf + at, n);
		take(in, t, copy, n);
		free(copy);
	}
	inbound_free(in);
}

/* A masked frame behind what is there; first: its first byte. */
static size_t
put(uint8_t *out, uint8_t first, const char *payload, size_t len)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	size_t n = 0;

	out[n++] = first;
	out[n++] = (uint8_t)(0x80 | (len < 126 ? len : 126));
	if (len >= 126) {
		out[n++] = (uint8_t)(len >> 8);
		out[n++] = (uint8_t)len;
	}
	memcpy(out + n, mask, 4);
	n += 4;
	for (size_t i = 0; i < len; i++)
		out[n++] = (uint8_t)payload[i] ^ mask[i % 4];
	return n;
}

/* However it is cut, exactly this is told. */
static void
check(const uint8_t *buf, size_t len, bool deflates, const char *expected)
{
	struct told t;

	for (size_t cut = 0; cut <= len; cut++) {
		feed(buf, len, cut, 0, deflates, &t);
		assert_string_equal(t.text, expected);
	}
	for (size_t step = 1; step <= 9; step++) {
		feed(buf, len, 0, step, deflates, &t);
		assert_string_equal(t.text, expected);
	}
}

struct frame {
	uint8_t first;
	const char *payload;
};

static size_t
put_all(uint8_t *out, const struct frame *f, size_t n)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += put(out + len, f[i].first, f[i].payload, strlen(f[i].payload));
	return len;
}

#define CHECK(deflates, expected, ...)                                                 \
	do {                                                                           \
		const struct frame frames_[] = {__VA_ARGS__};                          \
		uint8_t bytes_[2048];                                                  \
		size_t len_ =                                                          \
		    put_all(bytes_, frames_, sizeof(frames_) / sizeof(frames_[0]));    \
                                                                                       \
		check(bytes_, len_, deflates, expected);                               \
	} while (0)

static void
test_inbound_messages_joined_and_in_order(void **state)
{
	CHECK(false, "t(Hello)", {0x81, "Hello"});
	CHECK(false, "b()t()b(x)", {0x82, ""}, {0x81, ""}, {0x82, "x"});
	CHECK(false, "p(1)t(abc)o(2)", {0x01, "a"}, {0x89, "1"}, {0x00, "b"},
	    {0x80, "c"}, {0x8a, "2"});
	CHECK(false, "t(\xce\xba\xe1\xbd\xb9)", {0x01, "\xce"}, {0x00, "\xba\xe1"},
	    {0x00, ""}, {0x80, "\xbd\xb9"});
}

static void
test_inbound_close_judged_whole(void **state)
{
	uint8_t buf[32];

	CHECK(false, "t(a)c1000", {0x81, "a"}, {0x88, ""}, {0x81, "b"});
	CHECK(false, "c1014", {0x88, "\x03\xf6sure"});
	CHECK(false, "c4000", {0x88, "\x0f\xa0\xf0\x9f\x8e\x88"});
	CHECK(false, "x1002", {0x88, "\x03"});
	CHECK(false, "x1002", {0x88, "\x03\xedno"});
	CHECK(false, "x1007", {0x88, "\x03\xf6 a \xce"});
	CHECK(false, "x1007", {0x88, "\x03\xf6 a b c \xff d e f g h"});
	check(buf, put(buf, 0x88, "\x03\xe8", 2), false, "c1000");
}

static void
test_inbound_breach_is_told_behind_what_came_before(void **state)
{
	CHECK(
	    false, "t(a)p(b)x1002", {0x81, "a"}, {0x89, "b"}, {0x83, "c"}, {0x81, "d"});
	CHECK(false, "x1002", {0x01, "a"}, {0x81, "b"});
	CHECK(false, "x1002", {0x80, "a"});
	CHECK(false, "x1002", {0x09, "a"});
	CHECK(false, "t(a)x1007", {0x81, "a"}, {0x81, "\xce\xba\xe1"});
	CHECK(false, "x1007", {0x01, "\xed\xa0"});
	CHECK(false, "x1002", {0xc1, "a"});
}

static void
test_inbound_rsv1_where_agreed(void **state)
{
	CHECK(true, "T(\xff)t(a)B(bc)", {0xc1, "\xff"}, {0x81, "a"}, {0x42, "b"},
	    {0x80, "c"});
	CHECK(true, "x1002", {0x41, "a"}, {0xc0, "b"});
	CHECK(true, "x1002", {0xc9, "a"});
	CHECK(true, "x1002", {0xa1, "a"});
}

static void
test_inbound_length_counts_over_fragments(void **state)
{
	static char big[MAX + 200];
	uint8_t buf[3 * MAX];
	struct told t;
	size_t len;

	memset(big, 'x', sizeof(big));
	len = put(buf, 0x01, big, MAX);
	len += put(buf + len, 0x80, "", 0);
	feed(buf, len, 0, 1, false, &t);
	assert_int_equal(t.len, MAX + 3);
	assert_true(t.idle);
	len = put(buf, 0x01, big, MAX);
	len += put(buf + len, 0x80, "x", 1);
	feed(buf, len, 0, 1, false, &t);
	assert_string_equal(t.text, "x1009");
	/* At its head, before the first byte of its payload. */
	(void)put(buf, 0x82, big, MAX + 1);
	for (size_t n = 1; n <= 4; n++) {
		feed(buf, n, 0, 1, false, &t);
		assert_string_equal(t.text, n < 4 ? "" : "x1009");
		feed(buf, n, 0, 0, false, &t);
		assert_string_equal(t.text, n < 4 ? "" : "x1009");
	}
	/* Deflated, it may be longer. */
	len = put(buf, 0xc2, big, MAX + 100);
	feed(buf, len, 0, 0, true, &t);
	assert_int_equal(t.len, MAX + 103);
	(void)put(buf, 0xc2, big, MAX + 101);
	feed(buf, 4, 0, 0, true, &t);
	assert_string_equal(t.text, "x1009");
}

static void
test_inbound_idle_only_between_messages(void **state)
{
	const struct frame frames[] = {{0x01, "ab"}, {0x89, "p"}, {0x80, ""}};
	uint8_t buf[64];
	size_t len = put_all(buf, frames, 3);
	struct told t;

	for (size_t n = 1; n < len; n++) {
		feed(buf, n, 0, 0, false, &t);
		assert_false(t.idle);
		assert_int_equal(t.in_message, n > 6);
	}
	feed(buf, len, 0, 0, false, &t);
	assert_true(t.idle);
	assert_false(t.in_message);
}

/* One parser serves connection after connection. */
static void
test_inbound_serves_the_next_connection(void **state)
{
	struct inbound *in;
	struct told t = {.len = 0};
	uint8_t buf[64];
	size_t len;

	assert_int_equal(inbound_new(&in), 0);
	for (int i = 0; i < 50; i++) {
		memset(&t, 0, sizeof(t));
		inbound_begin(in, MAX, i % 2 ? MAX : 0);
		len = put(buf, 0x81, "abc", 3);
		take(in, &t, buf, 3);
		take(in, &t, buf + 3, len - 3);
		assert_true(t.idle);
		assert_string_equal(t.text, "t(abc)");
	}
	inbound_free(in);
	inbound_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inbound_messages_joined_and_in_order),
	    cmocka_unit_test(test_inbound_close_judged_whole),
	    cmocka_unit_test(test_inbound_breach_is_told_behind_what_came_before),
	    cmocka_unit_test(test_inbound_rsv1_where_agreed),
	    cmocka_unit_test(test_inbound_length_counts_over_fragments),
	    cmocka_unit_test(test_inbound_idle_only_between_messages),
	    cmocka_unit_test(test_inbound_serves_the_next_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
