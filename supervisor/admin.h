/*
 * admin.h - the admin listener: /metrics, /health, /ready, and POST /publish, over
 * HTTP.
 *
 * libmicrohttpd on an epoll descriptor of its own, which the supervisor's loop watches:
 * no thread, and no call that waits. Connections, the time that each may be idle, and
 * what bodies take together have bounds.
 */
#ifndef WSCAST_SUPERVISOR_ADMIN_H
#define WSCAST_SUPERVISOR_ADMIN_H

#include <stdio.h>

#include "supervisor/feed.h"

struct admin;
struct supervisor;

/* Listen on server.admin_listen; empty: *ret_admin is NULL, which all others take.
 * Returns 0 or -errno; logged. */
int admin_open(struct supervisor *s, struct admin **ret_admin)
    __attribute__((warn_unused_result));
void admin_close(struct admin *a);

/* How a publish ended. */
void admin_published(struct admin *a, const struct receipt *receipt, int err);
/* There is room again: go on with what had to wait. */
void admin_resume(struct admin *a);
/* Once a turn of the loop: send what is answered. */
void admin_flush(struct admin *a);

/* What is counted here (metrics.c). */
void admin_metrics(const struct admin *a, FILE *out);

#endif
