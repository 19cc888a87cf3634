/* listeners.c - see listeners.h */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/listeners.h"

#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */

static int
bound_socket(const struct sockaddr *sa, socklen_t len, int reuse, int *ret_fd)
{
	int on = 1, r;
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* [::] and 0.0.0.0 may both be listed. */
	if ((sa->sa_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (reuse && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0) ||
	    bind(fd, sa, len) < 0) {
		r = -errno; /* before close() can change it */
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/*
 * SO_REUSEPORT would let us share the port in silence with a wscastd that runs
 * already: each would get a part of the connections. A socket without it is refused
 * as long as anyone listens there, so one is bound first, and closed. Of two that
 * start in the same moment, both may pass; that takes two starts within microseconds,
 * and the second then usually fails on the control socket.
 */
static int
probe(const struct sockaddr *sa, socklen_t len)
{
	int fd = -1, r = bound_socket(sa, len, 0, &fd);

	if (r == 0)
		(void)close(fd);
	return r;
}

static void
set_send_buffer(int fd, uint32_t bytes)
{
	int size = (int)bytes;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/*
 * What clients' sockets are to be like: they inherit it (tcp(7), socket(7)), which
 * spares each of them two system calls. To be set before listen(), so that none comes
 * without.
 */
static void
set_inherited(int fd, const struct settings *s)
{
	int on = 1;

	/* Failing costs speed or memory, not correctness. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	set_send_buffer(fd, s->send_buffer);
}

static void
log_fault(const char *text, int err)
{
	switch (-err) {
	case EADDRINUSE:
		log_error(err,
		    "cannot listen on %s: another program does (`ss -ltnp` names it); "
		    "stop it, or set another port in server.listen",
		    text);
		break;
	case EACCES:
		log_error(err,
		    "cannot listen on %s: a port below 1024 needs the capability "
		    "CAP_NET_BIND_SERVICE; start as the system service, or set a "
		    "higher port in server.listen",
		    text);
		break;
	case EADDRNOTAVAIL:
		log_error(err,
		    "cannot listen on %s: no interface of this host has that address; "
		    "set one that it has, or 0.0.0.0, in server.listen",
		    text);
		break;
	case EAFNOSUPPORT:
		log_error(err,
		    "cannot listen on %s: this host has no IPv6; set an IPv4 address "
		    "in server.listen",
		    text);
		break;
	case ENOTSOCK:
		log_error(err,
		    "cannot listen on %s: something else is there; remove it", text);
		break;
	case EPERM:
		log_error(err,
		    "cannot listen on %s: its file may not be given to that group; "
		    "set one that wscastd's user is in",
		    text);
		break;
	case ENOENT:
		log_error(err, "cannot listen on %s: make its directory first", text);
		break;
	case ESRCH:
		log_error(0, "cannot listen on %s: there is no such group", text);
		break;
	default:
		log_error(err, "cannot listen on %s", text);
	}
}

static void
address_text(const struct sockaddr_storage *sa, char *out, size_t size)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (sa->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;

		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		(void)snprintf(out, size, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		const struct sockaddr_in *in = (const void *)sa;

		(void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		(void)snprintf(out, size, "%s:%u", host, ntohs(in->sin_port));
	}
}

/* Returns -ESRCH when there is no group of that name. */
static int
find_group(const char *name, gid_t *ret_gid)
{
	const struct group *g = getgrnam(name);

	if (name[0] != '\0' && g == NULL)
		return -ESRCH;
	*ret_gid = name[0] != '\0' ? g->gr_gid : (gid_t)-1;
	return 0;
}

static int
open_unix(struct listeners *l, const struct settings *s, unsigned address)
{
	const struct listen_address *a = &s->listen[address];
	const char *path = ((const struct sockaddr_un *)&a->addr)->sun_path;
	int *fds = &l->fds[address * l->nworkers];
	gid_t gid = (gid_t)-1;
	int r = find_group(a->group, &gid);

	if (r == 0)
		r = unix_file_bind(path, a->mode, gid, &fds[0], &l->files[address]);
	if (r == 0 && listen(fds[0], BACKLOG) < 0)
		r = -errno;
	for (unsigned w = 1; r == 0 && w < l->nworkers; w++) {
		fds[w] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
		r = fds[w] < 0 ? -errno : 0;
	}
	if (r < 0)
		log_fault(a->text, r);
	else
		(void)snprintf(
		    l->text[address], sizeof(l->text[address]), "unix:%s", path);
	return r;
}

static int
open_address(struct listeners *l, const struct settings *s, unsigned address)
{
	const struct listen_address *a = &s->listen[address];
	struct sockaddr_storage sa = a->addr;
	int r = probe((const struct sockaddr *)&sa, a->addr_len);

	for (unsigned w = 0; r == 0 && w < l->nworkers; w++) {
		int *fd = &l->fds[address * l->nworkers + w];
		socklen_t len = sizeof(sa);

		r = bound_socket((const struct sockaddr *)&sa, a->addr_len, 1, fd);
		if (r == 0)
			set_inherited(*fd, s);
		if (r == 0 && listen(*fd, BACKLOG) < 0)
			r = -errno;
		/* Port 0 is any that is free: all workers take the first's. */
		if (r == 0 && w == 0 &&
		    getsockname(*fd, (struct sockaddr *)&sa, &len) < 0)
			r = -errno;
	}
	if (r < 0)
		log_fault(a->text, r);
	else
		address_text(&sa, l->text[address], sizeof(l->text[address]));
	return r;
}

int
listeners_open(const struct settings *s, unsigned nworkers, struct listeners *ret)
{
	struct listeners l = {.naddresses = s->nlisten, .nworkers = nworkers};
	size_t n = (size_t)s->nlisten * nworkers;
	int first = 0;

	l.fds = calloc(n + 1, sizeof(*l.fds));
	l.text = calloc(s->nlisten + 1, sizeof(*l.text));
	l.files = calloc(s->nlisten + 1, sizeof(*l.files));
	if (l.fds == NULL || l.text == NULL || l.files == NULL) {
		first = -ENOMEM;
		l.naddresses = 0;
		goto fail;
	}
	for (size_t i = 0; i < n; i++)
		l.fds[i] = -1;
	for (unsigned i = 0; i < s->nlisten; i++) {
		int r = s->listen[i].addr.ss_family == AF_UNIX ? open_unix(&l, s, i)
							       : open_address(&l, s, i);

		first = first < 0 ? first : r;
	}
	if (first < 0)
		goto fail;
	*ret = l;
	return 0;
fail:
	listeners_close(&l);
	return first;
}

void
listeners_set_send_buffer(const struct listeners *l, uint32_t bytes)
{
	for (size_t i = 0; i < (size_t)l->naddresses * l->nworkers; i++)
		set_send_buffer(l->fds[i], bytes);
}

void
listeners_close(struct listeners *l)
{
	for (size_t i = 0; l->fds != NULL && i < (size_t)l->naddresses * l->nworkers;
	     i++)
		if (l->fds[i] >= 0)
			(void)close(l->fds[i]);
	for (unsigned i = 0; l->files != NULL && i < l->naddresses; i++)
		unix_file_remove(&l->files[i]);
	free(l->fds);
	free(l->files);
	free(l->text);
	l->fds = NULL;
	l->files = NULL;
	l->text = NULL;
}
