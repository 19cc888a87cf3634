/* redis_conn.c - see redis_conn.h */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/feed.h"
#include "supervisor/redis_conn.h"
#include "supervisor/redis_error.h"
#include "supervisor/redis_tls.h"

#define PASSWORD_MAX 512

static void connect_next(struct redis_conn *c);

void
redis_conn_close(struct redis_conn *c)
{
	ev_timer_stop(c->cfg.loop, &c->deadline);
	resolver_cancel(&c->resolver);
	redis_tls_free(c->tls);
	c->tls = NULL;
	if (c->fd >= 0) {
		ev_io_stop(c->cfg.loop, &c->read_io);
		ev_io_stop(c->cfg.loop, &c->write_io);
		(void)close(c->fd);
		c->fd = -1;
	}
	if (!c->giving) /* else give() has a reply of it in hand */
		redis_input_free(c->input);
	c->input = NULL;
	c->waiting = NULL;
	outbuf_done(&c->out);
	c->paused = false;
	c->state = CONN_CLOSED;
	c->life++;
}

static void
fail(struct redis_conn *c, const char *why)
{
	redis_conn_close(c);
	c->cfg.on_down(c->cfg.owner, why);
}

static void
fail_errno(struct redis_conn *c, int err)
{
	fail(c, strerror(err < 0 ? -err : err));
}

/* Of the TLS layer, or of the socket. */
static void
fail_io(struct redis_conn *c, int err)
{
	char why[256];

	if (err != -EPROTO || c->tls == NULL) {
		fail_errno(c, err);
		return;
	}
	(void)snprintf(why, sizeof(why), "%s", redis_tls_why(c->tls));
	fail(c, why);
}

/* Redis' own words, made fit for a log. */
static void
fail_reply(struct redis_conn *c, const char *command, const redisReply *reply)
{
	char quoted[160], why[224];

	(void)snprintf(why, sizeof(why), "%s: %s", command,
	    redis_error_text(reply, quoted, sizeof(quoted)));
	fail(c, why);
}

/* ---- output ---- */

int
redis_conn_command(
    struct redis_conn *c, int argc, const char *const *argv, const size_t *argvlen)
{
	char *text = NULL;
	int r, len = (int)redisFormatCommandArgv(
		   &text, argc, (const char **)(uintptr_t)argv, argvlen);

	if (len < 0)
		return -ENOMEM;
	r = outbuf_put(&c->out, text, (size_t)len);
	redisFreeCommand(text);
	return r;
}

size_t
redis_conn_queued(const struct redis_conn *c)
{
	return c->out.len;
}

static int
send_tls(struct redis_conn *c)
{
	while (c->out.len > 0) {
		ssize_t n =
		    redis_tls_write(c->tls, c->out.buf + c->out.start, c->out.len);

		if (n < 0)
			return (int)n;
		outbuf_took(&c->out, (size_t)n);
	}
	return 0;
}

void
redis_conn_flush(struct redis_conn *c)
{
	int r;

	if (c->state < CONN_GREETING || c->out.len == 0 || ev_is_active(&c->write_io))
		return;
	r = c->tls != NULL ? send_tls(c) : outbuf_send(&c->out, c->fd);
	if (r == -EAGAIN)
		ev_io_start(c->cfg.loop, &c->write_io);
	else if (r < 0)
		fail_io(c, r);
}

/* ---- greeting ---- */

static int
greet_with(struct redis_conn *c, const char *command, const char *a, const char *b)
{
	const char *argv[3] = {command, a, b};
	size_t lens[3];
	int argc = b != NULL ? 3 : a != NULL ? 2 : 1;

	for (int i = 0; i < argc; i++)
		lens[i] = strlen(argv[i]);
	c->greeting[c->ngreetings++] = command;
	return redis_conn_command(c, argc, argv, lens);
}

/* The first line of a file. Returns 0 or -errno. */
static int
read_password(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, out, size - 1);
	if (n < 0)
		n = -errno;
	(void)close(fd);
	if (n < 0)
		return (int)n;
	out[n] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	return out[0] != '\0' ? 0 : -ENODATA;
}

static int
greet_auth(struct redis_conn *c)
{
	const struct redis_login *login = c->cfg.login;
	const char *password = login->password;
	char read[PASSWORD_MAX] = "";
	int r;

	if (login->password_file[0] != '\0') {
		r = read_password(login->password_file, read, sizeof(read));
		if (r < 0)
			return r;
		password = read;
	}
	if (password[0] == '\0')
		return 0;
	r = login->user[0] != '\0' ? greet_with(c, "AUTH", login->user, password)
				   : greet_with(c, "AUTH", password, NULL);
	explicit_bzero(read, sizeof(read));
	return r;
}

/* All at once; the last one, PING, tells that Redis is ready to be used. */
static int
greet_all(struct redis_conn *c)
{
	char db[16];
	int r = 0;

#if HIREDIS_MAJOR >= 1
	/* The reader knows RESP3's pushes. A Redis before 6 refuses, which is fine. */
	if (c->cfg.subscriber)
		r = greet_with(c, "HELLO", "3", NULL);
#endif
	(void)snprintf(db, sizeof(db), "%u", c->cfg.login->db);
	if (r == 0 && c->cfg.login->db > 0)
		r = greet_with(c, "SELECT", db, NULL);
	if (r == 0 && c->cfg.form == REDIS_SENTINEL)
		r = greet_with(c, "ROLE", NULL, NULL);
	if (r == 0 && c->cfg.form == REDIS_CLUSTER)
		r = greet_with(c, "CLUSTER", "INFO", NULL);
	if (r == 0)
		r = greet_with(c, "PING", NULL, NULL);
	return r;
}

static void
greet(struct redis_conn *c)
{
	char why[256];
	int r;

	c->state = CONN_GREETING;
	c->ngreetings = c->greeted = 0;
	c->input = redis_input_new(c->cfg.subscriber, c->cfg.reply_max);
	if (c->input == NULL) {
		fail_errno(c, ENOMEM);
		return;
	}
	r = greet_auth(c);
	if (r < 0 && r != -ENOMEM) {
		(void)snprintf(why, sizeof(why),
		    "cannot read the password in %.160s: %s",
		    c->cfg.login->password_file, strerror(-r));
		fail(c, why);
		return;
	}
	if (r == 0)
		r = greet_all(c);
	if (r < 0) {
		fail_errno(c, r);
		return;
	}
	ev_io_start(c->cfg.loop, &c->read_io);
	redis_conn_flush(c);
}

/* Whether the answer to ROLE names a master. */
static bool
is_master(const redisReply *r)
{
	return r->type == REDIS_REPLY_ARRAY && r->elements > 0 &&
	       r->element[0]->str != NULL && strcmp(r->element[0]->str, "master") == 0;
}

static void
on_greeting_reply(struct redis_conn *c, const redisReply *reply)
{
	const char *command = c->greeting[c->greeted++];

	if (reply->type == REDIS_REPLY_ERROR && strcmp(command, "HELLO") != 0) {
		fail_reply(c, command, reply);
		return;
	}
	if (strcmp(command, "ROLE") == 0 && !is_master(reply)) {
		fail(c, "it is a replica, though it is said to be the master");
		return;
	}
	if (strcmp(command, "CLUSTER") == 0 &&
	    (reply->str == NULL || strstr(reply->str, "cluster_state:ok") == NULL)) {
		fail(c, "it says that the cluster is down");
		return;
	}
	if (c->greeted < c->ngreetings)
		return;
	c->state = CONN_UP;
	ev_timer_stop(c->cfg.loop, &c->deadline);
	c->cfg.on_up(c->cfg.owner);
}

/* ---- input ---- */

enum given { GIVEN, GIVEN_NO_ROOM, GIVEN_LOST };

static enum given
give(struct redis_conn *c, const redisReply *reply)
{
	struct redis_input *input = c->input;
	uint64_t life = c->life;
	bool taken = true;

	c->giving = true;
	if (c->state == CONN_GREETING)
		on_greeting_reply(c, reply);
	else
		taken = c->cfg.on_reply(c->cfg.owner, reply);
	c->giving = false;
	if (c->life != life) {
		redis_input_free(input);
		return GIVEN_LOST;
	}
	c->waiting = taken ? NULL : reply;
	return taken ? GIVEN : GIVEN_NO_ROOM;
}

/* Hand on all that is whole. */
static void
take_replies(struct redis_conn *c)
{
	const redisReply *reply;
	enum redis_input_result r;
	enum given given = GIVEN;

	while ((r = redis_input_next(c->input, &reply)) == INPUT_REPLY) {
		given = give(c, reply);
		if (given != GIVEN)
			break;
	}
	if (given == GIVEN_NO_ROOM) {
		c->paused = true;
		ev_io_stop(c->cfg.loop, &c->read_io);
	}
	if (r == INPUT_BROKEN)
		fail(c, "it does not talk the Redis protocol");
	else if (r == INPUT_TOO_LONG)
		fail(c, "it sent a reply that is too long");
	else if (r == INPUT_NO_MEMORY)
		fail_errno(c, ENOMEM);
}

void
redis_conn_resume(struct redis_conn *c)
{
	const redisReply *reply = c->waiting;

	if (!c->paused)
		return;
	if (reply != NULL && give(c, reply) != GIVEN)
		return; /* still no room, or lost */
	c->paused = false;
	ev_io_start(c->cfg.loop, &c->read_io);
	take_replies(c);
}

static ssize_t
receive(struct redis_conn *c, void *buf, size_t len)
{
	ssize_t n;

	if (c->tls != NULL) {
		n = redis_tls_read(c->tls, buf, len);
		if (n == -EAGAIN && redis_tls_wants_write(c->tls))
			ev_io_start(c->cfg.loop, &c->write_io);
		return n;
	}
	n = recv(c->fd, buf, len, MSG_DONTWAIT);
	if (n < 0)
		n = errno == EINTR ? -EAGAIN : -errno;
	return n;
}

static void shake_hands(struct redis_conn *c);

static void
on_conn_readable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct redis_conn *c = container_of(io, struct redis_conn, read_io);
	size_t room;
	char *buf;
	ssize_t n;

	if (c->state == CONN_TLS) {
		shake_hands(c);
		return;
	}
	buf = redis_input_room(c->input, &room);
	if (buf == NULL) {
		fail_errno(c, ENOMEM);
		return;
	}
	n = receive(c, buf, room);
	if (n == -EAGAIN)
		return;
	if (n < 0) {
		fail_io(c, (int)n);
		return;
	}
	if (n == 0) {
		fail(c, "it closed the connection");
		return;
	}
	c->heard = true;
	redis_input_add(c->input, (size_t)n);
	take_replies(c);
}

/* ---- connecting ---- */

static void
shake_hands(struct redis_conn *c)
{
	int r = redis_tls_handshake(c->tls);

	if (r == 0) {
		greet(c);
		return;
	}
	if (r != -EAGAIN) {
		fail_io(c, r);
		return;
	}
	ev_io_start(c->cfg.loop, &c->read_io);
	if (redis_tls_wants_write(c->tls))
		ev_io_start(c->cfg.loop, &c->write_io);
}

static void
begin_tls(struct redis_conn *c)
{
	const struct redis_login *login = c->cfg.login;
	struct redis_tls_config cfg = {
	    .ca = login->ca,
	    .certificate = login->certificate,
	    .key = login->key,
	    .host = c->address.host,
	};
	char why[256];

	if (redis_tls_new(&cfg, c->fd, why, sizeof(why), &c->tls) < 0) {
		fail(c, why);
		return;
	}
	c->state = CONN_TLS;
	shake_hands(c);
}

static void
on_connected(struct redis_conn *c)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err != 0 && c->next < c->resolved.n)
		connect_next(c);
	else if (err != 0)
		fail_errno(c, err);
	else if (c->cfg.login->tls && c->address.path[0] == '\0')
		begin_tls(c);
	else
		greet(c);
}

static void
on_conn_writable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct redis_conn *c = container_of(io, struct redis_conn, write_io);

	ev_io_stop(loop, io);
	if (c->state == CONN_CONNECTING)
		on_connected(c);
	else if (c->state == CONN_TLS)
		shake_hands(c);
	else
		redis_conn_flush(c);
}

static int
begin_connect(struct redis_conn *c, const struct sockaddr *sa, socklen_t len)
{
	int on = 1;

	c->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	ev_io_init(&c->read_io, on_conn_readable, c->fd, EV_READ);
	ev_io_init(&c->write_io, on_conn_writable, c->fd, EV_WRITE);
	if (sa->sa_family != AF_UNIX)
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(c->fd, sa, len) < 0 && errno != EINPROGRESS)
		return -errno;
	c->state = CONN_CONNECTING;
	ev_io_start(c->cfg.loop, &c->write_io);
	return 0;
}

static void
connect_next(struct redis_conn *c)
{
	int r = -ENOENT;

	while (r < 0 && c->next < c->resolved.n) {
		unsigned i = c->next++;

		if (c->fd >= 0) {
			ev_io_stop(c->cfg.loop, &c->write_io);
			(void)close(c->fd);
			c->fd = -1;
		}
		r = begin_connect(c, (const struct sockaddr *)&c->resolved.addr[i],
		    c->resolved.len[i]);
	}
	if (r < 0)
		fail_errno(c, r);
}

static void
connect_unix(struct redis_conn *c)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int r;

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", c->address.path);
	c->resolved.n = c->next = 0;
	r = begin_connect(c, (const struct sockaddr *)&sa, sizeof(sa));
	if (r < 0)
		fail_errno(c, r);
}

static void
on_conn_resolved(void *owner, const struct resolved *res)
{
	struct redis_conn *c = owner;

	if (res->error != 0 || res->n == 0 || res->n > RESOLVER_ADDRESSES_MAX) {
		fail(c,
		    res->error != 0 ? gai_strerror(res->error) : "it has no address");
		return;
	}
	c->resolved = *res;
	c->next = 0;
	connect_next(c);
}

static void
on_conn_deadline(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct redis_conn *c = container_of(t, struct redis_conn, deadline);
	char why[80];

	(void)snprintf(why, sizeof(why), "%s in %g s",
	    c->state == CONN_RESOLVING    ? "the name server did not answer"
	    : c->state == CONN_CONNECTING ? "it did not accept the connection"
	    : c->state == CONN_TLS        ? "it did not answer the TLS handshake"
					  : "it did not answer",
	    c->cfg.timeout_s);
	fail(c, why);
}

void
redis_conn_open(struct redis_conn *c, const struct redis_address *address)
{
	struct resolved res;
	int r;

	c->address = *address;
	ev_timer_set(&c->deadline, c->cfg.timeout_s, 0.);
	ev_timer_start(c->cfg.loop, &c->deadline);
	if (address->path[0] != '\0') {
		connect_unix(c);
		return;
	}
	c->state = CONN_RESOLVING;
	r = resolver_ask(&c->resolver, address->host, address->port, &res);
	if (r < 0)
		fail_errno(c, r);
	else if (r > 0)
		on_conn_resolved(c, &res);
}

void
redis_conn_init(struct redis_conn *c, const struct redis_conn_config *cfg)
{
	*c = (struct redis_conn){.cfg = *cfg, .fd = -1};
	c->resolver.fd = -1;
	c->resolver.loop = cfg->loop;
	c->resolver.on_resolved = on_conn_resolved;
	c->resolver.owner = c;
	ev_timer_init(&c->deadline, on_conn_deadline, 0., 0.);
}

bool
redis_conn_up(const struct redis_conn *c)
{
	return c->state == CONN_UP;
}
