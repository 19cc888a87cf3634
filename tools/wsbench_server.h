/*
 * wsbench_server.h - a server that is started for one measurement, and stopped behind
 * it.
 */
#ifndef WSCAST_TOOLS_WSBENCH_SERVER_H
#define WSCAST_TOOLS_WSBENCH_SERVER_H

#include <sys/types.h>

#include "tools/wsbench_options.h"

/*
 * Start `sh -c command` in a process group of its own, and wait until o->addr takes
 * connections (10 s). What it writes goes to o->server_log, or is shown when it fails.
 *
 * Returns 0, or -errno having said why.
 */
int server_start(const struct options *o, const char *command, pid_t *ret_pid)
    __attribute__((warn_unused_result));

/* SIGTERM to the group, SIGKILL after 10 s; then wait until its port is free. pid 0:
 * none. */
void server_stop(const struct options *o, pid_t pid);

#endif
