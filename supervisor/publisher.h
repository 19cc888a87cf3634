/*
 * publisher.h - the ring's writer: one message in, framed once for all workers.
 *
 * Nothing is ever dropped here. When a worker's floor is in the way, the message is
 * refused with -ENOBUFS and the publisher is `blocked`: every source (Redis, the
 * uplinks, the control socket) then stops reading until publisher_retry() says that
 * there is room again. Control records are kept meanwhile, and messages stay behind
 * them: what was written first is published first.
 *
 * Units    numbers as in shm/ring.h; lengths are bytes.
 */
#ifndef WSCAST_SUPERVISOR_PUBLISHER_H
#define WSCAST_SUPERVISOR_PUBLISHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/deflate.h"
#include "proto/dialect.h"
#include "proto/settings.h"
#include "proto/slice.h"
#include "shm/page.h"
#include "shm/ring.h"

struct publisher {
	struct ring *ring;
	struct page *const *pages; /* borrowed; their demand picks the dialects */
	unsigned npages;

	bool blocked;   /* a floor is in the way */
	bool published; /* something since publisher_take_batch() */

	/* Control records that wait for room, a growing ring of nqueue from `first`. */
	struct ring_desc *queue;
	size_t queue_cap, queue_first, nqueue;

	/* Messages are deflated for those who asked for it; NULL: they are not. */
	struct deflater *deflater;
	uint32_t threshold;  /* bytes of payload below which it is not tried */
	uint32_t min_saving; /* percent of the plain frame, or that one is sent */

	uint64_t messages;      /* published */
	uint64_t message_bytes; /* of payload */
	uint64_t too_long;      /* refused with -EMSGSIZE */
	uint64_t blocked_times; /* floors that were in the way */
	uint64_t deflated;      /* frames, once for each dialect */
	uint64_t
	    deflate_saved; /* bytes by which those are smaller than the plain ones */
	uint64_t deflate_tried; /* frames that were left plain: they saved too little */

	/* Told of each message, after it was published (tails); may be NULL. */
	void (*on_message)(
	    void *owner, uint32_t channel, const struct message *m, uint64_t time_ns);
	void *owner;
};

/* ring, pages: borrowed. */
void publisher_init(
    struct publisher *p, struct ring *ring, struct page *const *pages, unsigned npages);
void publisher_done(struct publisher *p);

/* Deflate from now on as set, or no longer. Returns 0 or -ENOMEM, and changes nothing
 * then. */
int publisher_set_compression(struct publisher *p, const struct settings *settings)
    __attribute__((warn_unused_result));

/*
 * Publish a message.
 *
 * channel  index of a used entry of the ring's directory.
 * data     len bytes, copied before the call returns.
 *
 * Returns 0; -EMSGSIZE when it can never fit (counted); -ENOBUFS when it does not fit
 * now: then nothing was published, and the caller comes again after publisher_retry().
 */
int publisher_message(struct publisher *p, uint32_t channel, const void *data,
    size_t len) __attribute__((warn_unused_result));

/* The same, of a key of the channel (len 0: none): a newer message of it stands for
 * this one where slow = latest. key: any bytes, not kept. */
int publisher_keyed(struct publisher *p, uint32_t channel, struct slice key,
    const void *data, size_t len) __attribute__((warn_unused_result));

/*
 * Publish a record without frames, now or as soon as there is room.
 *
 * desc  the fields that ring_commit() takes; copied.
 *
 * Returns the number that it has or will have; 0 without memory to keep it.
 */
uint64_t publisher_control(struct publisher *p, const struct ring_desc *desc);

/*
 * Publish a record that is no message: a RING_PUSH, whose frame is of DIALECT_V1, or a
 * RING_ANSWER, whose frame is of DIALECT_RAW.
 *
 * desc   as in publisher_control().
 * frame  a whole one, len bytes; copied.
 *
 * Returns as publisher_message() does.
 */
int publisher_frame(struct publisher *p, const struct ring_desc *desc,
    const void *frame, size_t len) __attribute__((warn_unused_result));

/* Try again what waits. Returns true when the sources may go on. */
bool publisher_retry(struct publisher *p);

/* Whether anything was published since the last call: the workers are to be woken. */
bool publisher_take_batch(struct publisher *p);

#endif
