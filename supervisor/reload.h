/*
 * reload.h - settings while all runs: the file is read anew, judged as a whole, and
 * what may change changes, in the supervisor and in each worker, without an end.
 */
#ifndef WSCAST_SUPERVISOR_RELOAD_H
#define WSCAST_SUPERVISOR_RELOAD_H

#include <stdint.h>

#include "proto/settings.h"

struct supervisor;

/* Where settings come from. */
struct settings_source {
	const char *path; /* NULL: there is none */
	const char
	    *path_else; /* read on a reload when there was none, if it is there */
	const char *const *overrides;
	size_t noverrides;
};

/*
 * Read, check and take new settings. A fault changes nothing.
 *
 * ret_changes  what is new, for settings_changes_done(), whatever is returned.
 * ret_faults   all that is wrong, for faults_done().
 *
 * Returns 0, -EINVAL when there is a fault, or -errno. Logged, both ways.
 */
int supervisor_reload(struct supervisor *s, struct settings_changes *ret_changes,
    struct faults *ret_faults) __attribute__((warn_unused_result));

/* Until the next reload. Returns 0, or -errno when all stays as it was. */
int supervisor_set_log_level(struct supervisor *s, enum log_threshold level)
    __attribute__((warn_unused_result));

/* Give the workers a new key for tickets when it is time. */
void supervisor_renew_tickets(struct supervisor *s, uint64_t now_ms);

#endif
