/*
 * transport.h - a connection's bytes, whether they go through TLS or not.
 *
 * The one place where that is asked: `flags` is at hand wherever something is sent.
 */
#ifndef WSCAST_WORKER_TRANSPORT_H
#define WSCAST_WORKER_TRANSPORT_H

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "worker/tls.h"

/* Send; never blocks. Returns how many bytes were taken, or -errno. */
static inline ssize_t
transport_send(struct worker *w, uint32_t slot, const void *buf, size_t len)
{
	const struct slot *s = worker_slot(w, slot);
	ssize_t n;

	if (s->flags & SLOT_TLS)
		return tls_send(w, slot, &(struct iovec){(void *)buf, len}, 1);
	n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static inline ssize_t
transport_sendv(struct worker *w, uint32_t slot, struct iovec *iov, int niov)
{
	const struct slot *s = worker_slot(w, slot);
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)niov};
	ssize_t n;

	if (s->flags & SLOT_TLS)
		return tls_send(w, slot, iov, niov);
	n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

/* Whether something that was taken is not on its way yet: the connection has to wait
 * for its socket, though nothing more is due. */
static inline bool
transport_is_holding(const struct worker *w, uint32_t slot)
{
	return (w->table.slots[slot].flags & SLOT_TLS) && tls_is_holding(w, slot);
}

/* Read. Returns how many bytes came, 0 at their end, or -errno. */
static inline ssize_t
transport_recv(struct worker *w, uint32_t slot, uint8_t *buf, size_t len)
{
	const struct slot *s = worker_slot(w, slot);
	ssize_t n;

	if (s->flags & SLOT_TLS)
		return tls_recv(w, slot, buf, len);
	n = recv(s->fd, buf, len, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

#endif
