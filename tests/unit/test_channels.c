/* test_channels.c - the places of a worker's channels, as they come and go. */
#include <stdio.h>
#include <sys/stat.h>

#include "tests/unit/scene.h"

#define MANY 8000u

static void
begin(struct scene *sc)
{
	scene_make(sc, "", 8);
	scene_adopt(sc); /* nobody has those two channels */
	upstream_reset(sc->w.up);
	assert_int_equal(table_channels_used(&sc->w.table), 0);
}

/* The next channel, which is held as by one who asks for its history. */
static uint32_t
come(struct scene *sc, uint32_t i)
{
	char name[16];
	int len = snprintf(name, sizeof(name), "come%u", i);
	uint32_t channel = channels_take(&sc->w, name, (size_t)len);

	upstream_reset(sc->w.up);
	assert_int_not_equal(channel, CHANNEL_NONE);
	channels_hold(&sc->w, channel);
	return channel;
}

static void
go(struct scene *sc, uint32_t channel)
{
	channels_unhold(&sc->w, channel);
	channels_turn(&sc->w);
	upstream_reset(sc->w.up);
}

/* What the table has of the kernel, in bytes. */
static size_t
taken(const struct scene *sc)
{
	struct stat st;

	assert_int_equal(fstat(sc->table_fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void
test_channels_gone_give_their_memory_back(void **state)
{
	const size_t places = MANY * sizeof(struct channel);
	struct scene sc;
	size_t before, most;

	begin(&sc);
	before = taken(&sc);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(come(&sc, i), i);
	most = taken(&sc);
	assert_true(most > before + places);
	assert_int_equal(table_channels_used(&sc.w.table), MANY);
	for (uint32_t i = 0; i < MANY; i++)
		go(&sc, i);
	assert_int_equal(table_channels_used(&sc.w.table), 0);
	/* (Of what stretches of runs hold, whole pages; and names went, too.) */
	assert_true(taken(&sc) + places / 2 < most);
	scene_end(&sc);
}

/* The lowest place is the next to be taken, and the end falls as far as it is free. */
static void
test_channels_lowest_place_is_next(void **state)
{
	struct scene sc;

	begin(&sc);
	for (uint32_t i = 0; i < 2 * PLACES_RUN; i++)
		assert_int_equal(come(&sc, i), i);
	go(&sc, 700);
	go(&sc, 3);
	assert_int_equal(come(&sc, 2000), 3);
	assert_int_equal(come(&sc, 2001), 700);
	for (uint32_t i = PLACES_RUN; i < 2 * PLACES_RUN; i++)
		go(&sc, i);
	assert_int_equal(table_channels_used(&sc.w.table), PLACES_RUN);
	scene_end(&sc);
}

/* An answer that was under way to who had a place before is not for who has it now,
 * even though its memory was given back meanwhile, and though a process died. */
static void
test_channels_place_given_back_has_another_token(void **state)
{
	struct scene sc;
	uint32_t gen;

	begin(&sc);
	for (uint32_t i = 0; i < MANY; i++)
		(void)come(&sc, i);
	gen = sc.w.table.channels[1000].gen;
	for (uint32_t i = 0; i < MANY; i++)
		go(&sc, i);
	assert_int_equal(sc.w.table.channels[1000].gen, 0);
	scene_leave(&sc);
	scene_adopt(&sc);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(come(&sc, i), i);
	assert_true(sc.w.table.channels[1000].gen > gen);
	scene_end(&sc);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_channels_gone_give_their_memory_back),
	    cmocka_unit_test(test_channels_lowest_place_is_next),
	    cmocka_unit_test(test_channels_place_given_back_has_another_token),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
