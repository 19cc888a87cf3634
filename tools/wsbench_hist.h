/*
 * wsbench_hist.h - log-linear histogram: each power of two in 128 parts, so that any
 * value is told to 0.8 %. Fixed size, all zero when empty: it can lie in shared memory,
 * written by one process, and histograms of several processes can be added up.
 *
 * Units    whatever the values have; wsbench puts in nanoseconds. Values of 2^40
 *          (18 minutes) and more count as 2^40 - 1 in the buckets; min, max and sum
 *          are exact.
 */
#ifndef WSCAST_TOOLS_WSBENCH_HIST_H
#define WSCAST_TOOLS_WSBENCH_HIST_H

#include <stdint.h>

#define HIST_PART_BITS 7
#define HIST_PARTS (1u << HIST_PART_BITS)
#define HIST_VALUE_BITS 40
#define HIST_BUCKETS ((HIST_VALUE_BITS - HIST_PART_BITS + 1) * HIST_PARTS)

struct hist {
	uint64_t count;
	uint64_t sum;
	uint64_t min; /* holds when count > 0 */
	uint64_t max;
	uint64_t buckets[HIST_BUCKETS];
};

static inline unsigned
hist_index(uint64_t value)
{
	unsigned shift;

	if (value >> HIST_VALUE_BITS)
		value = ((uint64_t)1 << HIST_VALUE_BITS) - 1;
	if (value < HIST_PARTS)
		return (unsigned)value;
	shift = 63 - (unsigned)__builtin_clzll(value) - HIST_PART_BITS;
	return (shift + 1) * HIST_PARTS +
	       (unsigned)((value >> shift) & (HIST_PARTS - 1));
}

/* Count `times` occurrences of one value. Called for each delivery, hence here. */
static inline void
hist_add(struct hist *h, uint64_t value, uint64_t times)
{
	if (h->count == 0 || value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->count += times;
	h->sum += value * times;
	h->buckets[hist_index(value)] += times;
}

/* The smallest value of a bucket; that of HIST_BUCKETS is the end of the last. */
uint64_t hist_low(unsigned idx);

/* Add all of `from` to `into`. `from` may be written meanwhile: what is read then is
 * a little old, never broken. */
void hist_merge(struct hist *into, const struct hist *from);

/* The value below which a share q (0 to 1) of all lie: the middle of its bucket, kept
 * within min and max. 0 when empty. */
uint64_t hist_quantile(const struct hist *h, double q);

double hist_mean(const struct hist *h);

#endif
