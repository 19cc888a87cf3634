/*
 * wsbench_gen.c - the client engine: one epoll loop, edge-triggered, one read buffer.
 *
 * Whatever happens for each delivery happens without a call to the kernel beyond its
 * recv(), without memory, and without taking the message apart: the first copy in a
 * process is (wsbench_check.h), the others are compared with it. The clock is read
 * once for each recv() that brought something, however many messages that is.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/wsbench_check.h"
#include "tools/wsbench_gen.h"
#include "tools/wsbench_net.h"
#include "tools/wsbench_proto.h"
#include "tools/wsbench_wire.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define BUFFER_LEN (4u << 20) /* touched as far as reads fill it */
#define FRAME_MAX (2u << 20)  /* larger ones are not ours */
#define ANSWER_MAX 65536      /* head of the answer to the upgrade */
#define EVENTS 512
#define KEYS 64 /* handshake keys, used in turn */
#define TRIES 4 /* of a client, before it is given up */
#define RETRY_NS 500000000u
#define HANDSHAKE_NS 30000000000u
#define PER_SOURCE 4000 /* connections from one loopback address */
#define WAKE_TOKEN UINT32_MAX

enum state {
	STATE_IDLE, /* not begun */
	STATE_CONNECTING,
	STATE_HANDSHAKE,
	STATE_OPEN,
	STATE_AWAY, /* queued, to be begun again when it is time */
	STATE_DEAD, /* given up, or closed for good */
};

struct conn {
	int fd;
	uint8_t state;
	uint8_t tries;
	uint8_t key;
	bool slow : 1;
	bool again : 1;   /* had been open before */
	bool counted : 1; /* its subscriptions stand in sure and unsure */
	uint16_t pending; /* confirmations to come */
	uint32_t stash_len, stash_capacity;
	uint8_t *stash;  /* what came of a frame that is not whole yet */
	uint64_t due_ns; /* AWAY: when to begin; else: when it was begun */
	uint32_t next;   /* in a queue of those who wait */
};

/* First in, first out; each has one fixed delay, so it is in the order of due times. */
struct queue {
	uint32_t head, tail;
};
#define NOBODY UINT32_MAX

struct gen {
	const struct options *o;
	struct shared *s;
	struct gen_shared *mine;
	_Atomic uint32_t *sure, *unsure; /* mine, by channel */
	const struct bench_proto *proto;
	int epoll_fd;
	unsigned index;
	uint64_t first; /* number of my first client among all */
	uint32_t n;
	struct conn *conns;
	struct order *orders; /* [client][subscription] */
	struct known *known;  /* CHECK_KNOWN */
	uint8_t *buffer;
	char keys[KEYS][WIRE_KEY_LEN + 1];
	char accepts[KEYS][WIRE_ACCEPT_LEN + 1];
	char epoch[PROTO_EPOCH_MAX];
	uint32_t begun;     /* clients begun for the first time */
	uint32_t under_way; /* connecting or in the handshake */
	uint32_t max_under_way;
	double connect_rate; /* a second, mine */
	uint64_t start_ns, tick_ns, scan_ns;
	double drop_due; /* clients to drop, with the part below one */
	uint64_t random;
	struct queue away, retry;
	uint32_t step, storms;
	bool storm_back; /* waiting for all to be back */
};

static uint32_t
next_random(struct gen *g)
{
	g->random ^= g->random << 13;
	g->random ^= g->random >> 7;
	g->random ^= g->random << 17;
	return (uint32_t)(g->random >> 32);
}

static uint32_t
index_of(const struct gen *g, const struct conn *c)
{
	return (uint32_t)(c - g->conns);
}

static struct order *
orders_of(const struct gen *g, const struct conn *c)
{
	return g->orders + (size_t)index_of(g, c) * g->o->subscriptions;
}

static struct proto_conn
proto_conn(struct gen *g, const struct conn *c)
{
	return (struct proto_conn){
	    .options = g->o,
	    .index = g->first + index_of(g, c),
	    .orders = orders_of(g, c),
	    .epoch = g->epoch,
	};
}

/* Who must get what: subscriptions on which something came (or whose resumption was
 * confirmed) are sure, others are not yet. Slow clients count in neither. */
static void
count_subscriptions(struct gen *g, struct conn *c, bool add)
{
	const struct order *orders = orders_of(g, c);
	uint32_t channel;

	if (c->slow || c->counted == add)
		return;
	c->counted = add;
	for (unsigned k = 0; k < g->o->subscriptions; k++) {
		channel = options_channel(g->o, g->first + index_of(g, c), k);
		if (orders[k].seen != 0)
			OWN_ADD(g->sure[channel], add ? 1 : -1);
		else
			OWN_ADD(g->unsure[channel], add ? 1 : -1);
	}
}

static void
make_sure(struct gen *g, struct conn *c, uint32_t channel)
{
	if (!c->counted)
		return;
	OWN_ADD(g->unsure[channel], -1);
	OWN_ADD(g->sure[channel], 1u);
}

static void
push(struct gen *g, struct queue *q, struct conn *c)
{
	c->next = NOBODY;
	if (q->head == NOBODY)
		q->head = index_of(g, c);
	else
		g->conns[q->tail].next = index_of(g, c);
	q->tail = index_of(g, c);
}

/* -- ending a connection ---------------------------------------------------- */

/* Close the socket and forget what belonged to it; the client's state is the
 * caller's. */
static void
end_socket(struct gen *g, struct conn *c, bool abruptly)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct order *orders = orders_of(g, c);

	if (c->state == STATE_OPEN) {
		OWN_ADD(g->mine->open, -1);
		if (c->pending == 0)
			OWN_ADD(g->mine->ready, -1);
	}
	if (c->state == STATE_CONNECTING || c->state == STATE_HANDSHAKE) {
		g->under_way--;
		OWN_SET(g->mine->connecting, g->under_way);
	}
	count_subscriptions(g, c, false);
	/* What comes after this cannot be known to be the next one. */
	for (unsigned k = 0; k < g->o->subscriptions; k++)
		orders[k].seen = 0;
	if (abruptly)
		(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(c->fd);
	c->fd = -1;
	free(c->stash);
	c->stash = NULL;
	c->stash_len = c->stash_capacity = 0;
	c->pending = 0;
}

/* It will be back after a while. */
static void
go_away(struct gen *g, struct conn *c, struct queue *q, uint64_t delay_ns)
{
	c->state = STATE_AWAY;
	c->due_ns = net_now_ns() + delay_ns;
	push(g, q, c);
}

/* Not open yet, and it will not be. */
static void
fail(struct gen *g, struct conn *c)
{
	OWN_ADD(g->mine->failed, 1u);
	end_socket(g, c, false);
	if (++c->tries < TRIES || c->again) {
		go_away(g, c, &g->retry, RETRY_NS);
		return;
	}
	c->state = STATE_DEAD;
	OWN_ADD(g->mine->given_up, 1u);
}

/* Open, and the server (or the net) ended it. code: of its Close frame, 0: none. */
static void
lost(struct gen *g, struct conn *c, unsigned code)
{
	unsigned slot = code >= 1000 && code < 1000 + CLOSE_CODES - 2 ? code - 1000
			: code != 0                                   ? CLOSE_CODES - 2
								      : CLOSE_CODES - 1;

	OWN_ADD(g->mine->closed, 1u);
	OWN_ADD(g->mine->close_codes[slot], 1u);
	if (c->slow)
		OWN_ADD(g->mine->slow_closed, 1u);
	end_socket(g, c, false);
	if (g->o->reconnect)
		go_away(g, c, &g->retry, RETRY_NS);
	else
		c->state = STATE_DEAD;
}

static void
broken(struct gen *g, struct conn *c)
{
	OWN_ADD(g->mine->broken, 1u);
	end_socket(g, c, true);
	c->state = STATE_DEAD;
}

/* -- a message ------------------------------------------------------------------ */

static int
find_subscription(const struct gen *g, const struct conn *c, uint32_t channel)
{
	const struct options *o = g->o;
	uint64_t at;

	if (o->channels == 1)
		return channel == 0 ? 0 : -1;
	at = options_channel(o, g->first + index_of(g, c), 0);
	for (unsigned k = 0; k < o->subscriptions; k++) {
		if (at == channel)
			return (int)k;
		at += o->stride;
		if (at >= o->channels)
			at -= o->channels;
	}
	return -1;
}

/* Not the next one of its channel. Returns false when it is a copy too many. */
static bool
out_of_turn(struct gen *g, struct conn *c, struct order *o, const struct facts *f)
{
	uint32_t missing = 0;
	bool loose = o->seen == 0;

	if (loose)
		make_sure(g, c, f->channel);
	if (loose && o->next != 0 && f->seq >= o->next) {
		/* Back from being away: what it skipped was nobody's loss. */
		OWN_ADD(g->mine->away, f->seq - o->next);
		o->next = f->seq;
	}
	switch (order_arrived(o, f->seq, &missing)) {
	case ORDER_IN_TURN:
		break;
	case ORDER_GAP:
		OWN_ADD(g->mine->lost, missing);
		break;
	case ORDER_LATE:
		OWN_ADD(g->mine->reordered, 1u);
		OWN_ADD(g->mine->lost, -(uint64_t)1);
		break;
	case ORDER_REPEATED:
		if (loose)
			o->seen = 1; /* it is subscribed, whatever it was sent */
		OWN_ADD(g->mine->repeated, 1u);
		return false;
	}
	return true;
}

/* Note one more copy; tell the publisher when it was my last, if it waits for that. */
static void
mark_message(struct gen *g, const struct facts *f, uint64_t now_ns)
{
	struct mark *m = &g->mine->marks[f->msg % MARKS];
	uint32_t count = 0;

	if (OWN_GET(m->msg) == f->msg) {
		count = OWN_GET(m->count);
	} else {
		atomic_store_explicit(&m->count, 0, memory_order_release);
		atomic_store_explicit(&m->msg, f->msg, memory_order_release);
	}
	OWN_SET(m->last_ns, now_ns);
	atomic_store_explicit(&m->count, ++count, memory_order_release); /* M1 */
	if (count == OWN_GET(g->sure[f->channel]) && OWN_GET(g->s->pub.waiting))
		(void)eventfd_write(g->s->pub_fd, 1);
}

static void
deliver(struct gen *g, struct conn *c, const struct known *k, uint64_t now_ns)
{
	struct gen_shared *mine = g->mine;
	int sub = find_subscription(g, c, k->facts.channel);
	struct order *o;

	if (sub < 0) {
		OWN_ADD(mine->foreign, 1u);
		return;
	}
	OWN_ADD(mine->received, 1u);
	OWN_ADD(mine->received_bytes, k->len);
	if (c->slow) {
		OWN_ADD(mine->slow_received, 1u);
		return;
	}
	o = orders_of(g, c) + sub;
	o->offset = k->offset;
	if (o->next == k->facts.seq && o->seen != 0) {
		o->next++;
		o->seen = o->seen << 1 | 1;
	} else if (!out_of_turn(g, c, o, &k->facts)) {
		return;
	}
	if (k->facts.time_ns < c->due_ns) {
		/* Published before it came back: its delay is not the server's. */
		OWN_ADD(mine->recovered, 1u);
		return;
	}
	if (k->measured) {
		OWN_ADD(mine->measured, 1u);
		OWN_SET(mine->last_measured_ns, now_ns);
		hist_add(&mine->latency, now_ns - k->facts.time_ns, 1);
	}
	mark_message(g, &k->facts, now_ns);
}

static void
send_frame(struct gen *g, struct conn *c, uint8_t opcode, const void *data, size_t len)
{
	uint8_t frame[WIRE_HEAD_MAX + 512];
	size_t n;

	if (len > 512)
		return;
	n = wire_masked(opcode, data, len, next_random(g), frame);
	/* A socket that does not take these few bytes is one whose server does not
	 * read; its own timeouts will show that. */
	(void)!send(c->fd, frame, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
on_subscribed(struct gen *g, struct conn *c, const struct proto_message *m)
{
	struct order *o = orders_of(g, c) + m->sub;
	bool resumed = o->next != 0 && o->seen == 0;

	if (resumed && m->recovered) {
		OWN_ADD(g->mine->resumed, 1u);
		/* From here on, all that it missed must come. */
		o->seen = 1;
	} else if (resumed) {
		OWN_ADD(g->mine->told, m->missed);
	}
	if (m->offset > o->offset && !resumed)
		o->offset = m->offset;
	if (c->pending > 0 && --c->pending == 0) {
		OWN_ADD(g->mine->ready, 1u);
		count_subscriptions(g, c, true);
	}
}

static void
on_gap(struct gen *g, struct conn *c, const struct proto_message *m)
{
	struct order *o = orders_of(g, c) + m->sub;

	OWN_ADD(g->mine->told, m->missed);
	if (o->seen == 0 || !c->counted)
		return;
	/* The next one may be any. */
	OWN_ADD(g->sure[options_channel(g->o, g->first + index_of(g, c), m->sub)], -1);
	OWN_ADD(
	    g->unsure[options_channel(g->o, g->first + index_of(g, c), m->sub)], 1u);
	o->seen = 0;
}

/* A payload that this process had not seen: take it apart, and keep it. */
static void
first_copy(struct gen *g, struct conn *c, const char *data, size_t len,
    const struct proto_message *m, uint64_t now_ns)
{
	struct known fresh = {.offset = m->offset, .len = len}, *k;
	uint32_t from = OWN_GET(g->s->pub.measured_from);

	if (check_read(m->payload, m->payload_len, &fresh.facts) < 0) {
		OWN_ADD(g->mine->altered, 1u);
		return;
	}
	if (fresh.facts.run != g->o->run || fresh.facts.channel >= g->o->channels) {
		OWN_ADD(g->mine->foreign, 1u);
		return;
	}
	fresh.measured = from != UINT32_MAX && fresh.facts.msg >= from;
	if (len >= CHECK_FACTS_LEN + 2 + g->proto->tail) {
		k = &g->known[check_slot(data + len - g->proto->tail - CHECK_TAIL_LEN)];
		if (check_keep(k, data, len) == 0) {
			k->facts = fresh.facts;
			k->offset = fresh.offset;
			k->measured = fresh.measured;
		}
	}
	deliver(g, c, &fresh, now_ns);
}

/* Returns false when the connection is no more. */
static bool
on_data(struct gen *g, struct conn *c, const char *data, size_t len, uint64_t now_ns)
{
	size_t behind = g->proto->tail + CHECK_TAIL_LEN;
	struct proto_message m = {0};
	struct proto_conn pc;
	const struct known *k;

	if (len >= behind) {
		k = &g->known[check_slot(data + len - behind)];
		if (k->len == len && memcmp(k->bytes, data, len) == 0) {
			deliver(g, c, k, now_ns);
			return true;
		}
	}
	pc = proto_conn(g, c);
	switch (g->proto->message(&pc, data, len, &m)) {
	case PROTO_NOTHING:
		break;
	case PROTO_PAYLOAD:
		first_copy(g, c, data, len, &m, now_ns);
		break;
	case PROTO_SUBSCRIBED:
		on_subscribed(g, c, &m);
		break;
	case PROTO_GAP:
		on_gap(g, c, &m);
		break;
	case PROTO_REFUSED:
		OWN_ADD(g->mine->refusals, 1u);
		break;
	case PROTO_ANSWER:
		send_frame(g, c, 1, m.answer, strlen(m.answer));
		break;
	case PROTO_BAD:
		broken(g, c);
		return false;
	}
	return true;
}

/* Returns false when the connection is no more. */
static bool
on_frame(struct gen *g, struct conn *c, const struct wire_frame *f, uint64_t now_ns)
{
	switch (f->opcode) {
	case 1:
	case 2:
		if (f->fin)
			return on_data(g, c, (const char *)f->data, f->len, now_ns);
		break; /* no server that we measure cuts messages */
	case 8:
		lost(g, c,
		    f->len >= 2 ? (unsigned)(f->data[0] << 8 | f->data[1]) : 1005);
		return false;
	case 9:
		OWN_ADD(g->mine->pings, 1u);
		send_frame(g, c, 10, f->data, f->len);
		return true;
	case 10:
		return true;
	default:
		break;
	}
	broken(g, c);
	return false;
}

/* -- opening -------------------------------------------------------------------- */

static void
note_open(struct gen *g, struct conn *c, uint64_t now_ns)
{
	struct gen_shared *mine = g->mine;

	hist_add(&mine->opening, now_ns - c->due_ns, 1);
	OWN_ADD(mine->opened, 1u);
	OWN_ADD(mine->open, 1u);
	g->under_way--;
	OWN_SET(mine->connecting, g->under_way);
	if (!c->again)
		OWN_SET(mine->last_open_ns, now_ns);
	c->again = true;
	c->tries = 0;
	if (g->storm_back && OWN_GET(mine->open) == g->n) {
		g->storm_back = false;
		OWN_SET(mine->back_ns, now_ns);
	}
}

static void
send_opening(struct gen *g, struct conn *c)
{
	static uint8_t out[128 * 1024];
	struct proto_conn pc = proto_conn(g, c);
	unsigned pending = 0;
	size_t n = g->proto->opened(&pc, out, sizeof(out), &pending);

	c->pending = (uint16_t)pending;
	if (n > 0 && send(c->fd, out, n, MSG_NOSIGNAL) != (ssize_t)n) {
		broken(g, c); /* a fresh socket takes more than this */
		return;
	}
	if (pending == 0) {
		OWN_ADD(g->mine->ready, 1u);
		count_subscriptions(g, c, true);
	}
}

/* Look at the answer to the upgrade. Returns its length, 0: not whole; negative: the
 * connection is no more. */
static long
on_answer(
    struct gen *g, struct conn *c, const uint8_t *buf, size_t len, uint64_t now_ns)
{
	int r = wire_answer((const char *)buf, len, g->accepts[c->key]);

	if (r == 0 && len < ANSWER_MAX)
		return 0;
	if (r <= 0) {
		if (r <= -200)
			OWN_ADD(g->mine->refused, 1u);
		fail(g, c);
		return -EPROTO;
	}
	note_open(g, c, now_ns);
	c->state = STATE_OPEN;
	send_opening(g, c);
	return c->state == STATE_OPEN ? r : -EPIPE;
}

/* -- reading -------------------------------------------------------------------- */

static bool
keep_rest(struct gen *g, struct conn *c, const uint8_t *rest, size_t len)
{
	uint8_t *grown;

	if (len > c->stash_capacity) {
		grown = realloc(c->stash, len);
		if (grown == NULL)
			return false;
		c->stash = grown;
		c->stash_capacity = (uint32_t)len;
	}
	memcpy(c->stash, rest, len);
	c->stash_len = (uint32_t)len;
	return true;
}

/* Take what is whole. Returns how many bytes that was; -1: the connection is no more.
 */
static long
take_frames(
    struct gen *g, struct conn *c, const uint8_t *buf, size_t len, uint64_t now_ns)
{
	struct wire_frame f;
	size_t pos = 0, need = 0;
	long r;

	if (c->state == STATE_HANDSHAKE) {
		r = on_answer(g, c, buf, len, now_ns);
		if (r <= 0)
			return r < 0 ? -1 : 0;
		pos = (size_t)r;
	}
	while ((r = wire_frame(buf + pos, len - pos, &f, &need)) > 0) {
		if (!on_frame(g, c, &f, now_ns))
			return -1;
		pos += (size_t)r;
	}
	if (r < 0 || need > FRAME_MAX) {
		broken(g, c);
		return -1;
	}
	return (long)pos;
}

static void
on_end(struct gen *g, struct conn *c)
{
	if (c->state == STATE_OPEN)
		lost(g, c, 0);
	else
		fail(g, c);
}

/* Read until the socket is empty (edge-triggered), or `most` bytes. */
static void
read_conn(struct gen *g, struct conn *c, size_t most)
{
	size_t have = c->stash_len, room, got = 0;
	ssize_t n;
	long taken;

	if (have > 0)
		memcpy(g->buffer, c->stash, have);
	c->stash_len = 0;
	do {
		room = BUFFER_LEN - have;
		if (room > most - got)
			room = most - got;
		n = recv(c->fd, g->buffer + have, room, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			on_end(g, c);
			return;
		}
		if (n < 0)
			break;
		OWN_ADD(g->mine->reads, 1u);
		have += (size_t)n;
		got += (size_t)n;
		taken = take_frames(g, c, g->buffer, have, net_now_ns());
		if (taken < 0)
			return;
		have -= (size_t)taken;
		if (have > 0 && taken > 0)
			memmove(g->buffer, g->buffer + taken, have);
	} while ((size_t)n == room && got < most);
	if (have > 0) {
		if (!keep_rest(g, c, g->buffer, have))
			broken(g, c);
	} else if (c->stash != NULL) {
		free(c->stash);
		c->stash = NULL;
		c->stash_capacity = 0;
	}
}

/* -- connecting ----------------------------------------------------------------- */

/* The request, as soon as the socket takes it. */
static void
send_request(struct gen *g, struct conn *c)
{
	struct proto_conn pc = proto_conn(g, c);
	char target[32768], headers[1024], request[36864];
	ssize_t n;
	int len;

	if (!g->proto->request(&pc, target, sizeof(target), headers, sizeof(headers))) {
		fail(g, c);
		return;
	}
	c->key = (uint8_t)(index_of(g, c) % KEYS);
	len = snprintf(request, sizeof(request),
	    "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
	    "Sec-WebSocket-Version: 13\r\n%s%s%s%s\r\n",
	    target, g->o->host, g->keys[c->key], headers,
	    g->o->token != NULL ? "Authorization: Bearer " : "",
	    g->o->token != NULL ? g->o->token : "", g->o->token != NULL ? "\r\n" : "");
	if (len < 0 || (size_t)len >= sizeof(request)) {
		fail(g, c);
		return;
	}
	n = send(c->fd, request, (size_t)len, MSG_NOSIGNAL);
	if (n == len)
		c->state = STATE_HANDSHAKE;
	else if (n >= 0 || (errno != EAGAIN && errno != ENOTCONN))
		fail(g, c);
	/* Else it is not connected yet: EPOLLOUT will tell. */
}

/* Many sockets to one address need many addresses of our own: a port each. Loopback
 * has 16 million; other targets get those that --source names. */
static void
bind_source(struct gen *g, const struct conn *c, int fd)
{
	const struct sockaddr_in *to = (const struct sockaddr_in *)&g->o->addr;
	struct sockaddr_in from = {.sin_family = AF_INET};
	uint64_t client = g->first + index_of(g, c);
	uint64_t block = client / PER_SOURCE;
	int on = 1;

	if (to->sin_family != AF_INET)
		return;
	if (g->o->nsources > 0)
		from.sin_addr = g->o->sources[client % g->o->nsources];
	else if (ntohl(to->sin_addr.s_addr) >> 24 == 127)
		from.sin_addr.s_addr =
		    htonl(127u << 24 | 1u << 16 | (uint32_t)(block / 250) << 8 |
			  (uint32_t)(block % 250 + 1));
	else
		return;
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	/* Without it connect() picks an address, which works as long as ports last. */
	(void)!bind(fd, (struct sockaddr *)&from, sizeof(from));
}

static void
begin(struct gen *g, struct conn *c)
{
	struct epoll_event e = {
	    .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
	    .data.u32 = index_of(g, c),
	};
	int on = 1;

	OWN_ADD(g->mine->attempts, 1u);
	c->due_ns = net_now_ns();
	if (OWN_GET(g->mine->first_open_ns) == 0)
		OWN_SET(g->mine->first_open_ns, c->due_ns);
	c->state = STATE_CONNECTING;
	g->under_way++;
	c->fd =
	    socket(g->o->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		fail(g, c);
		return;
	}
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	bind_source(g, c, c->fd);
	if ((connect(c->fd, (const struct sockaddr *)&g->o->addr, g->o->addr_len) < 0 &&
		errno != EINPROGRESS) ||
	    epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0) {
		fail(g, c);
		return;
	}
	/* Over loopback it is connected by now, and a turn of the loop is spared. */
	send_request(g, c);
}

static bool
may_begin(const struct gen *g, uint64_t now_ns)
{
	if (g->under_way >= g->max_under_way)
		return false;
	if (g->connect_rate == 0)
		return true;
	return (double)OWN_GET(g->mine->attempts) <
	       (double)(now_ns - g->start_ns) / 1e9 * g->connect_rate;
}

static bool
begin_due(struct gen *g, struct queue *q, uint64_t now_ns)
{
	struct conn *c;

	if (q->head == NOBODY || g->conns[q->head].due_ns > now_ns)
		return false;
	c = &g->conns[q->head];
	q->head = c->next;
	begin(g, c);
	return true;
}

static void
begin_some(struct gen *g)
{
	uint64_t now_ns = net_now_ns();

	/* A bounded batch: answers wait meanwhile. */
	for (int i = 0; i < 64 && may_begin(g, now_ns); i++) {
		if (begin_due(g, &g->away, now_ns) || begin_due(g, &g->retry, now_ns))
			continue;
		if (g->begun == g->n)
			break;
		begin(g, &g->conns[g->begun++]);
	}
	OWN_SET(g->mine->connecting, g->under_way);
}

/* -- trouble on purpose --------------------------------------------------------- */

/* The client's net is gone, or its whole process: no Close frame, no FIN. */
static void
vanish(struct gen *g, struct conn *c, double seconds)
{
	OWN_ADD(g->mine->dropped, 1u);
	end_socket(g, c, true);
	go_away(g, c, &g->away, (uint64_t)(seconds * 1e9));
}

static void
drop_some(struct gen *g, double elapsed)
{
	struct conn *c;

	g->drop_due += g->o->drops * elapsed * (double)g->n;
	for (; g->drop_due >= 1; g->drop_due -= 1) {
		c = &g->conns[next_random(g) % g->n];
		if (c->state == STATE_OPEN && c->pending == 0 && !c->slow)
			vanish(g, c, g->o->away);
	}
}

static void
storm(struct gen *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->conns[i].state == STATE_OPEN)
			vanish(g, &g->conns[i], 0);
	OWN_SET(g->mine->back_ns, 0);
	g->storm_back = true;
}

static void
read_slowly(struct gen *g, double elapsed)
{
	size_t most = (size_t)(g->o->slow_bytes * elapsed) + 1;

	for (uint32_t i = 0; i < g->n; i++)
		if (g->conns[i].slow && g->conns[i].state == STATE_OPEN)
			read_conn(g, &g->conns[i], most);
}

/* -- the loop ------------------------------------------------------------------- */

static void
drop_late_handshakes(struct gen *g, uint64_t now_ns)
{
	struct conn *c;

	for (uint32_t i = 0; i < g->begun; i++) {
		c = &g->conns[i];
		if ((c->state == STATE_CONNECTING || c->state == STATE_HANDSHAKE) &&
		    now_ns - c->due_ns > HANDSHAKE_NS)
			fail(g, c);
	}
}

/* At the end: what was published and did not come. */
static void
find_missing(struct gen *g)
{
	const struct order *o;
	uint32_t channel, last;

	for (uint32_t i = 0; i < g->n; i++) {
		if (g->conns[i].state != STATE_OPEN || !g->conns[i].counted)
			continue;
		for (unsigned k = 0; k < g->o->subscriptions; k++) {
			o = orders_of(g, &g->conns[i]) + k;
			channel = options_channel(g->o, g->first + i, k);
			last = OWN_GET(g->s->last_seq[channel]);
			if (o->seen != 0 && last >= o->next)
				OWN_ADD(g->mine->lost, last + 1 - o->next);
			else if (o->next == 0 && last > 0)
				OWN_ADD(g->mine->silent, 1u);
		}
	}
}

static void
follow_phase(struct gen *g)
{
	/* S1: phase was written before step. */
	uint32_t step = atomic_load_explicit(&g->s->step, memory_order_acquire);
	uint32_t storms = OWN_GET(g->s->storms);

	if (storms != g->storms) {
		g->storms = storms;
		storm(g);
	}
	if (step == g->step)
		return;
	g->step = step;
	if (OWN_GET(g->s->phase) == PHASE_END)
		find_missing(g);
	atomic_store_explicit(&g->mine->step, step, memory_order_release); /* S1 */
}

static void
tick(struct gen *g)
{
	uint64_t now_ns = net_now_ns();
	double elapsed = (double)(now_ns - g->tick_ns) / 1e9;
	bool measuring = OWN_GET(g->s->phase) == PHASE_MEASURE;

	if (elapsed < 0.01)
		return;
	g->tick_ns = now_ns;
	if (measuring && g->o->drops > 0)
		drop_some(g, elapsed);
	if (g->o->slow > 0 && g->o->slow_bytes > 0)
		read_slowly(g, elapsed);
	if (now_ns - g->scan_ns > 1000000000u && g->under_way > 0) {
		g->scan_ns = now_ns;
		drop_late_handshakes(g, now_ns);
	}
}

static void
on_event(struct gen *g, struct conn *c, uint32_t events)
{
	if (c->state == STATE_CONNECTING && (events & (EPOLLERR | EPOLLHUP)) == 0 &&
	    (events & EPOLLOUT) != 0)
		send_request(g, c);
	if (c->state == STATE_CONNECTING && (events & (EPOLLERR | EPOLLHUP)) != 0)
		fail(g, c);
	/* One that reads little is read by the clock, once it is open. */
	else if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0 &&
		 (c->state == STATE_HANDSHAKE ||
		     (c->state == STATE_OPEN && (!c->slow || c->pending > 0))))
		read_conn(g, c, SIZE_MAX);
	else if ((events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0 &&
		 c->state == STATE_OPEN)
		on_end(g, c);
}

static int
loop_timeout_ms(const struct gen *g)
{
	if (g->o->drops > 0 || (g->o->slow > 0 && g->o->slow_bytes > 0))
		return 10;
	if (g->away.head != NOBODY || g->retry.head != NOBODY)
		return 10;
	if (g->begun < g->n)
		return g->under_way < g->max_under_way && g->connect_rate == 0 ? 0 : 5;
	return 500;
}

static void
run_loop(struct gen *g)
{
	struct epoll_event events[EVENTS];
	eventfd_t rung;
	int n;

	while (OWN_GET(g->s->phase) != PHASE_EXIT) {
		n = epoll_wait(g->epoll_fd, events, EVENTS, loop_timeout_ms(g));
		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == WAKE_TOKEN)
				(void)eventfd_read(g->s->wake_fds[g->index], &rung);
			else
				on_event(
				    g, &g->conns[events[i].data.u32], events[i].events);
		}
		follow_phase(g);
		begin_some(g);
		tick(g);
	}
}

static int
make_keys(struct gen *g)
{
	uint8_t random[16];

	/* Real clients make a key each; 64 known pairs spare us two hashes for each
	 * connection, and the server cannot tell. */
	for (int i = 0; i < KEYS; i++) {
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return -EIO;
		wire_key(random, g->keys[i]);
		if (wire_accept(g->keys[i], g->accepts[i]) < 0)
			return -ENOSYS;
	}
	return 0;
}

static int
gen_init(struct gen *g)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = WAKE_TOKEN};
	uint64_t from = (uint64_t)g->o->connections * g->index / g->o->processes;
	uint64_t to = (uint64_t)g->o->connections * (g->index + 1) / g->o->processes;
	uint32_t slow_every;

	g->first = from;
	g->n = (uint32_t)(to - from);
	g->conns = calloc(g->n, sizeof(*g->conns));
	g->orders = calloc((size_t)g->n * g->o->subscriptions, sizeof(*g->orders));
	g->known = calloc(CHECK_KNOWN, sizeof(*g->known));
	g->buffer = malloc(BUFFER_LEN);
	g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (g->conns == NULL || g->orders == NULL || g->known == NULL ||
	    g->buffer == NULL)
		return -ENOMEM;
	if (g->epoll_fd < 0 ||
	    epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->s->wake_fds[g->index], &e) < 0)
		return -errno;
	slow_every = g->o->slow > 0 ? (uint32_t)(1 / g->o->slow + 0.5) : 0;
	for (uint32_t i = 0; i < g->n; i++) {
		g->conns[i].fd = -1;
		g->conns[i].slow = slow_every != 0 && (from + i) % slow_every == 0;
	}
	g->away.head = g->retry.head = NOBODY;
	g->max_under_way = (g->o->concurrency + g->o->processes - 1) / g->o->processes;
	g->connect_rate = g->o->connect_rate / g->o->processes;
	if (getrandom(&g->random, sizeof(g->random), 0) != sizeof(g->random))
		return -EIO;
	g->random |= 1;
	g->start_ns = g->tick_ns = g->scan_ns = net_now_ns();
	return make_keys(g);
}

static void
gen_done(struct gen *g)
{
	for (uint32_t i = 0; g->conns != NULL && i < g->n; i++)
		free(g->conns[i].stash);
	for (unsigned i = 0; g->known != NULL && i < CHECK_KNOWN; i++)
		free(g->known[i].bytes);
	free(g->conns);
	free(g->orders);
	free(g->known);
	free(g->buffer);
	if (g->epoll_fd >= 0)
		(void)close(g->epoll_fd);
	/* The sockets go with the process: one by one would take a while. */
}

static void
pin(unsigned index)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(index % (unsigned)(cores > 0 ? cores : 1), &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

int
gen_main(const struct options *o, struct shared *s, unsigned index)
{
	struct gen g = {
	    .o = o,
	    .s = s,
	    .mine = &s->gens[index],
	    .sure = s->sure + (size_t)index * o->channels,
	    .unsure = s->unsure + (size_t)index * o->channels,
	    .proto = proto_find(o->protocol),
	    .index = index,
	    .epoll_fd = -1,
	};
	struct rlimit limit;
	int r;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_NAME, "wsbench-gen");
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (o->pin)
		pin(index);
	r = gen_init(&g);
	if (r < 0)
		fprintf(stderr, "wsbench: generator %u: %s\n", index, strerror(-r));
	else
		run_loop(&g);
	gen_done(&g);
	return r < 0;
}
