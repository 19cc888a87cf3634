/* test_wsbench_proto.c - what a client asks for, and what it makes of the answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/wsbench_proto.h"

static struct options options;
static struct order orders[16];
static char epoch[PROTO_EPOCH_MAX];

static int
setup(void **state)
{
	char *argv[] = {"--channels=10", "--subscriptions=2", "--channel=b",
	    "--url=ws://127.0.0.1:1/ws"};
	static struct proto_conn c;

	memset(orders, 0, sizeof(orders));
	epoch[0] = '\0';
	if (options_parse(4, argv, &options) < 0 || options_finish(&options) < 0)
		return -1;
	c = (struct proto_conn){&options, 0, orders, epoch};
	*state = &c;
	return 0;
}

static enum proto_kind
v1(void **state, const char *text, struct proto_message *m)
{
	memset(m, 0, sizeof(*m));
	return proto_v1.message(*state, text, strlen(text), m);
}

static void
test_raw_request_names_all_channels(void **state)
{
	char target[256], headers[64];

	assert_true(proto_raw.request(
	    *state, target, sizeof(target), headers, sizeof(headers)));
	assert_string_equal(target, "/ws?channel=b:0&channel=b:7");
}

static void
test_raw_request_fills_the_pattern_in(void **state)
{
	char target[256], headers[64];

	strcpy(options.path, "/sub/%c?x=1");
	assert_true(proto_raw.request(
	    *state, target, sizeof(target), headers, sizeof(headers)));
	assert_string_equal(target, "/sub/b:0?x=1");
}

static void
test_raw_request_too_long_is_refused(void **state)
{
	char target[20], headers[64];

	assert_false(proto_raw.request(
	    *state, target, sizeof(target), headers, sizeof(headers)));
}

static void
test_v1_message_is_taken_apart(void **state)
{
	struct proto_message m;

	assert_int_equal(
	    v1(state, "{\"channel\":\"b:0\",\"offset\":43,\"data\":[\"x\"]}", &m),
	    PROTO_PAYLOAD);
	assert_int_equal(m.offset, 43);
	assert_int_equal(m.payload_len, 5);
	assert_memory_equal(m.payload, "[\"x\"]", 5);
}

static void
test_v1_subscribed_keeps_epoch_and_offset(void **state)
{
	struct proto_message m;

	assert_int_equal(v1(state,
			     "{\"id\":1,\"ok\":{\"channel\":\"b:7\",\"epoch\":\"k3f\","
			     "\"offset\":42,\"recovered\":true}}",
			     &m),
	    PROTO_SUBSCRIBED);
	assert_int_equal(m.sub, 1);
	assert_int_equal(m.offset, 42);
	assert_true(m.recovered);
	assert_string_equal(epoch, "k3f");
}

static void
test_v1_not_recovered_says_what_is_missing(void **state)
{
	struct proto_message m;

	assert_int_equal(v1(state,
			     "{\"id\":0,\"ok\":{\"channel\":\"b:0\",\"epoch\":\"k\","
			     "\"offset\":42,\"recovered\":false,\"missed\":17}}",
			     &m),
	    PROTO_SUBSCRIBED);
	assert_false(m.recovered);
	assert_int_equal(m.missed, 17);
}

static void
test_v1_error_is_a_refusal(void **state)
{
	struct proto_message m;

	assert_int_equal(v1(state,
			     "{\"id\":0,\"error\":{\"code\":\"forbidden\","
			     "\"message\":\"no\"}}",
			     &m),
	    PROTO_REFUSED);
}

static void
test_v1_gap_names_the_subscription(void **state)
{
	struct proto_message m;

	assert_int_equal(
	    v1(state, "{\"gap\":{\"channel\":\"b:7\",\"from\":18,\"to\":41}}", &m),
	    PROTO_GAP);
	assert_int_equal(m.sub, 1);
	assert_int_equal(m.missed, 24);
}

static void
test_v1_hello_concerns_nobody(void **state)
{
	struct proto_message m;

	assert_int_equal(
	    v1(state, "{\"hello\":{\"client\":\"x\"}}", &m), PROTO_NOTHING);
	assert_int_equal(v1(state, "what?", &m), PROTO_BAD);
	assert_int_equal(v1(state, "", &m), PROTO_BAD);
}

/* Masked with known keys: the text is looked for after taking the mask off. */
static void
test_v1_opened_resumes_where_it_was(void **state)
{
	uint8_t out[1024];
	unsigned pending;
	char text[256];
	size_t n, len;

	strcpy(epoch, "k3f");
	orders[0] = (struct order){.next = 8, .offset = 40};
	n = proto_v1.opened(*state, out, sizeof(out), &pending);
	assert_int_equal(pending, 2);
	len = out[1] & 0x7f;
	assert_true(len < 126 && n > len + 6);
	for (size_t i = 0; i < len; i++)
		text[i] = (char)(out[6 + i] ^ out[2 + i % 4]);
	text[len] = '\0';
	assert_string_equal(text, "{\"id\":0,\"subscribe\":\"b:0\",\"since\":"
				  "{\"epoch\":\"k3f\",\"offset\":40}}");
}

static enum proto_kind
sio(void **state, const char *text, struct proto_message *m)
{
	memset(m, 0, sizeof(*m));
	return proto_socketio.message(*state, text, strlen(text), m);
}

static void
test_socketio_handshake_and_ping_are_answered(void **state)
{
	struct proto_message m;

	assert_int_equal(sio(state, "0{\"sid\":\"x\"}", &m), PROTO_ANSWER);
	assert_string_equal(m.answer, "40");
	assert_int_equal(sio(state, "40{\"sid\":\"y\"}", &m), PROTO_SUBSCRIBED);
	assert_int_equal(sio(state, "2", &m), PROTO_ANSWER);
	assert_string_equal(m.answer, "3");
}

static void
test_socketio_event_is_taken_apart(void **state)
{
	struct proto_message m;

	assert_int_equal(sio(state, "42[\"m\",[\"x\"]]", &m), PROTO_PAYLOAD);
	assert_int_equal(m.payload_len, 5);
	assert_memory_equal(m.payload, "[\"x\"]", 5);
}

static void
test_socketio_refusal_and_rubbish_are_told_apart(void **state)
{
	struct proto_message m;

	assert_int_equal(sio(state, "44{\"message\":\"no\"}", &m), PROTO_REFUSED);
	assert_int_equal(sio(state, "42[\"m\"]", &m), PROTO_BAD);
	assert_int_equal(sio(state, "4", &m), PROTO_BAD);
	assert_int_equal(sio(state, "", &m), PROTO_BAD);
}

static void
test_channels_are_spread_evenly(void **state)
{
	char *argv[] = {"--channels=1000", "--subscriptions=10", "--connections=100"};
	unsigned counts[1000] = {0};
	struct options o;

	assert_int_equal(options_parse(3, argv, &o), 0);
	assert_int_equal(options_finish(&o), 0);
	for (unsigned i = 0; i < 1000; i++)
		for (unsigned k = 0; k < 10; k++)
			counts[options_channel(&o, i, k)]++;
	for (unsigned c = 0; c < 1000; c++)
		assert_int_equal(counts[c], 10);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
	    T(test_raw_request_names_all_channels),
	    T(test_raw_request_fills_the_pattern_in),
	    T(test_raw_request_too_long_is_refused),
	    T(test_v1_message_is_taken_apart),
	    T(test_v1_subscribed_keeps_epoch_and_offset),
	    T(test_v1_not_recovered_says_what_is_missing),
	    T(test_v1_error_is_a_refusal),
	    T(test_v1_gap_names_the_subscription),
	    T(test_v1_hello_concerns_nobody),
	    T(test_v1_opened_resumes_where_it_was),
	    T(test_socketio_handshake_and_ping_are_answered),
	    T(test_socketio_event_is_taken_apart),
	    T(test_socketio_refusal_and_rubbish_are_told_apart),
	    T(test_channels_are_spread_evenly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
