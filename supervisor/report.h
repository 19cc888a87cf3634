/*
 * report.h - what wsctl is shown: INTERFACES' status, and the rest as in
 * proto/control.h. All of it is a copy; what workers wrote is bounded first.
 */
#ifndef WSCAST_SUPERVISOR_REPORT_H
#define WSCAST_SUPERVISOR_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct supervisor;

#define REPORT_MAX 100000 /* clients or channels in one reply; the rest is counted */

/* Each returns a new reference, or NULL without memory. */
json_t *report_status(const struct supervisor *s);
json_t *report_version(void);
json_t *report_workers(const struct supervisor *s);

/* channel NULL: of all channels. limit 0: REPORT_MAX. */
json_t *report_clients(
    const struct supervisor *s, const char *channel, size_t channel_len, size_t limit);
/* One client by its id; *ret_found tells whether it is there. */
json_t *report_client(const struct supervisor *s, uint64_t id, bool *ret_found);
/* glob NULL: all. */
json_t *report_channels(const struct supervisor *s, const char *glob, size_t limit);

#endif
