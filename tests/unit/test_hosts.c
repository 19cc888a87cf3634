/* supervisor/hosts.c: what a host makes of what the others say, and Redis keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/hosts.h"
#include "supervisor/peers.h"
#include "supervisor/presence.h"
#include "supervisor/supervisor.h"

#define OTHER "00000000000000bb"
#define PAGES 3

/* A Redis that answers when it is told to: of its commands those that read a hash. */
struct peers {
	struct {
		peers_reply *on_reply;
		void *owner;
		uint64_t tag;
		unsigned page;
	} scan[16];
	unsigned asked, answered;
};

struct scene {
	struct peers peers;
	struct supervisor s;
	struct settings settings;
	struct presence p;
	struct hosts *hosts;
	unsigned joins, leaves;
};

/* ---- the parts around it ---- */

bool
peers_up(const struct peers *p)
{
	return true;
}

bool
peers_busy(const struct peers *p)
{
	return false;
}

const char *
peers_node(const struct peers *p)
{
	return "00000000000000aa";
}

int
peers_tell(struct peers *p, const char *name, const void *data, size_t len)
{
	return 0;
}

int
peers_command(struct peers *p, int argc, const char *const *argv, const size_t *argvlen,
    peers_reply *on_reply, void *owner, uint64_t tag)
{
	if (strcmp(argv[0], "HSCAN") != 0 || strstr(argv[1], OTHER) == NULL)
		return 0;
	assert_in_range(p->asked, 0, 15);
	p->scan[p->asked].on_reply = on_reply;
	p->scan[p->asked].owner = owner;
	p->scan[p->asked].tag = tag;
	p->scan[p->asked++].page = (unsigned)strtoul(argv[2], NULL, 10);
	return 0;
}

void
presence_watch(struct presence *p)
{
}

uint64_t
supervisor_now_ms(void)
{
	return 1000;
}

static void
on_announce(void *owner, const struct member *m, bool join)
{
	struct scene *s = owner;

	s->joins += join;
	s->leaves += !join;
}

static const struct members_events events = {on_announce, NULL};

static int
setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->settings.presence_expiry_ms = 10000;
	s->s.settings = &s->settings;
	s->s.peers = &s->peers;
	s->p.s = &s->s;
	members_init(&s->p.members, &events, s);
	assert_int_equal(hosts_new(&s->p, &s->hosts), 0);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct scene *s = *state;

	hosts_free(s->hosts);
	members_done(&s->p.members);
	free(s);
	return 0;
}

/* ---- the other host ---- */

static void
it_says(struct scene *s, unsigned n)
{
	char text[120];
	int len = snprintf(text, sizeof(text),
	    "{\"node\":\"" OTHER "\",\"n\":%u,\"sum\":\"0000000000000000\"}", n);

	hosts_hear(s->hosts, text, (size_t)len);
}

static redisReply
string(char *text)
{
	return (redisReply){
	    .type = REDIS_REPLY_STRING, .str = text, .len = strlen(text)};
}

/* Its hash has PAGES pages of one member each. */
static void
redis_answers(struct scene *s)
{
	unsigned page = s->peers.scan[s->peers.answered].page;
	char cursor[12], field[40], value[60];
	redisReply part[4], *pair[2] = {&part[0], &part[1]},
			    *both[2] = {&part[2], &part[3]};
	const redisReply reply = {
	    .type = REDIS_REPLY_ARRAY, .elements = 2, .element = both};
	const unsigned i = s->peers.answered++;

	(void)snprintf(cursor, sizeof(cursor), "%u", (page + 1) % PAGES);
	(void)snprintf(field, sizeof(field), "%016xnews", page + 1);
	(void)snprintf(value, sizeof(value), "[\"%016x\",0,\"\",\"\"]", page + 1);
	part[0] = string(field);
	part[1] = string(value);
	part[2] = string(cursor);
	part[3] =
	    (redisReply){.type = REDIS_REPLY_ARRAY, .elements = 2, .element = pair};
	s->peers.scan[i].on_reply(s->peers.scan[i].owner, s->peers.scan[i].tag, &reply);
}

/* ---- tests ---- */

static void
test_hosts_hear_other_count_reads_hash(void **state)
{
	struct scene *s = *state;

	it_says(s, PAGES);
	while (s->peers.answered < s->peers.asked)
		redis_answers(s);
	assert_int_equal(s->peers.asked, PAGES);
	assert_int_equal(s->joins, PAGES);
}

/* The link that hears was lost and came again, while over the other one a hash is being
 * read: to begin anew then would take those for gone whom only the first reading had
 * named. */
static void
test_hosts_up_again_while_reading_nobody_leaves(void **state)
{
	struct scene *s = *state;

	it_says(s, PAGES);
	redis_answers(s);
	redis_answers(s);
	hosts_up(s->hosts);
	it_says(s, PAGES);
	while (s->peers.answered < s->peers.asked)
		redis_answers(s);
	assert_int_equal(s->joins, PAGES);
	assert_int_equal(s->leaves, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		test_hosts_hear_other_count_reads_hash, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		test_hosts_up_again_while_reading_nobody_leaves, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
