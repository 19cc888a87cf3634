/*
 * wsctl_busy.h - which channels' messages pass: counted from the ring's index.
 *
 * Each message's descriptor names its channel. busy_scan() walks those that are new,
 * read-only and without a floor, so that nobody waits for it: where the writer was
 * faster than the walk, messages are counted as unseen. Nothing is counted for this in
 * any other process.
 */
#ifndef WSCAST_TOOLS_WSCTL_BUSY_H
#define WSCAST_TOOLS_WSCTL_BUSY_H

#include <stddef.h>
#include <stdint.h>

#include "shm/ring.h"

struct busy_channel {
	uint32_t channel; /* index into the directory */
	uint64_t messages, bytes;
};

struct busy {
	uint64_t next;            /* record to be looked at; 0: not begun */
	uint64_t messages, bytes; /* of payloads, since busy_reset() */
	uint64_t unseen; /* records that were gone before they were looked at */
	struct busy_channel *cells; /* a hash table; messages 0: free */
	size_t cap, len;
};

/* Look at all new records. Returns 0 or -ENOMEM; then some are not counted. */
int busy_scan(struct busy *b, const struct ring *r) __attribute__((warn_unused_result));
/* Begin anew with what comes now. */
void busy_reset(struct busy *b);
/* The channels counted, densely, in no order: *ret_n of them, until the next call of
 * any function here. */
const struct busy_channel *busy_channels(struct busy *b, size_t *ret_n);
void busy_done(struct busy *b);

#endif
