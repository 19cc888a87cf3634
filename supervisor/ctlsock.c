/* ctlsock.c - see ctlsock.h */
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/ctl_client.h"
#include "supervisor/ctlsock.h"
#include "supervisor/registry.h"
#include "supervisor/supervisor.h"

#define TURN_MS 5               /* for all clients' requests in one turn */
#define OUT_PAUSE (256u << 10)  /* bytes waiting: no further request is taken */
#define OUT_TAIL_MAX (4u << 20) /* bytes waiting: a tail misses messages */
#define OUT_ALL_MAX (32u << 20) /* bytes waiting of all: no further long answer */
#define LOOK_MS 500             /* between two looks at a client that waits */
#define ACCEPT_PAUSE_MS 200     /* when there was no descriptor */
#define GROUPS_MAX 4096
#define GROUP "wscast"

/* ---- the file ---- */

/* The group may fail to be given: then ours stays, and serves as well. */
static int
listen_at(const char *path, int *ret_fd, struct unix_file *ret_file)
{
	const struct group *g = getgrnam(GROUP);
	int r = unix_file_bind(
	    path, 0660, g != NULL ? g->gr_gid : (gid_t)-1, ret_fd, ret_file);

	if (r == -EPERM) {
		log_info("%s: cannot be given to group %s: %s", path, GROUP,
		    strerror(EPERM));
		r = unix_file_bind(path, 0660, (gid_t)-1, ret_fd, ret_file);
	}
	if (r == 0 && listen(*ret_fd, CTL_CLIENTS_MAX) < 0) {
		r = -errno;
		unix_file_remove(ret_file);
		(void)close(*ret_fd);
	}
	return r;
}

static void
log_fault(const char *path, int r)
{
	switch (-r) {
	case EADDRINUSE:
		log_error(r,
		    "control socket %s: another wscastd is running on it; stop that "
		    "one, "
		    "or set server.control_socket",
		    path);
		break;
	case ENOTSOCK:
		log_error(
		    r, "control socket %s: something else is there; remove it", path);
		break;
	default:
		log_error(r,
		    "cannot make the control socket %s; its directory must be there "
		    "and "
		    "ours to write (server.control_socket)",
		    path);
	}
}

static void on_accept(struct ev_loop *loop, ev_io *io, int revents);

int
ctlsock_open(struct supervisor *s, const char *path, struct ctlsock **ret_sock)
{
	struct ctlsock *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return -ENOMEM;
	c->s = s;
	r = listen_at(path, &c->fd, &c->file);
	if (r < 0) {
		log_fault(path, r);
		free(c);
		return r;
	}
	ev_io_init(&c->accept_io, on_accept, c->fd, EV_READ);
	ev_io_start(s->loop, &c->accept_io);
	*ret_sock = c;
	return 0;
}

static void
client_free(struct ctl_client *c)
{
	struct ev_loop *loop = c->sock->s->loop;

	command_end(c);
	ev_io_stop(loop, &c->read_io);
	ev_io_stop(loop, &c->write_io);
	(void)close(c->fd);
	control_line_done(&c->in);
	outbuf_done(&c->out);
	free(c);
}

void
ctlsock_close(struct ctlsock *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < c->nclients; i++)
		client_free(c->clients[i]);
	ev_io_stop(c->s->loop, &c->accept_io);
	(void)close(c->fd);
	unix_file_remove(&c->file);
	free(c);
}

/* ---- output ---- */

void
client_put(struct ctl_client *c, const char *line, size_t len)
{
	if (line == NULL || outbuf_put(&c->out, line, len) < 0) {
		c->gone = true;
		return;
	}
	/* Also when it is queued behind this turn's client_turn(). */
	ev_io_start(c->sock->s->loop, &c->write_io);
}

static size_t
out_of_all(const struct ctlsock *sock)
{
	size_t len = 0;

	for (unsigned i = 0; i < sock->nclients; i++)
		len += sock->clients[i]->out.len;
	return len;
}

void
client_reply(struct ctl_client *c, char *line, size_t len)
{
	/* Many who ask for much and read nothing shall not take all memory; to wait
	 * for them would hold up the others. */
	if (line != NULL && len > OUT_PAUSE &&
	    out_of_all(c->sock) + len > OUT_ALL_MAX) {
		free(line);
		line = control_error(CONTROL_INTERNAL, &len,
		    "too many long answers wait to be read: ask for less, or later");
	}
	client_put(c, line, len);
	free(line);
}

bool
client_has_room(const struct ctl_client *c, size_t len)
{
	if (c->waits == CTL_WAITS_LIST)
		return false; /* it would come in the middle of a line */
	/* One message may be longer than all that may wait. */
	return c->out.len == 0 || c->out.len + len <= OUT_TAIL_MAX;
}

static void
client_send(struct ctl_client *c)
{
	int r = outbuf_send(&c->out, c->fd);

	c->blocked = r == -EAGAIN;
	if (r == 0)
		ev_io_stop(c->sock->s->loop, &c->write_io);
	else if (r != -EAGAIN)
		c->gone = true;
}

static void
on_write(struct ev_loop *loop, ev_io *io, int revents)
{
	struct ctl_client *c = container_of(io, struct ctl_client, write_io);

	c->blocked = false;
	client_send(c);
}

/* ---- input ---- */

static void
bad_line(struct ctl_client *c, const char *why)
{
	size_t len = 0;
	char *line = control_error(CONTROL_BAD_REQUEST, &len, "%s", why);

	client_reply(c, line, len);
}

/* The line is too long: say so, and close. */
static void
give_up(struct ctl_client *c)
{
	bad_line(c, "the line is too long");
	control_line_done(&c->in);
	c->ended = true;
}

/* A request may take milliseconds (it may look at each client), and the feed must not
 * wait for more than a few of them. At least one is taken in each turn. */
static bool
turn_is_over(struct ctlsock *sock)
{
	uint64_t now_ms = supervisor_now_ms();

	if (sock->turn_ms == 0)
		sock->turn_ms = now_ms;
	return now_ms - sock->turn_ms >= TURN_MS;
}

static void
take_request(struct ctl_client *c, const char *line, size_t len)
{
	char why[160];

	if (control_request_parse(line, len, &c->request, why, sizeof(why)) < 0) {
		c->request = NULL;
		bad_line(c, why);
	} else {
		command_run(c);
	}
}

static bool
may_run(const struct ctl_client *c)
{
	return !c->gone && c->waits == CTL_WAITS_NOT && c->out.len <= OUT_PAUSE;
}

/* Take requests while each is answered at once, and there is time. Returns whether none
 * is left. */
static bool
client_run(struct ctl_client *c)
{
	while (may_run(c)) {
		char *line;
		size_t len;
		int r;

		if (c->in.len > 0 && turn_is_over(c->sock))
			return false;
		r = control_line_next(&c->in, &line, &len);
		if (r == 0)
			return true;
		if (r < 0)
			give_up(c);
		else
			take_request(c, line, len);
	}
	return false;
}

/* Read some; client_turn() looks at it, and says when to read again. */
static void
on_read(struct ev_loop *loop, ev_io *io, int revents)
{
	struct ctl_client *c = container_of(io, struct ctl_client, read_io);
	size_t room;
	void *buf = control_line_room(&c->in, &room);
	ssize_t n;

	if (buf == NULL) {
		give_up(c);
		return;
	}
	n = recv(c->fd, buf, room, MSG_DONTWAIT);
	if (n > 0)
		control_line_fed(&c->in, (size_t)n);
	else if (n == 0)
		c->ended = true; /* its requests: what it asked is answered first */
	else if (errno != EAGAIN && errno != EINTR)
		c->gone = true;
}

/* ---- who ---- */

static bool
in_group(int fd, gid_t own, gid_t group)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (own == group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(gid_t); i++)
		if (groups[i] == group)
			return true;
	return false;
}

/* Who is at the other end: may it change things, and is it root or we ourselves? */
static void
look_at_peer(const struct ctlsock *sock, int fd, bool *ret_may_change, bool *ret_own)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	*ret_may_change = *ret_own = false;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return;
	*ret_own = peer.uid == 0 || peer.uid == geteuid();
	*ret_may_change = *ret_own || in_group(fd, peer.gid, sock->file.gid);
}

static void
refuse(int fd)
{
	size_t len = 0;
	char *line = control_error(CONTROL_INTERNAL, &len,
	    "too many clients of the control socket (at most %d): close one",
	    CTL_CLIENTS_MAX);

	if (line != NULL)
		(void)send(fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	free(line);
	(void)close(fd);
}

/* A socket that cannot be accepted stays readable: look away for a while. */
static void
accept_failed(struct ctlsock *sock)
{
	if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
		return;
	ev_io_stop(sock->s->loop, &sock->accept_io);
	sock->accept_again_ms = supervisor_now_ms() + ACCEPT_PAUSE_MS;
}

static void
on_accept(struct ev_loop *loop, ev_io *io, int revents)
{
	struct ctlsock *sock = container_of(io, struct ctlsock, accept_io);
	int fd = accept4(sock->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ctl_client *c = NULL;
	bool may_change, own;

	if (fd < 0) {
		accept_failed(sock);
		return;
	}
	look_at_peer(sock, fd, &may_change, &own);
	if (sock->nclients < CTL_CLIENTS_MAX - (own ? 0 : CTL_CLIENTS_RESERVED))
		c = calloc(1, sizeof(*c));
	if (c == NULL) {
		refuse(fd);
		return;
	}
	c->sock = sock;
	c->number = ++sock->last_number;
	c->fd = fd;
	c->may_change = may_change;
	control_line_init(&c->in, CONTROL_LINE_MAX);
	ev_io_init(&c->read_io, on_read, fd, EV_READ);
	ev_io_init(&c->write_io, on_write, fd, EV_WRITE);
	ev_io_start(loop, &c->read_io);
	sock->clients[sock->nclients++] = c;
}

/* ---- what the others tell ---- */

static void
put_missed(struct ctl_client *c)
{
	char line[48];
	int len = snprintf(
	    line, sizeof(line), "{\"missed\":%llu}\n", (unsigned long long)c->missed);

	c->missed = 0;
	client_put(c, line, (size_t)len);
}

static bool
tails(const struct ctl_client *c, uint32_t channel)
{
	for (unsigned i = 0; i < c->ntails; i++)
		if (c->tails[i] == channel)
			return c->waits != CTL_WAITS_TAIL;
	return false;
}

void
ctlsock_message(
    struct ctlsock *sock, uint32_t channel, const struct message *m, uint64_t time_ns)
{
	char *line = NULL;
	size_t len = 0;

	for (unsigned i = 0; i < sock->nclients; i++) {
		struct ctl_client *c = sock->clients[i];

		if (c->gone || !tails(c, channel))
			continue;
		if (line == NULL)
			line = control_message(m, time_ns, &len);
		if (line == NULL || !client_has_room(c, len)) {
			c->missed++;
			continue;
		}
		if (c->missed > 0)
			put_missed(c);
		client_put(c, line, len);
	}
	free(line);
}

void
ctlsock_live(struct ctlsock *sock, uint32_t channel, int err)
{
	for (unsigned i = 0; i < sock->nclients; i++)
		if (!sock->clients[i]->gone)
			command_live(sock->clients[i], channel, err);
}

void
ctlsock_published(struct ctlsock *sock, const struct receipt *receipt, int err)
{
	for (unsigned i = 0; i < sock->nclients; i++) {
		struct ctl_client *c = sock->clients[i];

		if (c->number == receipt->client && c->waits == CTL_WAITS_PUBLISH)
			command_published(c, err);
	}
}

void
ctlsock_expelled(
    struct ctlsock *sock, unsigned worker, uint64_t record, uint32_t closed)
{
	for (unsigned i = 0; i < sock->nclients; i++)
		if (!sock->clients[i]->gone)
			command_expelled(sock->clients[i], worker, record, closed);
}

void
ctlsock_resume(struct ctlsock *sock)
{
	for (unsigned i = 0; i < sock->nclients; i++)
		if (sock->clients[i]->waits == CTL_WAITS_ROOM)
			command_run(sock->clients[i]);
}

static void
send_now(struct ctl_client *c)
{
	if (c->out.len > 0 && !c->blocked && !c->gone)
		client_send(c);
}

/* Who waits for an answer is not read from, and might be gone for long. One that only
 * sends no more is still there. */
static void
look_after(struct ctl_client *c)
{
	struct pollfd p = {.fd = c->fd};
	uint64_t now_ms = supervisor_now_ms();

	if (c->waits == CTL_WAITS_NOT || now_ms - c->looked_ms < LOOK_MS)
		return;
	c->looked_ms = now_ms;
	if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0)
		c->gone = true;
}

/* End of a turn for one client: what is due, and whether it is read from. */
static void
client_turn(struct ctl_client *c)
{
	struct ev_loop *loop = c->sock->s->loop;
	bool hungry;

	if (c->waits != CTL_WAITS_LIST ||
	    (c->out.len <= OUT_PAUSE && !turn_is_over(c->sock)))
		command_turn(c);
	if (c->waits != CTL_WAITS_LIST && c->missed > 0 && c->out.len < OUT_PAUSE)
		put_missed(c);
	send_now(c);
	hungry = client_run(c);
	send_now(c);
	look_after(c);
	if (c->ended && hungry && c->out.len == 0)
		c->gone = true;
	/* More requests lie here, or more of an answer: the next turn comes when one
	 * could be sent. */
	if ((!hungry && may_run(c)) || (c->waits == CTL_WAITS_LIST && !c->gone))
		ev_io_start(loop, &c->write_io);
	if (hungry && !c->ended && !c->gone)
		ev_io_start(loop, &c->read_io);
	else
		ev_io_stop(loop, &c->read_io);
}

static void
accept_again(struct ctlsock *sock)
{
	if (sock->accept_again_ms == 0 || supervisor_now_ms() < sock->accept_again_ms)
		return;
	sock->accept_again_ms = 0;
	ev_io_start(sock->s->loop, &sock->accept_io);
}

void
ctlsock_flush(struct ctlsock *sock)
{
	unsigned n = sock->nclients;

	/* Another one first each time: time may end before all had their turn. */
	sock->first++;
	for (unsigned i = 0; i < n; i++) {
		struct ctl_client *c = sock->clients[(sock->first + i) % n];

		if (!c->gone)
			client_turn(c);
	}
	sock->turn_ms = 0;
	for (unsigned i = n; i-- > 0;) {
		struct ctl_client *c = sock->clients[i];

		if (!c->gone)
			continue;
		client_free(c);
		sock->clients[i] = sock->clients[--sock->nclients];
	}
	accept_again(sock);
}
