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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/dialect.h"
#include "shm/directory.h"
#include "worker/adopt.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/limits.h"
#include "worker/out.h"
#include "worker/side.h"
#include "worker/timers.h"
#include "worker/worker.h"

/* What the environment says, or otherwise this. */
static inline unsigned
scene_number(const char *variable, unsigned otherwise)
{
	const char *value = getenv(variable);

	return value != NULL ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

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

/* A worker with its maps, and the writer's end of the ring. */
struct scene {
	struct worker w;
	struct ring *ring; /* the writer's */
	int ring_fd, page_fd, table_fd, up_fd;
};

#define SCENE_INDEX_LEN 4096
#define SCENE_ARENA_LEN (4u << 20)
#define SCENE_TABLE_CHANNELS 8192

/* Maps with two channels and no connection yet. settings: text of the settings file.
 * What a predecessor left is made up then, to be adopted. */
static inline void
scene_make(struct scene *sc, const char *settings, uint32_t nslots)
{
	static const struct ring_config cfg = {.frames_size = RING_FRAMES_MIN,
	    .index_len = SCENE_INDEX_LEN,
	    .channels_max = 64};
	struct faults faults = {0};
	struct worker *w = &sc->w;
	struct arena *a;

	*w = (struct worker){.nworkers = 1, .doorbell = -1, .done = 1, .tick = 1000};
	assert_int_equal(
	    settings_parse(settings, strlen(settings), &w->settings, &faults), 0);
	assert_int_equal(ring_create(&cfg, &sc->ring, &sc->ring_fd), 0);
	assert_int_equal(ring_open(sc->ring_fd, false, &w->ring), 0);
	assert_int_equal(page_create(0, &w->page, &sc->page_fd), 0);
	assert_int_equal(upstream_create(65536, &w->up, &sc->up_fd), 0);
	assert_int_equal(table_create(nslots, SCENE_TABLE_CHANNELS, SCENE_ARENA_LEN,
			     &w->table, &sc->table_fd),
	    0);
	assert_int_equal(arena_new(w->table.arena, SCENE_ARENA_LEN, &a), 0);
	for (uint32_t i = 0; i < 2; i++)
		scene_channel(&w->table, sc->ring, a, i);
	atomic_store(&w->table.header->channels_used, 2);
	arena_free_all(a);
}

/* A raw connection in the next slot, subscribed to the first channel. */
static inline void
scene_client(struct scene *sc, int *ret_peer)
{
	uint32_t slot = table_slots_used(&sc->w.table);
	struct slot *s = worker_slot(&sc->w, slot);

	scene_connect(&s->fd, ret_peer);
	s->proto = PROTO_RAW;
	s->dialect = DIALECT_RAW;
	s->nsubs = 1;
	s->sub0 = (struct sub){.channel = 0, .from = 1};
	slot_set_pos(s, 1, 0);
	slot_set_state(s, SLOT_OPEN);
	atomic_store(&sc->w.table.header->slots_used, slot + 1);
}

static inline void
scene_adopt(struct scene *sc)
{
	assert_int_equal(
	    arena_new(sc->w.table.arena, SCENE_ARENA_LEN, &sc->w.arena), 0);
	assert_true(scene_parts(&sc->w));
}

/* What goes with a process. */
static inline void
scene_leave(struct scene *sc)
{
	struct worker *w = &sc->w;

	clients_free(w, w->clients);
	timers_free(w->timers);
	limits_free(w->limits);
	fanout_free(w->fanout);
	channels_free(w, w->channels);
	side_free(w->side);
	ev_loop_destroy(w->loop);
	arena_free_all(w->arena);
}

static inline void
scene_end(struct scene *sc)
{
	struct worker *w = &sc->w;

	for (uint32_t i = 0; i < table_slots_used(&w->table); i++)
		if (worker_slot(w, i)->fd >= 0)
			(void)close(worker_slot(w, i)->fd);
	scene_leave(sc);
	ring_close(w->ring);
	ring_close(sc->ring);
	page_close(w->page);
	upstream_close(w->up);
	table_close(&w->table);
	settings_free(w->settings);
	(void)close(sc->ring_fd);
	(void)close(sc->page_fd);
	(void)close(sc->up_fd);
	(void)close(sc->table_fd);
}

/* Publish as the supervisor does, in the raw dialect alone. key: NULL = none. Returns
 * the record's number. */
static inline uint64_t
scene_publish(
    struct scene *sc, uint32_t channel, const char *key, const char *data, size_t len)
{
	struct directory *dir = ring_directory(sc->ring);
	struct message m = {.data = data, .data_len = len, .kind = DATA_TEXT};
	struct ring_desc desc = {.type = RING_MESSAGE,
	    .channel = channel,
	    .offset = directory_offset(dir, channel) + 1,
	    .data_kind = DATA_TEXT};
	uint64_t newest = directory_newest(dir, channel);
	void *room =
	    ring_room(sc->ring, DIALECT_RAW, dialect_frame_max(DIALECT_RAW, &m));

	assert_non_null(room);
	ring_put(sc->ring, DIALECT_RAW, dialect_frame(DIALECT_RAW, &m, room));
	if (newest != 0 && newest >= ring_oldest(sc->ring))
		desc.prev = (uint32_t)(ring_head(sc->ring) - newest);
	if (key != NULL)
		ring_key(sc->ring, channel, key, strlen(key));
	return ring_commit(sc->ring, &desc);
}

/* All that there is is read, and the sockets have their turn. */
static inline void
scene_turns(struct scene *sc)
{
	while (fanout_turn(&sc->w) == FANOUT_MORE)
		;
	page_wake(sc->w.page);
	ev_run(sc->w.loop, EVRUN_NOWAIT);
}

#define SCENE_LONG 4000 /* bytes: a few of these fill a socket */

/* Publish, without a key, until the connection lags inside a frame or behind one. */
static inline void
scene_lag(struct scene *sc, uint32_t slot, uint32_t channel)
{
	static const char text[SCENE_LONG] = "long";

	for (int i = 0; i < 100 && !out_lagging(&sc->w, slot); i++) {
		(void)scene_publish(sc, channel, NULL, text, sizeof(text));
		scene_turns(sc);
	}
	assert_true(out_lagging(&sc->w, slot));
}

#define SCENE_SEEN_MAX 65536

/* Read whole frames until one has this payload. Returns how many came before it. seen:
 * NULL or room for SCENE_SEEN_MAX: payloads shorter than 100 bytes, a space behind
 * each. */
static inline unsigned
scene_read_until(struct scene *sc, int peer, const char *text, char *seen)
{
	static uint8_t buf[1 << 20];
	size_t have = 0, at = 0;
	unsigned n = 0;

	for (int i = 0; i < 2000; i++) {
		ssize_t got = read(peer, buf + have, sizeof(buf) - have);

		have += got > 0 ? (size_t)got : 0;
		scene_turns(sc);
		while (have - at >= 2 && (buf[at + 1] != 126 || have - at >= 4)) {
			size_t head = buf[at + 1] == 126 ? 4 : 2;
			size_t len = buf[at + 1] == 126
					 ? (size_t)buf[at + 2] << 8 | buf[at + 3]
					 : buf[at + 1];
			const char *payload = (const char *)buf + at + head;

			assert_true(buf[at] == 0x81 || buf[at] == 0x89);
			assert_true(len <= SCENE_LONG);
			if (have - at < head + len)
				break;
			if (len == strlen(text) && memcmp(payload, text, len) == 0)
				return n;
			if (seen != NULL && len < 100)
				seen += sprintf(seen, "%.*s ", (int)len, payload);
			at += head + len;
			n++;
		}
		if (got < 0)
			(void)usleep(1000);
	}
	fail_msg("\"%s\" never came", text);
	return 0;
}

#endif
