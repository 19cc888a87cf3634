/*
 * peek.h - what comes before a connection's first frame is looked at where it lies, in
 * the kernel's buffer, and taken out once it is dealt with: so a crash loses none of
 * it. What comes through TLS was taken out, and is kept by tls.c as long.
 */
#ifndef WSCAST_WORKER_PEEK_H
#define WSCAST_WORKER_PEEK_H

#include "worker/worker.h"

#define PEEK_MAX 8192 /* bytes that may be looked at, and taken out at once */

/* All that is there, in readers_buffer(). Returns how many bytes, or 0: there is
 * nothing yet, or the connection was closed. */
size_t peek(struct worker *w, uint32_t slot);

/* Be called again when there is more than the `seen` bytes that were looked at. */
void peek_wait(struct worker *w, uint32_t slot, size_t seen);

/* Take out what is dealt with: len bytes that peek() has shown. In one call, so that a
 * successor finds all of it or nothing. */
void peek_consume(struct worker *w, uint32_t slot, size_t len);

#endif
