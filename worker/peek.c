/* peek.c - see peek.h */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "proto/http.h"
#include "proto/proxy.h"
#include "worker/client.h"
#include "worker/edge.h"
#include "worker/peek.h"
#include "worker/reader.h"
#include "worker/tls_opening.h"

_Static_assert(
    PEEK_MAX >= HTTP_HEAD_MAX && PEEK_MAX >= PROXY_MAX && PEEK_MAX <= READER_BUFFER,
    "all that is peeked at is seen whole");

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

/* A TCP socket is told by SO_RCVLOWAT to report more than was seen. A unix socket's
 * poll does not heed that. */
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
		r = edge_wait(w, slot);
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
	if (s->marks & SLOT_UNCOUNTED)
		edge_stop(w, slot);
	else
		(void)setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
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
