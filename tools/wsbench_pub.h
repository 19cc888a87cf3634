/*
 * wsbench_pub.h - the publisher: one process that publishes by schedule or by what was
 * delivered, and measures the fanout.
 */
#ifndef WSCAST_TOOLS_WSBENCH_PUB_H
#define WSCAST_TOOLS_WSBENCH_PUB_H

#include "tools/wsbench_options.h"
#include "tools/wsbench_shared.h"

/* Be the publisher until PHASE_EXIT. Returns the process's exit status. */
int pub_main(const struct options *o, struct shared *s);

#endif
