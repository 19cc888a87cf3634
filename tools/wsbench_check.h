/*
 * wsbench_check.h - what a message of the benchmark looks like, and what its receiver
 * concludes from it.
 *
 * A payload is valid JSON, so that it passes every protocol unchanged, and ends in the
 * facts, so that they stand at a fixed distance from its end:
 *
 *   ["filler…  time:16  msg:8  seq:8  channel:6  publisher:2  run:8 "]
 *
 * All facts are hexadecimal digits. `seq` counts 1, 2, … within the channel, `msg`
 * within the run; `time` is CLOCK_MONOTONIC in ns when it was published. The filler is
 * a piece of a fixed pattern, from a place that `msg` gives.
 *
 * Cost     the first copy of a message in a process is taken apart and checked byte by
 *          byte; each other copy is compared with that one, and then costs a memcmp().
 */
#ifndef WSCAST_TOOLS_WSBENCH_CHECK_H
#define WSCAST_TOOLS_WSBENCH_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK_FACTS_LEN 48
#define CHECK_TAIL_LEN (CHECK_FACTS_LEN + 2) /* facts and `"]` */
#define CHECK_SIZE_MIN (2 + CHECK_TAIL_LEN)  /* no filler */
#define CHECK_SIZE_MAX (1024 * 1024)

struct facts {
	uint64_t time_ns;
	uint32_t msg;
	uint32_t seq;
	uint32_t channel;
	uint32_t run;
	uint8_t publisher;
};

/* Write a payload of exactly len bytes (CHECK_SIZE_MIN to CHECK_SIZE_MAX). */
void check_write(const struct facts *f, size_t len, char *out);

/* Take a payload apart. Returns 0; -EBADMSG when any byte is not what check_write()
 * would have written. */
int check_read(const char *payload, size_t len, struct facts *ret_facts)
    __attribute__((warn_unused_result));

/* What one receiver knows of one channel. All zero: nothing received yet. */
struct order {
	uint64_t seen;   /* bit i: seq next-1-i came */
	uint64_t offset; /* the channel's newest, where the protocol numbers messages */
	uint32_t next;   /* the seq that should come; 0: any may */
};

enum order_result {
	ORDER_IN_TURN,
	ORDER_GAP,      /* some before it did not come (yet) */
	ORDER_LATE,     /* fills such a gap: out of order */
	ORDER_REPEATED, /* had come before (or is more than 64 late) */
};

/* Judge one arrival. *ret_missing: for a gap how many were skipped, else untouched. */
static inline enum order_result
order_arrived(struct order *o, uint32_t seq, uint32_t *ret_missing)
{
	uint32_t ahead, back;

	if (seq == o->next || o->next == 0) {
		o->next = seq + 1;
		o->seen = o->seen << 1 | 1;
		return ORDER_IN_TURN;
	}
	if (seq > o->next) {
		ahead = seq - o->next;
		*ret_missing = ahead;
		o->next = seq + 1;
		o->seen = ahead >= 63 ? 1 : o->seen << (ahead + 1) | 1;
		return ORDER_GAP;
	}
	back = o->next - 1 - seq;
	if (back >= 64 || (o->seen >> back & 1) != 0)
		return ORDER_REPEATED;
	o->seen |= (uint64_t)1 << back;
	return ORDER_LATE;
}

/* Messages lately received by this process, checked. One for each process. */
struct known {
	struct facts facts;
	uint64_t offset; /* the protocol's number, 0: it has none */
	bool measured;   /* the caller's: published in the measured phase */
	size_t len;      /* of all that came, protocol and all; 0: empty */
	size_t capacity;
	char *bytes;
};

#define CHECK_KNOWN 4096 /* a power of two */

/* Where a message belongs; `tail` points at its facts (CHECK_FACTS_LEN bytes). */
static inline unsigned
check_slot(const char *tail)
{
	uint64_t msg;

	__builtin_memcpy(&msg, tail + 16, sizeof(msg));
	return (unsigned)(msg * 0x9e3779b97f4a7c15u >> 52);
}

/* Keep a message that check_read() found good. Returns 0 or -ENOMEM. */
int check_keep(struct known *k, const char *bytes, size_t len)
    __attribute__((warn_unused_result));

#endif
