/* client.c - see client.h */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/dialect.h"
#include "proto/frame.h"
#include "shm/bitset.h"
#include "shm/map.h"
#include "worker/client.h"
#include "worker/handshake.h"
#include "worker/identity.h"
#include "worker/limits.h"
#include "worker/out.h"
#include "worker/rates.h"
#include "worker/reader.h"
#include "worker/requests.h"
#include "worker/timers.h"
#include "worker/tls.h"
#include "worker/tls_opening.h"

#define CLOSE_TICKS 50  /* for the peer's Close frame, or what it still acknowledges */
#define LINGER_TICKS 20 /* for a client to read the answer to a request */
#define IDS 32          /* random ids of clients fetched at once */

struct clients {
	/* [nslots]; data: reader.c's. Touched when used, like what follows. */
	ev_io *io;
	struct bitset free;
	uint64_t *free_words;
	uint32_t *dead; /* closed since the last prepare */
	uint32_t ndead;
	uint32_t nslots;
	uint32_t open;  /* slots in use, those of the dead included */
	bool finishing; /* only those inside a message are read from */
	ev_prepare reap;
	uint64_t ids[IDS]; /* random; the first nids are still to be given out */
	unsigned nids;
};

static void on_client_io(struct ev_loop *loop, ev_io *io, int revents);

struct reader *
client_reader(const struct worker *w, uint32_t slot)
{
	return w->clients->io[slot].data;
}

void
client_set_reader(struct worker *w, uint32_t slot, struct reader *r)
{
	w->clients->io[slot].data = r;
}

/* Random ids by the batch: each call is a system call. */
static uint64_t
next_id(struct clients *c)
{
	if (c->nids == 0) {
		randombytes_buf(c->ids, sizeof(c->ids));
		c->nids = IDS;
	}
	return c->ids[--c->nids];
}

/* ---- watchers ---- */

static void
set_events(struct worker *w, uint32_t slot, int events)
{
	ev_io *io = &w->clients->io[slot];

	if ((io->events & (EV_READ | EV_WRITE)) == events &&
	    ev_is_active(io) == (events != 0))
		return;
	ev_io_stop(w->loop, io);
	if (events == 0)
		return;
	ev_io_set(io, worker_slot(w, slot)->fd, events);
	ev_io_start(w->loop, io);
}

static int
get_events(const struct worker *w, uint32_t slot)
{
	const ev_io *io = &w->clients->io[slot];

	return ev_is_active(io) ? io->events & (EV_READ | EV_WRITE) : 0;
}

void
client_want_write(struct worker *w, uint32_t slot, bool on)
{
	struct slot *s = worker_slot(w, slot);
	int events = get_events(w, slot) & EV_READ;

	if (slot_state(s) == SLOT_FREE)
		return;
	if (s->proto == PROTO_ECHO && !on) /* client_readable() may have stopped it */
		events = EV_READ;
	set_events(w, slot, events | (on ? EV_WRITE : 0));
	if (on && slot_state(s) == SLOT_OPEN)
		timer_lagging(w, slot);
}

void
client_want_read(struct worker *w, uint32_t slot, bool on)
{
	set_events(w, slot, (get_events(w, slot) & EV_WRITE) | (on ? EV_READ : 0));
}

void
client_readable(struct worker *w, uint32_t slot)
{
	const struct slot *s = worker_slot(w, slot);

	/* Who is bound to this process is left to no successor: those say goodbye. */
	if ((w->clients->finishing && client_reader(w, slot) == NULL &&
		!slot_is_bound(s)) ||
	    (s->proto == PROTO_ECHO && (s->flags & SLOT_LAGGING)))
		client_want_read(w, slot, false);
	else if (slot_state(s) == SLOT_HANDSHAKE || (s->flags & SLOT_REQUEST))
		handshake_readable(w, slot);
	else
		reader_readable(w, slot);
	/* What TLS has decrypted, no event tells of: what came with the request's end,
	 * and how it ended. */
	if ((s->flags & SLOT_TLS) && slot_state(s) != SLOT_FREE &&
	    slot_state(s) != SLOT_HANDSHAKE && tls_has_more(w, slot))
		reader_readable(w, slot);
	if (slot_is_bound(s) && slot_state(s) == SLOT_OPEN)
		tls_settle(w, slot);
}

static void
on_client_io(struct ev_loop *loop, ev_io *io, int revents)
{
	struct worker *w = ev_userdata(loop);
	uint32_t slot = (uint32_t)(io - w->clients->io);

	if (revents & EV_ERROR) {
		client_close(w, slot, CLIENT_END_PEER);
		return;
	}
	if ((worker_slot(w, slot)->flags & SLOT_TLS) && tls_is_opening(w, slot))
		revents = EV_READ; /* whatever it waited for */
	if (revents & EV_WRITE)
		out_writable(w, slot);
	if ((revents & EV_READ) && slot_state(worker_slot(w, slot)) != SLOT_FREE)
		client_readable(w, slot);
}

void
clients_finish(struct worker *w)
{
	w->clients->finishing = true;
}

/* ---- a connection's life ---- */

static void
watch(struct worker *w, uint32_t slot)
{
	ev_io *io = &w->clients->io[slot];

	ev_io_init(io, on_client_io, worker_slot(w, slot)->fd, EV_READ);
	io->data = NULL;
	ev_io_start(w->loop, io);
}

static void
slot_take(struct worker *w, uint32_t slot)
{
	struct clients *c = w->clients;

	bitset_remove(&c->free, slot);
	c->open++;
	page_add(w->page, PAGE_connections, 1);
	if (slot >=
	    atomic_load_explicit(&w->table.header->slots_used, memory_order_relaxed))
		atomic_store_explicit(
		    &w->table.header->slots_used, slot + 1, memory_order_release);
}

uint32_t
clients_open(const struct worker *w)
{
	return w->clients->open;
}

int
client_begin(struct worker *w, int fd, uint16_t listener, uint8_t marks,
    const struct client_peer *peer, uint32_t tx)
{
	struct clients *c = w->clients;
	uint64_t slot = bitset_first(&c->free);
	struct slot *s;

	if (slot == BITSET_NONE)
		return -ENOSPC;
	s = worker_slot(w, (uint32_t)slot);
	memset(s, 0, sizeof(*s)); /* its state is SLOT_FREE before and after */
	s->fd = fd;
	s->listener = listener;
	s->marks = marks;
	s->opened_s = (uint32_t)time(NULL);
	s->tx_accept = tx;
	s->progress = w->tick;
	slot_set_pos(s, (uint32_t)w->done, tx);
	s->family = peer->family;
	s->port = peer->port;
	memcpy(s->addr, peer->addr, sizeof(s->addr));
	if (!limits_enter(w, s)) {
		limits_leave(w, s);
		return -EDQUOT;
	}
	s->client = next_id(c);
	slot_take(w, (uint32_t)slot);
	timer_set(w, (uint32_t)slot, TIMER_HANDSHAKE,
	    timer_ticks(w->settings->handshake_timeout_ms));
	slot_set_state(s, SLOT_HANDSHAKE); /* T1 */
	watch(w, (uint32_t)slot);
	/* Its request is here already when many wait to be accepted. To look costs less
	 * than the event that would say so. */
	client_readable(w, (uint32_t)slot);
	return 0;
}

static void
add_demand_of(struct worker *w, unsigned dialect, int n)
{
	_Atomic uint32_t *d = &w->page->demand[dialect % RING_DIALECTS];

	atomic_store_explicit(d,
	    atomic_load_explicit(d, memory_order_relaxed) + (uint32_t)n,
	    memory_order_relaxed);
}

/* Where the ring has no deflated frame, the plain one is sent. */
static void
add_demand(struct worker *w, const struct slot *s, int n)
{
	add_demand_of(w, s->dialect, n);
	if (dialect_is_deflated(s->dialect))
		add_demand_of(w, dialect_plain(s->dialect), n);
}

void
client_opened(struct worker *w, uint32_t slot)
{
	page_add(w->page, PAGE_opened, 1);
	if (dialect_is_deflated(worker_slot(w, slot)->dialect))
		page_add(w->page, PAGE_opened_deflate, 1);
	add_demand(w, worker_slot(w, slot), 1);
	timer_opened(w, slot);
}

int
client_resume(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	slot_take(w, slot);
	(void)limits_enter(w, s); /* who is here stays */
	watch(w, slot);
	if (s->marks & SLOT_UNCOUNTED)
		s->rcvlowat = 0; /* what it waited in died with the predecessor */
	if (s->flags & SLOT_LAGGING)
		client_want_write(w, slot, true);
	if (s->proto != PROTO_NONE && slot_state(s) != SLOT_HANDSHAKE)
		add_demand(w, s, 1);
	timer_resume(w, slot);
	if (slot_state(s) == SLOT_CLOSING && !(s->flags & SLOT_LAGGING) &&
	    s->out == 0 && s->part == 0)
		client_flushed(w, slot);
	return 0;
}

static void
count_end(struct worker *w, enum client_end why)
{
	static const enum page_counter counter[] = {
	    [CLIENT_END_PEER] = PAGE_closed,
	    [CLIENT_END_PROTOCOL] = PAGE_closed_protocol,
	    [CLIENT_END_LIMIT] = PAGE_closed_limit,
	    [CLIENT_END_SLOW] = PAGE_closed_slow,
	    [CLIENT_END_TIMEOUT] = PAGE_closed_timeout,
	    [CLIENT_END_EXPIRED] = PAGE_closed_expired,
	    [CLIENT_END_CRASH] = PAGE_closed_crash,
	    [CLIENT_END_SERVER] = PAGE_closed,
	};

	if (counter[why] != PAGE_closed)
		page_add(w->page, counter[why], 1);
}

void
client_end(struct worker *w, uint32_t slot, enum client_end why, uint16_t code,
    const char *reason)
{
	struct slot *s = worker_slot(w, slot);
	uint8_t frame[FRAME_HEAD_MAX + FRAME_CONTROL_MAX];
	size_t len;

	if (slot_state(s) == SLOT_HANDSHAKE) {
		client_close(w, slot, why);
		return;
	}
	if (slot_state(s) != SLOT_OPEN)
		return;
	out_cut(w, slot);
	if (slot_state(s) != SLOT_OPEN)
		return;
	count_end(w, why);
	s->close_code = code;
	slot_set_state(s, SLOT_CLOSING);
	timer_set(w, slot, TIMER_CLOSE, CLOSE_TICKS);
	len = frame_close(code, reason, frame);
	if (out_private(w, slot, frame, len) < 0)
		client_close(w, slot, why);
}

void
client_flushed(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (!(s->flags & (SLOT_HANGUP | SLOT_DEAF)))
		return; /* its Close frame is still to come */
	/* Nothing that it may say counts any more. Let it read to the end all the same:
	 * to close with bytes unread would reset the connection. */
	s->flags |= SLOT_DEAF;
	if (!(s->flags & SLOT_TLS) || tls_shutdown(w, slot))
		(void)shutdown(s->fd, SHUT_WR);
	timer_set(w, slot, TIMER_CLOSE, LINGER_TICKS);
}

void
client_close(struct worker *w, uint32_t slot, enum client_end why)
{
	struct clients *c = w->clients;
	struct slot *s = worker_slot(w, slot);
	uint8_t state = slot_state(s);

	if (state == SLOT_FREE)
		return;
	if (state != SLOT_CLOSING)
		count_end(w, why);
	page_add(w->page, PAGE_closed, 1);
	page_add(w->page, PAGE_connections, (uint64_t)-1);
	limits_leave(w, s);
	if (s->proto != PROTO_NONE && state != SLOT_HANDSHAKE)
		add_demand(w, s, -1);
	ev_io_stop(w->loop, &c->io[slot]);
	timer_clear(w, slot);
	if (s->flags & SLOT_TLS)
		(void)tls_shutdown(w, slot);
	/* Before the slot is free: a successor takes a connected socket without a slot
	 * for a new connection. */
	(void)shutdown(s->fd, SHUT_RDWR);
	slot_set_state(s, SLOT_FREE); /* T1 */
	c->dead[c->ndead++] = slot;
}

/* Nobody is inside a callback now: what was closed can go. */
static void
on_reap(struct ev_loop *loop, ev_prepare *p, int revents)
{
	struct worker *w = ev_userdata(loop);
	struct clients *c = w->clients;

	while (c->ndead > 0) {
		uint32_t slot = c->dead[--c->ndead];
		struct slot *s = worker_slot(w, slot);

		reader_drop(w, slot);
		requests_leave(w, slot);
		out_drop(w, slot);
		identity_drop(w, slot);
		rates_drop(w, s);
		if (s->flags & SLOT_TLS)
			tls_drop(w, slot);
		(void)close(s->fd);
		s->fd = -1;
		c->open--;
		bitset_add(&c->free, slot);
	}
}

/* ---- reload ---- */

void
clients_reload(struct worker *w, const struct settings *old)
{
	int size = (int)w->settings->send_buffer;
	uint32_t used = table_slots_used(&w->table);

	if (old != NULL && w->settings->send_buffer == old->send_buffer)
		return;
	/* Failing costs memory or speed, not correctness. */
	for (uint32_t i = 0; i < used; i++)
		if (slot_state(worker_slot(w, i)) != SLOT_FREE)
			(void)setsockopt(worker_slot(w, i)->fd, SOL_SOCKET, SO_SNDBUF,
			    &size, sizeof(size));
}

/* ---- all of them ---- */

static void
gauges_begin(struct worker *w)
{
	page_set(w->page, PAGE_connections, 0);
	page_set(w->page, PAGE_tls_connections, 0);
	page_set(w->page, PAGE_ktls_connections, 0);
	for (unsigned i = 0; i < RING_DIALECTS; i++)
		atomic_store_explicit(&w->page->demand[i], 0, memory_order_relaxed);
}

int
clients_new(struct worker *w, struct clients **ret)
{
	uint32_t nslots = w->table.header->nslots;
	struct clients *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->nslots = nslots;
	c->free_words = calloc(bitset_words(nslots), sizeof(uint64_t));
	if (c->free_words != NULL) /* clients_free() looks into it */
		bitset_init(&c->free, nslots, c->free_words);
	if (c->free_words == NULL ||
	    map_private(nslots * sizeof(*c->io), (void **)&c->io) < 0 ||
	    map_private(nslots * sizeof(*c->dead), (void **)&c->dead) < 0) {
		clients_free(w, c);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < nslots; i++)
		bitset_add(&c->free, i);
	ev_prepare_init(&c->reap, on_reap);
	ev_prepare_start(w->loop, &c->reap);
	gauges_begin(w);
	*ret = c;
	return 0;
}

void
clients_free(struct worker *w, struct clients *c)
{
	if (c == NULL)
		return;
	for (uint32_t i = 0; c->io != NULL && i < c->nslots; i++)
		if (c->free_words != NULL && !bitset_has(&c->free, i))
			ev_io_stop(w->loop, &c->io[i]);
	ev_prepare_stop(w->loop, &c->reap);
	free(c->free_words);
	map_close(c->io, c->nslots * sizeof(*c->io));
	map_close(c->dead, c->nslots * sizeof(*c->dead));
	free(c);
}
