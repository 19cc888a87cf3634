/*
 * reload.h - the settings of a serving process: those that it starts with, and newer
 * ones while it serves.
 */
#ifndef WSCAST_WORKER_RELOAD_H
#define WSCAST_WORKER_RELOAD_H

#include "worker/worker.h"

/* Map what the supervisor shares, and take the newest settings. Logs why it fails. */
int reload_begin(struct worker *w) __attribute__((warn_unused_result));
/* Adoption: what a predecessor set by older settings is brought up to date. */
void reload_adopted(struct worker *w);

/* A RING_SETTINGS record: take the newest settings, unless we have them. What cannot be
 * taken is logged, and the old ones hold on. */
void reload_record(struct worker *w, const struct ring_desc *desc);

#endif
