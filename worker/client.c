/* client.c - see client.h */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/dialect.h"
#include "proto/frame.h"
#include "proto/journal.h"
#include "shm/bitset.h"
#include "shm/launch.h"
#include "worker/client.h"
#include "worker/handshake.h"
#include "worker/limits.h"
#include "worker/out.h"
#include "worker/reader.h"
#include "worker/requests.h"
#include "worker/wheel.h"

#define ACCEPT_BATCH 64  /* connections taken before the others have their turn */
#define ACCEPT_PAUSE 1.0 /* seconds without accepting when descriptors ran out */
#define CLOSE_TICKS 50   /* for the peer's Close frame, or what it still acknowledges */
#define LINGER_TICKS 20  /* for a client to read the answer to a request */
#define RESUME_TICKS 50  /* a deadline that came while nobody served */
#define STUCK_TICKS 300  /* within one message: whoever drips bytes holds a parser */
#define IDS 32           /* random ids of clients fetched at once */

/* What a slot's deadline is for: in the table, so numbers are never given new meaning.
 */
enum client_timer {
	TIMER_NONE = 0,
	TIMER_HANDSHAKE = 1,
	TIMER_PING = 2,  /* to be sent */
	TIMER_PONG = 3,  /* to have come */
	TIMER_WRITE = 4, /* lagging: the socket must have taken something */
	TIMER_CLOSE = 5,
};

struct listener {
	ev_io io;
	uint16_t index;
};

struct clients {
	ev_io
	    *io; /* [nslots]; data: reader.c's. Touched when used, like what follows */
	struct wheel wheel;
	struct bitset free;
	uint64_t *free_words;
	uint32_t *dead; /* closed since the last prepare */
	uint32_t ndead;
	uint32_t nslots;
	uint32_t max;     /* connections */
	uint32_t max_fds; /* ... for which there are descriptors */
	uint32_t open;    /* slots in use, those of the dead included */
	bool accepting;
	bool finishing; /* only those inside a message are read from */
	int reserve;    /* a descriptor to give up, so as to say no with another */
	unsigned nlisteners;
	struct listener listeners[SETTINGS_LISTENERS_MAX];
	ev_prepare reap;
	ev_timer pause;
	uint64_t random;
	uint64_t ids[IDS]; /* random; the first nids are still to be given out */
	unsigned nids;
	uint32_t tx_accept; /* accept_tx(), once it is known */
	bool tx_accept_known;
	struct log_limit limit_log;
};

/* Why someone is turned away at the door. */
enum refusal {
	REFUSAL_NONE,
	REFUSAL_FULL,
	REFUSAL_DESCRIPTORS,
	REFUSAL_MEMORY,
	REFUSAL_ADDRESS,
};

#define REPLY(status, retry)                                                           \
	"HTTP/1.1 " status "\r\n"                                                      \
	"Connection: close\r\n"                                                        \
	"Content-Length: 0\r\n"                                                        \
	"Retry-After: " retry "\r\n\r\n"

static const struct {
	enum page_counter counter;
	const char *reply;
	const char *why;
} refusals[] = {
    [REFUSAL_FULL] = {PAGE_limited_connections, REPLY("503 Service Unavailable", "5"),
	"the limit of connections is reached"},
    [REFUSAL_DESCRIPTORS] = {PAGE_limited_descriptors,
	REPLY("503 Service Unavailable", "5"), "no descriptors are left"},
    [REFUSAL_MEMORY] = {PAGE_limited_memory, REPLY("503 Service Unavailable", "5"),
	"clients let too much wait for them"},
    [REFUSAL_ADDRESS] = {PAGE_limited_address, REPLY("429 Too Many Requests", "5"),
	"an address has its limit of connections"},
};

static void on_client_io(struct ev_loop *loop, ev_io *io, int revents);

/* ---- memory ---- */

/* Zeros that take no memory until they are touched. */
static void *
lazy_alloc(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void
lazy_free(void *p, size_t len)
{
	if (p != NULL)
		(void)munmap(p, len);
}

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

/* ---- the kernel ---- */

/* How many bytes the kernel says that the peer acknowledged: what came before the first
 * of ours. */
static int
bytes_acked(int fd, uint32_t *ret_acked)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	*ret_acked = (uint32_t)info.tcpi_bytes_acked;
	return 0;
}

/*
 * The same for a socket that accept4() has just given us. adopt.c counts from there, so
 * it must be exact; and it is one number for all of these, so the first is asked.
 *
 * The kernel adds to the count where an acknowledgement moves snd_una on, and makes an
 * accepted socket with snd_una behind the SYN already (Linux:
 * tcp_create_openreq_child(), also for SYN cookies and Fast Open). What moves snd_una
 * later is our data alone, and none was sent. So it is 0 on every Linux yet; if one
 * began to count the SYN, it would be 1, and for all. Not so for an orphan: a
 * predecessor may have written to it.
 */
static int
accept_tx(struct clients *c, int fd, uint32_t *ret_tx)
{
	int r = 0;

	if (!c->tx_accept_known)
		r = bytes_acked(fd, &c->tx_accept);
	if (r < 0)
		return r;
	c->tx_accept_known = true;
	*ret_tx = c->tx_accept;
	return 0;
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

static void
set_peer(struct slot *s, const struct sockaddr_storage *ss)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		memcpy(s->addr, &in->sin_addr, 4);
		s->port = ntohs(in->sin_port);
	} else if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)ss;

		s->port = ntohs(in->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
			memcpy(s->addr, in->sin6_addr.s6_addr + 12, 4);
			s->family = AF_INET;
			return;
		}
		memcpy(s->addr, &in->sin6_addr, 16);
	}
	s->family = (uint8_t)ss->ss_family;
}

/* ---- deadlines ---- */

static uint32_t
ticks(uint32_t ms)
{
	return (ms + TICK_MS - 1) / TICK_MS;
}

/* Spreads timers; nobody gains from guessing it. xorshift64 */
static uint32_t
random_below(struct clients *c, uint32_t n)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return n == 0 ? 0 : (uint32_t)(c->random >> 32) % n;
}

static void
set_timer(struct worker *w, uint32_t slot, enum client_timer timer, uint32_t in_ticks)
{
	struct slot *s = worker_slot(w, slot);

	s->timer = (uint8_t)timer;
	s->deadline = w->tick + in_ticks;
	if (timer == TIMER_NONE)
		wheel_clear(&w->clients->wheel, slot);
	else
		wheel_set(&w->clients->wheel, slot, s->deadline);
}

/* An open connection's ordinary state: waiting until the next ping is to go. */
static void
set_ping_timer(struct worker *w, uint32_t slot, uint32_t in_ticks)
{
	if (w->settings->ping_interval_ms == 0)
		set_timer(w, slot, TIMER_NONE, 0);
	else
		set_timer(w, slot, TIMER_PING, in_ticks);
}

static uint32_t
write_ticks_left(const struct worker *w, const struct slot *s)
{
	uint32_t due = s->progress + ticks(w->settings->write_timeout_ms);

	return (int32_t)(due - w->tick) > 0 ? due - w->tick : 0;
}

static void
on_ping_due(struct worker *w, uint32_t slot)
{
	static const uint8_t ping[2] = {0x80 | OPCODE_PING, 0};
	struct slot *s = worker_slot(w, slot);

	if (reader_stuck(w, slot, w->tick - STUCK_TICKS)) {
		client_end(w, slot, CLIENT_END_TIMEOUT, 1008, "message took too long");
		return;
	}
	if (s->flags & SLOT_LAGGING) {
		/* A ping would wait behind the rest: taking that is sign of life
		 * enough, and not taking it has a deadline of its own. */
		set_timer(w, slot, TIMER_WRITE, write_ticks_left(w, s));
		return;
	}
	s->flags |= SLOT_PINGED;
	set_timer(w, slot, TIMER_PONG, ticks(w->settings->pong_timeout_ms));
	if (out_private(w, slot, ping, sizeof(ping)) < 0)
		client_close(w, slot, CLIENT_END_LIMIT);
}

/* Pings go once in an interval, however soon the last one was answered. */
static void
set_next_ping(struct worker *w, uint32_t slot)
{
	uint32_t sent =
	    worker_slot(w, slot)->deadline - ticks(w->settings->pong_timeout_ms);
	uint32_t due = sent + ticks(w->settings->ping_interval_ms);

	set_ping_timer(w, slot, (int32_t)(due - w->tick) > 0 ? due - w->tick : 1);
}

void
client_heard(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (!(s->flags & SLOT_PINGED))
		return;
	s->flags &= (uint8_t)~SLOT_PINGED;
	if (s->timer == TIMER_PONG)
		set_next_ping(w, slot);
}

static void
on_pong_due(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	uint32_t sent = s->deadline - ticks(w->settings->pong_timeout_ms);

	/* Who takes bytes lives, though its answer may be behind them. */
	if (!(s->flags & SLOT_PINGED) ||
	    ((s->flags & SLOT_LAGGING) && (int32_t)(s->progress - sent) > 0)) {
		s->flags &= (uint8_t)~SLOT_PINGED;
		set_next_ping(w, slot);
		return;
	}
	client_close(w, slot, CLIENT_END_TIMEOUT);
}

static void
on_write_due(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (!(s->flags & SLOT_LAGGING))
		on_ping_due(w, slot);
	else if (write_ticks_left(w, s) > 0)
		set_timer(w, slot, TIMER_WRITE, write_ticks_left(w, s));
	else /* no Close frame: it would not be taken either */
		client_close(w, slot, CLIENT_END_SLOW);
}

static void
on_due(void *owner, uint32_t slot)
{
	struct worker *w = owner;

	switch (worker_slot(w, slot)->timer) {
	case TIMER_HANDSHAKE:
		client_close(w, slot, CLIENT_END_TIMEOUT);
		break;
	case TIMER_PING:
		on_ping_due(w, slot);
		break;
	case TIMER_PONG:
		on_pong_due(w, slot);
		break;
	case TIMER_WRITE:
		on_write_due(w, slot);
		break;
	default:
		client_close(w, slot, CLIENT_END_SERVER);
		break;
	}
}

static uint32_t
deadline_of(void *owner, uint32_t slot)
{
	return worker_slot(owner, slot)->deadline;
}

void
clients_tick(struct worker *w)
{
	wheel_advance(&w->clients->wheel, w->tick, deadline_of, on_due, w);
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
	if (s->proto == PROTO_ECHO && !on) /* on_readable() may have stopped it */
		events = EV_READ;
	set_events(w, slot, events | (on ? EV_WRITE : 0));
	/* A write deadline may come before the next ping would look for it. */
	if (on && slot_state(s) == SLOT_OPEN &&
	    (s->timer == TIMER_NONE || s->timer == TIMER_PING) &&
	    (s->timer == TIMER_NONE ||
		(int32_t)(s->deadline - w->tick) > (int32_t)write_ticks_left(w, s)))
		set_timer(w, slot, TIMER_WRITE, write_ticks_left(w, s));
}

static void
on_readable(struct worker *w, uint32_t slot)
{
	const struct slot *s = worker_slot(w, slot);

	if ((w->clients->finishing && client_reader(w, slot) == NULL) ||
	    (s->proto == PROTO_ECHO && (s->flags & SLOT_LAGGING)))
		set_events(w, slot, get_events(w, slot) & EV_WRITE);
	else if (slot_state(s) == SLOT_HANDSHAKE || (s->flags & SLOT_REQUEST))
		handshake_readable(w, slot);
	else
		reader_readable(w, slot);
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
	if (revents & EV_WRITE)
		out_writable(w, slot);
	if ((revents & EV_READ) && slot_state(worker_slot(w, slot)) != SLOT_FREE)
		on_readable(w, slot);
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

/* Say no to someone who has no slot, as far as its socket takes it. */
static void
turn_away(struct worker *w, int fd, enum refusal why)
{
	const char *reply = refusals[why].reply;
	char buf[4096];
	unsigned long missed;

	page_add(w->page, PAGE_refused, 1);
	page_add(w->page, PAGE_closed_limit, 1);
	page_add(w->page, refusals[why].counter, 1);
	(void)send(fd, reply, strlen(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
	/* Unread bytes would make close() reset the connection, and the answer with it.
	 */
	(void)recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	(void)close(fd);
	if (log_allowed(&w->clients->limit_log, (uint64_t)w->tick * TICK_MS, &missed))
		log_warning(0, "%u connections, refusing one: %s (%lu since)",
		    w->clients->open, refusals[why].why, missed + 1);
}

/* Whether there is room for one more, whoever it is. */
static enum refusal
look_for_room(const struct worker *w)
{
	const struct clients *c = w->clients;

	if (c->open >= c->max)
		return REFUSAL_FULL;
	if (c->open >= c->max_fds)
		return REFUSAL_DESCRIPTORS;
	return limits_memory(w) ? REFUSAL_NONE : REFUSAL_MEMORY;
}

/* fresh: by accept4(), just now. */
static void
begin(struct worker *w, int fd, uint16_t listener, const struct sockaddr_storage *peer,
    bool fresh)
{
	struct clients *c = w->clients;
	uint64_t slot = bitset_first(&c->free);
	enum refusal why = look_for_room(w);
	struct slot *s;
	uint32_t tx = 0;

	page_add(w->page, PAGE_accepted, 1);
	if (slot == BITSET_NONE || why != REFUSAL_NONE) {
		turn_away(w, fd, why != REFUSAL_NONE ? why : REFUSAL_FULL);
		return;
	}
	if ((fresh ? accept_tx(c, fd, &tx) : bytes_acked(fd, &tx)) < 0) {
		(void)close(fd);
		page_add(w->page, PAGE_closed, 1);
		return;
	}
	s = worker_slot(w, (uint32_t)slot);
	memset(s, 0, sizeof(*s)); /* its state is SLOT_FREE before and after */
	s->fd = fd;
	s->listener = listener;
	s->opened_s = (uint32_t)time(NULL);
	s->tx_accept = tx;
	s->progress = w->tick;
	slot_set_pos(s, (uint32_t)w->done, tx);
	set_peer(s, peer);
	if (!limits_enter(w, s)) {
		limits_leave(w, s);
		turn_away(w, fd, REFUSAL_ADDRESS);
		return;
	}
	s->client = next_id(c);
	slot_take(w, (uint32_t)slot);
	set_timer(w, (uint32_t)slot, TIMER_HANDSHAKE,
	    ticks(w->settings->handshake_timeout_ms));
	slot_set_state(s, SLOT_HANDSHAKE); /* T1 */
	watch(w, (uint32_t)slot);
}

void
client_begin(struct worker *w, int fd, uint16_t listener)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	peer.ss_family = AF_UNSPEC; /* so it stays when the peer has gone */
	(void)getpeername(fd, (struct sockaddr *)&peer, &len);
	begin(w, fd, listener, &peer, false);
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
	set_ping_timer(w, slot,
	    1 + random_below(w->clients, ticks(w->settings->ping_interval_ms)));
}

int
client_resume(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	slot_take(w, slot);
	(void)limits_enter(w, s); /* who is here stays */
	watch(w, slot);
	if (s->flags & SLOT_LAGGING)
		client_want_write(w, slot, true);
	if (s->proto != PROTO_NONE && slot_state(s) != SLOT_HANDSHAKE)
		add_demand(w, s, 1);
	if (s->timer != TIMER_NONE) {
		/* What came in time may still lie unread in the kernel. */
		if (s->timer != TIMER_PING &&
		    (int32_t)(s->deadline - (w->tick + RESUME_TICKS)) < 0)
			s->deadline = w->tick + RESUME_TICKS;
		wheel_set(&w->clients->wheel, slot, s->deadline);
	}
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
	set_timer(w, slot, TIMER_CLOSE, CLOSE_TICKS);
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
	(void)shutdown(s->fd, SHUT_WR);
	set_timer(w, slot, TIMER_CLOSE, LINGER_TICKS);
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
	wheel_clear(&c->wheel, slot);
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
		(void)close(s->fd);
		s->fd = -1;
		c->open--;
		bitset_add(&c->free, slot);
	}
}

/* ---- accepting ---- */

static void
pause_accepting(struct worker *w)
{
	struct clients *c = w->clients;

	for (unsigned i = 0; i < c->nlisteners; i++)
		ev_io_stop(w->loop, &c->listeners[i].io);
	ev_timer_set(&c->pause, ACCEPT_PAUSE, 0.);
	ev_timer_start(w->loop, &c->pause);
}

static void
on_pause_over(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct worker *w = ev_userdata(loop);

	if (w->clients->accepting)
		clients_accept(w, true);
}

/* No descriptor is left. The listener stays readable, so that just to return would
 * spin: say no to one, and let the others wait in the queue for a while. */
static void
on_accept_failed(struct worker *w, int fd, int err)
{
	struct clients *c = w->clients;
	unsigned long missed;

	if ((err == EMFILE || err == ENFILE) && c->reserve >= 0) {
		int one;

		(void)close(c->reserve);
		one = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
		if (one >= 0) {
			page_add(w->page, PAGE_accepted, 1);
			turn_away(w, one, REFUSAL_DESCRIPTORS);
		}
		c->reserve = eventfd(0, EFD_CLOEXEC); /* no open() in the sandbox */
	}
	pause_accepting(w);
	if (log_allowed(&c->limit_log, (uint64_t)w->tick * TICK_MS, &missed))
		log_error(
		    -err, "cannot accept connections, waiting (%lu times)", missed + 1);
}

static bool
accept_error_is_peers(int err)
{
	/* accept(2): what had happened to the new connection is reported here. */
	switch (err) {
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
	case ETIMEDOUT:
	case EINTR:
		return true;
	default:
		return false;
	}
}

static void
on_accept(struct ev_loop *loop, ev_io *io, int revents)
{
	struct worker *w = ev_userdata(loop);
	const struct listener *l = (const struct listener *)io;

	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer);
		int fd;

		peer.ss_family = AF_UNSPEC; /* a unix socket's may have no address */
		/* Open over an exec of the keeper, by design. */
		fd = accept4(io->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK);
		if (fd >= 0) {
			begin(w, fd, l->index, &peer, true);
		} else if (errno == EAGAIN) {
			return;
		} else if (!accept_error_is_peers(errno)) {
			on_accept_failed(w, io->fd, errno);
			return;
		}
	}
}

void
clients_listen(struct worker *w, unsigned nlisteners)
{
	struct clients *c = w->clients;

	c->nlisteners = nlisteners;
	c->max_fds = limits_descriptors(nlisteners);
	for (unsigned i = 0; i < nlisteners; i++) {
		c->listeners[i].index = (uint16_t)i;
		ev_io_init(
		    &c->listeners[i].io, on_accept, LAUNCH_LISTENERS + (int)i, EV_READ);
		/* Others first: who is here already goes before who comes. */
		ev_set_priority(&c->listeners[i].io, EV_MINPRI);
	}
}

void
clients_accept(struct worker *w, bool on)
{
	struct clients *c = w->clients;

	c->accepting = on;
	ev_timer_stop(w->loop, &c->pause);
	for (unsigned i = 0; i < c->nlisteners; i++) {
		if (on)
			ev_io_start(w->loop, &c->listeners[i].io);
		else
			ev_io_stop(w->loop, &c->listeners[i].io);
	}
}

/* ---- all of them ---- */

/*
 * server.max_connections is for the host, and a worker sees its own page only: so each
 * takes an even share, rounded up. SO_REUSEPORT spreads by a hash of the addresses, so
 * some workers have theirs a few percent before the others. That is the lesser evil: a
 * sum that all read would be wrong for as long as a dead worker's part is not known.
 */
static uint32_t
max_connections(const struct worker *w, unsigned nworkers)
{
	uint32_t nslots = w->table.header->nslots;
	uint32_t total = w->settings->max_connections, share;

	if (total == 0)
		return nslots;
	share = total / nworkers + (total % nworkers != 0);
	return share < nslots ? share : nslots;
}

static void
gauges_begin(struct worker *w)
{
	page_set(w->page, PAGE_connections, 0);
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
	c->reserve = -1;
	c->max = max_connections(w, w->nworkers);
	randombytes_buf(&c->random, sizeof(c->random));
	c->random |= 1; /* xorshift stays at 0 */
	c->io = lazy_alloc(nslots * sizeof(*c->io));
	c->dead = lazy_alloc(nslots * sizeof(*c->dead));
	c->free_words = calloc(bitset_words(nslots), sizeof(uint64_t));
	if (c->io == NULL || c->dead == NULL || c->free_words == NULL ||
	    wheel_init(&c->wheel, nslots, w->tick) < 0) {
		clients_free(w, c);
		return -ENOMEM;
	}
	bitset_init(&c->free, nslots, c->free_words);
	for (uint32_t i = 0; i < nslots; i++)
		bitset_add(&c->free, i);
	c->reserve = eventfd(0, EFD_CLOEXEC);
	ev_timer_init(&c->pause, on_pause_over, ACCEPT_PAUSE, 0.);
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
	for (unsigned i = 0; i < c->nlisteners; i++)
		ev_io_stop(w->loop, &c->listeners[i].io);
	for (uint32_t i = 0; c->io != NULL && i < c->nslots; i++)
		if (c->free_words != NULL && !bitset_has(&c->free, i))
			ev_io_stop(w->loop, &c->io[i]);
	ev_timer_stop(w->loop, &c->pause);
	ev_prepare_stop(w->loop, &c->reap);
	if (c->reserve >= 0)
		(void)close(c->reserve);
	wheel_done(&c->wheel);
	free(c->free_words);
	lazy_free(c->io, c->nslots * sizeof(*c->io));
	lazy_free(c->dead, c->nslots * sizeof(*c->dead));
	free(c);
}
