/*
 * test_fanout.c - one connection of a worker where chance does not lead: numbers at
 * which 32 bits come round, the ring lapping it, gaps, refusals, a death behind its
 * last word, its deadlines. Random deaths are test_adopt_property.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/dialect.h"
#include "proto/uplink.h"
#include "tests/unit/scene.h"
#include "worker/out.h"
#include "worker/reader.h"
#include "worker/requests.h"

#define HEAD_AT 128 /* of the ring's header: see ring.c */
#define OLDEST_AT 256

/* One worker with two channels and one connection. */
struct fixture {
	struct scene sc;
	int peer;
	uint8_t *header;
};

/* What a predecessor left is made up here, to be adopted. */
static void
make(struct fixture *f, const char *settings)
{
	scene_make(&f->sc, settings, 8);
	scene_client(&f->sc, &f->peer);
	f->header =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f->sc.ring_fd, 0);
	assert_ptr_not_equal(f->header, MAP_FAILED);
}

static void
adopt(struct fixture *f)
{
	scene_adopt(&f->sc);
}

static void
begin(struct fixture *f, const char *settings)
{
	make(f, settings);
	adopt(f);
}

static void
drop_reader(struct fixture *f)
{
	if (f->sc.w.readers != NULL)
		reader_drop(&f->sc.w, 0);
	readers_free(f->sc.w.readers);
	f->sc.w.readers = NULL;
}

/* What goes with a process. */
static void
leave(struct fixture *f)
{
	drop_reader(f);
	scene_leave(&f->sc);
}

static void
end(struct fixture *f)
{
	(void)close(f->peer);
	drop_reader(f);
	(void)munmap(f->header, 4096);
	scene_end(&f->sc);
}

static void
publish(struct fixture *f, uint32_t channel, const char *data, size_t len)
{
	assert_true(scene_publish(&f->sc, channel, NULL, data, len) > 0);
}

/* As if so many records (times the index's length) had come and gone, none of them for
 * this connection. */
static void
pass(struct fixture *f, uint64_t records)
{
	uint64_t head = ring_head(f->sc.ring) + records;

	assert_int_equal(
	    records % SCENE_INDEX_LEN, 0); /* begin[] is right at the new head */
	atomic_store((_Atomic uint64_t *)(void *)(f->header + OLDEST_AT), head);
	atomic_store((_Atomic uint64_t *)(void *)(f->header + HEAD_AT), head);
	ring_close(f->sc.ring);
	assert_int_equal(ring_open(f->sc.ring_fd, true, &f->sc.ring), 0);
	f->sc.w.done = head;
	(void)fanout_turn(&f->sc.w);
}

static void
turns(struct fixture *f)
{
	scene_turns(&f->sc);
}

/* Whether the text arrives, and what must never come is not before it. */
static bool
arrives_without(struct fixture *f, const char *text, const char *never)
{
	static char buf[1 << 20];
	size_t have = 0;
	bool found = false;

	for (int i = 0; i < 200 && !found; i++) {
		ssize_t n = read(f->peer, buf + have, sizeof(buf) - have);

		turns(f);
		have += n > 0 ? (size_t)n : 0;
		found = memmem(buf, have, text, strlen(text)) != NULL;
		if (n < 0)
			(void)usleep(1000);
	}
	return found &&
	       (never == NULL || memmem(buf, have, never, strlen(never)) == NULL);
}

/* Whether the text arrives, whatever comes before it. */
static bool
arrives(struct fixture *f, const char *text)
{
	return arrives_without(f, text, NULL);
}

static void
make_it_lag(struct fixture *f, uint32_t channel)
{
	scene_lag(&f->sc, 0, channel);
}

/* A channel that was quiet for 2^32 records: an old position is not taken for one that
 * is ahead of the worker. */
static void
test_fanout_quiet_for_all_32_bits_gets_the_next(void **state)
{
	struct fixture f;

	begin(&f, "");
	publish(&f, 0, "first", 5);
	assert_true(arrives(&f, "first"));
	for (int i = 0; i < 7; i++)
		pass(&f, 1u << 29);
	pass(&f, (1u << 29) - SCENE_INDEX_LEN);
	for (int i = 0; i < SCENE_INDEX_LEN - 2; i++)
		publish(&f, 1, "other", 5);
	turns(&f);
	publish(&f, 0, "second", 6);
	publish(&f, 0, "third", 5);
	publish(&f, 1, "other", 5);
	assert_true(arrives(&f, "second"));
	end(&f);
}

/* One that was adopted ahead of the others: what it had already comes no second time,
 * also where its share is more than is laid side by side. */
static void
test_gather_adopted_ahead_gets_nothing_twice(void **state)
{
	static char text[20000];
	struct fixture f;

	memset(text, '.', sizeof(text));
	make(&f, "");
	publish(&f, 0, "had already", 11);
	slot_set_pos(worker_slot(&f.sc.w, 0), 2, 0); /* behind it; w.done is not */
	adopt(&f);
	assert_int_equal(f.sc.w.done, 1);
	for (int i = 0; i < 6; i++) { /* the other channel's frames lie between */
		publish(&f, 0, text, sizeof(text));
		publish(&f, 1, "other", 5);
	}
	publish(&f, 0, "the end", 7);
	turns(&f);
	assert_true(arrives_without(&f, "the end", "had already"));
	end(&f);
}

/* ---- reading ---- */

static void
say(struct fixture *f, const void *bytes, size_t len)
{
	assert_int_equal(send(f->peer, bytes, len, 0), (ssize_t)len);
	reader_readable(&f->sc.w, 0);
}

/* Whoever drips a message holds a parser, of which there are not many: also where no
 * ping would ever look for him. */
static void
test_reader_dripped_message_is_closed_without_pings(void **state)
{
	static const uint8_t begun[] = {0x81, 0x85, 0, 0, 0, 0, 'h'};
	struct fixture f;
	struct slot *s;

	begin(&f, "[limits]\nping_interval = 24h\n");
	s = worker_slot(&f.sc.w, 0);
	assert_int_equal(readers_new(&f.sc.w, &f.sc.w.readers), 0);
	say(&f, begun, sizeof(begun));
	f.sc.w.tick += READER_STUCK_TICKS;
	say(&f, "e", 1);
	readers_tick(&f.sc.w);
	assert_int_equal(slot_state(s), SLOT_OPEN);
	assert_int_equal(readers_busy(&f.sc.w), 1);
	f.sc.w.tick++;
	readers_tick(&f.sc.w);
	assert_int_equal(slot_state(s), SLOT_CLOSING);
	assert_int_equal(s->close_code, 1008);
	assert_int_equal(page_get(f.sc.w.page, PAGE_closed_timeout), 1);
	end(&f);
}

/* However many connect at once, their pings come one by one: each tenth of the interval
 * has its tenth of them. */
static void
test_timer_first_pings_are_spread_evenly(void **state)
{
	enum { PARTS = 10, EACH = 1000 };
	unsigned in_part[PARTS] = {0};
	struct fixture f;

	begin(&f, "[limits]\nping_interval = 20s\n"); /* 200 ticks */
	for (int i = 0; i < PARTS * EACH; i++) {
		uint32_t left;

		timer_opened(&f.sc.w, 0);
		left = worker_slot(&f.sc.w, 0)->deadline - f.sc.w.tick;
		assert_in_range(left, 1, 200);
		in_part[(left - 1) * PARTS / 200]++;
	}
	for (int i = 0; i < PARTS; i++) /* seven standard deviations */
		assert_in_range(in_part[i], EACH - 210, EACH + 210);
	end(&f);
}

/* Nobody is let in on what is kept for those who are here. */
static void
test_limits_memory_ends_before_the_arena(void **state)
{
	struct fixture f;
	arena_ref ref = 1, last = 0;

	begin(&f, "");
	while (limits_memory(&f.sc.w) && ref != 0) {
		ref = arena_alloc(f.sc.w.arena, 4000);
		last = ref != 0 ? ref : last;
	}
	assert_int_not_equal(ref, 0);
	assert_int_not_equal(arena_alloc(f.sc.w.arena, 4000), 0);
	arena_free(f.sc.w.arena, last);
	assert_false(limits_memory(&f.sc.w));
	end(&f);
}

static void
subscribe_since(struct fixture *f, uint64_t offset)
{
	struct since since = {ring_epoch(f->sc.ring), RING_EPOCH_LEN, offset};

	worker_slot(&f->sc.w, 0)->proto = PROTO_V1;
	assert_int_equal(requests_subscribe(&f->sc.w, 0, "c0", 2, &since, "1", 1), 0);
}

/* What a feed lost has one offset, however many messages it was. */
static void
test_fanout_since_before_a_gap_missed_unknown(void **state)
{
	struct fixture f;

	begin(&f, "");
	publish(&f, 0, "seen", 4);
	directory_set(ring_directory(f.sc.ring), 0, "c0", 2, 2); /* 2 is the gap's */
	publish(&f, 0, "new", 3);
	turns(&f);
	subscribe_since(&f, 1);
	assert_true(arrives(&f, "\"recovered\":false,\"missed\":null"));
	end(&f);
}

static void
test_fanout_since_behind_a_gap_recovers(void **state)
{
	struct fixture f;

	begin(&f, "");
	directory_set(ring_directory(f.sc.ring), 0, "c0", 2, 2);
	publish(&f, 0, "new", 3);
	turns(&f);
	subscribe_since(&f, 2);
	assert_true(arrives(&f, "\"recovered\":true"));
	end(&f);
}

/* Our FIN is no byte of the stream: one that was told all, and has yet to read it, is
 * let read on. */
static void
test_adopt_shut_down_connection_goes_on(void **state)
{
	struct fixture f;
	struct slot *s;

	make(&f, "");
	s = worker_slot(&f.sc.w, 0);
	s->nsubs = 0;
	s->flags = SLOT_DEAF;
	slot_set_state(s, SLOT_CLOSING);
	assert_int_equal(shutdown(s->fd, SHUT_WR), 0);
	adopt(&f);
	assert_int_equal(slot_state(s), SLOT_CLOSING);
	end(&f);
}

/* ---- what a predecessor may leave that was taken over, or has gone mad ---- */

/* A block of the arena beside those that make() took. */
static void *
add_block(struct fixture *f, size_t len, arena_ref *ret_ref)
{
	struct arena *a;
	void *block;

	assert_int_equal(arena_new(f->sc.w.table.arena, SCENE_ARENA_LEN, &a), 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(arena_mark(a, f->sc.w.table.channels[i].name), 0);
	*ret_ref = arena_alloc(a, len);
	assert_int_not_equal(*ret_ref, 0);
	block = arena_at(a, *ret_ref);
	memset(block, 0, len);
	arena_free_all(a);
	return block;
}

static void
spoil_out(struct fixture *f)
{
	struct out *o = add_block(f, sizeof(*o) + 10, &worker_slot(&f->sc.w, 0)->out);

	o->len = SCENE_ARENA_LEN;
}

static void
spoil_wait(struct fixture *f)
{
	struct wait *wait =
	    add_block(f, sizeof(*wait) + 4, &worker_slot(&f->sc.w, 0)->wait);

	wait->kind = WAIT_PUBLISH;
	wait->id_len = UINT16_MAX;
}

static void
spoil_directory(struct fixture *f)
{
	f->sc.w.table.channels[0].directory = 1u << 30;
}

static void
spoil_name(struct fixture *f)
{
	f->sc.w.table.channels[0].name_len = UINT16_MAX;
}

static void
spoil_subs(struct fixture *f)
{
	worker_slot(&f->sc.w, 0)->subs_log = 200;
}

static void
spoil_dialect(struct fixture *f)
{
	worker_slot(&f->sc.w, 0)->dialect = 200;
}

/* Whoever is broken is closed; the worker, and who is whole, goes on. */
static void
test_adopt_broken_parts_close_their_connection_alone(void **state)
{
	static void (*const spoil[])(struct fixture *) = {spoil_out, spoil_wait,
	    spoil_directory, spoil_name, spoil_subs, spoil_dialect};

	for (size_t i = 0; i < sizeof(spoil) / sizeof(spoil[0]); i++) {
		struct fixture f;

		make(&f, "");
		spoil[i](&f);
		adopt(&f);
		assert_int_equal(slot_state(worker_slot(&f.sc.w, 0)), SLOT_FREE);
		assert_int_equal(page_get(f.sc.w.page, PAGE_closed_crash), 1);
		end(&f);
	}
}

/* A number that is none of a client's: whoever has it keeps it. */
static void
test_adopt_descriptor_of_another_is_left_alone(void **state)
{
	struct fixture f;
	int fd;

	make(&f, "");
	fd = worker_slot(&f.sc.w, 0)->fd;
	worker_slot(&f.sc.w, 0)->fd = 2;
	f.sc.w.first_fd = 3;
	adopt(&f);
	assert_int_equal(slot_state(worker_slot(&f.sc.w, 0)), SLOT_FREE);
	assert_true(fcntl(2, F_GETFD) >= 0);
	worker_slot(&f.sc.w, 0)->fd = fd;
	end(&f);
}

/* One death inside a handshake may be chance; after two in a row it is closed. */
static void
test_adopt_request_that_killed_twice_is_closed(void **state)
{
	struct fixture f;
	struct slot *s;

	make(&f, "");
	s = worker_slot(&f.sc.w, 0);
	s->nsubs = 0;
	slot_set_state(s, SLOT_HANDSHAKE);
	s->marks = SLOT_SERVING;
	adopt(&f);
	assert_int_equal(slot_state(s), SLOT_HANDSHAKE);
	assert_int_equal(s->marks, SLOT_SUSPECT);
	end(&f);
	make(&f, "");
	s = worker_slot(&f.sc.w, 0);
	s->nsubs = 0;
	slot_set_state(s, SLOT_HANDSHAKE);
	s->marks = SLOT_SERVING | SLOT_SUSPECT;
	adopt(&f);
	assert_int_equal(slot_state(s), SLOT_FREE);
	assert_int_equal(page_get(f.sc.w.page, PAGE_closed_crash), 1);
	end(&f);
}

/* Where the kernel does not count, what was noted holds; unless a send was to be noted.
 */
static void
test_adopt_uncounted_goes_on_unless_in_a_send(void **state)
{
	static const uint8_t marks[] = {SLOT_UNCOUNTED, SLOT_UNCOUNTED | SLOT_SENDING};
	static const uint8_t want[] = {SLOT_OPEN, SLOT_FREE};

	for (size_t i = 0; i < 2; i++) {
		struct fixture f;
		struct out *o;
		struct slot *s;
		char got[16];

		make(&f, "");
		s = worker_slot(&f.sc.w, 0);
		o = add_block(&f, sizeof(*o) + 5, &s->out);
		o->len = 5;
		o->begun = 1;
		memcpy(o->bytes, "abcde", 5);
		s->marks = marks[i];
		s->part = 2;
		adopt(&f);
		assert_int_equal(slot_state(s), want[i]);
		if (want[i] == SLOT_OPEN) {
			out_writable(&f.sc.w, 0);
			assert_int_equal(recv(f.peer, got, sizeof(got), 0), 3);
			assert_memory_equal(got, "cde", 3);
		}
		end(&f);
	}
}

/* Whatever waits to be told to the supervisor meanwhile: a channel that was refused is
 * asked for anew by who comes next. */
static void
test_channels_refused_is_asked_for_again(void **state)
{
	static const char data[4096];
	struct ring_desc desc = {.type = RING_REFUSED, .offset = EACCES};
	struct fixture f;
	const void *msg;
	uint32_t type;
	size_t len;

	begin(&f, "");
	turns(&f);
	worker_slot(&f.sc.w, 0)->proto = PROTO_V1;
	assert_int_equal(requests_subscribe(&f.sc.w, 0, "new", 3, NULL, "1", 1), 0);
	desc.arg = (uint64_t)f.sc.w.table.channels[1].gen << 32 | 1;
	for (size_t n = sizeof(data); n > 0; n /= sizeof(data)) /* to the last byte */
		while (requests_publish(&f.sc.w, 0, "c0", 2, (struct slice){NULL, 0},
			   data, n, "2", 1) == 0)
			;
	assert_true(ring_commit(f.sc.ring, &desc) > 0);
	turns(&f);
	upstream_reset(f.sc.w.up);
	assert_int_equal(requests_subscribe(&f.sc.w, 0, "new", 3, NULL, "3", 1), 0);
	do
		assert_int_equal(upstream_next(f.sc.w.up, &type, &msg, &len), 1);
	while (type != UPLINK_WANT && (upstream_consume(f.sc.w.up), true));
	end(&f);
}

/* One that lags for 2^31 records (slow = skip) is still subscribed then. */
static void
test_fanout_lagging_for_31_bits_gets_the_next(void **state)
{
	struct fixture f;

	begin(&f, "[channel *]\nslow = skip\n");
	make_it_lag(&f, 0);
	for (int i = 0; i < 5; i++)
		pass(&f, 1u << 29);
	assert_true(out_lagging(&f.sc.w, 0));
	publish(&f, 0, "after", 5);
	assert_true(arrives(&f, "after"));
	end(&f);
}

/* A private frame that comes while a record is being passed on lies behind it. */
static void
test_adopt_private_frame_behind_a_begun_record(void **state)
{
	static const uint8_t ping[] = {0x89, 4, 'p', 'i', 'n', 'g'};
	static const char text[SCENE_LONG] = "long";
	struct fixture f;
	unsigned n = 0;

	begin(&f, "");
	do {
		turns(&f);
		publish(&f, 0, text, sizeof(text));
		out_records(&f.sc.w, 0, f.sc.w.done, f.sc.w.done + 1);
		n++;
	} while (!out_lagging(&f.sc.w, 0));
	assert_true(worker_slot(&f.sc.w, 0)->part > 0);
	assert_int_equal(out_private(&f.sc.w, 0, ping, sizeof(ping)), 0);
	leave(&f);
	adopt(&f);
	assert_int_equal(scene_read_until(&f.sc, f.peer, "ping", NULL), n);
	end(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fanout_quiet_for_all_32_bits_gets_the_next),
	    cmocka_unit_test(test_fanout_lagging_for_31_bits_gets_the_next),
	    cmocka_unit_test(test_gather_adopted_ahead_gets_nothing_twice),
	    cmocka_unit_test(test_reader_dripped_message_is_closed_without_pings),
	    cmocka_unit_test(test_timer_first_pings_are_spread_evenly),
	    cmocka_unit_test(test_limits_memory_ends_before_the_arena),
	    cmocka_unit_test(test_adopt_private_frame_behind_a_begun_record),
	    cmocka_unit_test(test_channels_refused_is_asked_for_again),
	    cmocka_unit_test(test_adopt_shut_down_connection_goes_on),
	    cmocka_unit_test(test_adopt_broken_parts_close_their_connection_alone),
	    cmocka_unit_test(test_adopt_descriptor_of_another_is_left_alone),
	    cmocka_unit_test(test_adopt_request_that_killed_twice_is_closed),
	    cmocka_unit_test(test_adopt_uncounted_goes_on_unless_in_a_send),
	    cmocka_unit_test(test_fanout_since_before_a_gap_missed_unknown),
	    cmocka_unit_test(test_fanout_since_behind_a_gap_recovers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
