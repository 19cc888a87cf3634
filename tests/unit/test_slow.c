/*
 * test_slow.c - a connection that cannot follow: what slow = skip and slow = latest
 * leave of what it has not begun. Random deaths are test_adopt_property.c's.
 */
#include <errno.h>

#include "tests/unit/scene.h"
#include "worker/subs.h"

#define LATEST "[channel *]\nslow = latest\n"

struct fixture {
	struct scene sc;
	int peer;
};

static void
begin(struct fixture *f, const char *settings)
{
	scene_make(&f->sc, settings, 8);
	scene_client(&f->sc, &f->peer);
	scene_adopt(&f->sc);
}

static void
end(struct fixture *f)
{
	(void)close(f->peer);
	scene_end(&f->sc);
}

/* The connection has the second channel, too. */
static void
subscribe_both(struct scene *sc)
{
	struct slot *s = worker_slot(&sc->w, 0);
	struct arena *a;
	struct sub *sub;

	assert_int_equal(arena_new(sc->w.table.arena, SCENE_ARENA_LEN, &a), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(arena_mark(a, sc->w.table.channels[i].name), 0);
	s->subs = arena_alloc(a, 2 * sizeof(*sub));
	sub = arena_at(a, s->subs);
	sub[0] = (struct sub){.channel = 0, .from = 1};
	sub[1] = (struct sub){.channel = 1, .from = 1};
	s->subs_log = 1;
	s->nsubs = 2;
	arena_free_all(a);
}

/* A successor goes on. */
static void
succeed(struct fixture *f)
{
	scene_leave(&f->sc);
	scene_adopt(&f->sc);
}

static void
publish(struct fixture *f, uint32_t channel, const char *key, const char *text)
{
	assert_true(scene_publish(&f->sc, channel, key, text, strlen(text)) > 0);
}

/* So many long ones of the other channel, which this connection does not have. */
static void
others(struct fixture *f, unsigned n)
{
	static const char text[SCENE_LONG] = "other";

	while (n-- > 0) {
		assert_true(scene_publish(&f->sc, 1, NULL, text, sizeof(text)) > 0);
		if (n % 16 == 0)
			scene_turns(&f->sc);
	}
}

static uint64_t
counter(const struct fixture *f, enum page_counter c)
{
	return page_get(f->sc.w.page, c);
}

/* What comes but for the long ones before it, up to the last. */
static void
assert_comes(struct fixture *f, const char *what, const char *last)
{
	static char seen[SCENE_SEEN_MAX];

	seen[0] = '\0';
	(void)scene_read_until(&f->sc, f->peer, last, seen);
	assert_string_equal(seen, what);
}

/* The newest message comes, though the ring has long moved on. */
static void
test_slow_latest_lapped_gets_the_newest(void **state)
{
	struct fixture f;
	uint64_t began;

	begin(&f, LATEST);
	scene_lag(&f.sc, 0, 0);
	began = out_cursor(&f.sc.w, 0);
	others(&f, 100);
	publish(&f, 0, NULL, "newest");
	others(&f, 150);
	assert_true(fanout_floor(&f.sc.w) > began); /* else nothing is shown */
	assert_int_equal(counter(&f, PAGE_lapped), 0);
	assert_comes(&f, "", "newest");
	end(&f);
}

/* Behind a frame that has begun comes the newest, and none between; also from a
 * successor. */
static void
test_slow_latest_behind_a_begun_frame_is_the_newest(void **state)
{
	for (int killed = 0; killed < 2; killed++) {
		struct fixture f;
		uint32_t had;

		begin(&f, LATEST);
		scene_lag(&f.sc, 0, 0);
		assert_true(worker_slot(&f.sc.w, 0)->part > 0);
		had = worker_slot(&f.sc.w, 0)->sent;
		for (int i = 0; i < 30; i++)
			publish(&f, 0, NULL, "between");
		publish(&f, 0, NULL, "newest");
		scene_turns(&f.sc);
		out_writable(&f.sc.w, 0); /* it takes nothing */
		if (killed)
			succeed(&f);
		assert_int_equal(
		    scene_read_until(&f.sc, f.peer, "newest", NULL), had + 1);
		assert_int_equal(counter(&f, PAGE_replaced), 30);
		end(&f);
	}
}

/* Of each key the newest comes, in the order of their publishing; what has no key
 * counts as one. */
static void
test_slow_latest_newest_of_each_key(void **state)
{
	for (int killed = 0; killed < 2; killed++) {
		struct fixture f;

		begin(&f, LATEST);
		scene_lag(&f.sc, 0, 0);
		for (int i = 0; i < 20; i++) {
			publish(&f, 0, "a", "old-a");
			publish(&f, 0, "b", "old-b");
			publish(&f, 0, NULL, "old");
		}
		publish(&f, 0, "b", "b");
		publish(&f, 0, "c", "c");
		publish(&f, 0, NULL, "none");
		publish(&f, 0, "a", "a");
		scene_turns(&f.sc);
		if (killed)
			succeed(&f);
		assert_comes(&f, "b c none ", "a");
		assert_int_equal(counter(&f, PAGE_replaced), 60);
		end(&f);
	}
}

/* Another channel's policy is its own, and its keys are others. */
static void
test_slow_latest_passes_over_its_channel_alone(void **state)
{
	struct fixture f;

	scene_make(&f.sc, "[channel c0]\nslow = latest\n", 8);
	scene_client(&f.sc, &f.peer);
	subscribe_both(&f.sc);
	scene_adopt(&f.sc);
	scene_lag(&f.sc, 0, 1);
	publish(&f, 0, "a", "c0-old");
	publish(&f, 1, "a", "c1-old");
	publish(&f, 1, "a", "c1-new");
	publish(&f, 0, "a", "c0-new");
	scene_turns(&f.sc);
	assert_comes(&f, "c1-old c1-new ", "c0-new");
	end(&f);
}

/* Who keeps up gets all. */
static void
test_slow_latest_follows_gets_all(void **state)
{
	struct fixture f;

	begin(&f, LATEST);
	for (int i = 0; i < 3; i++) {
		publish(&f, 0, "a", "a1");
		publish(&f, 0, "a", "a2");
		scene_turns(&f.sc);
	}
	publish(&f, 0, "a", "end");
	assert_comes(&f, "a1 a2 a1 a2 a1 a2 ", "end");
	assert_int_equal(counter(&f, PAGE_replaced), 0);
	end(&f);
}

/* The newest of a key leaves the window, while those of another are replaced again and
 * again: the channel is skipped, once, and nothing of it is sent as if all were there.
 */
static void
test_slow_latest_losing_a_key_skips_the_channel(void **state)
{
	struct fixture f;

	begin(&f, LATEST);
	scene_lag(&f.sc, 0, 0);
	publish(&f, 0, "rare", "rare");
	for (int i = 0; i < 60; i++) {
		publish(&f, 0, "often", "often");
		others(&f, 4);
	}
	assert_int_equal(counter(&f, PAGE_lapped), 1);
	assert_int_equal(counter(&f, PAGE_skipped), 1);
	publish(&f, 0, "often", "end");
	assert_true(counter(&f, PAGE_skipped_messages) > 0);
	others(&f, 100); /* no other is lost, so nothing more is told */
	assert_int_equal(counter(&f, PAGE_skipped), 1);
	assert_comes(&f, "", "end");
	end(&f);
}

/* One for which newer ones stand is passed over wherever it is when its place in the
 * ring is needed: all of it is counted, once. */
static void
test_slow_latest_lapped_counts_what_it_passes_over(void **state)
{
	struct fixture f;
	unsigned n = 0;

	begin(&f, LATEST);
	scene_lag(&f.sc, 0, 0);
	others(&f, 20);
	for (; n < 100; n++) {
		publish(&f, 0, n % 2 == 0 ? "a" : "b", "old");
		others(&f, 5);
	}
	publish(&f, 0, "a", "a");
	publish(&f, 0, "b", "b");
	scene_turns(&f.sc);
	assert_int_equal(counter(&f, PAGE_lapped), 0);
	assert_comes(&f, "a ", "b");
	assert_int_equal(counter(&f, PAGE_replaced), n);
	end(&f);
}

/* Who resumed was promised all, so it is told of what leaves before it was sent, though
 * a newer one stands for it; from then on it is as slow as others are. */
static void
test_slow_latest_lapped_while_it_resumes_is_told(void **state)
{
	struct fixture f;

	begin(&f, LATEST);
	scene_lag(&f.sc, 0, 0);
	worker_slot(&f.sc.w, 0)->marks |= SLOT_REPLAY;
	others(&f, 100);
	publish(&f, 0, NULL, "newest");
	others(&f, 150);
	assert_int_equal(counter(&f, PAGE_replaced), 0);
	assert_int_equal(counter(&f, PAGE_skipped), 1);
	assert_true(counter(&f, PAGE_skipped_messages) > 0);
	assert_false(worker_slot(&f.sc.w, 0)->marks & SLOT_REPLAY);
	publish(&f, 0, "a", "end");
	assert_comes(&f, "", "end");
	end(&f);
}

/* ... and what is not about to leave is sent whole. */
static void
test_slow_latest_lapped_while_it_resumes_gets_the_rest(void **state)
{
	struct fixture f;

	scene_make(&f.sc, LATEST, 8);
	scene_client(&f.sc, &f.peer);
	subscribe_both(&f.sc);
	scene_adopt(&f.sc);
	scene_lag(&f.sc, 0, 1);
	others(&f, 100);
	slot_subs(&f.sc.w, worker_slot(&f.sc.w, 0))[0].from =
	    (uint32_t)ring_head(f.sc.ring);
	worker_slot(&f.sc.w, 0)->marks |= SLOT_REPLAY;
	publish(&f, 0, "a", "old");
	publish(&f, 0, "a", "new");
	others(&f, 120);
	assert_int_equal(counter(&f, PAGE_skipped), 1);
	publish(&f, 0, NULL, "end");
	assert_comes(&f, "old new ", "end");
	end(&f);
}

/* It lags, is sent the newest of two keys, and its process dies before it notes that.
 */
static void
send_unnoted(struct fixture *f)
{
	struct slot *s = worker_slot(&f->sc.w, 0);
	uint64_t pos;

	scene_lag(&f->sc, 0, 0);
	for (int i = 0; i < 40; i++) {
		publish(f, 0, "a", "old-a");
		publish(f, 0, "b", "old-b");
	}
	publish(f, 0, "a", "new-a");
	publish(f, 0, "b", "new-b");
	scene_turns(&f->sc);
	pos = atomic_load(&s->pos);
	assert_comes(f, "new-a ", "new-b");
	assert_false(out_lagging(&f->sc.w, 0));
	atomic_store(&s->pos, pos);
	s->flags |= SLOT_LAGGING;
}

/* What was sent by one rule is retraced by it, though another holds when its successor
 * begins. */
static void
test_slow_latest_successor_retraces_by_the_old_rule(void **state)
{
	struct faults faults = {0};
	struct fixture f;

	begin(&f, LATEST);
	send_unnoted(&f);
	settings_free(f.sc.w.settings);
	assert_int_equal(settings_parse("", 0, &f.sc.w.settings, &faults), 0);
	succeed(&f);
	publish(&f, 0, "a", "end");
	assert_comes(&f, "", "end");
	end(&f);
}

/* ... and by what was the newest then. */
static void
test_slow_latest_successor_retraces_what_has_a_newer_since(void **state)
{
	struct fixture f;

	begin(&f, LATEST);
	send_unnoted(&f);
	publish(&f, 0, "b", "newer-b");
	publish(&f, 0, "a", "end");
	succeed(&f);
	assert_comes(&f, "newer-b ", "end");
	end(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_slow_latest_lapped_gets_the_newest),
	    cmocka_unit_test(test_slow_latest_behind_a_begun_frame_is_the_newest),
	    cmocka_unit_test(test_slow_latest_newest_of_each_key),
	    cmocka_unit_test(test_slow_latest_passes_over_its_channel_alone),
	    cmocka_unit_test(test_slow_latest_follows_gets_all),
	    cmocka_unit_test(test_slow_latest_losing_a_key_skips_the_channel),
	    cmocka_unit_test(test_slow_latest_lapped_counts_what_it_passes_over),
	    cmocka_unit_test(test_slow_latest_lapped_while_it_resumes_is_told),
	    cmocka_unit_test(test_slow_latest_lapped_while_it_resumes_gets_the_rest),
	    cmocka_unit_test(test_slow_latest_successor_retraces_by_the_old_rule),
	    cmocka_unit_test(
		test_slow_latest_successor_retraces_what_has_a_newer_since),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
