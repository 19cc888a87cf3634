/*
 * wsbench_conn.c - a client's connection: opened, read from, ended.
 *
 * A delivery makes no call to the kernel beyond its recv(), and takes no memory. The
 * clock is read once for each recv() that brought something, however many messages that
 * is.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/wsbench_clients.h"
#include "tools/wsbench_net.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define FRAME_MAX (2u << 20) /* larger ones are not ours */
#define ANSWER_MAX 65536     /* head of the answer to the upgrade */
#define TRIES 4              /* of a client, before it is given up */
#define RETRY_NS 500000000u
#define HANDSHAKE_NS 30000000000u
#define PER_SOURCE 4000 /* connections from one loopback address */

static void
push(struct gen *g, struct queue *q, struct client *c)
{
	c->next = NOBODY;
	if (q->head == NOBODY)
		q->head = client_index(g, c);
	else
		g->clients[q->tail].next = client_index(g, c);
	q->tail = client_index(g, c);
}

static ssize_t
client_send(const struct client *c, const void *buf, size_t len)
{
	if (c->ssl != NULL)
		return tls_client_send(c->ssl, buf, len);
	return send(c->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t
client_recv(const struct client *c, void *buf, size_t len)
{
	if (c->ssl != NULL)
		return tls_client_recv(c->ssl, buf, len);
	return recv(c->fd, buf, len, 0);
}

/* -- ending a connection ---------------------------------------------------- */

/* Close the socket and forget what belonged to it; the client's state is the
 * caller's. */
static void
end_socket(struct gen *g, struct client *c, bool abruptly)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	struct order *orders = client_orders(g, c);

	if (c->state == STATE_OPEN) {
		OWN_ADD(g->mine->open, -1);
		if (c->pending == 0)
			OWN_ADD(g->mine->ready, -1);
	}
	if (c->state == STATE_CONNECTING || c->state == STATE_HANDSHAKE) {
		g->under_way--;
		OWN_SET(g->mine->connecting, g->under_way);
	}
	judge_count(g, c, false);
	/* What comes after this cannot be known to be the next one. */
	for (unsigned k = 0; k < g->o->subscriptions; k++)
		orders[k].seen = 0;
	if (abruptly)
		(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	SSL_free(c->ssl);
	c->ssl = NULL;
	(void)close(c->fd);
	c->fd = -1;
	free(c->stash);
	c->stash = NULL;
	c->stash_len = c->stash_capacity = 0;
	c->pending = 0;
}

/* It will be back after a while. */
static void
go_away(struct gen *g, struct client *c, struct queue *q, uint64_t delay_ns)
{
	c->state = STATE_AWAY;
	c->due_ns = net_now_ns() + delay_ns;
	push(g, q, c);
}

/* Not open yet, and it will not be. */
static void
fail(struct gen *g, struct client *c)
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
lost(struct gen *g, struct client *c, unsigned code)
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

void
conn_broken(struct gen *g, struct client *c)
{
	OWN_ADD(g->mine->broken, 1u);
	end_socket(g, c, true);
	c->state = STATE_DEAD;
}

void
conn_vanish(struct gen *g, struct client *c, double seconds)
{
	OWN_ADD(g->mine->dropped, 1u);
	end_socket(g, c, true);
	go_away(g, c, &g->away, (uint64_t)(seconds * 1e9));
}

/* -- a frame -------------------------------------------------------------------- */

void
conn_send(struct gen *g, struct client *c, uint8_t opcode, const void *data, size_t len)
{
	uint8_t frame[WIRE_HEAD_MAX + 512];
	size_t n;

	if (len > 512)
		return;
	n = wire_masked(opcode, data, len, gen_random(g), frame);
	/* A socket that does not take these few bytes is one whose server does not
	 * read; its own timeouts will show that. */
	(void)!client_send(c, frame, n);
}

/* Returns false when the connection is no more. */
static bool
on_frame(struct gen *g, struct client *c, const struct wire_frame *f, uint64_t now_ns)
{
	switch (f->opcode) {
	case 1:
	case 2:
		if (f->fin)
			return judge_data(g, c, (const char *)f->data, f->len, now_ns);
		break; /* no server that we measure cuts messages */
	case 8:
		lost(g, c,
		    f->len >= 2 ? (unsigned)(f->data[0] << 8 | f->data[1]) : 1005);
		return false;
	case 9:
		OWN_ADD(g->mine->pings, 1u);
		conn_send(g, c, 10, f->data, f->len);
		return true;
	case 10:
		return true;
	default:
		break;
	}
	conn_broken(g, c);
	return false;
}

/* -- opening -------------------------------------------------------------------- */

static void
note_open(struct gen *g, struct client *c, uint64_t now_ns)
{
	struct gen_shared *mine = g->mine;

	hist_add(&mine->opening, now_ns - c->due_ns, 1);
	OWN_ADD(mine->opened, 1u);
	OWN_ADD(mine->open, 1u);
	g->under_way--;
	OWN_SET(mine->connecting, g->under_way);
	if (!c->again) {
		OWN_ADD(mine->arrived, 1u);
		OWN_SET(mine->last_open_ns, now_ns);
	}
	c->again = true;
	c->tries = 0;
	if (g->storm_back && OWN_GET(mine->open) == g->n) {
		g->storm_back = false;
		OWN_SET(mine->back_ns, now_ns);
	}
}

static void
send_opening(struct gen *g, struct client *c)
{
	static uint8_t out[128 * 1024];
	struct proto_conn pc = client_proto(g, c);
	unsigned pending = 0;
	size_t n = g->proto->opened(&pc, out, sizeof(out), &pending);

	c->pending = (uint16_t)pending;
	if (n > 0 && client_send(c, out, n) != (ssize_t)n) {
		conn_broken(g, c); /* a fresh socket takes more than this */
		return;
	}
	if (pending == 0) {
		OWN_ADD(g->mine->ready, 1u);
		judge_count(g, c, true);
	}
}

/* Look at the answer to the upgrade. Returns its length, 0: not whole; negative: the
 * connection is no more. */
static long
on_answer(
    struct gen *g, struct client *c, const uint8_t *buf, size_t len, uint64_t now_ns)
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
keep_rest(struct gen *g, struct client *c, const uint8_t *rest, size_t len)
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
    struct gen *g, struct client *c, const uint8_t *buf, size_t len, uint64_t now_ns)
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
		conn_broken(g, c);
		return -1;
	}
	return (long)pos;
}

static void
on_end(struct gen *g, struct client *c)
{
	if (c->state == STATE_OPEN)
		lost(g, c, 0);
	else
		fail(g, c);
}

void
conn_read(struct gen *g, struct client *c, size_t most)
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
		n = client_recv(c, g->buffer + have, room);
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
			conn_broken(g, c);
	} else if (c->stash != NULL) {
		free(c->stash);
		c->stash = NULL;
		c->stash_capacity = 0;
	}
}

/* -- connecting ----------------------------------------------------------------- */

/* Go on with the handshake of TLS. Returns whether it is done. */
static bool
open_tls(struct gen *g, struct client *c)
{
	int r = -ENOMEM;

	if (c->ssl == NULL)
		c->ssl = tls_client_begin(g->tls, c->fd);
	if (c->ssl != NULL)
		r = tls_client_handshake(c->ssl);
	if (r == 0) {
		OWN_ADD(g->mine->tls_opened, 1u);
		OWN_ADD(g->mine->tls_resumed, tls_client_resumed(c->ssl));
	} else if (r != -EAGAIN) {
		fail(g, c);
	}
	return r == 0;
}

/* The request, as soon as the socket takes it. */
static void
send_request(struct gen *g, struct client *c)
{
	struct proto_conn pc = client_proto(g, c);
	char target[32768], headers[1024], request[36864];
	ssize_t n;
	int len;

	if (g->tls != NULL && !open_tls(g, c))
		return;
	if (!g->proto->request(&pc, target, sizeof(target), headers, sizeof(headers))) {
		fail(g, c);
		return;
	}
	c->key = (uint8_t)(client_index(g, c) % KEYS);
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
	n = client_send(c, request, (size_t)len);
	if (n == len)
		c->state = STATE_HANDSHAKE;
	else if (n >= 0 || (errno != EAGAIN && errno != ENOTCONN))
		fail(g, c);
	/* Else it is not connected yet: EPOLLOUT will tell. */
}

/* Many sockets to one address need many addresses of our own: a port each. Loopback
 * has 16 million; other targets get those that --source names. */
static void
bind_source(struct gen *g, const struct client *c, int fd)
{
	const struct sockaddr_in *to = (const struct sockaddr_in *)&g->o->addr;
	struct sockaddr_in from = {.sin_family = AF_INET};
	uint64_t client = g->first + client_index(g, c);
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
begin(struct gen *g, struct client *c)
{
	struct epoll_event e = {
	    .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
	    .data.u32 = client_index(g, c),
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
	struct client *c;

	if (q->head == NOBODY || g->clients[q->head].due_ns > now_ns)
		return false;
	c = &g->clients[q->head];
	q->head = c->next;
	begin(g, c);
	return true;
}

void
conn_begin_some(struct gen *g)
{
	uint64_t now_ns = net_now_ns();

	/* A bounded batch: answers wait meanwhile. */
	for (int i = 0; i < 64 && may_begin(g, now_ns); i++) {
		if (begin_due(g, &g->away, now_ns) || begin_due(g, &g->retry, now_ns))
			continue;
		if (g->begun == g->n)
			break;
		begin(g, &g->clients[g->begun++]);
	}
	OWN_SET(g->mine->connecting, g->under_way);
}

void
conn_drop_late(struct gen *g, uint64_t now_ns)
{
	struct client *c;

	for (uint32_t i = 0; i < g->begun; i++) {
		c = &g->clients[i];
		if ((c->state == STATE_CONNECTING || c->state == STATE_HANDSHAKE) &&
		    now_ns - c->due_ns > HANDSHAKE_NS)
			fail(g, c);
	}
}

void
conn_event(struct gen *g, struct client *c, uint32_t events)
{
	if (c->state == STATE_CONNECTING && (events & (EPOLLERR | EPOLLHUP)) == 0 &&
	    (events & (EPOLLOUT | EPOLLIN)) != 0)
		send_request(g, c);
	if (c->state == STATE_CONNECTING && (events & (EPOLLERR | EPOLLHUP)) != 0)
		fail(g, c);
	/* One that reads little is read by the clock, once it is open. */
	else if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0 &&
		 (c->state == STATE_HANDSHAKE ||
		     (c->state == STATE_OPEN && (!c->slow || c->pending > 0))))
		conn_read(g, c, SIZE_MAX);
	else if ((events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0 &&
		 c->state == STATE_OPEN)
		on_end(g, c);
}
