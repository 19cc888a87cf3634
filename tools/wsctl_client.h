/*
 * wsctl_client.h - the connection to wscastd's control socket.
 *
 * Requests are queued, and answered in order. client_turn() moves bytes both ways, so
 * that neither side can wait for the other for ever.
 */
#ifndef WSCAST_TOOLS_WSCTL_CLIENT_H
#define WSCAST_TOOLS_WSCTL_CLIENT_H

#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/control.h"

#define CLIENT_FDS_MAX 256 /* more than the kernel lets through at once */

struct client {
	int fd;                  /* -1: not open */
	int fds[CLIENT_FDS_MAX]; /* descriptors that came: the caller's, once taken */
	unsigned nfds;
	struct control_line in;
	char *out; /* what is to be sent: out_len bytes from out_start */
	size_t out_cap, out_start, out_len;
	bool deaf; /* the server takes no more, but may have said why */
};

/* Set c to a closed connection. */
void client_init(struct client *c);
/* Returns 0 or -errno of connect(). */
int client_open(struct client *c, const char *path) __attribute__((warn_unused_result));
void client_close(struct client *c);

/* The process that listens at the socket; 0 when nobody knows. */
pid_t client_peer(const struct client *c);

/* Queue a line with its newline. line: taken over; NULL: -ENOMEM. */
int client_queue(struct client *c, char *line, size_t len)
    __attribute__((warn_unused_result));
size_t client_queued(const struct client *c); /* bytes not sent yet */

/*
 * Wait for something to happen, and move bytes. Take all lines with client_next()
 * before.
 *
 * others      more descriptors to wait for, revents set; NULL with nothers 0 for none.
 *             At most 2.
 * timeout_ms  -1: none.
 * sigmask     while waiting; NULL: as it is.
 *
 * Returns 0; -ETIMEDOUT; -EINTR; -ECONNRESET when the server has hung up; -errno.
 */
int client_turn(struct client *c, struct pollfd *others, size_t nothers, int timeout_ms,
    const sigset_t *sigmask) __attribute__((warn_unused_result));

/* The next line that came: 1, 0 when there is none, -EMSGSIZE. Valid until the next
 * turn. */
int client_next(struct client *c, char **ret_line, size_t *ret_len)
    __attribute__((warn_unused_result));

/*
 * Send a request and wait for its answer.
 *
 * request    taken over; NULL: -ENOMEM.
 * ret_reply  {"ok":…} or {"error":…}; the caller's to json_decref().
 *
 * Returns 0; -ETIMEDOUT, sooner when the server is seen to be stopped; -ECONNRESET;
 * -EBADMSG for what is no answer; -errno.
 */
int client_call(struct client *c, json_t *request, int timeout_ms, json_t **ret_reply)
    __attribute__((warn_unused_result));
/* Take a line for a reply. Returns 0 or -EBADMSG. */
int client_parse(const char *line, size_t len, json_t **ret_reply)
    __attribute__((warn_unused_result));

#endif
