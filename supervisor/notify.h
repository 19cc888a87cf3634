/*
 * notify.h - what systemd is told: READY=1, RELOADING=1, STATUS=, WATCHDOG=1,
 * STOPPING=1, EXTEND_TIMEOUT_USEC=. Without systemd all of it does nothing, and never
 * does it wait for systemd.
 */
#ifndef WSCAST_SUPERVISOR_NOTIFY_H
#define WSCAST_SUPERVISOR_NOTIFY_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct notify;

/*
 * loop     borrowed; the watchdog, if systemd asked for one, is fed from it at half of
 *          its time: a loop that hangs does not feed it.
 * on_feed  asked before: false when something else hangs, and it is not to be fed.
 */
int notify_new(struct ev_loop *loop, bool (*on_feed)(void *owner), void *owner,
    struct notify **ret_notify) __attribute__((warn_unused_result));
void notify_free(struct notify *n);

void notify_ready(struct notify *n);
/* notify_ready() says that it is over. */
void notify_reloading(struct notify *n);
void notify_stopping(struct notify *n);
/* What we are about may take so long from now on, and is no reason to be killed. */
void notify_extend(struct notify *n, uint64_t ms);
/* One line for `systemctl status`. */
void notify_status(struct notify *n, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
