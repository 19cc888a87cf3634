/* test_redis_topology.c - what sentinels and nodes of a cluster say of their servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/redis_topology.h"

/* The reply that these bytes are; the caller frees it. */
static redisReply *
reply(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *r = NULL;

	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &r), REDIS_OK);
	assert_non_null(r);
	redisReaderFree(reader);
	return r;
}

static bool
master_of(const char *text, struct redis_master *ret)
{
	redisReply *r = reply(text);
	bool ok = redis_master_parse(r, ret);

	freeReplyObject(r);
	return ok;
}

static bool
cluster_of(const char *text, struct redis_cluster *ret)
{
	static const struct redis_address asked = {.host = "asked", .port = 7};
	redisReply *r = reply(text);
	bool ok = redis_cluster_parse(r, &asked, ret);

	freeReplyObject(r);
	return ok;
}

#define NAME_IP "$2\r\nip\r\n"
#define NAME_PORT "$4\r\nport\r\n"

static void
test_redis_master_parse_good(void **state)
{
	struct redis_master m;

	assert_true(master_of("*6\r\n" NAME_IP "$9\r\n127.0.0.1\r\n" NAME_PORT
			      "$4\r\n6380\r\n$12\r\nconfig-epoch\r\n$2\r\n17\r\n",
	    &m));
	assert_string_equal(m.address.host, "127.0.0.1");
	assert_int_equal(m.address.port, 6380);
	assert_int_equal(m.epoch, 17);
	assert_true(
	    master_of("*4\r\n" NAME_IP "$3\r\n::1\r\n" NAME_PORT "$1\r\n1\r\n", &m));
	assert_string_equal(m.address.host, "::1");
}

static void
test_redis_master_parse_bad(void **state)
{
	static const char *const bad[] = {"*-1\r\n", "+OK\r\n", "*0\r\n", ":1\r\n",
	    "*2\r\n" NAME_IP "$1\r\na\r\n", "*3\r\n" NAME_IP "$1\r\na\r\n" NAME_PORT,
	    "*4\r\n" NAME_IP "$1\r\na\r\n" NAME_PORT "$1\r\n0\r\n",
	    "*4\r\n" NAME_IP "$1\r\na\r\n" NAME_PORT "$5\r\n65536\r\n",
	    "*4\r\n" NAME_IP "$1\r\na\r\n" NAME_PORT ":1\r\n",
	    "*4\r\n" NAME_IP "$0\r\n\r\n" NAME_PORT "$1\r\n1\r\n",
	    "*4\r\n" NAME_IP "$3\r\na b\r\n" NAME_PORT "$1\r\n1\r\n",
	    "*4\r\n" NAME_IP "*0\r\n" NAME_PORT "$1\r\n1\r\n"};
	struct redis_master m;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (master_of(bad[i], &m))
			fail_msg("taken: %s", bad[i]);
}

static void
test_redis_cluster_parse_good(void **state)
{
	static struct redis_cluster c;

	/* Two ranges of one node, one of him who was asked. */
	assert_true(cluster_of("*3\r\n"
			       "*3\r\n:0\r\n:99\r\n*2\r\n$1\r\na\r\n:1\r\n"
			       "*4\r\n:100\r\n:100\r\n*2\r\n$-1\r\n:7\r\n*0\r\n"
			       "*3\r\n:16383\r\n:16383\r\n*2\r\n$1\r\na\r\n:1\r\n",
	    &c));
	assert_int_equal(c.nnodes, 2);
	assert_int_equal(c.owner[0], 1);
	assert_int_equal(c.owner[99], 1);
	assert_int_equal(c.owner[100], 2);
	assert_int_equal(c.owner[101], 0);
	assert_int_equal(c.owner[16383], 1);
	assert_string_equal(c.node[0].host, "a");
	assert_string_equal(c.node[1].host, "asked");
}

static void
test_redis_cluster_parse_bad(void **state)
{
	static const char *const bad[] = {"*0\r\n", "+OK\r\n", "*-1\r\n",
	    "*1\r\n:1\r\n", "*1\r\n*2\r\n:0\r\n:1\r\n",
	    "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
	    "*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
	    "*1\r\n*3\r\n:2\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
	    "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:0\r\n",
	    "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$3\r\na;b\r\n:1\r\n",
	    "*1\r\n*3\r\n:0\r\n:1\r\n:1\r\n"};
	static struct redis_cluster c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cluster_of(bad[i], &c))
			fail_msg("taken: %s", bad[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_redis_master_parse_good),
	    cmocka_unit_test(test_redis_master_parse_bad),
	    cmocka_unit_test(test_redis_cluster_parse_good),
	    cmocka_unit_test(test_redis_cluster_parse_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
