/*
 * metrics.h - what is counted, as text for Prometheus.
 *
 * Source   Prometheus text exposition format 0.0.4. Names begin with wscast_; times are
 *          seconds, sizes bytes. By worker, never by channel: their number has no
 * bound.
 */
#ifndef WSCAST_SUPERVISOR_METRICS_H
#define WSCAST_SUPERVISOR_METRICS_H

#include <stddef.h>

struct supervisor;

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* All of them; malloc'd, ret_len bytes. NULL: no memory. */
char *metrics_text(const struct supervisor *s, size_t *ret_len);

#endif
