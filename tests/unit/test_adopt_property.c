/*
 * Adoption under kill -9: serving processes die at random instants while they send to
 * sockets that take little at a time, and each successor goes on. Every byte that the
 * clients read is checked: frames whole, messages of each channel in order, none lost,
 * none twice, and so are the pushes between them, which are for wscast.v1 alone. Of the
 * last channel (slow = latest) some may be passed over, and never the newest of a key.
 *
 * The seed is printed; WSCAST_SEED=n runs it again, WSCAST_KILLS=n as many times.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/deflate.h"
#include "proto/dialect.h"
#include "proto/frame.h"
#include "tests/unit/scene.h"
#include "worker/out.h"
#include "worker/uring.h"

#define CONNECTIONS 12
#define CHANNELS 3
#define LATEST 2 /* the channel that is slow = latest */
#define KEYS 5   /* of its messages; 0: none */
#define PAYLOAD_MAX 6000
#define PING_EVERY 7 /* turns of the serving process, for each connection */

/* The client's end of one connection. */
struct peer {
	int fd;
	uint8_t buf[PAYLOAD_MAX + 64];
	size_t len;
	uint64_t
	    next[CHANNELS]; /* sequence number that must come; 0 = not subscribed */
	uint64_t frames, pings, deflated, passed_over;
	uint64_t pushes[CHANNELS];
};

struct storm {
	unsigned seed;
	struct ring *ring;
	struct page *page;
	struct upstream *up;
	struct table table;
	int ring_fd, page_fd, table_fd, up_fd;
	struct settings *settings;
	struct peer peer[CONNECTIONS];
	uint64_t seq[CHANNELS], pushes[CHANNELS];
	uint64_t newest[KEYS]; /* of the last channel */
	struct deflater *deflater;
	struct inflater *inflater;
};

static unsigned
rnd(struct storm *sc, unsigned n)
{
	return (unsigned)rand_r(&sc->seed) % n;
}

/* ---- the serving process ---- */

static void
serve_until_killed(struct storm *sc)
{
	static const uint8_t ping[] = {0x80 | OPCODE_PING, 4, 'p', 'i', 'n', 'g'};
	struct worker w = {.nworkers = 1, .settings = sc->settings, .doorbell = -1};
	struct page_now now;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nobody behind */
	if (ring_open(sc->ring_fd, false, &w.ring) < 0 ||
	    page_open(sc->page_fd, true, &w.page) < 0 ||
	    table_open(sc->table_fd, true, &w.table) < 0 ||
	    upstream_open(sc->up_fd, &w.up) < 0 ||
	    arena_new(w.table.arena, w.table.header->arena_len, &w.arena) < 0)
		_exit(1);
	page_look(w.page, &now);
	w.done = now.done;
	w.tick = 1000;
	if (!scene_parts(&w))
		_exit(1);
	/* One that sends one by one may succeed one that does not, and the other way.
	 */
	if (getpid() % 2 == 0 && uring_new(&w.uring) < 0)
		w.uring = NULL; /* the kernel does not let us */
	/* Nor is it told whether messages are passed on one by one or gathered. */
	if (getpid() / 2 % 2 == 0)
		fanout_set_few(&w, 0);
	for (unsigned turn = 0;; turn++) {
		(void)fanout_turn(&w);
		page_wake(w.page);
		ev_run(w.loop, EVRUN_NOWAIT);
		if (turn % PING_EVERY == 0) {
			uint32_t slot = turn / PING_EVERY % CONNECTIONS;

			if (worker_slot(&w, slot)->out_bytes < 1000 &&
			    out_private(&w, slot, ping, sizeof(ping)) < 0)
				_exit(1);
		}
	}
}

/* ---- the scene ---- */

/* The protocols, deflated for each second pair of connections. */
static enum dialect
dialect_of(uint32_t idx)
{
	enum dialect plain = idx % 2 == 0 ? DIALECT_RAW : DIALECT_V1;

	return idx / 2 % 2 == 0 ? plain : dialect_deflated(plain);
}

/* A connection that is subscribed to the first channel, to two, or to all. */
static void
make_connection(struct storm *sc, struct arena *a, uint32_t idx)
{
	struct slot *s = &sc->table.slots[idx];
	struct sub *sub = &s->sub0;

	scene_connect(&s->fd, &sc->peer[idx].fd);
	s->proto = idx % 2 == 0 ? PROTO_RAW : PROTO_V1;
	s->dialect = dialect_of(idx);
	s->nsubs = (uint16_t)(1 + idx % CHANNELS);
	if (s->nsubs > 1) {
		s->subs = arena_alloc(a, 4 * sizeof(*sub));
		s->subs_log = 2;
		sub = arena_at(a, s->subs);
	}
	for (uint32_t i = 0; i < s->nsubs; i++) {
		sub[i] = (struct sub){.channel = i, .from = 1};
		sc->peer[idx].next[i] = 1;
	}
	slot_set_pos(s, 1, 0);
	slot_set_state(s, SLOT_OPEN);
}

static void
storm_open(struct storm *sc)
{
	static const struct ring_config cfg = {
	    .frames_size = RING_FRAMES_MIN, .index_len = 4096, .channels_max = 64};
	static const char settings[] = "[channel c2]\nslow = latest\n";
	struct faults faults = {0};
	struct arena *a;

	assert_int_equal(ring_create(&cfg, &sc->ring, &sc->ring_fd), 0);
	assert_int_equal(page_create(0, &sc->page, &sc->page_fd), 0);
	assert_int_equal(upstream_create(65536, &sc->up, &sc->up_fd), 0);
	assert_int_equal(table_create(64, 64, 1 << 20, &sc->table, &sc->table_fd), 0);
	assert_int_equal(
	    settings_parse(settings, strlen(settings), &sc->settings, &faults), 0);
	assert_int_equal(deflater_new(3, &sc->deflater), 0);
	assert_int_equal(inflater_new(&sc->inflater), 0);
	ring_set_worker(sc->ring, 0, sc->page);
	assert_int_equal(arena_new(sc->table.arena, 1 << 20, &a), 0);
	for (uint32_t i = 0; i < CHANNELS; i++)
		scene_channel(&sc->table, sc->ring, a, i);
	for (uint32_t i = 0; i < CONNECTIONS; i++)
		make_connection(sc, a, i);
	atomic_store(&sc->table.header->channels_used, CHANNELS);
	atomic_store(&sc->table.header->slots_used, CONNECTIONS);
	arena_free_all(a);
}

static void
storm_close(struct storm *sc)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		(void)close(sc->peer[i].fd);
		(void)close(sc->table.slots[i].fd);
	}
	table_close(&sc->table);
	upstream_close(sc->up);
	page_close(sc->page);
	ring_close(sc->ring);
	settings_free(sc->settings);
	deflater_free(sc->deflater);
	inflater_free(sc->inflater);
	(void)close(sc->ring_fd);
	(void)close(sc->page_fd);
	(void)close(sc->table_fd);
	(void)close(sc->up_fd);
}

/* "channel sequence ", then as many digits as the sequence says, and such that half of
 * them is left when they are deflated. */
static size_t
payload_of(unsigned channel, uint64_t seq, char *out)
{
	size_t head =
	    (size_t)sprintf(out, "%u %llu ", channel, (unsigned long long)seq);
	uint32_t random = (uint32_t)(seq + channel * 1000003);
	size_t fill = seq * 7919 % (seq % 16 == 0 ? 5000 : 300);

	for (size_t i = 0; i < fill; i++) {
		random = random * 1664525 + 1013904223;
		out[head + i] = "0123456789abcdef"[random >> 28];
	}
	return head + fill;
}

static unsigned
key_of(uint64_t seq)
{
	return (unsigned)(seq * 2654435761u >> 7) % KEYS;
}

/* A record's frame in a plain dialect, and in the deflated one. Now and then a worker
 * finds no frame for wscast.v1, and builds it, or no deflated one, and sends the plain.
 */
static bool
put_frames(struct storm *sc, enum dialect d, const struct message *m)
{
	size_t len = dialect_frame_max(d, m);
	void *plain, *room;

	if (d != DIALECT_RAW && rnd(sc, 4) == 0)
		return true;
	plain = ring_room(sc->ring, d, len);
	if (plain == NULL)
		return false;
	ring_put(sc->ring, d, dialect_frame(d, m, plain));
	if (rnd(sc, 4) == 0)
		return true;
	room = ring_room(sc->ring, dialect_deflated(d), len);
	if (room == NULL)
		return false;
	ring_put(sc->ring, dialect_deflated(d),
	    deflater_frame(sc->deflater, plain, len, room));
	return true;
}

static bool
publish(struct storm *sc)
{
	unsigned channel = rnd(sc, CHANNELS);
	struct directory *dir = ring_directory(sc->ring);
	char data[PAYLOAD_MAX];
	size_t len = payload_of(channel, sc->seq[channel] + 1, data);
	char name[] = {'c', (char)('0' + channel)};
	struct message m = {
	    name, 2, directory_offset(dir, channel) + 1, data, len, DATA_TEXT, 0};
	struct ring_desc desc = {.type = RING_MESSAGE,
	    .channel = channel,
	    .offset = m.offset,
	    .data_kind = DATA_TEXT};
	uint64_t newest = directory_newest(dir, channel);
	unsigned key = key_of(sc->seq[channel] + 1);

	for (unsigned d = 0; d < DIALECT_PLAIN_COUNT; d++) {
		if (!put_frames(sc, d, &m)) {
			ring_abort(sc->ring);
			return false;
		}
	}
	if (newest >= ring_oldest(sc->ring) && newest != 0)
		desc.prev = (uint32_t)(ring_head(sc->ring) - newest);
	if (channel == LATEST && key > 0)
		ring_key(sc->ring, channel, &key, sizeof(key));
	if (ring_commit(sc->ring, &desc) == 0) {
		ring_abort(sc->ring);
		return false;
	}
	sc->seq[channel]++;
	if (channel == LATEST)
		sc->newest[key] = sc->seq[channel];
	return true;
}

/* As those who are present are told that somebody comes or goes. */
static void
publish_push(struct storm *sc)
{
	unsigned channel = rnd(sc, LATEST);
	struct ring_desc desc = {.type = RING_PUSH, .channel = channel};
	char text[100];
	uint8_t head[FRAME_HEAD_MAX], *room;
	size_t len = (size_t)sprintf(text, "{\"push\":[%u,%llu,%llu]}", channel,
	    (unsigned long long)sc->seq[channel],
	    (unsigned long long)sc->pushes[channel] + 1);
	size_t head_len = frame_head(OPCODE_TEXT, len, head);

	room = ring_room(sc->ring, DIALECT_V1, head_len + len);
	if (room == NULL) {
		ring_abort(sc->ring);
		return;
	}
	memcpy(room, head, head_len);
	memcpy(room + head_len, text, len);
	ring_put(sc->ring, DIALECT_V1, head_len + len);
	if (ring_commit(sc->ring, &desc) == 0)
		ring_abort(sc->ring);
	else
		sc->pushes[channel]++;
}

/* ---- what the clients read ---- */

/* It comes behind all that was published before it. */
static void
check_push(struct peer *p, const char *data, size_t len)
{
	unsigned long long seq, n;
	unsigned channel;
	char text[100];

	assert_true(len < sizeof(text));
	memcpy(text, data, len);
	text[len] = '\0';
	assert_int_equal(
	    sscanf(text, "{\"push\":[%u,%llu,%llu]}", &channel, &seq, &n), 3);
	assert_true(channel < LATEST);
	assert_int_equal(p->next[channel], seq + 1);
	assert_int_equal(n, ++p->pushes[channel]);
}

/* What was passed over is of a key that has a newer message. */
static void
pass_over(const struct storm *sc, struct peer *p, uint64_t seq)
{
	for (; p->next[LATEST] < seq; p->next[LATEST]++) {
		assert_true(sc->newest[key_of(p->next[LATEST])] > p->next[LATEST]);
		p->passed_over++;
	}
}

static void
check_message(
    const struct storm *sc, struct peer *p, bool v1, const char *data, size_t len)
{
	char want[PAYLOAD_MAX], text[PAYLOAD_MAX + 64];
	unsigned long long seq;
	unsigned channel;
	size_t want_len;

	if (v1) {
		const char *at = memmem(data, len, "\"data\":\"", 8);

		assert_non_null(at);
		at += 8;
		len -= (size_t)(at - data) + 2; /* "} */
		data = at;
	}
	memcpy(text, data, len);
	text[len] = '\0';
	assert_int_equal(sscanf(text, "%u %llu", &channel, &seq), 2);
	assert_true(channel < CHANNELS);
	if (channel == LATEST)
		pass_over(sc, p, seq);
	want_len = payload_of(channel, p->next[channel], want);
	assert_int_equal(len, want_len);
	assert_memory_equal(data, want, len);
	p->next[channel]++;
	p->frames++;
}

static void
check_text(
    struct storm *sc, uint32_t idx, uint8_t first, const uint8_t *payload, size_t len)
{
	struct peer *p = &sc->peer[idx];

	if (first & FRAME_RSV1) {
		assert_true(dialect_is_deflated(dialect_of(idx)));
		assert_int_equal(inflater_message(sc->inflater, payload, len,
				     PAYLOAD_MAX, &payload, &len),
		    INFLATED_WHOLE);
		p->deflated++;
	}
	assert_int_equal(first & ~FRAME_RSV1, 0x80 | OPCODE_TEXT);
	if (idx % 2 == 1 && len > 7 && memcmp(payload, "{\"push\"", 7) == 0)
		check_push(p, (const char *)payload, len);
	else
		check_message(sc, p, idx % 2 == 1, (const char *)payload, len);
}

/* Take all whole frames off the front of the buffer. */
static void
check_frames(struct storm *sc, uint32_t idx)
{
	struct peer *p = &sc->peer[idx];
	size_t at = 0;

	while (p->len - at >= 2) {
		const uint8_t *f = p->buf + at;
		size_t head = f[1] == 126 ? 4 : 2;
		size_t len = f[1];

		assert_true(f[1] <= 126); /* no longer payload was sent */
		if (p->len - at < head)
			break;
		if (f[1] == 126)
			len = (size_t)f[2] << 8 | f[3];
		if (p->len - at < head + len)
			break;
		if (f[0] == (0x80 | OPCODE_PING)) {
			assert_int_equal(len, 4);
			assert_memory_equal(f + head, "ping", 4);
			p->pings++;
		} else {
			check_text(sc, idx, f[0], f + head, len);
		}
		at += head + len;
	}
	p->len -= at;
	memmove(p->buf, p->buf + at, p->len);
}

static size_t
read_some(struct storm *sc, uint32_t idx)
{
	struct peer *p = &sc->peer[idx];
	size_t want = 1 + rnd(sc, sizeof(p->buf) - 1);
	ssize_t n;

	if (want > sizeof(p->buf) - p->len)
		want = sizeof(p->buf) - p->len;
	n = read(p->fd, p->buf + p->len, want);
	if (n < 0) {
		assert_int_equal(errno, EAGAIN);
		return 0;
	}
	assert_true(n > 0); /* no socket closes */
	p->len += (size_t)n;
	check_frames(sc, idx);
	return (size_t)n;
}

static bool
all_have_all(const struct storm *sc)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		const struct peer *p = &sc->peer[i];

		for (int c = 0; c < CHANNELS; c++)
			if (p->next[c] != 0 &&
			    (p->next[c] != sc->seq[c] + 1 ||
				(i % 2 == 1 && p->pushes[c] != sc->pushes[c])))
				return false;
	}
	return true;
}

static pid_t
serving(struct storm *sc)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		serve_until_killed(sc);
	return pid;
}

static void
kill_and_wait(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Nobody's cursor may be lapped here: wait until the slowest is near enough. */
static bool
readers_near(const struct storm *sc)
{
	uint64_t behind = 0;

	for (int i = 0; i < CONNECTIONS; i++)
		for (int c = 0; c < CHANNELS; c++)
			if (sc->peer[i].next[c] != 0 &&
			    sc->seq[c] + 1 - sc->peer[i].next[c] > behind)
				behind = sc->seq[c] + 1 - sc->peer[i].next[c];
	return behind < 300;
}

static void
test_adoption_killed_at_random_no_byte_lost_or_repeated(void **state)
{
	struct storm sc = {.seed = scene_number("WSCAST_SEED", (unsigned)time(NULL))};
	unsigned kills = scene_number("WSCAST_KILLS", 300);
	uint64_t frames = 0, pings = 0, pushes = 0, deflated = 0, passed_over = 0;
	struct timespec deadline, now;
	pid_t pid;

	print_message("WSCAST_SEED=%u\n", sc.seed);
	storm_open(&sc);
	pid = serving(&sc);
	for (unsigned k = 0; k < kills; k++) {
		/* Some die while they adopt, some in the middle of their sends. */
		uint64_t sends = page_get(sc.page, PAGE_sends) + rnd(&sc, 60);
		unsigned steps = rnd(&sc, 8) == 0 ? rnd(&sc, 200) : 1000000;

		while (steps-- > 0 && page_get(sc.page, PAGE_sends) < sends) {
			if (readers_near(&sc)) {
				(void)publish(&sc);
				if (rnd(&sc, 4) == 0)
					publish_push(&sc);
			}
			(void)read_some(&sc, rnd(&sc, CONNECTIONS));
		}
		kill_and_wait(pid);
		/* What waits is superseded before a successor has retraced it. */
		for (unsigned n = rnd(&sc, 40); n > 0 && readers_near(&sc); n--)
			(void)publish(&sc);
		pid = serving(&sc);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &deadline);
	do {
		for (uint32_t i = 0; i < CONNECTIONS; i++)
			(void)read_some(&sc, i);
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
		assert_true(now.tv_sec - deadline.tv_sec < 30);
	} while (!all_have_all(&sc));
	kill_and_wait(pid);
	for (int i = 0; i < CONNECTIONS; i++) {
		frames += sc.peer[i].frames;
		pings += sc.peer[i].pings;
		pushes += sc.peer[i].pushes[0] + sc.peer[i].pushes[1];
		deflated += sc.peer[i].deflated;
		passed_over += sc.peer[i].passed_over;
	}
	assert_true(pings > 0 && pushes > frames / 20 && deflated > frames / 8 &&
		    deflated < frames / 2);
	assert_true(page_get(sc.page, PAGE_blocked) > kills / 4); /* frames were cut */
	assert_true(passed_over > 0);
	print_message(
	    "%u kills, %llu messages (%llu deflated), %llu pushes and %llu pings read, "
	    "%llu messages passed over, %llu short sends, "
	    "%llu frames rebuilt\n",
	    kills, (unsigned long long)frames, (unsigned long long)deflated,
	    (unsigned long long)pushes, (unsigned long long)pings,
	    (unsigned long long)passed_over,
	    (unsigned long long)page_get(sc.page, PAGE_blocked),
	    (unsigned long long)page_get(sc.page, PAGE_rebuilt));
	storm_close(&sc);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_adoption_killed_at_random_no_byte_lost_or_repeated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
