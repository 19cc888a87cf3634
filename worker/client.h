/*
 * client.h - a connection's life: its slot, its watcher, its end.
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
	CLIENT_END_EXPIRED, /* its token has, or was revoked */
	CLIENT_END_CRASH,   /* a crash cut what it sent */
	CLIENT_END_SERVER,  /* stop, drain, kick */
};

/* Whose connection it is; an IPv4 address mapped into IPv6 is given as IPv4. */
struct client_peer {
	uint8_t family; /* AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC: not known */
	uint16_t port;
	uint8_t addr[16];
};

int clients_new(struct worker *w, struct clients **ret)
    __attribute__((warn_unused_result));
void clients_free(struct worker *w, struct clients *c);

/* w->settings are others. old: those that were, NULL when nobody knows. Sockets get
 * their send buffer. */
void clients_reload(struct worker *w, const struct settings *old);

/* Before a planned restart: read on only from those who are inside a message. */
void clients_finish(struct worker *w);

/* How many slots are taken. */
uint32_t clients_open(const struct worker *w);

/*
 * A new connection, in SLOT_HANDSHAKE, watched.
 *
 * fd    connected and non-blocking; ours to close from here on, where 0 is returned.
 * marks what the slot has from the first moment (enum slot_mark).
 * tx    what adopt.c counts from: the kernel's count of what was sent, now.
 *
 * Returns 0, -ENOSPC when no slot is left, -EDQUOT when its address has its limit.
 */
int client_begin(struct worker *w, int fd, uint16_t listener, uint8_t marks,
    const struct client_peer *peer, uint32_t tx) __attribute__((warn_unused_result));

/* Adoption: the slot is valid; watch its socket and set its timer again. */
int client_resume(struct worker *w, uint32_t slot) __attribute__((warn_unused_result));

/* Listen for the socket's becoming writable, or no longer. Idempotent and cheap. */
void client_want_write(struct worker *w, uint32_t slot, bool on);

/* Listen for what comes from the client, or not. */
void client_want_read(struct worker *w, uint32_t slot, bool on);

/* Something has come, or the end. */
void client_readable(struct worker *w, uint32_t slot);

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

/* The parser that reader.c has for a connection inside a message, or NULL. */
struct reader *client_reader(const struct worker *w, uint32_t slot);
void client_set_reader(struct worker *w, uint32_t slot, struct reader *r);

/* The connection is open (handshake done): counters, demand, ping timer. */
void client_opened(struct worker *w, uint32_t slot);

#endif
