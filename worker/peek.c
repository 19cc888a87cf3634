/* peek.c - see peek.h */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/http.h"
#include "proto/proxy.h"
#include "worker/client.h"
#include "worker/peek.h"
#include "worker/reader.h"
#include "worker/tls_opening.h"

#define EDGES 64 /* taken in one go */

_Static_assert(
    PEEK_MAX >= HTTP_HEAD_MAX && PEEK_MAX >= PROXY_MAX && PEEK_MAX <= READER_BUFFER,
    "all that is peeked at is seen whole");

/*
 * A TCP socket is told by SO_RCVLOWAT to report more than was seen. A unix socket's
 * poll does not heed that: it would be readable all the time. So it is taken out of the
 * loop meanwhile, and put into an epoll set of its own that reports each arrival once.
 */
struct peeks {
	ev_io io;
	int epfd;
};

size_t
peek(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint8_t *buf = readers_buffer(w);
	ssize_t n;

	if (s->flags & SLOT_TLS) {
		n = tls_peek(w, slot, buf, PEEK_MAX);
	} else {
		n = recv(s->fd, buf, PEEK_MAX, MSG_PEEK | MSG_DONTWAIT);
		n = n < 0 ? -errno : n;
	}
	if (n > 0)
		return (size_t)n;
	if (n != -EAGAIN && n != -EINTR)
		client_close(
		    w, slot, n == -EPROTO ? CLIENT_END_PROTOCOL : CLIENT_END_PEER);
	return 0;
}

static int
edge_add(struct worker *w, uint32_t slot)
{
	struct epoll_event e = {
	    .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = slot};

	client_want_read(w, slot, false);
	return epoll_ctl(w->peeks->epfd, EPOLL_CTL_ADD, worker_slot(w, slot)->fd, &e);
}

void
peek_wait(struct worker *w, uint32_t slot, size_t seen)
{
	struct slot *s = worker_slot(w, slot);
	struct pollfd pfd = {.fd = s->fd, .events = POLLRDHUP};
	int low = (int)seen + 1, before = s->rcvlowat, r = 0;

	if (s->flags & SLOT_TLS)
		return; /* what was seen is no longer the kernel's */
	/* Woken for less than we waited for: that is what the end looks like. */
	if (before >= low && poll(&pfd, 1, 0) > 0) {
		client_close(w, slot, CLIENT_END_PEER);
		return;
	}
	s->rcvlowat = (uint16_t)low; /* first: whoever consumes must know of it */
	if (!(s->marks & SLOT_UNCOUNTED))
		r = setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	else if (before == 0)
		r = edge_add(w, slot);
	if (r < 0)
		client_close(w, slot, CLIENT_END_SERVER);
}

/* Be woken by any byte again. */
static void
stop_waiting(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	int one = 1;

	if (s->rcvlowat == 0)
		return;
	if (s->marks & SLOT_UNCOUNTED) {
		/* A predecessor's set is gone: then it is in none. */
		(void)epoll_ctl(w->peeks->epfd, EPOLL_CTL_DEL, s->fd, NULL);
		client_want_read(w, slot, true);
	} else {
		(void)setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
	}
	s->rcvlowat = 0;
}

void
peek_consume(struct worker *w, uint32_t slot, size_t len)
{
	struct slot *s = worker_slot(w, slot);
	char copy[PEEK_MAX];

	/* First, or a successor would wait for bytes that are not to come. */
	stop_waiting(w, slot);
	if (len == 0)
		return;
	if (s->flags & SLOT_TLS) {
		tls_consume(w, slot, len);
		return;
	}
	/* tcp(7): thrown away, and copied nowhere. A unix socket knows no such thing.
	 * What was there a moment ago is missing only if the socket has failed. */
	if (s->marks & SLOT_UNCOUNTED)
		(void)recv(s->fd, copy, len, MSG_DONTWAIT);
	else
		(void)recv(s->fd, NULL, len, MSG_TRUNC | MSG_DONTWAIT);
}

/* More has come for some that were waited for, or their end. */
static void
on_edge(struct ev_loop *loop, ev_io *io, int revents)
{
	struct worker *w = ev_userdata(loop);
	struct epoll_event e[EDGES];
	int n = epoll_wait(io->fd, e, EDGES, 0);

	for (int i = 0; i < n; i++)
		if (slot_state(worker_slot(w, e[i].data.u32)) != SLOT_FREE)
			client_readable(w, e[i].data.u32);
}

int
peeks_new(struct worker *w, struct peeks **ret)
{
	struct peeks *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	p->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epfd < 0) {
		int r = -errno;

		free(p);
		return r;
	}
	ev_io_init(&p->io, on_edge, p->epfd, EV_READ);
	ev_io_start(w->loop, &p->io);
	*ret = p;
	return 0;
}
