/* test_wsbench_wire.c - the client side of RFC 6455. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/wsbench_wire.h"

static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\n"
			     "upgrade: websocket\r\n"
			     "SEC-WEBSOCKET-ACCEPT: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
			     "\r\n";
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* The example of RFC 6455 §1.3. */
static void
test_wire_accept_is_that_of_the_rfc(void **state)
{
	char accept[WIRE_ACCEPT_LEN + 1];

	assert_int_equal(wire_accept("dGhlIHNhbXBsZSBub25jZQ==", accept), 0);
	assert_string_equal(accept, ACCEPT);
}

static void
test_wire_answer_good_is_its_length(void **state)
{
	assert_int_equal(
	    wire_answer(answer, sizeof(answer) - 1, ACCEPT), sizeof(answer) - 1);
}

static void
test_wire_answer_cut_anywhere_wants_more(void **state)
{
	for (size_t len = 0; len < sizeof(answer) - 1; len++)
		assert_int_equal(wire_answer(answer, len, ACCEPT), 0);
}

static void
test_wire_answer_wrong_accept_is_an_error(void **state)
{
	assert_int_equal(
	    wire_answer(answer, sizeof(answer) - 1, "t3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
	    -EPROTO);
}

static void
test_wire_answer_without_accept_is_an_error(void **state)
{
	static const char bare[] = "HTTP/1.1 101 Fine\r\n\r\n";

	assert_int_equal(wire_answer(bare, sizeof(bare) - 1, ACCEPT), -EPROTO);
}

static void
test_wire_answer_refused_is_minus_its_status(void **state)
{
	static const char full[] = "HTTP/1.1 503 Full\r\nRetry-After: 1\r\n\r\n";

	assert_int_equal(wire_answer(full, sizeof(full) - 1, ACCEPT), -503);
}

static void
test_wire_answer_no_http_is_an_error(void **state)
{
	assert_int_equal(wire_answer("+PONG and more\r\n", 16, ACCEPT), -EPROTO);
}

static void
test_wire_frame_cut_anywhere_wants_more(void **state)
{
	uint8_t buf[4 + 300] = {0x81, 126, 300 >> 8, 300 & 255};
	struct wire_frame f;
	size_t need;

	for (size_t have = 0; have < sizeof(buf); have++) {
		assert_int_equal(wire_frame(buf, have, &f, &need), 0);
		assert_int_equal(need, have < 4 ? 0 : sizeof(buf));
	}
	assert_int_equal(wire_frame(buf, sizeof(buf), &f, &need), sizeof(buf));
	assert_int_equal(f.len, 300);
	assert_ptr_equal(f.data, buf + 4);
}

static void
test_wire_frame_masked_is_an_error(void **state)
{
	const uint8_t buf[] = {0x81, 0x80, 1, 2, 3, 4};
	struct wire_frame f;
	size_t need;

	assert_int_equal(wire_frame(buf, sizeof(buf), &f, &need), -EPROTO);
}

static void
test_wire_frame_reserved_bit_is_an_error(void **state)
{
	const uint8_t buf[] = {0xc1, 0};
	struct wire_frame f;
	size_t need;

	assert_int_equal(wire_frame(buf, sizeof(buf), &f, &need), -EPROTO);
}

static void
test_wire_frame_absurd_length_is_an_error(void **state)
{
	const uint8_t buf[] = {0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0};
	struct wire_frame f;
	size_t need;

	assert_int_equal(wire_frame(buf, sizeof(buf), &f, &need), -EPROTO);
}

/* The masked "Hello" of RFC 6455 §5.7. */
static void
test_wire_masked_is_that_of_the_rfc(void **state)
{
	const uint8_t want[] = {
	    0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
	uint8_t out[WIRE_HEAD_MAX + 5];
	uint32_t mask;

	memcpy(&mask, want + 2, 4);
	assert_int_equal(wire_masked(1, "Hello", 5, mask, out), sizeof(want));
	assert_memory_equal(out, want, sizeof(want));
}

static void
test_wire_masked_takes_the_shortest_length(void **state)
{
	static const size_t lens[][2] = {
	    {0, 2}, {125, 2}, {126, 4}, {65535, 4}, {65536, 10}};
	uint8_t *data = calloc(1, 65536), *out = malloc(65536 + WIRE_HEAD_MAX);

	assert_true(data != NULL && out != NULL);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		assert_int_equal(wire_masked(2, data, lens[i][0], 0, out),
		    lens[i][0] + lens[i][1] + 4);
	free(data);
	free(out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_wire_accept_is_that_of_the_rfc),
	    cmocka_unit_test(test_wire_answer_good_is_its_length),
	    cmocka_unit_test(test_wire_answer_cut_anywhere_wants_more),
	    cmocka_unit_test(test_wire_answer_wrong_accept_is_an_error),
	    cmocka_unit_test(test_wire_answer_without_accept_is_an_error),
	    cmocka_unit_test(test_wire_answer_refused_is_minus_its_status),
	    cmocka_unit_test(test_wire_answer_no_http_is_an_error),
	    cmocka_unit_test(test_wire_frame_cut_anywhere_wants_more),
	    cmocka_unit_test(test_wire_frame_masked_is_an_error),
	    cmocka_unit_test(test_wire_frame_reserved_bit_is_an_error),
	    cmocka_unit_test(test_wire_frame_absurd_length_is_an_error),
	    cmocka_unit_test(test_wire_masked_is_that_of_the_rfc),
	    cmocka_unit_test(test_wire_masked_takes_the_shortest_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
