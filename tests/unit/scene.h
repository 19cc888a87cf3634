/*
 * scene.h - a worker without its keeper and supervisor, as tests need it: sockets that
 * take little, what a predecessor would have left in the maps, and the parts that go on
 * from there.
 */
#ifndef WSCAST_TESTS_UNIT_SCENE_H
#define WSCAST_TESTS_UNIT_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/directory.h"
#include "worker/adopt.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/limits.h"
#include "worker/side.h"
#include "worker/timers.h"
#include "worker/worker.h"

/* A connection whose ends take a few kilobytes, both non-blocking. */
static inline void
scene_connect(int *ret_server, int *ret_client)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof(sa);
	int l = socket(AF_INET, SOCK_STREAM, 0), small = 4096;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(l, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&sa, &len), 0);
	*ret_client = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(*ret_client, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(connect(*ret_client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	*ret_server = accept4(l, NULL, NULL, SOCK_NONBLOCK);
	assert_true(*ret_server >= 0);
	(void)setsockopt(*ret_server, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	assert_int_equal(fcntl(*ret_client, F_SETFL, O_NONBLOCK), 0);
	(void)close(l);
}

/* A channel with the name c0, c1…: live. */
static inline void
scene_channel(struct table *t, struct ring *ring, struct arena *a, uint32_t idx)
{
	struct channel *c = &t->channels[idx];
	char name[2] = {'c', (char)('0' + idx)};

	c->name = arena_alloc(a, 2);
	memcpy(arena_at(a, c->name), name, 2);
	c->name_len = 2;
	c->directory = idx;
	c->gen = 1;
	atomic_store(&c->state, CHANNEL_LIVE);
	directory_set(ring_directory(ring), idx, name, 2, 0);
}

/* Make the loop and the parts of a worker whose maps are there, and adopt what is in
 * them. Returns whether all of it worked. */
static inline bool
scene_parts(struct worker *w)
{
	w->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	ev_set_userdata(w->loop, w);
	return side_new(w, &w->side) == 0 && channels_new(w, &w->channels) == 0 &&
	       fanout_new(w, &w->fanout) == 0 && limits_new(w, &w->limits) == 0 &&
	       timers_new(w, &w->timers) == 0 && clients_new(w, &w->clients) == 0 &&
	       adopt_all(w) == 0;
}

#endif
