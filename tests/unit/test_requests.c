/* test_requests.c - what a client asks, while the supervisor has not answered yet. */
#include "proto/uplink.h"
#include "tests/unit/scene.h"
#include "worker/requests.h"

/* A connection that is subscribed to nothing, and a worker whose first channel is free:
 * its next one. */
static void
begin(struct scene *sc, int *ret_peer)
{
	scene_make(sc, "", 8);
	scene_client(sc, ret_peer);
	worker_slot(&sc->w, 0)->nsubs = 0;
	atomic_store(&sc->w.table.channels[0].state, CHANNEL_FREE);
	scene_adopt(sc);
}

/* What waits for an answer and for no channel holds none: not the worker's first. */
static void
test_requests_unsubscribe_beside_what_is_asked_lets_go(void **state)
{
	struct scene sc;
	struct uplink u = {
	    .type = UPLINK_PRESENCE, .channel = "chat", .channel_len = 4};
	int peer;

	begin(&sc, &peer);
	assert_int_equal(requests_subscribe(&sc.w, 0, "news", 4, NULL, NULL, 0), 0);
	assert_int_equal(requests_ask(&sc.w, 0, WAIT_PRESENCE, &u, "1", 1), 0);
	assert_int_equal(sc.w.table.channels[0].nsubs, 1);
	assert_int_equal(requests_unsubscribe(&sc.w, 0, "news", 4), 0);
	assert_int_equal(sc.w.table.channels[0].nsubs, 0);
	(void)close(peer);
	scene_end(&sc);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_requests_unsubscribe_beside_what_is_asked_lets_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
