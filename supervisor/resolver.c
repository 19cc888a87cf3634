/* resolver.c - see resolver.h */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervisor/feed.h"
#include "supervisor/resolver.h"

/* res fits into a pipe: it is written, and read, at once. */
_Static_assert(sizeof(struct resolved) <= 4096, "PIPE_BUF");

static void
look_up(const char *host, uint16_t port, int flags, struct resolved *ret)
{
	struct addrinfo hints = {
	    .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
	struct addrinfo *list = NULL;
	char service[8];

	memset(ret, 0, sizeof(*ret));
	(void)snprintf(service, sizeof(service), "%u", port);
	ret->error = getaddrinfo(host, service, &hints, &list);
	if (ret->error != 0)
		return;
	for (const struct addrinfo *a = list;
	     a != NULL && ret->n < RESOLVER_ADDRESSES_MAX; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(ret->addr[0]))
			continue;
		memcpy(&ret->addr[ret->n], a->ai_addr, a->ai_addrlen);
		ret->len[ret->n++] = a->ai_addrlen;
	}
	freeaddrinfo(list);
}

static void
on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct resolver *r = container_of(io, struct resolver, io);
	struct resolved res;
	ssize_t n = read(r->fd, &res, sizeof(res));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(res))
		res = (struct resolved){.error = EAI_SYSTEM};
	resolver_cancel(r);
	r->on_resolved(r->owner, &res);
}

/* In the child. It keeps nothing open that others wait to see closed, and dies with
 * us. */
static void
child(const char *host, uint16_t port, int fd)
{
	struct resolved res;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)dup2(fd, STDIN_FILENO);
#ifdef SYS_close_range
	(void)syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
#endif
	look_up(host, port, AI_ADDRCONFIG, &res);
	_exit(write(STDIN_FILENO, &res, sizeof(res)) == sizeof(res) ? 0 : 1);
}

int
resolver_ask(struct resolver *r, const char *host, uint16_t port, struct resolved *ret)
{
	int fds[2];

	look_up(host, port, AI_NUMERICHOST, ret);
	if (ret->error == 0)
		return 1;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	r->pid = fork();
	if (r->pid < 0) {
		int err = -errno;

		(void)close(fds[0]);
		(void)close(fds[1]);
		return err;
	}
	if (r->pid == 0)
		child(host, port, fds[1]);
	(void)close(fds[1]);
	r->fd = fds[0];
	ev_io_init(&r->io, on_readable, r->fd, EV_READ);
	ev_io_start(r->loop, &r->io);
	return 0;
}

void
resolver_cancel(struct resolver *r)
{
	if (r->fd < 0)
		return;
	ev_io_stop(r->loop, &r->io);
	/* Closed, not killed: its pid may be reaped already, and so be another's. It
	 * ends by itself when the name server has answered, or has not. */
	(void)close(r->fd);
	r->fd = -1;
}
