/*
 * worker.h - the serving process: what its parts share.
 *
 *   accept.c    the listeners: who is let in, and what is said to the others
 *   client.c    a connection's life: slot, watcher, close
 *   timers.c    deadlines
 *   peek.c      what comes before the first frame, looked at in the kernel's buffer
 *   edge.c      sockets that stay readable, and are not to wake us all the time
 *   proxied.c   the PROXY header
 *   handshake.c the HTTP request
 *   reader.c    frames from the client: a pool of parsers (proto/inbound.c)
 *   session.c   what a client's message means, by protocol
 *   auth.c      tokens: where they stand, and what follows from them
 *   expiry.c    tokens that run out
 *   identity.c  whose connection it is, and what it may do
 *   channels.c  this worker's channels, who is subscribed, what is asked upstream
 *   subs.c      a connection's subscriptions
 *   requests.c  what its client asks, and what waits for an answer
 *   rules.c     what is counted by rule
 *   presence.c  who comes and goes, for the others in the channel
 *   fanout.c    records of the ring to the subscribers' sockets
 *   gather.c    the same where a channel has few subscribers
 *   out.c       one connection's output: ring positions and private frames
 *   side.c      frames that the ring has not
 *   history.c   a channel's past: recovery, and the last messages
 *   transport.h its bytes, through TLS or not
 *   tls.c       TLS: tls_opening.c is the handshake, tls_conn.c what OpenSSL goes on
 *               with, tls_kernel.c what the kernel does
 *   uring.c     many sends in one system call
 *   rates.c     how fast it publishes, by rule
 *   limits.c    how much a client, an address and all together may take
 *   expel.c     who is kicked or revoked
 *   farewell.c  those told to go: drain, stop, restart
 *   slow.c      what becomes of those who cannot follow
 *   reload.c    settings, and newer ones
 *   sandbox.c   what the kernel is asked for no more, once all stands
 *   adopt.c     a predecessor's connections, exact to the byte
 *
 * All in private memory here can be rebuilt from the maps.
 */
#ifndef WSCAST_WORKER_WORKER_H
#define WSCAST_WORKER_WORKER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/journal.h"
#include "proto/settings.h"
#include "shm/page.h"
#include "shm/ring.h"
#include "shm/table.h"
#include "shm/upstream.h"

struct acceptor;
struct auth;
struct channels;
struct clients;
struct edges;
struct fanout;
struct generation;
struct history;
struct limits;
struct readers;
struct side;
struct timers;
struct tls;
struct uring;

/* expel.c: how far the record is that it works on, and the last walk for what is
 * revoked. */
struct expel {
	uint64_t number; /* record; 0 = none */
	uint32_t slot;   /* the next to look at */
	uint32_t closed;
	uint64_t covers;  /* what the records below it revoked is looked for as well */
	uint64_t covered; /* ... by walks that have ended */
	uint32_t untold;  /* outcomes that the uplink had no room for */
};

enum farewell_why {
	FAREWELL_NONE,
	FAREWELL_RESTART, /* those through TLS */
	FAREWELL_DRAIN,   /* those who have a WebSocket */
	FAREWELL_STOP,    /* everybody */
};

/* farewell.c: who is told to go, and when. Times are CLOCK_MONOTONIC. */
struct farewell {
	enum farewell_why why;
	uint32_t slot;    /* the next to look at */
	uint64_t next_us; /* when the next is told */
	uint64_t end_us;  /* when the last is to have been */
	bool last;        /* STOP: nobody is let in any more */
};

/* presence.c: members that are named to the supervisor again. */
struct naming {
	bool due, begun;
	uint32_t slot; /* the next */
};

struct worker {
	unsigned index;    /* of the worker, in the settings' count */
	unsigned nworkers; /* on this host */
	int first_fd;      /* the lowest number that a client's descriptor can have */
	struct ev_loop *loop;
	struct settings *settings; /* replaced by reload.c: keep no pointer into it */

	/* the maps (shm/launch.h) */
	struct ring *ring; /* read-only */
	struct page *page;
	struct table table;
	struct arena *arena;
	struct upstream *up;
	struct generation *generation;
	uint8_t rule_row[RULE_ROW_OTHERS]; /* rules.c: of each rule of the settings */
	uint64_t settings_before; /* generation that a predecessor had; 0 = none */
	int doorbell;             /* eventfd: rings the supervisor */

	/* All records below were passed on to their sockets; page->done for the
	 * others to see. */
	uint64_t done;
	uint64_t
	    place; /* where out_private() puts its bytes; 0 = behind all passed on */
	/* The slot whose private frames are queued and not yet sent (out_cork()), + 1;
	 * 0 = none. */
	uint32_t corked;
	arena_ref cork_tail; /* the block queued last; counts while `corked` does */
	uint32_t tick; /* of the timer wheel: TICK_MS since CLOCK_MONOTONIC's zero */

	struct acceptor *acceptor;
	struct auth *auth;
	struct clients *clients;
	struct timers *timers;
	struct limits *limits;
	struct edges *edges;
	struct log_limit proxy_log;
	struct log_limit trouble_log; /* what many clients can cause at once */
	struct readers *readers;
	struct channels *channels;
	struct fanout *fanout;
	struct side *side;
	struct history *history;
	struct tls *tls;     /* NULL: no listener wants it */
	struct uring *uring; /* NULL: by send(2) */
	struct expel expel;
	struct farewell farewell;
	struct naming naming;
};

#define TICK_MS 100

static inline struct slot *
worker_slot(struct worker *w, uint32_t idx)
{
	return &w->table.slots[idx];
}

#endif
