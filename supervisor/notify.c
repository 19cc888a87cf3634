/* notify.c - see notify.h */
#include "supervisor/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

struct notify {
	struct ev_loop *loop;
	ev_timer watchdog;
};

static void
on_notify_watchdog(struct ev_loop *loop, ev_timer *t, int revents)
{
	(void)sd_notify(0, "WATCHDOG=1");
}

int
notify_new(struct ev_loop *loop, struct notify **ret_notify)
{
	struct notify *n = calloc(1, sizeof(*n));
	uint64_t usec = 0;

	if (n == NULL)
		return -ENOMEM;
	n->loop = loop;
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
	free(n);
}

void
notify_ready(void)
{
	(void)sd_notify(0, "READY=1");
}

void
notify_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1");
}

void
notify_status(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	(void)sd_notifyf(0, "STATUS=%s", line);
}
