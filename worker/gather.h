/*
 * gather.h - messages of channels that have few subscribers here: several of them at a
 * time, so that each connection gets what all of them have for it in one send, and the
 * sends of all are made together. To make them one by one would be a system call for
 * each message.
 *
 * Part of fanout.c's turn; see there for what a record goes through.
 */
#ifndef WSCAST_WORKER_GATHER_H
#define WSCAST_WORKER_GATHER_H

#include "worker/worker.h"

struct gather;

/* Channels with more subscribers than these are not gathered. gather_set_few(): for
 * tests that want to see both ways with the same few connections. */
#define GATHER_FEW 64
void gather_set_few(struct gather *g, unsigned few);

int gather_new(struct gather **ret) __attribute__((warn_unused_result));
void gather_free(struct gather *g);

/*
 * Pass on the records from w->done on, up to the first that must be handled for
 * itself: a control record, or a message to many. Raises w->done.
 *
 * budget  sends that this turn may still make; less those that were made.
 *
 * Returns how many records that were: 0 when the first is one of those, or has more
 * subscribers than the budget allows.
 */
unsigned gather_pass(struct worker *w, struct gather *g, unsigned *budget);

#endif
