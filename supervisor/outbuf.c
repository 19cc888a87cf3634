/* outbuf.c - see outbuf.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "supervisor/outbuf.h"

#define CAP_MIN 4096

int
outbuf_put(struct outbuf *o, const void *data, size_t len)
{
	size_t cap = o->cap == 0 ? CAP_MIN : o->cap;

	if (o->start > 0 && o->start + o->len + len > o->cap) {
		memmove(o->buf, o->buf + o->start, o->len);
		o->start = 0;
	}
	while (cap < o->len + len)
		cap *= 2;
	if (cap != o->cap) {
		char *buf = realloc(o->buf, cap);

		if (buf == NULL)
			return -ENOMEM;
		o->buf = buf;
		o->cap = cap;
	}
	memcpy(o->buf + o->start + o->len, data, len);
	o->len += len;
	return 0;
}

int
outbuf_send(struct outbuf *o, int fd)
{
	while (o->len > 0) {
		ssize_t n =
		    send(fd, o->buf + o->start, o->len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		o->start += (size_t)n;
		o->len -= (size_t)n;
	}
	outbuf_done(o);
	return 0;
}

void
outbuf_took(struct outbuf *o, size_t n)
{
	o->start += n;
	o->len -= n;
	if (o->len == 0)
		outbuf_done(o);
}

void
outbuf_done(struct outbuf *o)
{
	free(o->buf);
	*o = (struct outbuf){0};
}
