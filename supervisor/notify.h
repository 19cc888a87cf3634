/*
 * notify.h - what systemd is told: READY=1, RELOADING=1, STATUS=, WATCHDOG=1,
 * STOPPING=1. Without
 * systemd all of it does nothing, and never does it wait for systemd.
 */
#ifndef WSCAST_SUPERVISOR_NOTIFY_H
#define WSCAST_SUPERVISOR_NOTIFY_H

#include <ev.h>

struct notify;

/* loop: borrowed; the watchdog, if systemd asked for one, is fed from it at half of
 * its time: a loop that hangs does not feed it. */
int notify_new(struct ev_loop *loop, struct notify **ret_notify)
    __attribute__((warn_unused_result));
void notify_free(struct notify *n);

void notify_ready(struct notify *n);
/* notify_ready() says that it is over. */
void notify_reloading(struct notify *n);
void notify_stopping(struct notify *n);
/* One line for `systemctl status`. */
void notify_status(struct notify *n, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
