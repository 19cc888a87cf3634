/*
 * handshake.h - the HTTP request that opens a WebSocket, and the few others that are
 * answered on the same port.
 *
 * A request is only looked at in the kernel's buffer until its head is whole, and taken
 * out when its answer is queued: so a handshake survives a crash at any point, and what
 * the client sends behind it is still there for the reader.
 *
 * Source   RFC 6455 §4.2, RFC 9110, RFC 9112; wscast(7)
 */
#ifndef WSCAST_WORKER_HANDSHAKE_H
#define WSCAST_WORKER_HANDSHAKE_H

#include "proto/http.h"
#include "worker/worker.h"

#define HANDSHAKE_FULL_RETRY_S 5

/* Before the first, and before the sandbox: open what answering takes. Returns 0, or
 * -EIO when libcrypto has no SHA-1. */
int handshake_prepare(void) __attribute__((warn_unused_result));

/* The socket is readable, or ended: of a connection in SLOT_HANDSHAKE, or with
 * SLOT_REQUEST (a predecessor died between a request's answer and the end of what
 * belongs to it). */
void handshake_readable(struct worker *w, uint32_t slot);

/* Answer with an error without having seen a request, and hang up. */
void handshake_refuse(struct worker *w, uint32_t slot, const struct http_fault *f);

#endif
