/*
 * client.h - a connection's life: its slot, its watcher, its deadline, its end.
 *
 * A connection is named by its slot's index. Nothing frees a slot while one of its
 * callbacks runs: client_close() marks it, and a prepare watcher frees it.
 */
#ifndef WSCAST_WORKER_CLIENT_H
#define WSCAST_WORKER_CLIENT_H

#include "worker/worker.h"

/* Why a connection ends: picks the counter. */
enum client_end {
	CLIENT_END_PEER,     /* the other side closed, or its socket failed */
	CLIENT_END_PROTOCOL, /* broke HTTP, RFC 6455 or wscast.v1 */
	CLIENT_END_LIMIT,
	CLIENT_END_SLOW,    /* lapped, or took nothing for write_timeout */
	CLIENT_END_TIMEOUT, /* handshake or pong deadline */
	CLIENT_END_CRASH,   /* a crash cut what it sent */
	CLIENT_END_SERVER,  /* stop, drain, kick */
};

int clients_new(struct worker *w, struct clients **ret)
    __attribute__((warn_unused_result));
void clients_free(struct worker *w, struct clients *c);

/* The listeners are LAUNCH_LISTENERS and on; said before the first clients_accept(). */
void clients_listen(struct worker *w, unsigned nlisteners);

/* Start or stop to take new connections from all of our listeners. */
void clients_accept(struct worker *w, bool on);

/* Before a planned restart: read on only from those who are inside a message. */
void clients_finish(struct worker *w);

/* The deadlines that have passed; once in a tick. */
void clients_tick(struct worker *w);

/* A new slot for a socket that a predecessor accepted, in SLOT_HANDSHAKE, watched. On
 * failure the fd is closed, with 503 where that can be said. */
void client_begin(struct worker *w, int fd, uint16_t listener);

/* Adoption: the slot is valid; watch its socket and set its timer again. */
int client_resume(struct worker *w, uint32_t slot) __attribute__((warn_unused_result));

/* Listen for the socket's becoming writable, or no longer. Idempotent and cheap. */
void client_want_write(struct worker *w, uint32_t slot, bool on);

/* Queue a Close frame (code, reason), and close when it is sent and the peer has
 * answered, or at a deadline. State SLOT_CLOSING. On a connection that is not open
 * yet it is client_close(). */
void client_end(struct worker *w, uint32_t slot, enum client_end why, uint16_t code,
    const char *reason);

/* Close at once. Subscriptions, waits and private frames go. */
void client_close(struct worker *w, uint32_t slot, enum client_end why);

/* The socket took all that was queued (called by out.c when a connection with
 * SLOT_HANGUP or in SLOT_CLOSING has nothing left to send). */
void client_flushed(struct worker *w, uint32_t slot);

/* Bytes came from the client: whatever they are, they answer a ping. */
void client_heard(struct worker *w, uint32_t slot);

/* The parser that reader.c has for a connection inside a message, or NULL. */
struct reader *client_reader(const struct worker *w, uint32_t slot);
void client_set_reader(struct worker *w, uint32_t slot, struct reader *r);

/* The connection is open (handshake done): counters, demand, ping timer. */
void client_opened(struct worker *w, uint32_t slot);

#endif
