/*
 * notify.c - see notify.h
 *
 * The datagrams are sent by ourselves: sd_notify() waits when the manager's queue is
 * full, and a manager that hangs must not stop us. What must not be lost is sent again.
 *
 * Source   sd_notify(3), sd_watchdog_enabled(3)
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/feed.h"
#include "supervisor/notify.h"

#define RETRY_S 0.5

struct notify {
	struct ev_loop *loop;
	int fd; /* -1: nobody wants to know */
	struct sockaddr_un to;
	socklen_t to_len;
	const char *pending; /* of READY=1 and STOPPING=1: not taken yet */
	char status[256];    /* as it was sent last */
	ev_timer watchdog, retry;
	bool (*on_feed)(void *owner);
	void *owner;
};

static bool
send_line(const struct notify *n, const char *line)
{
	return n->fd < 0 ||
	       sendto(n->fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&n->to, n->to_len) >= 0 ||
	       (errno != EAGAIN && errno != ENOBUFS);
}

static void
on_notify_retry(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct notify *n = container_of(t, struct notify, retry);

	if (n->pending == NULL || send_line(n, n->pending)) {
		n->pending = NULL;
		ev_timer_stop(loop, t);
	}
}

static void
send_surely(struct notify *n, const char *line)
{
	n->pending = NULL;
	if (send_line(n, line))
		return;
	n->pending = line;
	ev_timer_again(n->loop, &n->retry);
}

static void
on_notify_watchdog(struct ev_loop *loop, ev_timer *t, int revents)
{
	const struct notify *n = container_of(t, struct notify, watchdog);

	if (n->on_feed(n->owner))
		(void)send_line(n, "WATCHDOG=1");
}

/* Where the manager listens: a path, or @name for an abstract socket. */
static int
manager_address(struct notify *n, const char *where)
{
	size_t len = strlen(where);

	if ((where[0] != '/' && where[0] != '@') || len >= sizeof(n->to.sun_path))
		return -EINVAL;
	n->to.sun_family = AF_UNIX;
	memcpy(n->to.sun_path, where, len);
	if (where[0] == '@')
		n->to.sun_path[0] = '\0';
	n->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len +
				(where[0] == '/' ? 1 : 0));
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return n->fd < 0 ? -errno : 0;
}

int
notify_new(struct ev_loop *loop, bool (*on_feed)(void *owner), void *owner,
    struct notify **ret_notify)
{
	struct notify *n = calloc(1, sizeof(*n));
	const char *where = getenv("NOTIFY_SOCKET");
	uint64_t usec = 0;
	int r;

	if (n == NULL)
		return -ENOMEM;
	n->loop = loop;
	n->on_feed = on_feed;
	n->owner = owner;
	n->fd = -1;
	ev_timer_init(&n->retry, on_notify_retry, 0., RETRY_S);
	r = where == NULL ? 0 : manager_address(n, where);
	if (r < 0) {
		free(n);
		return r;
	}
	if (sd_watchdog_enabled(0, &usec) > 0 && usec > 0) {
		double half_s = (double)usec / 2e6;

		ev_timer_init(&n->watchdog, on_notify_watchdog, half_s, half_s);
		ev_timer_start(loop, &n->watchdog);
	}
	*ret_notify = n;
	return 0;
}

void
notify_free(struct notify *n)
{
	if (n == NULL)
		return;
	ev_timer_stop(n->loop, &n->watchdog);
	ev_timer_stop(n->loop, &n->retry);
	if (n->fd >= 0)
		(void)close(n->fd);
	free(n);
}

void
notify_ready(struct notify *n)
{
	send_surely(n, "READY=1");
}

/* MONOTONIC_USEC= lets the manager tell this reload from the one before. */
void
notify_reloading(struct notify *n)
{
	struct timespec ts;
	char line[64];

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	(void)snprintf(line, sizeof(line), "RELOADING=1\nMONOTONIC_USEC=%llu",
	    (unsigned long long)ts.tv_sec * 1000000 +
		(unsigned long long)ts.tv_nsec / 1000);
	(void)send_line(n, line);
}

void
notify_stopping(struct notify *n)
{
	send_surely(n, "STOPPING=1");
}

void
notify_extend(struct notify *n, uint64_t ms)
{
	char line[64];

	(void)snprintf(line, sizeof(line), "EXTEND_TIMEOUT_USEC=%llu",
	    (unsigned long long)ms * 1000);
	(void)send_line(n, line);
}

void
notify_status(struct notify *n, const char *fmt, ...)
{
	char line[sizeof(n->status)];
	va_list ap;
	int len = snprintf(line, sizeof(line), "STATUS=");

	va_start(ap, fmt);
	(void)vsnprintf(line + len, sizeof(line) - (size_t)len, fmt, ap);
	va_end(ap);
	if (strcmp(line, n->status) != 0 && send_line(n, line))
		memcpy(n->status, line, sizeof(line));
}
