/* pieces.h - bytes that lie in several pieces, taken stretch by stretch as they lie. */
#ifndef WSCAST_WORKER_PIECES_H
#define WSCAST_WORKER_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct pieces {
	const struct iovec *iov, *end;
	size_t at; /* so much of *iov was taken */
};

static inline bool
pieces_left(struct pieces *p)
{
	while (p->iov < p->end && p->at == p->iov->iov_len) {
		p->iov++;
		p->at = 0;
	}
	return p->iov < p->end;
}

/* Returns how many bytes there are at *ret_base, at most max; 0 when all were taken. */
static inline size_t
pieces_take(struct pieces *p, size_t max, char **ret_base)
{
	size_t n;

	if (!pieces_left(p))
		return 0;
	*ret_base = (char *)p->iov->iov_base + p->at;
	n = p->iov->iov_len - p->at;
	n = n < max ? n : max;
	p->at += n;
	return n;
}

#endif
