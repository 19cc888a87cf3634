#include "tools/wsbench_hist.h"

uint64_t
hist_low(unsigned idx)
{
	unsigned shift;

	if (idx < HIST_PARTS)
		return idx;
	shift = idx / HIST_PARTS - 1;
	return (uint64_t)(HIST_PARTS + idx % HIST_PARTS) << shift;
}

void
hist_merge(struct hist *into, const struct hist *from)
{
	uint64_t count = 0, n;

	if (from->count == 0)
		return;
	if (into->count == 0 || from->min < into->min)
		into->min = from->min;
	if (from->max > into->max)
		into->max = from->max;
	/* Counted anew, so that quantiles fit the buckets while the other writes. */
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		n = from->buckets[i];
		into->buckets[i] += n;
		count += n;
	}
	into->count += count;
	into->sum += from->sum;
}

uint64_t
hist_quantile(const struct hist *h, double q)
{
	uint64_t want, seen = 0, middle;
	unsigned i;

	if (h->count == 0)
		return 0;
	want = (uint64_t)(q * (double)h->count);
	if (want >= h->count)
		return h->max;
	for (i = 0; i < HIST_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen > want)
			break;
	}
	middle = (hist_low(i) + hist_low(i + 1)) / 2;
	if (middle < h->min)
		return h->min;
	return middle > h->max ? h->max : middle;
}

double
hist_mean(const struct hist *h)
{
	return h->count == 0 ? 0 : (double)h->sum / (double)h->count;
}
