/*
 * wsbench_result.h - one measurement as the coordinator sees it, and its figures.
 */
#ifndef WSCAST_TOOLS_WSBENCH_RESULT_H
#define WSCAST_TOOLS_WSBENCH_RESULT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "tools/wsbench_options.h"
#include "tools/wsbench_proc.h"
#include "tools/wsbench_progress.h"
#include "tools/wsbench_shared.h"
#include "tools/wsbench_trouble.h"

#define RUN_PIDS_MAX (OPTIONS_PROCESSES_MAX + 1)

/* What everything had cost at one moment. */
struct sample {
	uint64_t at_ns;
	uint64_t opened; /* connections so far */
	struct proc_usage server, own;
	struct proc_kernel kernel;
	uint64_t own_run_ns[RUN_PIDS_MAX]; /* each of our processes */
};

struct run {
	const struct options *o;
	const char *target;
	struct shared *shared;
	pid_t pids[RUN_PIDS_MAX]; /* generators, then the publisher */
	unsigned npids;
	bool has_publisher, failed;
	struct proc_set server, own;
	struct progress progress;
	struct trouble trouble;
	/* nobody connected; all connected; before and after what is measured */
	struct sample empty, connected, before, after;
};

enum result_counter {
#define X(name, what) RESULT_##name,
	GEN_COUNTERS(X)
#undef X
#define X(name) RESULT_##name,
	    GEN_GAUGES(X)
#undef X
};

/* A counter or gauge of all generators. */
uint64_t result_sum(const struct run *r, enum result_counter which);

/* All figures, as a new object; "warnings" says what makes them doubtful. */
json_t *result_json(const struct run *r);

#endif
