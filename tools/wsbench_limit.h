/*
 * wsbench_limit.h - the floor: a server with no logic. It answers the upgrade, and what
 * comes on its control port it sends to every client, as one text frame each.
 *
 * `wsbench limit` runs one process per core. Process i listens on the common port
 * (SO_REUSEPORT), and for the publisher on control port + i, where each message is 32
 * bits of length (little-endian) and the payload.
 */
#ifndef WSCAST_TOOLS_WSBENCH_LIMIT_H
#define WSCAST_TOOLS_WSBENCH_LIMIT_H

#include <stdbool.h>

struct limit_options {
	unsigned port, control; /* of 127.0.0.1 */
	unsigned processes;
	unsigned batch; /* sends in one io_uring submission */
	bool uring;     /* sends go through io_uring */
	bool share;     /* all payloads that wait leave in one send per client */
};

#define LIMIT_BATCH 256

/* Whether sends can go through io_uring: built in, and allowed by the kernel. */
bool limit_uring_works(void);

/* Serve until SIGTERM or SIGINT. Returns an exit status. */
int limit_serve(const struct limit_options *o);

/* `wsbench limit …`: read the arguments, and serve. */
int limit_main(int argc, char **argv);

#endif
