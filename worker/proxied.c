/* proxied.c - see proxied.h */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/address.h"
#include "proto/http.h"
#include "proto/proxy.h"
#include "worker/client.h"
#include "worker/handshake.h"
#include "worker/limits.h"
#include "worker/peek.h"
#include "worker/proxied.h"
#include "worker/reader.h"
#include "worker/tls_opening.h"

bool
proxied_trusts(const struct worker *w, const struct client_peer *peer)
{
	const char *trusted = w->settings->trusted_proxies;

	return trusted[0] == '\0' || peer->family == AF_UNIX ||
	       (peer->family != AF_UNSPEC &&
		   network_list_has(trusted, peer->family, peer->addr));
}

void
proxied_complain(struct worker *w, int family, const uint8_t *addr, const char *why)
{
	char text[INET6_ADDRSTRLEN] = "a unix socket";

	page_add(w->page, PAGE_refused_proxy, 1);
	if (family == AF_INET || family == AF_INET6)
		(void)inet_ntop(family, addr, text, sizeof(text));
	(void)log_limited(&w->proxy_log, (uint64_t)w->tick * TICK_MS, LOG_WARNING, 0,
	    "closing a connection from %s to a listener with proxy=v2: %s", text, why);
}

/* Store what the header says, so that it counts from one moment on. Returns whether
 * that address may have one more connection. */
static bool
note(const struct worker *w, struct slot *s, const struct proxy_header *h)
{
	if (h->family != AF_UNSPEC) {
		memcpy(s->addr, h->addr, sizeof(s->addr));
		s->family = (uint8_t)h->family;
		s->port = h->port;
	}
	atomic_signal_fence(memory_order_seq_cst);
	s->marks |= SLOT_PROXIED;
	return limits_enter(w, s);
}

static void
done(struct worker *w, uint32_t slot, size_t len)
{
	struct slot *s = worker_slot(w, slot);

	peek_consume(w, slot, len);
	atomic_signal_fence(memory_order_seq_cst);
	s->marks &= (uint8_t) ~(SLOT_PROXY | SLOT_PROXIED);
}

/*
 * A predecessor noted what the header says, and may have consumed it. It has if no
 * header is there, as what follows one begins with other bytes. A client that sends
 * another behind the proxy's, just then, has it thrown away where it would be refused
 * otherwise: its address stays what the proxy said.
 */
static bool
finish(struct worker *w, uint32_t slot, enum proxy_result r, size_t len)
{
	done(w, slot, r == PROXY_WHOLE ? len : 0);
	return true;
}

/* The address has as many connections as it may. Who waits for TLS cannot read why, and
 * a handshake that tells so would be what we have no room for. */
static void
turn_away(struct worker *w, uint32_t slot)
{
	static const struct http_fault full = {.status = 429,
	    .message = "too many connections from this address",
	    .retry_s = HANDSHAKE_FULL_RETRY_S};

	page_add(w->page, PAGE_limited_address, 1);
	if (tls_is_due(w, worker_slot(w, slot)))
		client_close(w, slot, CLIENT_END_LIMIT);
	else
		handshake_refuse(w, slot, &full);
}

bool
proxied_take(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	size_t n = peek(w, slot);
	struct proxy_header h;
	enum proxy_result r = proxy_parse(readers_buffer(w), n, &h);
	bool room;

	if (s->marks & SLOT_PROXIED)
		return slot_state(s) != SLOT_FREE && finish(w, slot, r, h.len);
	if (n == 0)
		return false;
	switch (r) {
	case PROXY_MORE:
		peek_wait(w, slot, n);
		return false;
	case PROXY_BAD:
		proxied_complain(w, s->family, s->addr, "no right PROXY header");
		client_close(w, slot, CLIENT_END_PROTOCOL);
		return false;
	case PROXY_WHOLE:
		break;
	}
	room = note(w, s, &h);
	done(w, slot, h.len);
	if (!room)
		turn_away(w, slot);
	return room;
}
