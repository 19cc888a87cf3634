/* supervisor/expel_tell.c: what becomes of a revocation that Redis does not take at
 * once; and expel_learn(), which stands before it at a new link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <unistd.h>

#include "proto/revocation.h"
#include "supervisor/expel.h"
#include "supervisor/supervisor.h"

#define NOW_MS 1000000

/* A link that takes as many commands as there is room, and what they were. */
struct peers {
	unsigned room;
	char said[400];
	peers_reply *on_kept; /* of the last ZADD */
	void *owner;
	uint64_t tag;
};

struct scene {
	struct peers peers;
	struct supervisor s;
	int ring_fd;
};

/* ---- the parts around it ---- */

bool
peers_up(const struct peers *p)
{
	return true;
}

const char *
peers_node(const struct peers *p)
{
	return "00000000000000aa";
}

int
peers_command(struct peers *p, int argc, const char *const *argv, const size_t *argvlen,
    peers_reply *on_reply, void *owner, uint64_t tag)
{
	size_t len = strlen(p->said);

	if (p->room == 0)
		return -ENOBUFS;
	p->room--;
	(void)snprintf(
	    p->said + len, sizeof(p->said) - len, "%s%s", len > 0 ? " " : "", argv[0]);
	if (strcmp(argv[0], "ZADD") == 0) {
		p->on_kept = on_reply;
		p->owner = owner;
		p->tag = tag;
	}
	return 0;
}

int
peers_tell(struct peers *p, const char *name, const void *data, size_t len)
{
	static const char *const argv[] = {"PUBLISH"};

	return peers_command(p, 1, argv, NULL, NULL, NULL, 0);
}

uint64_t
supervisor_now_ms(void)
{
	return NOW_MS;
}

uint64_t
supervisor_real_ms(void)
{
	return NOW_MS;
}

static int
setup(void **state)
{
	const struct ring_config cfg = {
	    .frames_size = 1 << 20, .index_len = 4096, .channels_max = 16};
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	assert_int_equal(ring_create(&cfg, &s->s.ring, &s->ring_fd), 0);
	s->s.peers = &s->peers;
	expel_tell_init(&s->s.expel_tell);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct scene *s = *state;

	expel_tell_done(&s->s.expel_tell);
	assert_int_equal(s->s.expel_tell.n, 0);
	ring_close(s->s.ring);
	(void)close(s->ring_fd);
	free(s);
	return 0;
}

/* A user is revoked, with room for so many commands. */
static int
revoke_one(struct scene *s, char name, unsigned room)
{
	struct revocation rev = {.is_user = true, .len = 1, .name = {name}};

	s->peers.room = room;
	return expel_tell(&s->s, &rev, NOW_MS + 60000);
}

/* Redis answers the last ZADD; NULL: the link is lost. */
static void
answer(struct scene *s, const redisReply *reply)
{
	s->peers.said[0] = '\0';
	s->peers.on_kept(s->peers.owner, s->peers.tag, reply);
}

/* ---- tests ---- */

static void
test_expel_tell_kept_is_forgotten(void **state)
{
	const redisReply added = {.type = REDIS_REPLY_INTEGER, .integer = 1};
	struct scene *s = *state;

	assert_int_equal(revoke_one(s, 'a', 10), 0);
	assert_string_equal(s->peers.said, "PUBLISH ZADD");
	assert_int_equal(s->s.expel_tell.n, 1);
	answer(s, &added);
	assert_int_equal(s->s.expel_tell.n, 0);
}

static void
test_expel_tell_refused_is_kept_again_alone(void **state)
{
	const redisReply refused = {.type = REDIS_REPLY_ERROR, .str = "OOM", .len = 3};
	struct scene *s = *state;

	assert_int_equal(revoke_one(s, 'a', 10), 0);
	answer(s, &refused);
	expel_tell_again(&s->s);
	assert_string_equal(s->peers.said, "ZADD");
}

/* With the link went what was said over it just before, perhaps. */
static void
test_expel_tell_lost_is_told_again(void **state)
{
	struct scene *s = *state;

	assert_int_equal(revoke_one(s, 'a', 10), 0);
	answer(s, NULL);
	expel_tell_again(&s->s);
	assert_string_equal(s->peers.said, "PUBLISH ZADD");
}

static void
test_expel_tell_no_room_waits(void **state)
{
	struct scene *s = *state;

	assert_int_equal(revoke_one(s, 'a', 0), -ENOTCONN);
	assert_int_equal(revoke_one(s, 'b', 1), 0);
	assert_int_equal(s->s.expel_tell.n, 2);
}

/* However many are to be told, what the others revoked is asked for. */
static void
test_expel_learn_with_many_untold_asks(void **state)
{
	struct scene *s = *state;

	for (int i = 0; i < 4; i++)
		assert_int_equal(revoke_one(s, (char)('a' + i), 0), -ENOTCONN);
	s->peers.room = 4;
	expel_learn(&s->s);
	assert_string_equal(
	    s->peers.said, "ZREMRANGEBYSCORE ZREVRANGEBYSCORE PUBLISH ZADD");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_expel_tell_kept_is_forgotten),
	    TEST(test_expel_tell_refused_is_kept_again_alone),
	    TEST(test_expel_tell_lost_is_told_again),
	    TEST(test_expel_tell_no_room_waits),
	    TEST(test_expel_learn_with_many_untold_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
