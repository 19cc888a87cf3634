/*
 * command_maps.c - maps: descriptors for wsctl to read the shared maps by itself, also
 * when we are busy or stopped; see ctl_client.h and proto/control.h.
 *
 * What the ring and the pages hold, whoever may connect may ask for anyway. The
 * connection tables are not given: they hold what clients' tokens said.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/map.h"
#include "supervisor/ctl_client.h"
#include "supervisor/supervisor.h"

struct parcel {
	int fds[CONTROL_PAGES_MAX + 1];
	unsigned n;
	unsigned pages; /* of them */
};

static void
parcel_done(struct parcel *p)
{
	while (p->n > 0)
		(void)close(p->fds[--p->n]);
}

static int
parcel_add(struct parcel *p, int fd)
{
	int r = map_reader_fd(fd, &p->fds[p->n]);

	if (r == 0)
		p->n++;
	return r;
}

static int
parcel_fill(struct parcel *p, const struct supervisor *s, unsigned first)
{
	int r = first == 0 ? parcel_add(p, s->reader_fd) : 0;

	for (unsigned i = first;
	     r == 0 && i < s->nworkers && p->pages < CONTROL_PAGES_MAX; i++) {
		struct worker_look look;

		workers_look(s->workers, i, &look);
		r = parcel_add(p, look.page_fd);
		p->pages += r == 0;
	}
	return r;
}

/* The descriptors go with the first byte; *ret_sent says how far the line went. */
static int
send_parcel(
    int fd, const char *line, size_t len, const struct parcel *p, size_t *ret_sent)
{
	union {
		struct cmsghdr head; /* for its alignment */
		char buf[CMSG_SPACE(sizeof(p->fds))];
	} control = {.buf = {0}};
	struct iovec iov = {.iov_base = (void *)line, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control};
	ssize_t n;

	if (p->n > 0) {
		size_t bytes = p->n * sizeof(int);

		msg.msg_controllen = CMSG_SPACE(bytes);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&control.head), p->fds, bytes);
	} else {
		msg.msg_control = NULL;
	}
	n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	*ret_sent = (size_t)n;
	return 0;
}

/* "first", 0 when absent. Returns false when answered. */
static bool
first_of(struct ctl_client *c, unsigned *ret_first)
{
	const json_t *v = json_object_get(c->request, "first");
	json_int_t first = json_integer_value(v);

	if ((v == NULL || json_is_integer(v)) && first >= 0 &&
	    first < (json_int_t)c->sock->s->nworkers) {
		*ret_first = (unsigned)first;
		return true;
	}
	say_error(c, CONTROL_BAD_REQUEST, "\"first\" must be a worker's index");
	return false;
}

static char *
answer_of(
    const struct supervisor *s, const struct parcel *p, unsigned first, size_t *ret_len)
{
	struct feed_status feed;

	feed_look(s->feed, &feed);
	return control_ok(
	    json_pack("{s:s, s:i, s:I, s:s, s:i, s:i, s:i}", "version", WSCAST_VERSION,
		"pid", (int)getpid(), "started_ms", (json_int_t)s->started_ms, "source",
		feed.source, "workers", (int)s->nworkers, "first", (int)first, "pages",
		(int)p->pages),
	    ret_len);
}

void
command_maps(struct ctl_client *c)
{
	struct parcel p = {.n = 0};
	unsigned first;
	size_t len = 0, sent = 0;
	char *line = NULL;
	int r;

	if (!first_of(c, &first))
		return;
	r = c->out.len > 0 ? -EAGAIN : parcel_fill(&p, c->sock->s, first);
	if (r == 0) {
		line = answer_of(c->sock->s, &p, first, &len);
		r = line == NULL ? -ENOMEM : send_parcel(c->fd, line, len, &p, &sent);
	}
	parcel_done(&p);
	if (r < 0) {
		say_error(c, CONTROL_INTERNAL, "cannot hand over descriptors: %s",
		    r == -EAGAIN ? "other answers wait to be read" : strerror(-r));
	} else {
		command_finish(c);
		if (sent < len)
			client_put(c, line + sent, len - sent);
	}
	free(line);
}
