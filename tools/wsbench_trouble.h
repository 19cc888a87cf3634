/*
 * wsbench_trouble.h - what is done to the server, or to all clients at once, while it
 * is measured: workers restarted or killed, a storm of reconnects.
 */
#ifndef WSCAST_TOOLS_WSBENCH_TROUBLE_H
#define WSCAST_TOOLS_WSBENCH_TROUBLE_H

#include <stdbool.h>

#include "tools/wsbench_options.h"
#include "tools/wsbench_shared.h"

struct trouble {
	unsigned restarts, failures;
	bool stormed;
	uint64_t storm_ns;
	double due; /* seconds into the measured phase */
};

/* Do what is due `elapsed` of `total` seconds into the measured phase. May block while
 * the server answers (5 s at most). */
void trouble_at(struct trouble *t, const struct options *o, struct shared *s,
    double elapsed, double total);

#endif
