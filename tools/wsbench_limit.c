/*
 * wsbench_limit.c - sockets are served in the order in which they were accepted, from
 * one array; nothing is looked up, counted or timed on the way. What a socket does not
 * take at once is waited for, so that nothing is lost: where that happens, there is no
 * floor to be seen, and the process says how often when it ends.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#include "proto/frame.h"
#include "tools/wsbench_limit.h"
#include "tools/wsbench_wire.h"

#define REQUEST_MAX 8192
#define TRIGGER_LEN (4u << 20)
#define PROCESSES_MAX 512
#define TOKEN_LISTENER UINT32_MAX
#define TOKEN_CONTROL (UINT32_MAX - 1)
#define TOKEN_FEED (UINT32_MAX - 2)

struct floor_server {
	const struct limit_options *o;
	int epoll_fd, listener, control, feed; /* feed: the publisher, -1: none */
	int *fds;   /* of all clients, in the order of accepting; -1: gone */
	bool *open; /* the upgrade was answered */
	uint32_t n, capacity;
	uint8_t *trigger; /* what the publisher sent, not yet whole */
	size_t trigger_len;
	uint8_t *frames; /* to be sent */
	unsigned long blocked;
#ifdef HAVE_LIBURING
	struct io_uring ring;
#endif
};

/* -- sending -------------------------------------------------------------------- */

static void
drop_client(struct floor_server *f, uint32_t i)
{
	(void)close(f->fds[i]);
	f->fds[i] = -1;
	f->open[i] = false;
}

/* The rest of what a socket did not take. */
static void
send_rest(struct floor_server *f, uint32_t i, const uint8_t *data, size_t len)
{
	struct pollfd p = {.fd = f->fds[i], .events = POLLOUT};
	ssize_t n;

	f->blocked++;
	while (len > 0) {
		n = send(f->fds[i], data, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN && poll(&p, 1, 1000) > 0)
			continue;
		if (n < 0) {
			drop_client(f, i);
			return;
		}
		data += n;
		len -= (size_t)n;
	}
}

static void
send_plain(struct floor_server *f, const uint8_t *data, size_t len)
{
	ssize_t n;

	for (uint32_t i = 0; i < f->n; i++) {
		if (!f->open[i])
			continue;
		n = send(f->fds[i], data, len, MSG_NOSIGNAL);
		if (n != (ssize_t)len)
			send_rest(f, i, data + (n > 0 ? n : 0),
			    len - (size_t)(n > 0 ? n : 0));
	}
}

#ifdef HAVE_LIBURING

bool
limit_uring_works(void)
{
	struct io_uring ring;

	if (io_uring_queue_init(8, &ring, 0) < 0)
		return false;
	io_uring_queue_exit(&ring);
	return true;
}

static int
uring_init(struct floor_server *f)
{
	struct io_uring_params p = {
	    .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	int r = io_uring_queue_init_params(f->o->batch, &f->ring, &p);

	if (r == -EINVAL) /* before Linux 6.1 */
		r = io_uring_queue_init(f->o->batch, &f->ring, 0);
	return r;
}

/* Submit what is prepared, and look at each result. */
static void
finish_batch(struct floor_server *f, unsigned n, const uint8_t *data, size_t len)
{
	struct io_uring_cqe *cqe;
	unsigned head, seen = 0;

	if (io_uring_submit_and_wait(&f->ring, n) < 0)
		abort(); /* a floor that cannot send measures nothing */
	io_uring_for_each_cqe(&f->ring, head, cqe)
	{
		seen++;
		if (cqe->res != (int)len)
			send_rest(f, (uint32_t)cqe->user_data,
			    data + (cqe->res > 0 ? cqe->res : 0),
			    len - (size_t)(cqe->res > 0 ? cqe->res : 0));
	}
	io_uring_cq_advance(&f->ring, seen);
}

static void
send_uring(struct floor_server *f, const uint8_t *data, size_t len)
{
	struct io_uring_sqe *sqe;
	unsigned n = 0;

	for (uint32_t i = 0; i < f->n; i++) {
		if (!f->open[i])
			continue;
		sqe = io_uring_get_sqe(&f->ring);
		/* MSG_DONTWAIT: a full socket must answer, not be waited for. */
		io_uring_prep_send(
		    sqe, f->fds[i], data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		sqe->user_data = i;
		if (++n == f->o->batch) {
			finish_batch(f, n, data, len);
			n = 0;
		}
	}
	if (n > 0)
		finish_batch(f, n, data, len);
}

#else

bool
limit_uring_works(void)
{
	return false;
}

static int
uring_init(struct floor_server *f)
{
	return -ENOSYS;
}

static void
send_uring(struct floor_server *f, const uint8_t *data, size_t len)
{
	send_plain(f, data, len);
}

#endif

static void
send_all(struct floor_server *f, const uint8_t *data, size_t len)
{
	if (f->o->uring)
		send_uring(f, data, len);
	else
		send_plain(f, data, len);
}

/* -- the publisher -------------------------------------------------------------- */

/* Send what is whole; with `share` all of it at once. Returns the bytes taken. */
static size_t
take_triggers(struct floor_server *f)
{
	size_t pos = 0, len, n = 0;
	uint32_t size;

	while (f->trigger_len - pos >= 4) {
		memcpy(&size, f->trigger + pos, 4);
		len = le32toh(size);
		if (f->trigger_len - pos - 4 < len)
			break;
		n += frame_head(OPCODE_TEXT, len, f->frames + n);
		memcpy(f->frames + n, f->trigger + pos + 4, len);
		n += len;
		pos += 4 + len;
		if (!f->o->share) {
			send_all(f, f->frames, n);
			n = 0;
		}
	}
	if (n > 0)
		send_all(f, f->frames, n);
	return pos;
}

static void
on_feed(struct floor_server *f)
{
	ssize_t n = recv(f->feed, f->trigger + f->trigger_len,
	    TRIGGER_LEN - f->trigger_len, MSG_DONTWAIT);
	size_t taken;

	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		(void)close(f->feed);
		f->feed = -1;
		f->trigger_len = 0;
		return;
	}
	f->trigger_len += (size_t)n;
	taken = take_triggers(f);
	memmove(f->trigger, f->trigger + taken, f->trigger_len - taken);
	f->trigger_len -= taken;
}

/* -- clients -------------------------------------------------------------------- */

static void
watch(struct floor_server *f, int fd, uint32_t token, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.u32 = token};

	(void)epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

static bool
grow(struct floor_server *f)
{
	uint32_t capacity = f->capacity == 0 ? 4096 : f->capacity * 2;
	int *fds = realloc(f->fds, capacity * sizeof(*fds));
	bool *open;

	if (fds == NULL)
		return false;
	f->fds = fds;
	open = realloc(f->open, capacity * sizeof(*open));
	if (open == NULL)
		return false;
	f->open = open;
	f->capacity = capacity;
	return true;
}

static void
on_listener(struct floor_server *f)
{
	int fd, on = 1;

	/* A bounded number, then the messages have their turn. */
	for (int i = 0; i < 64; i++) {
		fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (f->n == f->capacity && !grow(f)) {
			(void)close(fd);
			return;
		}
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		f->fds[f->n] = fd;
		f->open[f->n] = false;
		watch(f, fd, f->n++, EPOLLIN | EPOLLRDHUP | EPOLLET);
	}
}

/* Answer the upgrade. A request comes in one piece from our own generator. */
static bool
answer(struct floor_server *f, uint32_t i, const char *request)
{
	static const char name[] = "sec-websocket-key:";
	const char *key = strcasestr(request, name);
	char accept[WIRE_ACCEPT_LEN + 1], text[256];
	int len;

	if (key == NULL)
		return false;
	key += sizeof(name) - 1;
	while (*key == ' ')
		key++;
	if (strlen(key) < WIRE_KEY_LEN || wire_accept(key, accept) < 0)
		return false;
	len = snprintf(text, sizeof(text),
	    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
	    accept);
	return send(f->fds[i], text, (size_t)len, MSG_NOSIGNAL) == len;
}

static void
on_client(struct floor_server *f, uint32_t i)
{
	char request[REQUEST_MAX + 1];
	ssize_t n;

	if (i >= f->n || f->fds == NULL || f->fds[i] < 0)
		return;
	n = recv(f->fds[i], request, REQUEST_MAX, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop_client(f, i);
		return;
	}
	if (f->open[i]) /* a pong, or a close that EOF will follow */
		return;
	request[n] = '\0';
	if (answer(f, i, request))
		f->open[i] = true;
	else
		drop_client(f, i);
}

static void
on_control(struct floor_server *f)
{
	int fd = accept4(f->control, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;

	if (fd < 0)
		return;
	if (f->feed >= 0)
		(void)close(f->feed);
	f->feed = fd;
	f->trigger_len = 0;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	watch(f, fd, TOKEN_FEED, EPOLLIN);
}

/* -- processes ------------------------------------------------------------------ */

static volatile sig_atomic_t stopping;

static void
on_signal(int sig)
{
	stopping = 1;
}

static int
listen_on(unsigned port, int *ret_fd)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons((uint16_t)port)};
	int r, on = 1,
	       fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(fd, 65535) < 0) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* A process's listening sockets. */
struct ports {
	int listener, control;
};

/* Before any process is there: whoever finds one of them open finds all, and clients
 * are spread over all from the first on. */
static int
ports_open(const struct limit_options *o, unsigned index, struct ports *ret)
{
	int r;

	*ret = (struct ports){.listener = -1, .control = -1};
	r = listen_on(o->control + index, &ret->control);
	if (r < 0)
		return r;
	r = listen_on(o->port, &ret->listener);
	if (r < 0)
		(void)close(ret->control);
	return r;
}

static void
ports_close(const struct ports *p)
{
	(void)close(p->listener);
	(void)close(p->control);
}

static int
server_init(struct floor_server *f)
{
	int r;

	f->trigger = malloc(TRIGGER_LEN);
	f->frames = malloc(2 * TRIGGER_LEN + FRAME_HEAD_MAX);
	f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (f->trigger == NULL || f->frames == NULL || f->epoll_fd < 0)
		return -ENOMEM;
	if (f->o->uring && (r = uring_init(f)) < 0)
		return r;
	watch(f, f->control, TOKEN_CONTROL, EPOLLIN);
	watch(f, f->listener, TOKEN_LISTENER, EPOLLIN);
	return 0;
}

static void
serve_loop(struct floor_server *f)
{
	struct epoll_event events[256];
	int n;

	while (!stopping) {
		n = epoll_wait(f->epoll_fd, events, 256, -1);
		for (int i = 0; i < n; i++) {
			switch (events[i].data.u32) {
			case TOKEN_LISTENER:
				on_listener(f);
				break;
			case TOKEN_CONTROL:
				on_control(f);
				break;
			case TOKEN_FEED:
				if (f->feed >= 0)
					on_feed(f);
				break;
			default:
				on_client(f, events[i].data.u32);
			}
		}
	}
}

static int
serve_one(const struct limit_options *o, unsigned index, const struct ports *ports)
{
	struct floor_server f = {.o = o,
	    .listener = ports[index].listener,
	    .control = ports[index].control,
	    .feed = -1};
	int r;

	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)prctl(PR_SET_NAME, "wsbench-limit");
	for (unsigned i = 0; i < o->processes; i++)
		if (i != index)
			ports_close(&ports[i]);
	r = server_init(&f);
	if (r < 0) {
		fprintf(stderr, "wsbench limit: process %u: %s\n", index, strerror(-r));
		return 1;
	}
	serve_loop(&f);
	if (f.blocked > 0)
		fprintf(stderr,
		    "wsbench limit: process %u waited %lu times for a full socket: "
		    "its figures are no floor\n",
		    index, f.blocked);
	return 0;
}

int
limit_serve(const struct limit_options *o)
{
	struct sigaction act = {.sa_handler = on_signal};
	struct rlimit limit;
	struct ports ports[PROCESSES_MAX] = {{-1, -1}};
	pid_t pids[PROCESSES_MAX];
	unsigned nports = 0, n = 0;
	int status, r = 0;

	(void)sigaction(SIGTERM, &act, NULL);
	(void)sigaction(SIGINT, &act, NULL);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	for (; r == 0 && nports < o->processes; nports += r == 0)
		r = ports_open(o, nports, &ports[nports]);
	for (; r == 0 && n < o->processes; n += r == 0) {
		pids[n] = fork();
		if (pids[n] == 0)
			_exit(serve_one(o, n, ports));
		r = pids[n] < 0 ? -errno : 0;
	}
	if (r < 0)
		fprintf(stderr, "wsbench limit: cannot start process %u: %s\n", n,
		    strerror(-r));
	for (unsigned i = 0; i < nports; i++)
		ports_close(&ports[i]);
	/* The end of one is the end of all: a floor with a hole measures nothing. */
	if (r == 0 && wait(&status) > 0 && !stopping)
		r = 1;
	for (unsigned i = 0; i < n; i++)
		(void)kill(pids[i], SIGTERM);
	while (wait(&status) > 0 || errno == EINTR)
		continue;
	return r != 0;
}

/* "--name=N" */
static bool
number(const char *arg, const char *name, unsigned *ret)
{
	size_t len = strlen(name);
	char *end;
	unsigned long v;

	if (strncmp(arg, name, len) != 0 || arg[len] != '=')
		return false;
	v = strtoul(arg + len + 1, &end, 10);
	if (*end != '\0' || v == 0 || v > 65535)
		return false;
	*ret = (unsigned)v;
	return true;
}

int
limit_main(int argc, char **argv)
{
	struct limit_options o = {.port = 9000, .control = 9100, .batch = LIMIT_BATCH};
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	o.processes = cores > 0 ? (unsigned)cores : 1;
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--uring") == 0)
			o.uring = true;
		else if (strcmp(argv[i], "--share") == 0)
			o.share = true;
		else if (!number(argv[i], "--port", &o.port) &&
			 !number(argv[i], "--control", &o.control) &&
			 !number(argv[i], "--processes", &o.processes) &&
			 !number(argv[i], "--batch", &o.batch)) {
			fprintf(stderr,
			    "usage: wsbench limit [--port=N] [--control=N] "
			    "[--processes=N] [--uring [--batch=N]] [--share]\n");
			return 2;
		}
	}
	if (o.processes > PROCESSES_MAX) {
		fprintf(stderr, "wsbench limit: at most %d processes\n", PROCESSES_MAX);
		return 2;
	}
	if (o.uring && !limit_uring_works()) {
		fprintf(stderr, "wsbench limit: no io_uring here\n");
		return 1;
	}
	return limit_serve(&o);
}
