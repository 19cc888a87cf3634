/*
 * accept.h - the listeners: who is let in, and what is said to the others.
 */
#ifndef WSCAST_WORKER_ACCEPT_H
#define WSCAST_WORKER_ACCEPT_H

#include "worker/worker.h"

int acceptor_new(struct worker *w, struct acceptor **ret)
    __attribute__((warn_unused_result));

/* The listeners are LAUNCH_LISTENERS and on; said before the first acceptor_run(). */
void acceptor_listen(struct worker *w, unsigned nlisteners);

/* Start or stop to take new connections from all of our listeners. */
void acceptor_run(struct worker *w, bool on);

/* w->settings are others. */
void acceptor_reload(struct worker *w);

/* Take a socket that a predecessor accepted and gave no slot: a new connection, or
 * closed, with 503 where that can be said. */
void acceptor_take(struct worker *w, int fd);

#endif
