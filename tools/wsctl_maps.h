/*
 * wsctl_maps.h - the ring and the workers' pages, mapped read-only: what they say is
 * known whether or not supervisor and workers have time to answer.
 *
 * The descriptors come from the supervisor, which anyone who may connect can ask; or,
 * when it does not answer, by way of /proc, where only root and its own user may.
 */
#ifndef WSCAST_TOOLS_WSCTL_MAPS_H
#define WSCAST_TOOLS_WSCTL_MAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/page.h"
#include "shm/ring.h"
#include "tools/wsctl.h"

struct maps {
	struct ring *ring;
	struct page *page[RING_WORKERS_MAX];
	unsigned npages;
	pid_t supervisor;
	uint64_t started_ms; /* CLOCK_BOOTTIME */
	char version[32];    /* empty: only the supervisor knows; likewise below */
	char source[16];
};

/* Ask the supervisor. Returns 0, -ETIMEDOUT, -EPROTO (no such maps, or none of this
 * version's), -errno. The connection is open. */
int maps_ask(struct ctl *ctl, int timeout_ms, struct maps *ret)
    __attribute__((warn_unused_result));
/* Look for them in /proc. Returns 0, -EACCES, -ENOENT, -EPROTO, -errno. */
int maps_find(pid_t supervisor, struct maps *ret) __attribute__((warn_unused_result));
void maps_close(struct maps *m);

/* For how long the supervisor runs; 0 when nobody knows. */
uint64_t maps_up_ms(const struct maps *m);

/* As much of `status` and `workers` as they tell, with "answered":false; NULL without
 * memory. */
json_t *maps_status(const struct maps *m);

#endif
