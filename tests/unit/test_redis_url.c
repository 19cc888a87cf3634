/* test_redis_url.c - Redis's URL, and the slot of a key. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/redis_url.h"

static void
test_redis_url_good(void **state)
{
	const struct {
		const char *text, *host, *path, *user, *password;
		unsigned port, db;
	} table[] = {
	    {"redis://h", "h", "", "", "", 6379, 0},
	    {"redis://h/", "h", "", "", "", 6379, 0},
	    {"redis://127.0.0.1:7000/12", "127.0.0.1", "", "", "", 7000, 12},
	    {"redis://[::1]:1", "::1", "", "", "", 1, 0},
	    {"rediss://h:7001", "h", "", "", "", 7001, 0},
	    {"redis://u@h", "h", "", "u", "", 6379, 0},
	    {"redis://:pw@h", "h", "", "", "pw", 6379, 0},
	    {"redis://u:p%40%25:x@h/3", "h", "", "u", "p@%:x", 6379, 3},
	    {"redis://u:p@q@h", "h", "", "u", "p@q", 6379, 0},
	    {"unix:///run/r.sock", "", "/run/r.sock", "", "", 6379, 0},
	    {"unix:///a@b?db=4", "", "/a@b", "", "", 6379, 4},
	    {"unix://u:p@/x", "", "/x", "u", "p", 6379, 0},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *why = NULL;
		struct redis_url url;

		assert_int_equal(redis_url_parse(table[i].text, &url, &why), 0);
		assert_string_equal(url.address[0].host, table[i].host);
		assert_string_equal(url.address[0].path, table[i].path);
		assert_string_equal(url.user, table[i].user);
		assert_string_equal(url.password, table[i].password);
		assert_int_equal(url.naddresses, 1);
		if (table[i].path[0] == '\0')
			assert_int_equal(url.address[0].port, table[i].port);
		assert_int_equal(url.db, table[i].db);
	}
}

static void
test_redis_url_sets(void **state)
{
	const char *why = NULL;
	struct redis_url url;

	assert_int_equal(
	    redis_url_parse("rediss-sentinel://u:p@a:1,[::1]/m-1/3", &url, &why), 0);
	assert_int_equal(url.form, REDIS_SENTINEL);
	assert_true(url.tls);
	assert_int_equal(url.naddresses, 2);
	assert_string_equal(url.address[0].host, "a");
	assert_int_equal(url.address[0].port, 1);
	assert_string_equal(url.address[1].host, "::1");
	assert_int_equal(url.address[1].port, 26379);
	assert_string_equal(url.master, "m-1");
	assert_int_equal(url.db, 3);
	assert_string_equal(url.password, "p");
	assert_int_equal(redis_url_parse("redis-cluster://a,b:7", &url, &why), 0);
	assert_int_equal(url.form, REDIS_CLUSTER);
	assert_int_equal(url.address[0].port, 6379);
	assert_int_equal(url.address[1].port, 7);
}

/* Those that redis-cli's CLUSTER KEYSLOT says. */
static void
test_redis_slot_table(void **state)
{
	static const struct {
		const char *name;
		unsigned slot;
	} table[] = {{"", 0}, {"123456789", 12739}, {"foo", 12182}, {"{foo}bar", 12182},
	    {"a{foo}{b}", 12182}, {"{}foo", 9500}, {"{foo", 13308}, {"foo}{", 8134},
	    {"{{foo}}", 13308}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (redis_slot(table[i].name, strlen(table[i].name)) != table[i].slot)
			fail_msg("%s: %u", table[i].name,
			    redis_slot(table[i].name, strlen(table[i].name)));
}

static void
test_redis_url_bad(void **state)
{
	static const char *const bad[] = {"", "h", "http://h", "rediss://", "redis://",
	    "redis://:1", "redis://h:", "redis://h:0", "redis://h:65536", "redis://h:x",
	    "redis://h/x", "redis://h/1/2", "redis://h?db=1", "redis://h/-1",
	    "redis://h/1000001", "redis://@h", "redis://u:@h", "redis://:%zz@h",
	    "redis://:%4@h", "redis://:%00@h", "redis://[::1", "redis://[x]",
	    "redis://[]", "redis://h h", "unix://", "unix:///", "unix://x",
	    "unix:///x?db=", "unix:///x?database=1", "unix:///x?db=1x", "redis://a,b",
	    "redis-sentinel://a", "redis-sentinel://a/", "redis-sentinel://a/m/x",
	    "redis-sentinel://a/m m", "redis-sentinel://a,/m",
	    "redis-sentinel://a,b,c,d,e,f,g,h,i/m", "redis-cluster://a/1",
	    "redis-cluster://a,b:x", "redis-cluster://"};
	char longer[300] = "redis://";
	const char *why = NULL;
	struct redis_url url;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		if (redis_url_parse(bad[i], &url, &why) != -EINVAL || why == NULL)
			fail_msg("taken: %s", bad[i]);
	}
	memset(longer + 8, 'h', 200);
	assert_int_equal(redis_url_parse(longer, &url, &why), -EINVAL);
}

static void
test_redis_url_mask_hides_all_that_may_be_a_password(void **state)
{
	static const char *const table[][2] = {{"redis://h", "redis://h"},
	    {"redis://:x@h", "redis://:***@h"}, {"redis://u:a@b@h", "redis://u:***@h"},
	    {"redis://secret@h", "redis://***@h"},
	    {"rediss://u:x@h", "rediss://u:***@h"}, {"u:x@h", "u:***@h"},
	    {"unix:///a@b", "unix:///a@b"}};
	char out[64];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_string_equal(
		    redis_url_mask(table[i][0], out, sizeof(out)), table[i][1]);
	assert_string_equal(redis_url_mask("redis://:x@host", out, 12), "redis://:**");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_redis_url_good),
	    cmocka_unit_test(test_redis_url_sets),
	    cmocka_unit_test(test_redis_slot_table),
	    cmocka_unit_test(test_redis_url_bad),
	    cmocka_unit_test(test_redis_url_mask_hides_all_that_may_be_a_password),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
