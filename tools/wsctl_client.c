/* wsctl_client.c - see wsctl_client.h */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/wsctl_client.h"
#include "tools/wsctl_clock.h"
#include "tools/wsctl_proc.h"

#define CONNECT_TIMEOUT_S 5 /* a full backlog: the server does not accept */
#define LOOK_MS 500         /* without a word: is it stopped? */

void
client_init(struct client *c)
{
	*c = (struct client){.fd = -1};
	control_line_init(&c->in, CONTROL_REPLY_MAX);
}

int
client_open(struct client *c, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
	int r, fd;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Connecting waits as long as sending does; then nothing blocks any more. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		r = errno == EAGAIN ? -ETIMEDOUT : -errno;
		(void)close(fd);
		return r;
	}
	c->fd = fd;
	return 0;
}

pid_t
client_peer(const struct client *c)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (c->fd < 0 || getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return 0;
	return peer.pid;
}

void
client_close(struct client *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	while (c->nfds > 0)
		(void)close(c->fds[--c->nfds]);
	control_line_done(&c->in);
	free(c->out);
	client_init(c);
}

size_t
client_queued(const struct client *c)
{
	return c->out_len;
}

int
client_queue(struct client *c, char *line, size_t len)
{
	size_t cap = c->out_cap;
	char *out;

	if (line == NULL)
		return -ENOMEM;
	if (c->deaf) {
		free(line);
		return 0;
	}
	/* What was sent goes once it is the larger part, so that a byte moves only a
	 * few times. */
	if (c->out_start > c->out_len) {
		memmove(c->out, c->out + c->out_start, c->out_len);
		c->out_start = 0;
	}
	while (cap - c->out_start - c->out_len < len)
		cap = cap == 0 ? 4096 : cap * 2;
	if (cap > c->out_cap) {
		out = realloc(c->out, cap);
		if (out == NULL) {
			free(line);
			return -ENOMEM;
		}
		c->out = out;
		c->out_cap = cap;
	}
	memcpy(c->out + c->out_start + c->out_len, line, len);
	c->out_len += len;
	free(line);
	return 0;
}

static void
take_fds(struct client *c, struct msghdr *msg)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h != NULL;
	     h = CMSG_NXTHDR(msg, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (c->nfds < CLIENT_FDS_MAX)
				c->fds[c->nfds++] = fd;
			else
				(void)close(fd);
		}
	}
}

static int
client_read(struct client *c)
{
	union {
		struct cmsghdr head; /* for its alignment */
		char buf[CMSG_SPACE(CLIENT_FDS_MAX * sizeof(int))];
	} control;
	size_t room;
	void *p = control_line_room(&c->in, &room);
	struct iovec iov = {.iov_base = p, .iov_len = room};
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	ssize_t n;

	if (p == NULL)
		return -errno;
	n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	control_line_fed(&c->in, (size_t)n);
	take_fds(c, &msg);
	return 0;
}

static int
client_write(struct client *c)
{
	ssize_t n = send(c->fd, c->out + c->out_start, c->out_len, MSG_NOSIGNAL);

	if (n >= 0) {
		c->out_start += (size_t)n;
		c->out_len -= (size_t)n;
	} else if (errno == EPIPE || errno == ECONNRESET) {
		/* It may have said why: that is read before the end is seen. */
		c->deaf = true;
		c->out_start = c->out_len = 0;
	} else if (errno != EAGAIN && errno != EINTR) {
		return -errno;
	}
	return 0;
}

int
client_turn(struct client *c, struct pollfd *others, size_t nothers, int timeout_ms,
    const sigset_t *sigmask)
{
	struct timespec ts = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
	struct pollfd fds[3] = {{.fd = c->fd, .events = POLLIN}};
	int r, n;

	if (c->out_len > 0)
		fds[0].events |= POLLOUT;
	for (size_t i = 0; i < nothers; i++)
		fds[i + 1] = others[i];
	n = ppoll(fds, (nfds_t)nothers + 1, timeout_ms < 0 ? NULL : &ts, sigmask);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIMEDOUT;
	for (size_t i = 0; i < nothers; i++)
		others[i].revents = fds[i + 1].revents;
	if ((fds[0].revents & POLLOUT) != 0) {
		r = client_write(c);
		if (r < 0)
			return r;
	}
	if ((fds[0].revents & ~POLLOUT) != 0)
		return client_read(c);
	return 0;
}

int
client_next(struct client *c, char **ret_line, size_t *ret_len)
{
	return control_line_next(&c->in, ret_line, ret_len);
}

int
client_parse(const char *line, size_t len, json_t **ret_reply)
{
	json_t *reply = json_loadb(line, len, JSON_ALLOW_NUL, NULL);

	if (json_object_get(reply, "ok") == NULL &&
	    !json_is_object(json_object_get(reply, "error"))) {
		json_decref(reply);
		return -EBADMSG;
	}
	*ret_reply = reply;
	return 0;
}

int
client_call(struct client *c, json_t *request, int timeout_ms, json_t **ret_reply)
{
	uint64_t now_ms, end_ms = clock_ms(CLOCK_MONOTONIC) + (uint64_t)timeout_ms;
	size_t len = 0;
	char *line = control_line_of(request, &len);
	int r = client_queue(c, line, len);

	while (r == 0) {
		r = client_next(c, &line, &len);
		if (r != 0)
			break;
		now_ms = clock_ms(CLOCK_MONOTONIC);
		if (now_ms >= end_ms) {
			r = -ETIMEDOUT;
			break;
		}
		r = client_turn(c, NULL, 0,
		    (int)(end_ms - now_ms < LOOK_MS ? end_ms - now_ms : LOOK_MS), NULL);
		if (r == -EINTR ||
		    (r == -ETIMEDOUT && !proc_is_stopped(client_peer(c))))
			r = 0;
	}
	return r < 0 ? r : client_parse(line, len, ret_reply);
}
