/*
 * wsbench_clients.h - what the parts of a generator share: its clients.
 *
 *   wsbench_gen.c    its loop, and the trouble that it makes on purpose
 *   wsbench_conn.c   a client's connection: opened, read from, ended
 *   wsbench_judge.c  what each message that comes is held against
 */
#ifndef WSCAST_TOOLS_WSBENCH_CLIENTS_H
#define WSCAST_TOOLS_WSBENCH_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/wsbench_check.h"
#include "tools/wsbench_options.h"
#include "tools/wsbench_proto.h"
#include "tools/wsbench_shared.h"
#include "tools/wsbench_tls.h"
#include "tools/wsbench_wire.h"

#define KEYS 64               /* handshake keys, used in turn */
#define BUFFER_LEN (4u << 20) /* touched as far as reads fill it */

enum client_state {
	STATE_IDLE, /* not begun */
	STATE_CONNECTING,
	STATE_HANDSHAKE,
	STATE_OPEN,
	STATE_AWAY, /* queued, to be begun again when it is time */
	STATE_DEAD, /* given up, or closed for good */
};

struct client {
	int fd;
	uint8_t state;
	uint8_t tries;
	uint8_t key;
	bool slow : 1;
	bool again : 1;   /* had been open before */
	bool counted : 1; /* its subscriptions stand in sure and unsure */
	uint16_t pending; /* confirmations to come */
	uint32_t stash_len, stash_capacity;
	uint8_t *stash;  /* what came of a frame that is not whole yet */
	uint64_t due_ns; /* AWAY: when to begin; else: when it was begun */
	uint32_t next;   /* in a queue of those who wait */
	SSL *ssl;        /* NULL: plain */
};

/* First in, first out; each has one fixed delay, so it is in the order of due times. */
struct queue {
	uint32_t head, tail;
};
#define NOBODY UINT32_MAX

struct gen {
	const struct options *o;
	struct shared *s;
	struct gen_shared *mine;
	_Atomic uint32_t *sure, *unsure; /* mine, by channel */
	const struct bench_proto *proto;
	struct tls_client *tls; /* NULL: ws:// */
	int epoll_fd;
	unsigned index;
	uint64_t first; /* number of my first client among all */
	uint32_t n;
	struct client *clients;
	struct order *orders; /* [client][subscription] */
	struct known *known;  /* CHECK_KNOWN */
	uint8_t *buffer;
	char keys[KEYS][WIRE_KEY_LEN + 1];
	char accepts[KEYS][WIRE_ACCEPT_LEN + 1];
	char epoch[PROTO_EPOCH_MAX];
	uint32_t begun;     /* clients begun for the first time */
	uint32_t under_way; /* connecting or in the handshake */
	uint32_t max_under_way;
	double connect_rate; /* a second, mine */
	uint64_t start_ns, tick_ns, scan_ns;
	double drop_due; /* clients to drop, with the part below one */
	uint64_t random;
	struct queue away, retry;
	uint32_t step, storms;
	bool storm_back; /* waiting for all to be back */
};

static inline uint32_t
gen_random(struct gen *g)
{
	g->random ^= g->random << 13;
	g->random ^= g->random >> 7;
	g->random ^= g->random << 17;
	return (uint32_t)(g->random >> 32);
}

static inline uint32_t
client_index(const struct gen *g, const struct client *c)
{
	return (uint32_t)(c - g->clients);
}

static inline struct order *
client_orders(const struct gen *g, const struct client *c)
{
	return g->orders + (size_t)client_index(g, c) * g->o->subscriptions;
}

static inline struct proto_conn
client_proto(struct gen *g, const struct client *c)
{
	return (struct proto_conn){
	    .options = g->o,
	    .index = g->first + client_index(g, c),
	    .orders = client_orders(g, c),
	    .epoch = g->epoch,
	};
}

/* ---- wsbench_conn.c ---- */

/* The client's net is gone, or its whole process: no Close frame, no FIN. It is back
 * after so long. */
void conn_vanish(struct gen *g, struct client *c, double seconds);

/* What epoll says of it. */
void conn_event(struct gen *g, struct client *c, uint32_t events);

/* Read until the socket is empty (edge-triggered), or `most` bytes. */
void conn_read(struct gen *g, struct client *c, size_t most);

/* The server broke the protocol: no more of it. */
void conn_broken(struct gen *g, struct client *c);

/* Send one frame, if the socket takes it. len: up to 512 bytes. */
void conn_send(
    struct gen *g, struct client *c, uint8_t opcode, const void *data, size_t len);

/* Begin those that are due, as many as may be under way. */
void conn_begin_some(struct gen *g);

/* Give up handshakes that take too long. */
void conn_drop_late(struct gen *g, uint64_t now_ns);

/* ---- wsbench_judge.c ---- */

/* Who must get what: subscriptions on which something came (or whose resumption was
 * confirmed) are sure, others are not yet. Slow clients count in neither. */
void judge_count(struct gen *g, struct client *c, bool add);

/* A message has come. Returns false when the connection is no more. */
bool judge_data(
    struct gen *g, struct client *c, const char *data, size_t len, uint64_t now_ns);

/* At the end: what was published and did not come. */
void judge_missing(struct gen *g);

#endif
