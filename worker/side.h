/*
 * side.h - the frame of a record for one dialect: the ring's own, or, where the ring
 * has none (its first client came a moment ago), built here from the raw one. In place
 * of a deflated frame that the ring has not, it is the plain one.
 *
 * What is built is the same, byte for byte, each time and in each process: so a
 * connection that was cut inside such a frame goes on inside it after adoption.
 */
#ifndef WSCAST_WORKER_SIDE_H
#define WSCAST_WORKER_SIDE_H

#include "worker/worker.h"

int side_new(struct worker *w, struct side **ret) __attribute__((warn_unused_result));
void side_free(struct side *s);

/* The frame of a MESSAGE record as far as the ring has it: its length, or 0. */
size_t side_ring_frame(
    const struct worker *w, unsigned dialect, uint64_t number, const void **ret_frame);

/*
 * The frame of a MESSAGE record.
 *
 * number   within [floor, head) of the ring.
 * channel  the record's channel, as an index into the table.
 *
 * Returns its length; *ret_frame is valid until SIDE_FRAMES other frames were asked
 * for (the last of them included), or the floor rises. 0: no memory.
 */
#define SIDE_FRAMES 64
size_t side_frame(struct worker *w, unsigned dialect, uint64_t number, uint32_t channel,
    const void **ret_frame);

#endif
