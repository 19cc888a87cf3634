/*
 * resolver.h - addresses of a host name, without waiting for them.
 *
 * getaddrinfo() blocks for as long as a name server takes, and the supervisor may not.
 * So a child process asks, and writes what it gets into a pipe: a fork for each
 * (re)connect to a named host, and none for a numeric address.
 */
#ifndef WSCAST_SUPERVISOR_RESOLVER_H
#define WSCAST_SUPERVISOR_RESOLVER_H

#include <ev.h>
#include <stdint.h>
#include <sys/socket.h>

#define RESOLVER_ADDRESSES_MAX 8

struct resolved {
	int error; /* 0, or an EAI_ code of getaddrinfo(); EAI_SYSTEM: the child died */
	unsigned n;
	socklen_t len[RESOLVER_ADDRESSES_MAX];
	struct sockaddr_storage addr[RESOLVER_ADDRESSES_MAX];
};

struct resolver {
	struct ev_loop *loop;
	pid_t pid;
	int fd; /* -1: nothing is being asked */
	ev_io io;
	void (*on_resolved)(void *owner, const struct resolved *res);
	void *owner;
};

/* Numeric addresses are answered in *ret (returns 1). Else asks (returns 0):
 * on_resolved() comes once, unless resolver_cancel() does first. Or -errno. */
int resolver_ask(struct resolver *r, const char *host, uint16_t port,
    struct resolved *ret) __attribute__((warn_unused_result));
void resolver_cancel(struct resolver *r);

#endif
