/*
 * outbuf.h - bytes on their way into a socket that may not take them all at once.
 */
#ifndef WSCAST_SUPERVISOR_OUTBUF_H
#define WSCAST_SUPERVISOR_OUTBUF_H

#include <stddef.h>

struct outbuf { /* all zero is an empty one */
	char *buf;
	size_t cap, start, len; /* buf[start] to buf[start + len] wait */
};

/* Append a copy. Returns 0 or -ENOMEM. */
int outbuf_put(struct outbuf *o, const void *data, size_t len)
    __attribute__((warn_unused_result));
/* Send what the socket takes. Returns 0 when all is out (an empty one holds no memory),
 * -EAGAIN when the socket is full, or another -errno. */
int outbuf_send(struct outbuf *o, int fd) __attribute__((warn_unused_result));
/* Somebody sent the first n bytes. */
void outbuf_took(struct outbuf *o, size_t n);
void outbuf_done(struct outbuf *o); /* empty it, free its memory */

#endif
