/*
 * ctlsock.h - the control socket: wsctl's commands, as proto/control.h has them.
 *
 * Whoever may connect (mode 0660, group wscast where there is one) may read; what
 * changes something needs uid 0, our uid, or membership in the socket's group. Each
 * client's buffers are bounded, and no client can hold up another.
 */
#ifndef WSCAST_SUPERVISOR_CTLSOCK_H
#define WSCAST_SUPERVISOR_CTLSOCK_H

#include <stdint.h>

#include "proto/dialect.h"
#include "supervisor/feed.h"

struct supervisor;
struct ctlsock;

/*
 * Make the socket and listen. A file that nobody answers on is replaced.
 *
 * Returns 0, -EADDRINUSE when another wscastd answers on it, or -errno; logged.
 */
int ctlsock_open(struct supervisor *s, const char *path, struct ctlsock **ret_sock)
    __attribute__((warn_unused_result));
void ctlsock_close(struct ctlsock *c); /* and removes the file */

/* A message was published: for the tails of its channel. */
void ctlsock_message(
    struct ctlsock *sock, uint32_t channel, const struct message *m, uint64_t time_ns);
/* A channel is delivered from here on, or was refused (-errno): for waiting tails. */
void ctlsock_live(struct ctlsock *sock, uint32_t channel, int err);
/* How a publish ended. */
void ctlsock_published(struct ctlsock *sock, const struct receipt *receipt, int err);
/* A worker has closed so many connections by a RING_EXPEL of this number. */
void ctlsock_expelled(
    struct ctlsock *sock, unsigned worker, uint64_t record, uint32_t closed);
/* There is room again: go on with what had to wait. */
void ctlsock_resume(struct ctlsock *sock);
/* Once a turn of the loop: send what was collected, look after restarts. */
void ctlsock_flush(struct ctlsock *sock);

#endif
