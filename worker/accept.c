/* accept.c - see accept.h */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/http_reply.h"
#include "proto/journal.h"
#include "shm/launch.h"
#include "worker/accept.h"
#include "worker/client.h"
#include "worker/handshake.h"
#include "worker/limits.h"
#include "worker/proxied.h"

#define ACCEPT_BATCH 64  /* connections taken before the others have their turn */
#define SHARED_BATCH 1   /* ... from a listener that the other workers have too */
#define ACCEPT_PAUSE 1.0 /* seconds without accepting when descriptors ran out */

struct listener {
	ev_io io;
	uint16_t index;
	int batch;
};

struct acceptor {
	struct listener listeners[SETTINGS_LISTENERS_MAX];
	unsigned nlisteners;
	bool accepting;
	int reserve;        /* a descriptor to give up, so as to say no with another */
	uint32_t max;       /* connections */
	uint32_t max_fds;   /* ... for which there are descriptors */
	uint32_t tx_accept; /* accept_tx(), once it is known */
	bool tx_accept_known;
	ev_timer pause;
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

static const struct {
	enum page_counter counter;
	struct http_fault fault;
} refusals[] = {
    [REFUSAL_FULL] = {PAGE_limited_connections,
	{503, "the limit of connections is reached",
	    .retry_s = HANDSHAKE_FULL_RETRY_S}},
    [REFUSAL_DESCRIPTORS] = {PAGE_limited_descriptors,
	{503, "no descriptors are left", .retry_s = HANDSHAKE_FULL_RETRY_S}},
    [REFUSAL_MEMORY] = {PAGE_limited_memory,
	{503, "clients let too much wait for them", .retry_s = HANDSHAKE_FULL_RETRY_S}},
    [REFUSAL_ADDRESS] = {PAGE_limited_address,
	{429, "too many connections from this address",
	    .retry_s = HANDSHAKE_FULL_RETRY_S}},
};

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
accept_tx(struct acceptor *a, int fd, uint32_t *ret_tx)
{
	int r = 0;

	if (!a->tx_accept_known)
		r = bytes_acked(fd, &a->tx_accept);
	if (r < 0)
		return r;
	a->tx_accept_known = true;
	*ret_tx = a->tx_accept;
	return 0;
}

/* ---- one more ---- */

/* Say no to someone who has no slot, as far as its socket takes it. */
static void
turn_away(struct worker *w, int fd, uint16_t listener, enum refusal why)
{
	char reply[HTTP_REPLY_MAX], unread[4096];
	size_t len = http_error_reply(&refusals[why].fault, reply);

	page_add(w->page, PAGE_refused, 1);
	page_add(w->page, PAGE_closed_limit, 1);
	page_add(w->page, refusals[why].counter, 1);
	/* A handshake that tells someone so would be what we have no room for. */
	if (!w->settings->listen[listener].tls)
		(void)send(fd, reply, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* Unread bytes would make close() reset the connection, and the answer with it.
	 */
	(void)recv(fd, unread, sizeof(unread), MSG_DONTWAIT);
	(void)close(fd);
	(void)log_limited(&w->acceptor->limit_log, (uint64_t)w->tick * TICK_MS,
	    LOG_WARNING, 0, "%u connections, refusing one: %s", clients_open(w),
	    refusals[why].fault.message);
}

/* Whether there is room for one more, whoever it is. */
static enum refusal
look_for_room(const struct worker *w)
{
	const struct acceptor *a = w->acceptor;

	if (clients_open(w) >= a->max)
		return REFUSAL_FULL;
	if (clients_open(w) >= a->max_fds)
		return REFUSAL_DESCRIPTORS;
	return limits_memory(w) ? REFUSAL_NONE : REFUSAL_MEMORY;
}

/* What kind of connections a listener brings. */
static uint8_t
marks_of(const struct worker *w, uint16_t listener)
{
	const struct listen_address *a = &w->settings->listen[listener];

	return (uint8_t)((a->addr.ss_family == AF_UNIX ? SLOT_UNCOUNTED : 0) |
			 (a->proxy ? SLOT_PROXY : 0));
}

/* Other than TCP's, a unix socket inherits nothing from its listener. */
static void
set_buffer(const struct worker *w, int fd)
{
	int len = (int)w->settings->send_buffer;

	/* Failing costs memory, not correctness. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &len, sizeof(len));
}

static struct client_peer
peer_of(const struct sockaddr_storage *ss)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
	struct client_peer p = {.family = (uint8_t)ss->ss_family};

	if (ss->ss_family == AF_INET) {
		memcpy(p.addr, &in->sin_addr, 4);
		p.port = ntohs(in->sin_port);
	} else if (ss->ss_family == AF_INET6) {
		memcpy(p.addr, &in6->sin6_addr, 16);
		p.port = ntohs(in6->sin6_port);
	}
	if (ss->ss_family == AF_INET6 && memcmp(p.addr, mapped, 12) == 0) {
		memmove(p.addr, p.addr + 12, 4);
		memset(p.addr + 4, 0, 12);
		p.family = AF_INET;
	}
	return p;
}

/* Get ready what a slot takes. Returns 0 or -errno. */
static int
prepare(struct worker *w, int fd, uint8_t marks, const struct client_peer *peer,
    bool fresh, uint32_t *ret_tx)
{
	if ((marks & SLOT_PROXY) && !proxied_trusts(w, peer)) {
		proxied_complain(
		    w, peer->family, peer->addr, "no proxy of server.trusted_proxies");
		return -EACCES;
	}
	if (!(marks & SLOT_UNCOUNTED))
		return fresh ? accept_tx(w->acceptor, fd, ret_tx)
			     : bytes_acked(fd, ret_tx);
	set_buffer(w, fd);
	*ret_tx = 0;
	return 0;
}

/* fresh: by accept4(), just now. */
static void
begin(struct worker *w, int fd, uint16_t listener, const struct sockaddr_storage *ss,
    bool fresh)
{
	enum refusal why = look_for_room(w);
	uint8_t marks = marks_of(w, listener);
	struct client_peer peer = peer_of(ss);
	uint32_t tx = 0;
	int r;

	page_add(w->page, PAGE_accepted, 1);
	if (why != REFUSAL_NONE) {
		turn_away(w, fd, listener, why);
		return;
	}
	if (prepare(w, fd, marks, &peer, fresh, &tx) < 0) {
		(void)close(fd);
		page_add(w->page, PAGE_closed, 1);
		return;
	}
	r = client_begin(w, fd, listener, marks, &peer, tx);
	if (r < 0)
		turn_away(
		    w, fd, listener, r == -EDQUOT ? REFUSAL_ADDRESS : REFUSAL_FULL);
}

static void
set_any_address(struct sockaddr_storage *ss)
{
	if (ss->ss_family == AF_INET)
		((struct sockaddr_in *)ss)->sin_addr.s_addr = INADDR_ANY;
	else if (ss->ss_family == AF_INET6)
		((struct sockaddr_in6 *)ss)->sin6_addr = in6addr_any;
}

/* Which listener this is the address of, or -1. */
static int
listener_at(const struct acceptor *a, const struct sockaddr_storage *addr)
{
	for (unsigned i = 0; i < a->nlisteners; i++) {
		struct sockaddr_storage l = {0};
		socklen_t len = sizeof(l);

		if (getsockname(
			LAUNCH_LISTENERS + (int)i, (struct sockaddr *)&l, &len) == 0 &&
		    memcmp(&l, addr, sizeof(l)) == 0)
			return (int)i;
	}
	return -1;
}

void
acceptor_take(struct worker *w, int fd)
{
	struct sockaddr_storage own = {0}, peer;
	socklen_t own_len = sizeof(own), len = sizeof(peer);
	int listener;

	peer.ss_family = AF_UNSPEC; /* so it stays when the peer has gone */
	(void)getpeername(fd, (struct sockaddr *)&peer, &len);
	(void)getsockname(fd, (struct sockaddr *)&own, &own_len);
	listener = listener_at(w->acceptor, &own);
	if (listener < 0) { /* that of 0.0.0.0 or [::] */
		set_any_address(&own);
		listener = listener_at(w->acceptor, &own);
	}
	if (listener < 0)
		(void)close(fd);
	else
		begin(w, fd, (uint16_t)listener, &peer, false);
}

/* ---- events ---- */

static void
pause_accepting(struct worker *w)
{
	struct acceptor *a = w->acceptor;

	for (unsigned i = 0; i < a->nlisteners; i++)
		ev_io_stop(w->loop, &a->listeners[i].io);
	ev_timer_set(&a->pause, ACCEPT_PAUSE, 0.);
	ev_timer_start(w->loop, &a->pause);
}

/* No open() in the sandbox. */
static void
keep_reserve(struct acceptor *a)
{
	if (a->reserve < 0)
		a->reserve = eventfd(0, EFD_CLOEXEC);
}

static void
on_pause_over(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct worker *w = ev_userdata(loop);

	keep_reserve(w->acceptor); /* there was none left, then */
	if (w->acceptor->accepting)
		acceptor_run(w, true);
}

/* No descriptor is left. The listener stays readable, so that just to return would
 * spin: say no to one, and let the others wait in the queue for a while. */
static void
on_accept_failed(struct worker *w, const struct listener *l, int err)
{
	struct acceptor *a = w->acceptor;

	if ((err == EMFILE || err == ENFILE) && a->reserve >= 0) {
		int one;

		(void)close(a->reserve);
		a->reserve = -1;
		one = accept4(l->io.fd, NULL, NULL, SOCK_NONBLOCK);
		if (one >= 0) {
			page_add(w->page, PAGE_accepted, 1);
			turn_away(w, one, l->index, REFUSAL_DESCRIPTORS);
		}
		keep_reserve(a);
	}
	pause_accepting(w);
	(void)log_limited(&a->limit_log, (uint64_t)w->tick * TICK_MS, LOG_ERROR, -err,
	    "cannot accept connections, waiting");
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

	for (int i = 0; i < l->batch; i++) {
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
			on_accept_failed(w, l, errno);
			return;
		}
	}
}

void
acceptor_listen(struct worker *w, unsigned nlisteners)
{
	struct acceptor *a = w->acceptor;

	a->nlisteners = nlisteners;
	a->max_fds = limits_descriptors(nlisteners);
	for (unsigned i = 0; i < nlisteners; i++) {
		a->listeners[i].index = (uint16_t)i;
		a->listeners[i].batch = marks_of(w, (uint16_t)i) & SLOT_UNCOUNTED
					    ? SHARED_BATCH
					    : ACCEPT_BATCH;
		ev_io_init(
		    &a->listeners[i].io, on_accept, LAUNCH_LISTENERS + (int)i, EV_READ);
		/* Others first: who is here already goes before who comes. */
		ev_set_priority(&a->listeners[i].io, EV_MINPRI);
	}
}

void
acceptor_run(struct worker *w, bool on)
{
	struct acceptor *a = w->acceptor;

	a->accepting = on;
	ev_timer_stop(w->loop, &a->pause);
	for (unsigned i = 0; i < a->nlisteners; i++) {
		if (on)
			ev_io_start(w->loop, &a->listeners[i].io);
		else
			ev_io_stop(w->loop, &a->listeners[i].io);
	}
}

/* ---- all of it ---- */

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

int
acceptor_new(struct worker *w, struct acceptor **ret)
{
	struct acceptor *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return -ENOMEM;
	a->max = max_connections(w, w->nworkers);
	a->reserve = -1;
	keep_reserve(a);
	ev_timer_init(&a->pause, on_pause_over, ACCEPT_PAUSE, 0.);
	*ret = a;
	return 0;
}

void
acceptor_reload(struct worker *w)
{
	w->acceptor->max = max_connections(w, w->nworkers);
}
