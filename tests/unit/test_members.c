/* supervisor/members.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/members.h"

#define GRACE 1000

/* What the channel was told: "+1 -1" by the ids that are shown; and what other hosts
 * are: "1" it is, "!1" it is gone. */
struct scene {
	struct members ms;
	struct member_source here, there;
	char told[4096], changed[4096];
};

static void
on_announce(void *owner, const struct member *m, bool join)
{
	struct scene *s = owner;
	size_t len = strlen(s->told);

	(void)snprintf(s->told + len, sizeof(s->told) - len, "%s%c%u",
	    len > 0 ? " " : "", join ? '+' : '-', (unsigned)m->shown);
}

static void
on_changed(void *owner, const struct member *m, bool gone)
{
	struct scene *s = owner;
	size_t len = strlen(s->changed);

	(void)snprintf(s->changed + len, sizeof(s->changed) - len, "%s%s%u",
	    len > 0 ? " " : "", gone ? "!" : "", (unsigned)m->client);
}

static const struct members_events events = {on_announce, on_changed};

static int
setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	members_init(&s->ms, &events, s);
	s->ms.grace_ms = GRACE;
	member_source_init(&s->here, true);
	member_source_init(&s->there, false);
	*state = s;
	return 0;
}

static int
teardown(void **state)
{
	struct scene *s = *state;

	members_source_gone(&s->ms, &s->here);
	members_source_gone(&s->ms, &s->there);
	assert_int_equal(s->ms.n, 0);
	assert_int_equal(s->ms.rooms.len, 0);
	assert_int_equal(s->here.sum, 0);
	members_done(&s->ms);
	free(s);
	return 0;
}

static struct slice
text(const char *t)
{
	return (struct slice){*t != '\0' ? t : NULL, strlen(t)};
}

static void
set(struct scene *s, struct member_source *src, uint64_t client, uint64_t shown,
    const char *user, uint64_t now_ms)
{
	struct member_said said = {
	    .channel = text("c"), .client = client, .shown = shown, .user = text(user)};

	assert_int_equal(members_set(&s->ms, src, &said, now_ms), 0);
}

static void
leave(struct scene *s, struct member_source *src, uint64_t client, uint64_t now_ms)
{
	members_leave(&s->ms, src, text("c"), client, now_ms);
}

static void
assert_told(struct scene *s, const char *told)
{
	assert_string_equal(s->told, told);
	s->told[0] = '\0';
}

/* The ids that are shown, as a list. */
static void
assert_listed(const struct scene *s, const char *want)
{
	char list[4096] = "";
	const struct member *m;
	uint64_t order = 0;

	while ((m = members_after(&s->ms, text("c"), order)) != NULL) {
		size_t len = strlen(list);

		(void)snprintf(list + len, sizeof(list) - len, "%s%u",
		    len > 0 ? " " : "", (unsigned)m->shown);
		order = m->order;
	}
	assert_string_equal(list, want);
}

static void
test_members_nameless_leaves_at_once(void **state)
{
	struct scene *s = *state;

	set(s, &s->here, 1, 0, "", 0);
	set(s, &s->here, 1, 0, "", 0); /* named again */
	leave(s, &s->here, 1, 0);
	leave(s, &s->here, 1, 0);
	assert_told(s, "+1 -1");
	assert_string_equal(s->changed, "1 !1");
	assert_listed(s, "");
}

static void
test_members_named_leaves_after_grace(void **state)
{
	struct scene *s = *state;

	set(s, &s->here, 1, 0, "ann", 0);
	leave(s, &s->here, 1, 500);
	members_tick(&s->ms, 500 + GRACE - 1);
	assert_listed(s, "1");
	assert_told(s, "+1");
	members_tick(&s->ms, 500 + GRACE);
	assert_listed(s, "");
	assert_told(s, "-1");
}

static void
test_members_back_in_time_keeps_its_id(void **state)
{
	struct scene *s = *state;

	set(s, &s->here, 1, 0, "ann", 0);
	leave(s, &s->here, 1, 0);
	set(s, &s->here, 2, 0, "ann", 10);
	assert_listed(s, "1");
	leave(s, &s->here, 2, 20);
	set(s, &s->here, 3, 0, "ann", 30);
	members_tick(&s->ms, 100 * GRACE);
	assert_listed(s, "1");
	assert_told(s, "+1");
	leave(s, &s->here, 3, 100 * GRACE);
	members_tick(&s->ms, 200 * GRACE);
	assert_told(s, "-1");
}

static void
test_members_one_place_is_taken_once(void **state)
{
	struct scene *s = *state;

	set(s, &s->here, 1, 0, "ann", 0);
	leave(s, &s->here, 1, 0);
	set(s, &s->here, 2, 0, "bob", 0);
	set(s, &s->here, 3, 0, "ann", 0);
	set(s, &s->here, 4, 0, "ann", 0);
	assert_told(s, "+1 +2 +4");
	assert_listed(s, "2 1 4");
}

/* The other host is away there; here somebody takes the place, and it hears of that. */
static void
test_members_place_is_taken_on_another_host(void **state)
{
	struct scene *s = *state;
	struct member_said away = {.channel = text("c"),
	    .client = 1,
	    .shown = 1,
	    .away = true,
	    .user = text("ann")};

	set(s, &s->there, 1, 1, "ann", 0);
	assert_int_equal(members_set(&s->ms, &s->there, &away, 0), 0);
	set(s, &s->here, 2, 0, "ann", 0);
	assert_listed(s, "1");
	members_drop(&s->ms, &s->there, text("c"), 1);
	assert_listed(s, "1");
	/* And the other way round. */
	leave(s, &s->here, 2, 0);
	s->changed[0] = '\0';
	set(s, &s->there, 3, 1, "ann", 0);
	assert_string_equal(s->changed, "!2");
	assert_listed(s, "1");
	assert_told(s, "+1");
}

static void
test_members_not_named_again_are_gone(void **state)
{
	struct scene *s = *state;

	for (unsigned i = 1; i <= 6; i++)
		set(s, i <= 3 ? &s->here : &s->there, i, i > 3 ? i : 0, "", 0);
	s->told[0] = '\0';
	for (int twice = 0; twice < 2; twice++) {
		members_name_all(&s->here);
		set(s, &s->here, 2, 0, "", 0);
	}
	set(s, &s->here, 7, 0, "", 0);
	members_named_all(&s->ms, &s->here, 0);
	assert_told(s, "+7 -1 -3");
	members_name_all(&s->there);
	members_named_all(&s->ms, &s->there, 0);
	assert_told(s, "-4 -5 -6");
	assert_listed(s, "2 7");
}

static void
test_members_new_info_is_no_join(void **state)
{
	struct scene *s = *state;
	struct member_said said = {
	    .channel = text("c"), .client = 1, .user = text("ann"), .info = text("1")};
	const struct member *m;

	assert_int_equal(members_set(&s->ms, &s->here, &said, 0), 0);
	said.info = text("22");
	assert_int_equal(members_set(&s->ms, &s->here, &said, 0), 0);
	assert_told(s, "+1");
	m = members_find_local(&s->ms, text("c"), 1);
	assert_non_null(m);
	assert_int_equal(member_info(m).len, 2);
	assert_int_equal(members_count(&s->ms, text("c")), 1);
}

/* Pages go on where they were, whoever goes meanwhile. */
static void
test_members_pages_hold_while_members_go(void **state)
{
	struct scene *s = *state;
	const struct member *m;
	uint64_t order = 0;
	unsigned n = 0;

	for (unsigned i = 1; i <= 1000; i++)
		set(s, &s->here, i, 0, "", 0);
	while ((m = members_after(&s->ms, text("c"), order)) != NULL) {
		order = m->order;
		n++;
		/* It, and one from the end. */
		leave(s, &s->here, m->client, 0);
		leave(s, &s->here, 1001 - n, 0);
	}
	assert_int_equal(n, 500);
	s->told[0] = s->changed[0] = '\0';
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_members_nameless_leaves_at_once),
	    TEST(test_members_named_leaves_after_grace),
	    TEST(test_members_back_in_time_keeps_its_id),
	    TEST(test_members_one_place_is_taken_once),
	    TEST(test_members_place_is_taken_on_another_host),
	    TEST(test_members_not_named_again_are_gone),
	    TEST(test_members_new_info_is_no_join),
	    TEST(test_members_pages_hold_while_members_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
