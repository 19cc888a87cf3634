/* redis_link.c - see redis_link.h */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/outbuf.h"
#include "supervisor/redis_link.h"
#include "supervisor/resolver.h"
#include "supervisor/supervisor.h"

#define READ_SIZE (64u << 10) /* bytes in one turn */
#define CONNECT_S 5.0         /* to resolve, connect and greet */
#define PROBE_S 5.0
#define DELAY_MIN_MS 100u
#define DELAY_MAX_MS 10000u
#define SETTLED_MS 5000 /* a link that held for so long starts its waits anew */
#define GREETINGS_MAX 4

enum state { LINK_WAITING, LINK_RESOLVING, LINK_CONNECTING, LINK_GREETING, LINK_UP };

struct redis_link {
	struct redis_link_config cfg;
	enum state state;
	struct resolver resolver;
	struct resolved addresses;
	unsigned address; /* the next to be tried */

	int fd;
	redisReader *reader;
	redisReply *waiting; /* a reply that there was no room for */
	struct outbuf out;
	bool paused; /* not reading: on_reply() had no room */

	const char *greeting[GREETINGS_MAX]; /* commands that are not answered yet */
	unsigned ngreetings, greeted;

	uint64_t sent, answered; /* commands of a link that is no subscriber */
	uint64_t probe;          /* the probe's place among them */
	bool probing;
	uint64_t probe_ms;
	uint32_t lag_ms;
	bool heard; /* anything since the probe */

	unsigned delay_ms;
	uint64_t up_ms;
	ev_io read_io, write_io;
	ev_timer timer; /* of the state: wait, deadline, probe */
};

static void attempt(struct redis_link *l);
static void connect_next(struct redis_link *l);

static void
timer_set(struct redis_link *l, double seconds)
{
	ev_timer_stop(l->cfg.loop, &l->timer);
	ev_timer_set(&l->timer, seconds, 0.);
	ev_timer_start(l->cfg.loop, &l->timer);
}

static void
drop_socket(struct redis_link *l)
{
	if (l->fd >= 0) {
		ev_io_stop(l->cfg.loop, &l->read_io);
		ev_io_stop(l->cfg.loop, &l->write_io);
		(void)close(l->fd);
		l->fd = -1;
	}
	if (l->reader != NULL)
		redisReaderFree(l->reader);
	l->reader = NULL;
	if (l->waiting != NULL)
		freeReplyObject(l->waiting);
	l->waiting = NULL;
	outbuf_done(&l->out);
	l->paused = l->probing = false;
	l->sent = l->answered = 0;
}

static unsigned
jitter(unsigned ms)
{
	uint32_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)getpid(); /* early in the boot: hosts differ in it */
	return ms - random % (ms / 2);
}

/* Lost, or not made: wait, and try again. */
static void
fail(struct redis_link *l, const char *why)
{
	if (l->state == LINK_UP && supervisor_now_ms() - l->up_ms >= SETTLED_MS)
		l->delay_ms = DELAY_MIN_MS;
	resolver_cancel(&l->resolver);
	drop_socket(l);
	l->state = LINK_WAITING;
	timer_set(l, jitter(l->delay_ms) / 1000.);
	l->delay_ms = 2 * l->delay_ms < DELAY_MAX_MS ? 2 * l->delay_ms : DELAY_MAX_MS;
	l->cfg.on_down(l->cfg.owner, why);
}

static void
fail_errno(struct redis_link *l, int err)
{
	fail(l, strerror(err < 0 ? -err : err));
}

/* Redis' own words, made fit for a log. */
static void
fail_reply(struct redis_link *l, const char *command, const redisReply *reply)
{
	char quoted[160], why[224];

	(void)snprintf(why, sizeof(why), "%s: %s", command,
	    log_quote(reply->str, reply->len, quoted, sizeof(quoted)));
	fail(l, why);
}

/* ---- output ---- */

static int
put_command(
    struct redis_link *l, int argc, const char *const *argv, const size_t *argvlen)
{
	char *text = NULL;
	int r, len = (int)redisFormatCommandArgv(
		   &text, argc, (const char **)(uintptr_t)argv, argvlen);

	if (len < 0)
		return -ENOMEM;
	r = outbuf_put(&l->out, text, (size_t)len);
	redisFreeCommand(text);
	if (r == 0)
		l->sent++;
	return r;
}

void
redis_link_flush(struct redis_link *l)
{
	int r;

	if (l->state < LINK_GREETING || l->out.len == 0 || ev_is_active(&l->write_io))
		return;
	r = outbuf_send(&l->out, l->fd);
	if (r == -EAGAIN)
		ev_io_start(l->cfg.loop, &l->write_io);
	else if (r < 0)
		fail_errno(l, r);
}

int
redis_link_command(
    struct redis_link *l, int argc, const char *const *argv, const size_t *argvlen)
{
	return put_command(l, argc, argv, argvlen);
}

size_t
redis_link_queued(const struct redis_link *l)
{
	return l->out.len;
}

/* ---- greeting ---- */

static int
greet_with(struct redis_link *l, const char *command, const char *a, const char *b)
{
	const char *argv[3] = {command, a, b};
	size_t lens[3];
	int argc = b != NULL ? 3 : a != NULL ? 2 : 1;

	for (int i = 0; i < argc; i++)
		lens[i] = strlen(argv[i]);
	l->greeting[l->ngreetings++] = command;
	return put_command(l, argc, argv, lens);
}

/* All at once; the last one, PING, tells that Redis is ready to be used. */
static void
greet(struct redis_link *l)
{
	const struct redis_url *url = l->cfg.url;
	char db[16];
	int r = 0;

	l->state = LINK_GREETING;
	l->ngreetings = l->greeted = 0;
	l->reader = redisReaderCreate();
	if (l->reader == NULL) {
		fail_errno(l, ENOMEM);
		return;
	}
	if (url->password[0] != '\0')
		r = url->user[0] != '\0'
			? greet_with(l, "AUTH", url->user, url->password)
			: greet_with(l, "AUTH", url->password, NULL);
#if HIREDIS_MAJOR >= 1
	/* The reader knows RESP3's pushes. A Redis before 6 refuses, which is fine. */
	if (r == 0 && l->cfg.subscriber)
		r = greet_with(l, "HELLO", "3", NULL);
#endif
	(void)snprintf(db, sizeof(db), "%u", url->db);
	if (r == 0 && url->db > 0)
		r = greet_with(l, "SELECT", db, NULL);
	if (r == 0)
		r = greet_with(l, "PING", NULL, NULL);
	if (r < 0) {
		fail_errno(l, r);
		return;
	}
	ev_io_start(l->cfg.loop, &l->read_io);
	redis_link_flush(l);
}

/* Returns false when the link was lost. */
static bool
on_greeting_reply(struct redis_link *l, const redisReply *reply)
{
	const char *command = l->greeting[l->greeted++];

	if (reply->type == REDIS_REPLY_ERROR && strcmp(command, "HELLO") != 0) {
		fail_reply(l, command, reply);
		return false;
	}
	if (l->greeted < l->ngreetings)
		return true;
	l->state = LINK_UP;
	l->up_ms = supervisor_now_ms();
	l->sent = l->answered = 0;
	timer_set(l, PROBE_S);
	l->cfg.on_up(l->cfg.owner);
	return l->state == LINK_UP;
}

/* ---- input ---- */

static bool
word_is(const redisReply *r, const char *word)
{
	return r->str != NULL && strcasecmp(r->str, word) == 0;
}

static bool
is_probe_reply(struct redis_link *l, const redisReply *reply)
{
	if (!l->probing)
		return false;
	if (!l->cfg.subscriber)
		return l->answered == l->probe;
	/* RESP2 answers in kind: an array while anything is subscribed. */
	return (reply->type == REDIS_REPLY_STATUS && word_is(reply, "PONG")) ||
	       (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
		   word_is(reply->element[0], "pong"));
}

enum given { GIVEN, GIVEN_NO_ROOM, GIVEN_LOST };

/* Hand one reply on. Frees it, unless there was no room. */
static enum given
give(struct redis_link *l, redisReply *reply)
{
	bool ok = true;

	if (l->state == LINK_GREETING) {
		ok = on_greeting_reply(l, reply);
		freeReplyObject(reply);
		return ok ? GIVEN : GIVEN_LOST;
	}
	if (is_probe_reply(l, reply)) {
		bool error = reply->type == REDIS_REPLY_ERROR;

		l->probing = false;
		l->lag_ms = (uint32_t)(supervisor_now_ms() - l->probe_ms);
		if (error)
			fail_reply(l, "PING", reply);
		else
			l->answered++;
		freeReplyObject(reply);
		return error ? GIVEN_LOST : GIVEN;
	}
	if (!l->cfg.on_reply(l->cfg.owner, reply)) {
		l->waiting = reply;
		return GIVEN_NO_ROOM;
	}
	freeReplyObject(reply);
	l->answered++;
	return l->state == LINK_UP ? GIVEN : GIVEN_LOST;
}

/* Hand on all that is whole. */
static void
take_replies(struct redis_link *l)
{
	void *reply;
	enum given given = GIVEN;

	while (given == GIVEN) {
		reply = NULL;
		if (redisReaderGetReply(l->reader, &reply) != REDIS_OK) {
			fail(l, "it does not talk the Redis protocol");
			return;
		}
		if (reply == NULL)
			break;
		given = give(l, reply);
	}
	if (given == GIVEN_NO_ROOM) {
		l->paused = true;
		ev_io_stop(l->cfg.loop, &l->read_io);
	}
	if (given == GIVEN && l->reader->len - l->reader->pos > l->cfg.reply_max)
		fail(l, "it sent a reply that is too long");
}

void
redis_link_resume(struct redis_link *l)
{
	redisReply *reply = l->waiting;

	if (!l->paused)
		return;
	l->waiting = NULL;
	if (reply != NULL && give(l, reply) != GIVEN)
		return; /* still no room, or lost */
	l->paused = false;
	take_replies(l);
	if (l->state >= LINK_GREETING && !l->paused)
		ev_io_start(l->cfg.loop, &l->read_io);
}

static void
on_link_readable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct redis_link *l = container_of(io, struct redis_link, read_io);
	char buf[READ_SIZE];
	ssize_t n = recv(l->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		fail_errno(l, errno);
		return;
	}
	if (n == 0) {
		fail(l, "it closed the connection");
		return;
	}
	l->heard = true;
	if (redisReaderFeed(l->reader, buf, (size_t)n) != REDIS_OK) {
		fail_errno(l, ENOMEM);
		return;
	}
	take_replies(l);
}

/* ---- connecting ---- */

static void
on_link_writable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct redis_link *l = container_of(io, struct redis_link, write_io);
	int err = 0;
	socklen_t len = sizeof(err);

	ev_io_stop(loop, io);
	if (l->state != LINK_CONNECTING) {
		redis_link_flush(l);
		return;
	}
	if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err == 0) {
		greet(l);
	} else if (l->address < l->addresses.n) {
		drop_socket(l);
		connect_next(l);
	} else {
		fail_errno(l, err);
	}
}

static int
begin_connect(struct redis_link *l, const struct sockaddr *sa, socklen_t len)
{
	int on = 1;

	l->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return -errno;
	ev_io_init(&l->read_io, on_link_readable, l->fd, EV_READ);
	ev_io_init(&l->write_io, on_link_writable, l->fd, EV_WRITE);
	if (sa->sa_family != AF_UNIX)
		(void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(l->fd, sa, len) < 0 && errno != EINPROGRESS)
		return -errno;
	l->state = LINK_CONNECTING;
	ev_io_start(l->cfg.loop, &l->write_io);
	return 0;
}

static void
connect_next(struct redis_link *l)
{
	int r = -ENOENT;

	while (r < 0 && l->address < l->addresses.n) {
		unsigned i = l->address++;

		drop_socket(l);
		r = begin_connect(l, (const struct sockaddr *)&l->addresses.addr[i],
		    l->addresses.len[i]);
	}
	if (r < 0)
		fail_errno(l, r);
}

static void
connect_unix(struct redis_link *l)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int r;

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", l->cfg.url->path);
	l->addresses.n = l->address = 0;
	r = begin_connect(l, (const struct sockaddr *)&sa, sizeof(sa));
	if (r < 0)
		fail_errno(l, r);
}

static void
on_link_resolved(void *owner, const struct resolved *res)
{
	struct redis_link *l = owner;

	if (res->error != 0 || res->n == 0 || res->n > RESOLVER_ADDRESSES_MAX) {
		fail(l,
		    res->error != 0 ? gai_strerror(res->error) : "it has no address");
		return;
	}
	l->addresses = *res;
	l->address = 0;
	connect_next(l);
}

static void
attempt(struct redis_link *l)
{
	struct resolved res;
	int r;

	timer_set(l, CONNECT_S);
	if (l->cfg.url->path[0] != '\0') {
		connect_unix(l);
		return;
	}
	l->state = LINK_RESOLVING;
	r = resolver_ask(&l->resolver, l->cfg.url->host, l->cfg.url->port, &res);
	if (r < 0)
		fail_errno(l, r);
	else if (r > 0)
		on_link_resolved(l, &res);
}

/* ---- time ---- */

static void
probe(struct redis_link *l)
{
	static const char *const argv[] = {"PING"};
	static const size_t lens[] = {4};

	timer_set(l, PROBE_S);
	/* What we do not read cannot be held against it; nor can its PONG be when it is
	 * behind messages that still come. */
	if (l->probing && !l->paused && !l->heard) {
		fail(l, "it did not answer for 5 s");
		return;
	}
	l->heard = false;
	if (l->probing)
		return;
	l->probing = true;
	l->probe = l->sent;
	l->probe_ms = supervisor_now_ms();
	if (put_command(l, 1, argv, lens) < 0)
		fail_errno(l, ENOMEM);
	else
		redis_link_flush(l);
}

static void
on_link_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct redis_link *l = container_of(t, struct redis_link, timer);

	if (l->state == LINK_WAITING)
		attempt(l);
	else if (l->state == LINK_UP)
		probe(l);
	else
		fail(l, l->state == LINK_RESOLVING ? "the name server did not answer"
			: l->state == LINK_CONNECTING
			    ? "it did not accept the connection in 5 s"
			    : "it did not answer in 5 s");
}

/* ---- life ---- */

int
redis_link_new(const struct redis_link_config *cfg, struct redis_link **ret_link)
{
	struct redis_link *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return -ENOMEM;
	l->cfg = *cfg;
	l->fd = l->resolver.fd = -1;
	l->resolver.loop = cfg->loop;
	l->resolver.on_resolved = on_link_resolved;
	l->resolver.owner = l;
	l->delay_ms = DELAY_MIN_MS;
	l->state = LINK_WAITING;
	ev_timer_init(&l->timer, on_link_timer, 0., 0.);
	ev_timer_start(cfg->loop, &l->timer);
	*ret_link = l;
	return 0;
}

void
redis_link_free(struct redis_link *l)
{
	if (l == NULL)
		return;
	ev_timer_stop(l->cfg.loop, &l->timer);
	resolver_cancel(&l->resolver);
	drop_socket(l);
	free(l);
}

bool
redis_link_up(const struct redis_link *l)
{
	return l->state == LINK_UP;
}

uint32_t
redis_link_lag_ms(const struct redis_link *l)
{
	return l->lag_ms;
}
