/* supervisor/redis_input.c with proto/resp.c: bytes in any pieces, replies out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/resp.h"
#include "supervisor/redis_input.h"

#define REPLY_MAX (1u << 20)

/* What a subscriber gets: messages between replies that hiredis must read. */
static const char replies[] = "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n"
			      "+PONG\r\n"
			      "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:12\r\n"
			      "-ERR no\r\n"
			      "*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$8\r\n\r\n*1\r\n:5\r\n"
			      "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
			      "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
			      "*2\r\n*1\r\n:1\r\n$3\r\nx\ny\r\n"
			      "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nd\r\n";

/* The reply as one line of text, so that two can be compared. */
static void
print_reply(FILE *out, const redisReply *r)
{
	if (r->type == REDIS_REPLY_INTEGER)
		(void)fprintf(out, "%lld ", r->integer);
	else if (r->type == REDIS_REPLY_NIL)
		(void)fprintf(out, "nil ");
	else if (r->type != REDIS_REPLY_ARRAY)
		(void)fprintf(out, "%d:%zu:%s ", r->type, r->len, r->str);
	for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++)
		print_reply(out, r->element[i]);
}

/* All replies in these bytes, which come in pieces of up to `piece` bytes; malloc'd.
 * *ret_end: why there are no more. */
static char *
read_all(bool subscriber, const char *bytes, size_t len, size_t piece,
    enum redis_input_result *ret_end)
{
	struct redis_input *in = redis_input_new(subscriber, REPLY_MAX);
	enum redis_input_result r = INPUT_NONE;
	const redisReply *reply;
	char *text;
	size_t text_len;
	FILE *out = open_memstream(&text, &text_len);

	assert_non_null(in);
	while (len > 0 && r == INPUT_NONE) {
		size_t room;
		char *to = redis_input_room(in, &room);
		size_t n = len < piece ? len : piece;

		assert_non_null(to);
		assert_true(room > 0);
		if (n > room)
			n = room;
		memcpy(to, bytes, n);
		redis_input_add(in, n);
		bytes += n;
		len -= n;
		while ((r = redis_input_next(in, &reply)) == INPUT_REPLY) {
			print_reply(out, reply);
			(void)fputc('\n', out);
		}
	}
	redis_input_free(in);
	(void)fclose(out);
	*ret_end = r;
	return text;
}

static void
test_redis_input_reads_same_as_hiredis_in_any_pieces(void **state)
{
	enum redis_input_result end;
	char *want = read_all(false, replies, sizeof(replies) - 1, 1000, &end);

	assert_int_equal(end, INPUT_NONE);
	assert_non_null(strstr(want, "message"));
	for (size_t piece = 1; piece < sizeof(replies); piece++) {
		char *got = read_all(true, replies, sizeof(replies) - 1, piece, &end);

		assert_int_equal(end, INPUT_NONE);
		assert_string_equal(got, want);
		free(got);
	}
	free(want);
}

/* Each cut of it is none, and needs no more than there is. */
static void
test_resp_flat_cut_asks_for_what_is_missing(void **state)
{
	static const char message[] =
	    ">4\r\n$8\r\npmessage\r\n$2\r\na*\r\n:7\r\n$12\r\nhello, world\r\n";
	struct resp_flat f;
	size_t len;

	for (size_t cut = 0; cut < sizeof(message) - 1; cut++) {
		assert_int_equal(resp_flat(message, cut, &f, &len), RESP_CUT);
		assert_in_range(len, cut + 1, sizeof(message) - 1);
	}
	assert_int_equal(resp_flat(message, sizeof(message) - 1, &f, &len), RESP_WHOLE);
	assert_int_equal(len, sizeof(message) - 1);
	assert_true(f.push);
	assert_int_equal(f.nparts, 4);
	assert_int_equal(f.part[2].number, 7);
	assert_memory_equal(f.part[3].str, "hello, world", f.part[3].len);
}

static void
test_resp_flat_other_shapes_are_left(void **state)
{
	static const char *const others[] = {"+OK\r\n", "*-1\r\n", "*0\r\n", "*5\r\n",
	    "*1\r\n$-1\r\n", "*1\r\n*0\r\n", "*1\r\n_\r\n", "*1x", "*1\rx", "*\r\n",
	    "*1\r\n$1\r\nabc", "*1\r\n$9999999999", "*1\r\n:-1\r\n", "*1\r\n:01\r\n",
	    "%1\r\n"};
	struct resp_flat f;
	size_t len;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(
		    resp_flat(others[i], strlen(others[i]), &f, &len), RESP_OTHER);
}

/* Longer than the buffer is, and small ones behind it. */
static void
test_redis_input_long_message_is_whole(void **state)
{
	const size_t long_len = 900000;
	char *bytes = malloc(long_len + 200), *got, *found;
	enum redis_input_result end;
	size_t len = (size_t)sprintf(
	    bytes, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$%zu\r\n", long_len);

	memset(bytes + len, 'x', long_len);
	len += long_len;
	len += (size_t)sprintf(
	    bytes + len, "\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nsmall\r\n");
	got = read_all(true, bytes, len, 65536, &end);
	assert_int_equal(end, INPUT_NONE);
	found = strchr(got, '\n');
	assert_non_null(found);
	assert_int_equal(strspn(strchr(strstr(got, "900000"), 'x'), "x"), long_len);
	assert_non_null(strstr(found, "5:small"));
	free(got);
	free(bytes);
}

static void
test_redis_input_too_long_or_broken_ends(void **state)
{
	static const struct {
		const char *bytes;
		enum redis_input_result end;
	} table[] = {
	    {"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2000000\r\n", INPUT_TOO_LONG},
	    {"HTTP/1.1 400 Bad Request\r\n", INPUT_BROKEN},
	    {"*1\r\n$1\r\nabc\r\n+OK\r\n", INPUT_BROKEN},
	    {"*2000000\r\n", INPUT_NO_MEMORY},
	};
	enum redis_input_result end;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		free(
		    read_all(true, table[i].bytes, strlen(table[i].bytes), 1000, &end));
		/* hiredis 1 has a bound of its own, and calls it a fault. */
		if (table[i].end == INPUT_NO_MEMORY)
			assert_true(end == INPUT_NO_MEMORY || end == INPUT_BROKEN);
		else
			assert_int_equal(end, table[i].end);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_redis_input_reads_same_as_hiredis_in_any_pieces),
	    cmocka_unit_test(test_resp_flat_cut_asks_for_what_is_missing),
	    cmocka_unit_test(test_resp_flat_other_shapes_are_left),
	    cmocka_unit_test(test_redis_input_long_message_is_whole),
	    cmocka_unit_test(test_redis_input_too_long_or_broken_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
