/*
 * wsbench_gen.h - a generator: one process that holds a share of the clients, reads
 * all they get, and judges it.
 */
#ifndef WSCAST_TOOLS_WSBENCH_GEN_H
#define WSCAST_TOOLS_WSBENCH_GEN_H

#include "tools/wsbench_options.h"
#include "tools/wsbench_shared.h"

/* Be generator `index` until PHASE_EXIT. Returns the process's exit status. */
int gen_main(const struct options *o, struct shared *s, unsigned index);

#endif
