/* test_state_file.c - a file that is there as a whole, the old one or the new one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/state_file.h"

struct fixture {
	char dir[32];
	struct ev_loop *loop;
	struct state_file file;
	int written, err;
};

static void
on_written(void *owner, int err)
{
	struct fixture *f = owner;

	f->written++;
	f->err = err;
}

static void
assert_text(const struct fixture *f, const char *want)
{
	char *text = NULL;

	assert_int_equal(state_file_read(&f->file, &text), 0);
	assert_string_equal(text, want);
	free(text);
}

static void
test_state_file_is_written_beside_the_loop(void **state)
{
	struct fixture *f = *state;
	char *text;

	assert_int_equal(state_file_read(&f->file, &text), -ENOENT);
	assert_int_equal(state_file_write(&f->file, "one\n"), 0);
	assert_int_equal(state_file_write(&f->file, "two\n"), -EBUSY);
	while (f->written == 0)
		ev_run(f->loop, EVRUN_ONCE);
	assert_int_equal(f->err, 0);
	assert_text(f, "one\n");
	assert_int_equal(state_file_write(&f->file, "two\n"), 0);
	while (f->written == 1)
		ev_run(f->loop, EVRUN_ONCE);
	assert_text(f, "two\n");
}

static void
test_state_file_last_write_comes_last(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(state_file_write(&f->file, "earlier"), 0);
	assert_int_equal(state_file_write_now(&f->file, "last"), 0);
	assert_text(f, "last");
	assert_int_equal(f->written, 0);
}

static void
test_state_file_in_no_directory_says_so(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
	    state_file_init(&f->file, f->loop, "/no/such", "x", on_written, f), 0);
	assert_int_equal(state_file_write(&f->file, "one"), 0);
	while (f->written == 0)
		ev_run(f->loop, EVRUN_ONCE);
	assert_int_equal(f->err, -ENOENT);
	assert_int_equal(state_file_write_now(&f->file, "one"), -ENOENT);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/wscast-state-XXXXXX");
	f->loop = ev_loop_new(EVFLAG_NOENV);
	if (mkdtemp(f->dir) == NULL || f->loop == NULL)
		return -1;
	*state = f;
	return state_file_init(&f->file, f->loop, f->dir, "x", on_written, f);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	char path[64];

	state_file_done(&f->file);
	ev_loop_destroy(f->loop);
	(void)snprintf(path, sizeof(path), "%s/x", f->dir);
	(void)unlink(path);
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		test_state_file_is_written_beside_the_loop, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_state_file_last_write_comes_last, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_state_file_in_no_directory_says_so, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
