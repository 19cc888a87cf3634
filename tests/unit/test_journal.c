/* proto/journal.c: what reaches stderr, and what cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "proto/journal.h"

/* Run log_line() with stderr as a pipe; returns what came out. */
static char captured[4096];
static int pipe_fd[2], stderr_copy;

static void
capture_begin(void)
{
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK), 0);
	stderr_copy = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	assert_true(stderr_copy >= 0);
	assert_int_equal(dup2(pipe_fd[1], STDERR_FILENO), STDERR_FILENO);
	log_open("wscastd");
}

static const char *
capture_end(void)
{
	ssize_t n = read(pipe_fd[0], captured, sizeof(captured) - 1);

	assert_int_equal(dup2(stderr_copy, STDERR_FILENO), STDERR_FILENO);
	(void)close(stderr_copy);
	(void)close(pipe_fd[0]);
	(void)close(pipe_fd[1]);
	captured[n > 0 ? n : 0] = '\0';
	return captured;
}

static void
test_log_line_has_prefix_and_reason(void **state)
{
	capture_begin();
	log_warning(-ENOENT, "cannot open %s", "x");
	log_notice("up");
	assert_string_equal(capture_end(),
	    "<4>wscastd: cannot open x: No such file or directory\n<5>wscastd: up\n");
}

/* Without its time, of which the length is known. */
static void
test_log_line_json_is_an_object(void **state)
{
	static const char head[] = "<4>{\"time\":\"2026-01-01T00:00:00.000Z\"";
	const char *line;

	capture_begin();
	log_set_format(LOG_JSON);
	log_warning(-ENOENT, "no \"%s\"", "a\n\\b");
	log_set_format(LOG_TEXT);
	line = capture_end();
	assert_memory_equal(line, head, sizeof("<4>{\"time\":\"2") - 1);
	assert_string_equal(line + sizeof(head) - 1,
	    ",\"level\":\"warning\",\"who\":\"wscastd\",\"message\":\"no "
	    "\\\"a\\\\x0a\\\\b\\\": No such file or directory\"}\n");
}

/* Whatever does not fit is cut between two characters, and the object is whole. */
static void
test_log_line_json_too_long_is_cut(void **state)
{
	char long_text[1501];

	for (size_t i = 0; i + 1 < sizeof(long_text); i++)
		long_text[i] = "\xc3\xa9\""[i % 3];
	long_text[sizeof(long_text) - 1] = '\0';
	for (int shift = 0; shift < 6; shift++) {
		const char *line, *end;

		capture_begin();
		log_set_format(LOG_JSON);
		log_notice("%.*s%s", shift, "abcdef", long_text);
		log_set_format(LOG_TEXT);
		line = capture_end();
		assert_true(strlen(line) <= 1024);
		end = line + strlen(line);
		assert_string_equal(end - 3, "\"}\n");
		/* Before the end: a quote with its backslash, a whole e acute, or dots.
		 */
		assert_true(strncmp(end - 5, "\xc3\xa9", 2) == 0 ||
			    strncmp(end - 5, "\\\"", 2) == 0 || end[-4] == '.');
	}
}

static void
test_log_line_below_level_silent(void **state)
{
	capture_begin();
	log_set_level(LOG_WARNING);
	log_notice("not this");
	log_error(0, "this");
	log_set_level(LOG_INFO);
	assert_string_equal(capture_end(), "<3>wscastd: this\n");
}

static void
test_log_line_escapes_what_could_forge_a_line(void **state)
{
	capture_begin();
	log_notice("a\nb\x1b[2J\xff \xc2\x85 \xc3\xa4");
	assert_string_equal(
	    capture_end(), "<5>wscastd: a\\x0ab\\x1b[2J\\xff \\xc2\\x85 \xc3\xa4\n");
}

static void
test_log_line_long_is_cut_to_one_line(void **state)
{
	char text[3000];
	const char *got;

	memset(text, '\n', sizeof(text) - 1); /* each takes four */
	text[sizeof(text) - 1] = '\0';
	capture_begin();
	log_error(-EIO, "%s", text);
	got = capture_end();
	assert_true(strlen(got) <= 1024);
	assert_ptr_equal(strchr(got, '\n'), got + strlen(got) - 1);
	assert_non_null(strstr(got, "...\n"));
}

/* Nobody reads, the disk is full, stderr is closed: it returns, errno as before. */
static void
test_log_line_unwritable_stderr_survived(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)signal(SIGPIPE, SIG_IGN);
	capture_begin();
	(void)close(pipe_fd[0]);
	pipe_fd[0] = -1;
	errno = 77;
	log_error(0, "EPIPE");
	if (full >= 0)
		(void)dup2(full, STDERR_FILENO);
	log_error(0, "ENOSPC");
	(void)close(STDERR_FILENO);
	log_error(0, "EBADF");
	assert_int_equal(errno, 77);
	(void)capture_end();
	if (full >= 0)
		(void)close(full);
}

/* A pipe that is full and does not block: the line is lost, and nobody waits. */
static void
test_log_line_full_pipe_does_not_wait(void **state)
{
	capture_begin();
	for (int i = 0; i < 2000; i++)
		log_error(0, "%0500d", i);
	(void)capture_end();
}

static void
test_log_quote_each_size_terminated(void **state)
{
	char out[64];

	for (size_t size = 1; size <= sizeof(out); size++) {
		memset(out, 'X', sizeof(out));
		assert_ptr_equal(
		    log_quote("ab\n\xc3\xa4 long enough", 17, out, size), out);
		assert_true(strnlen(out, size) < size);
	}
	assert_string_equal(out, "ab\\x0a\xc3\xa4 long enough");
	assert_string_equal(log_quote("abcdefgh", 8, out, 8), "abcd...");
	assert_string_equal(log_quote("abcdefg", 7, out, 8), "abcdefg");
	assert_string_equal(log_quote("a\0b", 3, out, 20), "a\\x00b");
}

static void
test_log_limited_once_a_second_says_what_was_left_out(void **state)
{
	struct log_limit limit = {0, 0};

	capture_begin();
	assert_true(log_limited(&limit, 5000, LOG_WARNING, 0, "client %d", 1));
	assert_false(log_limited(&limit, 5000, LOG_WARNING, 0, "client %d", 2));
	assert_false(log_limited(&limit, 5999, LOG_WARNING, 0, "client %d", 3));
	assert_true(log_limited(&limit, 6000, LOG_ERROR, -ENOENT, "client %d", 4));
	assert_true(log_limited(&limit, 7000, LOG_WARNING, 0, "client %d", 5));
	assert_string_equal(capture_end(),
	    "<4>wscastd: client 1\n"
	    "<3>wscastd: client 4: No such file or directory (2 more like it were left "
	    "out)\n"
	    "<4>wscastd: client 5\n");
}

/* However long the line is: the count behind it is not what is cut. */
static void
test_log_limited_long_line_keeps_its_count(void **state)
{
	struct log_limit limit = {0, 7};
	char text[3000];
	const char *line;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	capture_begin();
	assert_true(log_limited(&limit, 1, LOG_WARNING, -EIO, "%s", text));
	line = capture_end();
	assert_non_null(strstr(line, "(7 more like it were left out)\n"));
	assert_non_null(strstr(line, "Input/output error"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_log_line_has_prefix_and_reason),
	    cmocka_unit_test(test_log_line_below_level_silent),
	    cmocka_unit_test(test_log_line_json_is_an_object),
	    cmocka_unit_test(test_log_line_json_too_long_is_cut),
	    cmocka_unit_test(test_log_line_escapes_what_could_forge_a_line),
	    cmocka_unit_test(test_log_line_long_is_cut_to_one_line),
	    cmocka_unit_test(test_log_line_unwritable_stderr_survived),
	    cmocka_unit_test(test_log_line_full_pipe_does_not_wait),
	    cmocka_unit_test(test_log_quote_each_size_terminated),
	    cmocka_unit_test(test_log_limited_once_a_second_says_what_was_left_out),
	    cmocka_unit_test(test_log_limited_long_line_keeps_its_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
