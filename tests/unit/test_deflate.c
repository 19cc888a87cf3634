/* permessage-deflate: offers, RFC 7692's own examples, bombs and broken messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "proto/deflate.h"
#include "proto/frame.h"

#define LIMIT 65536

/* ---- the handshake ---- */

/* Lines of Sec-WebSocket-Extensions, separated by '|'. NULL: none at all. */
static enum deflate_agreed
negotiate(const char *lines, char *response)
{
	char copy[2048], *save = NULL;
	struct http_request r = {.nheaders = 0};

	(void)snprintf(copy, sizeof(copy), "%s", lines != NULL ? lines : "");
	for (char *line = lines != NULL ? strtok_r(copy, "|", &save) : NULL;
	     line != NULL; line = strtok_r(NULL, "|", &save)) {
		struct http_header *h = &r.header[r.nheaders++];

		h->name = (struct slice){"sec-websocket-extensions", 24};
		h->value = (struct slice){line, strlen(line)};
	}
	return deflate_negotiate(&r, response);
}

#define RESET "; server_no_context_takeover; client_no_context_takeover"

static void
test_deflate_offer_each_legal_form_agreed(void **state)
{
	static const struct {
		const char *offer, *more; /* behind what is always answered */
	} legal[] = {
	    {"permessage-deflate", ""},
	    {" permessage-deflate ", ""},
	    {"permessage-deflate; client_max_window_bits", ""},
	    {"permessage-deflate;client_max_window_bits=10",
		"; client_max_window_bits=10"},
	    {"permessage-deflate; client_max_window_bits=\"8\"",
		"; client_max_window_bits=8"},
	    {"permessage-deflate; client_max_window_bits=\"1\\0\"",
		"; client_max_window_bits=10"},
	    {"permessage-deflate; server_max_window_bits=15",
		"; server_max_window_bits=15"},
	    {"permessage-deflate ; server_max_window_bits = \"15\" ; "
	     "client_max_window_bits\t=\t9",
		"; server_max_window_bits=15; client_max_window_bits=9"},
	    {"permessage-deflate; server_no_context_takeover", ""},
	    {"permessage-deflate; client_no_context_takeover", ""},
	    {"permessage-deflate; client_no_context_takeover; "
	     "server_no_context_takeover; client_max_window_bits",
		""},
	};
	char response[DEFLATE_RESPONSE_MAX], want[256];

	for (size_t i = 0; i < sizeof(legal) / sizeof(legal[0]); i++) {
		assert_int_equal(negotiate(legal[i].offer, response), DEFLATE_AGREED);
		(void)snprintf(
		    want, sizeof(want), "permessage-deflate" RESET "%s", legal[i].more);
		assert_string_equal(response, want);
	}
}

/* Well-formed, and not to be taken. */
static void
test_deflate_offer_that_cannot_be_met_passed_over(void **state)
{
	static const char *const offers[] = {
	    NULL,
	    "",
	    ", ,",
	    "x-webkit-deflate-frame",
	    "permessage-bzip2; a=1; b=\"2\"",
	    "Permessage-Deflate",
	    "permessage-deflate; server_max_window_bits",
	    "permessage-deflate; server_max_window_bits=8",
	    "permessage-deflate; server_max_window_bits=14",
	    "permessage-deflate; server_max_window_bits=16",
	    "permessage-deflate; server_max_window_bits=015",
	    "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
	    "permessage-deflate; client_max_window_bits=7",
	    "permessage-deflate; client_max_window_bits=16",
	    "permessage-deflate; client_max_window_bits=08",
	    "permessage-deflate; client_max_window_bits=1x",
	    "permessage-deflate; client_max_window_bits=-9",
	    "permessage-deflate; client_max_window_bits=10000000000000000000000009",
	    "permessage-deflate; client_max_window_bits; client_max_window_bits",
	    "permessage-deflate; client_max_window_bits=9; client_max_window_bits=9",
	    "permessage-deflate; server_no_context_takeover=1",
	    "permessage-deflate; client_no_context_takeover=\"yes\"",
	    "permessage-deflate;server_no_context_takeover;server_no_context_takeover",
	    "permessage-deflate;client_no_context_takeover;client_no_context_takeover",
	    "permessage-deflate; what_is_this",
	};
	char response[DEFLATE_RESPONSE_MAX];

	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
		assert_int_equal(negotiate(offers[i], response), DEFLATE_NONE);
}

static void
test_deflate_offers_first_that_fits_taken(void **state)
{
	static const char *const offers[] = {
	    "permessage-deflate; server_max_window_bits=10, "
	    "permessage-deflate; client_max_window_bits=11, permessage-deflate",
	    "foo, permessage-deflate; bar,, permessage-deflate; "
	    "client_max_window_bits=11",
	    "foo; a=b|permessage-deflate; client_max_window_bits=11|permessage-deflate",
	};
	char response[DEFLATE_RESPONSE_MAX];

	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		assert_int_equal(negotiate(offers[i], response), DEFLATE_AGREED);
		assert_string_equal(
		    response, "permessage-deflate" RESET "; client_max_window_bits=11");
	}
}

static void
test_deflate_offer_against_grammar_broken(void **state)
{
	static const char *const offers[] = {
	    ";",
	    "=",
	    "a b",
	    "a;",
	    "a; ;b",
	    "a; =1",
	    "a; b=",
	    "a; b=1=2",
	    "a; b=\"",
	    "a; b=\"\"",
	    "a; b=\"1",
	    "a; b=\"1\\",
	    "a; b=\"1 2\"",
	    "a; b=\"1,2\"",
	    "a; b=\"1\"2",
	    "a; b c",
	    "a/b",
	    "permessage-deflate; client_max_window_bits=",
	    "permessage-deflate, a;",
	    "permessage-deflate|\"a\"",
	};
	char response[DEFLATE_RESPONSE_MAX];

	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++)
		assert_int_equal(negotiate(offers[i], response), DEFLATE_BROKEN);
}

/* ---- messages ---- */

struct streams {
	struct deflater *deflater;
	struct inflater *inflater;
};

static void
assert_inflates(
    struct streams *s, const void *buf, size_t len, const void *want, size_t want_len)
{
	const uint8_t *message = NULL;
	size_t n = 0;
	/* At the very end of its memory: a sanitizer sees a byte read too far. */
	uint8_t *copy = malloc(len + 1);

	assert_non_null(copy);
	memcpy(copy + 1, buf, len);
	assert_int_equal(
	    inflater_message(s->inflater, copy + 1, len, LIMIT, &message, &n),
	    INFLATED_WHOLE);
	assert_int_equal(n, want_len);
	if (n > 0)
		assert_memory_equal(message, want, n);
	free(copy);
}

static enum inflated
inflate_as(struct streams *s, const void *buf, size_t len, size_t limit)
{
	const uint8_t *message;
	size_t n;

	return inflater_message(s->inflater, buf, len, limit, &message, &n);
}

/* RFC 7692 §7.2.3: each example inflates to "Hello". */
static void
test_inflater_examples_of_rfc_inflate(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} example[] = {
	    {"\xf2\x48\xcd\xc9\xc9\x07\x00", 7},                  /* .1 one block */
	    {"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11}, /* .3 stored */
	    {"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8},              /* .4 BFINAL */
	    {"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13}, /* .5 two */
	};

	for (size_t i = 0; i < sizeof(example) / sizeof(example[0]); i++)
		assert_inflates(*state, example[i].bytes, example[i].len, "Hello", 5);
	assert_inflates(*state, "\x00", 1, "", 0); /* .6 an empty message */
}

/* §7.2.3.2: the second message refers to the first one's window, which was given up. */
static void
test_inflater_no_window_from_the_message_before(void **state)
{
	assert_inflates(*state, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello", 5);
	assert_int_equal(
	    inflate_as(*state, "\xf2\x00\x11\x00\x00", 5, LIMIT), INFLATED_BROKEN);
	assert_inflates(*state, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello", 5);
}

/* Blocks behind a final one go on with its window. */
static void
test_inflater_blocks_behind_final_ones_inflate(void **state)
{
	assert_inflates(*state,
	    "\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 15,
	    "HelloHello", 10);
	assert_inflates(*state, "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00", 12,
	    "HelloHello", 10);
}

/* Nothing was cut off behind a final block, or of nothing. */
static void
test_inflater_missing_tail_forgiven(void **state)
{
	assert_inflates(*state, "\xf3\x48\xcd\xc9\xc9\x07\x00", 7, "Hello", 5);
	assert_inflates(*state, "", 0, "", 0);
}

static void
test_inflater_cut_message_broken(void **state)
{
	static const char whole[] = "\xf2\x48\xcd\xc9\xc9\x07\x00";

	for (size_t len = 1; len < 7; len++)
		assert_int_equal(
		    inflate_as(*state, whole, len, LIMIT), INFLATED_BROKEN);
}

static void
test_inflater_garbage_broken(void **state)
{
	assert_int_equal(inflate_as(*state, "\xff\xff\xff", 3, LIMIT), INFLATED_BROKEN);
	assert_int_equal(inflate_as(*state, "Hello", 5, LIMIT), INFLATED_BROKEN);
	/* The tail was not taken off. */
	assert_int_equal(inflate_as(*state,
			     "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", 11, LIMIT),
	    INFLATED_BROKEN);
	assert_inflates(*state, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello", 5);
}

static void
test_inflater_limit_is_exact(void **state)
{
	assert_int_equal(
	    inflate_as(*state, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 5), INFLATED_WHOLE);
	assert_int_equal(inflate_as(*state, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, 4),
	    INFLATED_TOO_LONG);
	assert_int_equal(inflate_as(*state, "\xf3\x48\xcd\xc9\xc9\x07\x00", 7, 4),
	    INFLATED_TOO_LONG);
	assert_int_equal(inflate_as(*state, "\x00", 1, 0), INFLATED_WHOLE);
}

/* len zero bytes, deflated as well as can be. */
static size_t
make_bomb(size_t len, uint8_t *out, size_t size)
{
	static uint8_t zeros[65536];
	z_stream z = {.next_out = out, .avail_out = (uInt)size};

	assert_int_equal(
	    deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
	while (len > 0) {
		z.next_in = zeros;
		z.avail_in = len < sizeof(zeros) ? (uInt)len : sizeof(zeros);
		len -= z.avail_in;
		assert_int_equal(
		    deflate(&z, len == 0 ? Z_SYNC_FLUSH : Z_NO_FLUSH), Z_OK);
	}
	(void)deflateEnd(&z);
	return size - z.avail_out - 4;
}

static void
test_inflater_bomb_ends_at_limit(void **state)
{
	static uint8_t bomb[1 << 20];
	size_t len = make_bomb(512u << 20, bomb, sizeof(bomb));

	assert_true(len < 600000);
	assert_int_equal(inflate_as(*state, bomb, len, LIMIT), INFLATED_TOO_LONG);
	len = make_bomb(LIMIT, bomb, sizeof(bomb));
	assert_int_equal(inflate_as(*state, bomb, len, LIMIT), INFLATED_WHOLE);
	len = make_bomb(LIMIT + 1, bomb, sizeof(bomb));
	assert_int_equal(inflate_as(*state, bomb, len, LIMIT), INFLATED_TOO_LONG);
	assert_inflates(*state, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello", 5);
}

/* A plain frame, deflated, is read back; *ret_len the deflated one's. */
static bool
round_trip(struct streams *s, enum opcode op, const uint8_t *data, size_t len,
    size_t max, size_t *ret_len)
{
	uint8_t *plain = malloc(FRAME_HEAD_MAX + len);
	uint8_t *out = malloc(max), head[FRAME_HEAD_MAX];
	size_t plain_head, n, payload_len;
	const void *payload;
	enum opcode got;

	assert_non_null(plain);
	assert_non_null(out);
	plain_head = frame_head(op, len, plain);
	memcpy(plain + plain_head, data, len);
	n = deflater_frame(s->deflater, plain, max, out);
	if (n > 0) {
		assert_true(n <= max);
		payload_len = frame_payload(out, &got, &payload);
		assert_int_equal(got, op);
		assert_int_equal(n, frame_head(op, payload_len, head) + payload_len);
		assert_int_equal(out[0], 0x80 | FRAME_RSV1 | op);
		assert_inflates(s, payload, payload_len, data, len);
	}
	free(plain);
	free(out);
	*ret_len = n;
	return n > 0;
}

static void
test_deflater_every_length_reads_back(void **state)
{
	static uint8_t data[LIMIT];
	size_t n;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)("the quick brown fox "[i % 20] + i / 4096 % 3);
	for (size_t len = 0; len <= sizeof(data); len += len < 300 ? 1 : 1777) {
		assert_true(
		    round_trip(*state, OPCODE_TEXT, data, len, len + len / 8 + 64, &n));
		assert_true(len < 1000 || n < len / 2);
	}
}

static void
test_deflater_each_message_by_itself(void **state)
{
	struct streams *s = *state;
	uint8_t plain[64], first[64], second[64];
	size_t len = frame_head(OPCODE_TEXT, 20, plain), n;

	memcpy(plain + len, "hello hello hello he", 20);
	n = deflater_frame(s->deflater, plain, sizeof(first), first);
	assert_true(n > 0);
	assert_int_equal(deflater_frame(s->deflater, plain, sizeof(second), second), n);
	assert_memory_equal(first, second, n);
}

/* Whatever the room, the frame is whole or not there, and the next is right again. */
static void
test_deflater_too_little_room_says_so(void **state)
{
	static uint8_t data[3000];
	size_t n, full;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(rand() % 16);
	assert_true(round_trip(*state, OPCODE_BINARY, data, sizeof(data), 4000, &full));
	for (size_t max = 1; max < 4000; max += 7) {
		bool fits =
		    round_trip(*state, OPCODE_BINARY, data, sizeof(data), max, &n);

		/* Its tail must fit, too, for a moment. */
		assert_int_equal(fits, max > full + 4);
	}
}

static int
streams_new(void **state)
{
	static struct streams s;

	*state = &s;
	return deflater_new(3, &s.deflater) == 0 && inflater_new(&s.inflater) == 0 ? 0
										   : -1;
}

static int
streams_free(void **state)
{
	struct streams *s = *state;

	deflater_free(s->deflater);
	inflater_free(s->inflater);
	deflater_free(NULL);
	inflater_free(NULL);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_deflate_offer_each_legal_form_agreed),
	    cmocka_unit_test(test_deflate_offer_that_cannot_be_met_passed_over),
	    cmocka_unit_test(test_deflate_offers_first_that_fits_taken),
	    cmocka_unit_test(test_deflate_offer_against_grammar_broken),
	    cmocka_unit_test(test_inflater_examples_of_rfc_inflate),
	    cmocka_unit_test(test_inflater_no_window_from_the_message_before),
	    cmocka_unit_test(test_inflater_blocks_behind_final_ones_inflate),
	    cmocka_unit_test(test_inflater_missing_tail_forgiven),
	    cmocka_unit_test(test_inflater_cut_message_broken),
	    cmocka_unit_test(test_inflater_garbage_broken),
	    cmocka_unit_test(test_inflater_limit_is_exact),
	    cmocka_unit_test(test_inflater_bomb_ends_at_limit),
	    cmocka_unit_test(test_deflater_every_length_reads_back),
	    cmocka_unit_test(test_deflater_each_message_by_itself),
	    cmocka_unit_test(test_deflater_too_little_room_says_so),
	};

	return cmocka_run_group_tests(tests, streams_new, streams_free);
}
