/*
 * proxied.h - connections that a proxy passes on, on a listener with proxy=v2: before
 * anything else comes a header that says whose they are (proto/proxy.h).
 *
 * It is demanded there, and believed: whoever could leave it out, or be read without
 * it, would choose the address that he is limited and logged by.
 */
#ifndef WSCAST_WORKER_PROXIED_H
#define WSCAST_WORKER_PROXIED_H

#include "worker/client.h"
#include "worker/worker.h"

/* Whether this peer may say whose connection it is: one of server.trusted_proxies, or,
 * where none is set and on a unix socket, anyone who reaches the listener. */
bool proxied_trusts(const struct worker *w, const struct client_peer *peer);

/* Count and log a connection that is closed for want of what is demanded: why. */
void proxied_complain(
    struct worker *w, int family, const uint8_t *addr, const char *why);

/* Deal with the header of a connection that has SLOT_PROXY. Returns whether that is
 * done, and what follows may be looked at; if not, the header is not whole yet, or the
 * connection was refused or closed. */
bool proxied_take(struct worker *w, uint32_t slot);

#endif
