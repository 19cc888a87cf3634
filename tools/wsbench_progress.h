/*
 * wsbench_progress.h - what goes on meanwhile, on standard error: a bar with rates on a
 * terminal, a line every 5 s elsewhere.
 */
#ifndef WSCAST_TOOLS_WSBENCH_PROGRESS_H
#define WSCAST_TOOLS_WSBENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/wsbench_options.h"

struct run;

struct progress {
	bool off, terminal, drawn;
	const char *what;
	uint64_t at_ns; /* of what was shown last */
	uint64_t opened, received;
};

void progress_init(struct progress *p, const struct options *o);
/* share: of this phase, 0 to 1. Cheap when it is not yet time to show something. */
void progress_show(
    struct progress *p, const struct run *r, const char *what, double share);
/* Leave the line free for what comes. */
void progress_end(struct progress *p);

#endif
