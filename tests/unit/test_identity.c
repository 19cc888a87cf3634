/* test_identity.c - worker/identity.h */
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

#include "worker/identity.h"

#define ARENA (64u << 10)

/* Subject, jti, info, a channel, two globs to subscribe, one to publish. */
#define CLAIMS                                                                         \
	"ann\0j1\0{\"a\":1}\0own\0"                                                    \
	"news:*\0chat:?\0"                                                             \
	"chat:*"

static struct {
	struct worker w;
	int fd;
} env;

static const struct token ann = {
    .expires_s = 1000,
    .subject_len = 3,
    .jti_len = 2,
    .info_len = 7,
    .nchannels = 1,
    .nsubscribe = 2,
    .npublish = 1,
    .len = sizeof(CLAIMS),
    .text = (char *)CLAIMS,
};
/* A token that says nothing but that it is one. */
static const struct token bare = {.len = 3, .text = (char *)"\0\0"};

static void
rules(const char *text)
{
	struct faults faults = {0};

	settings_free(env.w.settings);
	env.w.settings = NULL;
	assert_int_equal(
	    settings_parse(text, strlen(text), &env.w.settings, &faults), 0);
}

static int
setup(void **state)
{
	memset(&env, 0, sizeof(env));
	if (table_create(4, 4, ARENA, &env.w.table, &env.fd) < 0 ||
	    arena_new(env.w.table.arena, ARENA, &env.w.arena) < 0)
		return -1;
	rules("");
	return 0;
}

static int
teardown(void **state)
{
	arena_free_all(env.w.arena);
	table_close(&env.w.table);
	settings_free(env.w.settings);
	return close(env.fd);
}

static bool
may_subscribe(const char *name)
{
	return identity_may_subscribe(&env.w, 0, name, strlen(name));
}

static bool
may_publish(const char *name)
{
	return identity_may_publish(&env.w, 0, name, strlen(name));
}

static bool
is(struct slice s, const char *text)
{
	return s.p != NULL && slice_is(s, text);
}

static void
test_identity_set_keeps_each_claim(void **state)
{
	const struct slot *s = worker_slot(&env.w, 0);

	assert_int_equal(identity_set(&env.w, 0, &ann, 990), 0);
	assert_true(is(identity_subject(&env.w, s), "ann"));
	assert_true(is(identity_jti(&env.w, s), "j1"));
	assert_true(is(identity_info(&env.w, s), "{\"a\":1}"));
	assert_string_equal(identity_channel(&env.w, s, 0), "own");
	assert_null(identity_channel(&env.w, s, 1));
	assert_int_equal(identity_of(&env.w, s)->expires_s, 1000);
	assert_int_equal(identity_of(&env.w, s)->ends_s, 990);
}

static void
test_identity_none_has_no_claims(void **state)
{
	const struct slot *s = worker_slot(&env.w, 0);

	assert_null(identity_of(&env.w, s));
	assert_null(identity_subject(&env.w, s).p);
	assert_null(identity_jti(&env.w, s).p);
	assert_null(identity_info(&env.w, s).p);
	assert_null(identity_channel(&env.w, s, 0));
}

/* Each word of a rule, for no token, a bare one, one whose claims fit and one whose
 * do not. */
static void
test_identity_rule_words_table(void **state)
{
	static const struct {
		const char *word;
		bool none, plain, fits, fits_not;
	} table[] = {
	    {"anyone", true, true, true, true},
	    {"authenticated", false, true, true, true},
	    {"claim", false, false, true, false},
	    {"nobody", false, false, false, false},
	};
	char text[200];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    "[channel *]\nsubscribe = %s\npublish = %s\n", table[i].word,
		    table[i].word);
		rules(text);
		identity_drop(&env.w, 0);
		assert_int_equal(may_subscribe("chat:1"), table[i].none);
		assert_int_equal(may_publish("chat:1"), table[i].none);
		assert_int_equal(identity_set(&env.w, 0, &bare, 0), 0);
		assert_int_equal(may_subscribe("chat:1"), table[i].plain);
		assert_int_equal(may_publish("chat:1"), table[i].plain);
		assert_int_equal(identity_set(&env.w, 0, &ann, 0), 0);
		assert_int_equal(may_subscribe("chat:1"), table[i].fits);
		assert_int_equal(may_publish("chat:1"), table[i].fits);
		assert_int_equal(may_subscribe("chat:11"), table[i].fits_not);
		assert_int_equal(may_publish("news:1"), table[i].fits_not);
	}
}

/* A channel that the token subscribes by itself is claimed, but not to publish to. */
static void
test_identity_named_channel_is_claimed(void **state)
{
	rules("[channel *]\nsubscribe = claim\npublish = claim\n");
	assert_int_equal(identity_set(&env.w, 0, &ann, 0), 0);
	assert_true(may_subscribe("own"));
	assert_false(may_subscribe("owns"));
	assert_false(may_publish("own"));
}

static void
test_identity_first_rule_holds(void **state)
{
	rules("[channel news:x]\nsubscribe = nobody\n[channel news:*]\n"
	      "subscribe = authenticated\n[channel *]\nsubscribe = anyone\n");
	assert_true(may_subscribe("other"));
	assert_false(may_subscribe("news:y"));
	assert_int_equal(identity_set(&env.w, 0, &bare, 0), 0);
	assert_true(may_subscribe("news:y"));
	assert_false(may_subscribe("news:x"));
}

/* {sub} is the connection's own subject: the rule is no one else's. */
static void
test_identity_subject_rule_is_its_owners(void **state)
{
	rules("[channel user:{sub}]\nsubscribe = authenticated\n"
	      "publish = authenticated\n[channel *]\nsubscribe = nobody\n");
	assert_false(may_subscribe("user:ann"));
	assert_int_equal(identity_set(&env.w, 0, &bare, 0), 0);
	assert_false(may_subscribe("user:"));
	assert_false(may_subscribe("user:{sub}"));
	assert_int_equal(identity_set(&env.w, 0, &ann, 0), 0);
	assert_true(may_subscribe("user:ann"));
	assert_true(may_publish("user:ann"));
	assert_false(may_subscribe("user:bob"));
	assert_false(may_subscribe("user:ann2"));
	assert_false(may_publish("user:bob"));
}

/* Whoever is called '*' is not everybody. */
static void
test_identity_subject_is_no_pattern(void **state)
{
	static const char *const subjects[] = {"*", "?", "b?b", "b*", "\\*", "\\"};

	rules("[channel user:{sub}:in]\nsubscribe = authenticated\n"
	      "[channel *]\nsubscribe = nobody\n");
	for (size_t i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
		char text[16] = "", own[32];
		struct token t = {.text = text};

		t.subject_len = (uint16_t)strlen(subjects[i]);
		t.len = strlen(subjects[i]) + 3;
		memcpy(text, subjects[i], t.subject_len);
		assert_int_equal(identity_set(&env.w, 0, &t, 0), 0);
		(void)snprintf(own, sizeof(own), "user:%s:in", subjects[i]);
		assert_true(may_subscribe(own));
		assert_false(may_subscribe("user:bob:in"));
	}
}

/* Nothing stays behind: each new one takes the place of the last. */
static void
test_identity_set_again_frees_the_old(void **state)
{
	size_t used;

	assert_int_equal(identity_set(&env.w, 0, &ann, 0), 0);
	used = arena_used(env.w.arena);
	for (int i = 0; i < 10; i++)
		assert_int_equal(identity_set(&env.w, 0, &ann, 0), 0);
	assert_int_equal(arena_used(env.w.arena), used);
	identity_drop(&env.w, 0);
	identity_drop(&env.w, 0);
	assert_int_equal(arena_used(env.w.arena), 0);
}

static void
test_identity_set_without_room_keeps_the_old(void **state)
{
	const struct slot *s = worker_slot(&env.w, 0);
	struct token big = bare;

	assert_int_equal(identity_set(&env.w, 0, &ann, 0), 0);
	big.len = ARENA;
	assert_int_equal(identity_set(&env.w, 0, &big, 0), -ENOBUFS);
	assert_true(is(identity_subject(&env.w, s), "ann"));
}

/* A successor finds what its predecessor set, and nothing that does not hold. */
static void
test_identity_mark_keeps_whole_ones_only(void **state)
{
	struct slot *s = worker_slot(&env.w, 0);
	struct identity *i;

	assert_int_equal(identity_set(&env.w, 0, &ann, 0), 0);
	for (int damaged = 0; damaged < 4; damaged++) {
		arena_ref ref = s->identity;

		i = arena_at(env.w.arena, ref);
		i->npublish = (uint16_t)(damaged == 1 ? 2 : 1);
		i->len = damaged == 2 ? ARENA : (uint32_t)ann.len;
		i->subject_len = (uint16_t)(damaged == 3 ? 3000 : 3);
		arena_free_all(env.w.arena);
		assert_int_equal(arena_new(env.w.table.arena, ARENA, &env.w.arena), 0);
		assert_int_equal(identity_mark(&env.w, s), damaged ? -EINVAL : 0);
		assert_int_equal(s->identity, damaged ? 0 : ref);
		s->identity = ref;
	}
	s->identity = 0;
	assert_int_equal(identity_mark(&env.w, s), 0);
}

int
main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_identity_set_keeps_each_claim),
	    T(test_identity_none_has_no_claims),
	    T(test_identity_rule_words_table),
	    T(test_identity_named_channel_is_claimed),
	    T(test_identity_first_rule_holds),
	    T(test_identity_subject_rule_is_its_owners),
	    T(test_identity_subject_is_no_pattern),
	    T(test_identity_set_again_frees_the_old),
	    T(test_identity_set_without_room_keeps_the_old),
	    T(test_identity_mark_keeps_whole_ones_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
