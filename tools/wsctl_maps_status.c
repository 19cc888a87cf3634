/* wsctl_maps_status.c - status without the supervisor; see wsctl_maps.h */
#include "tools/wsctl_clock.h"
#include "tools/wsctl_sample.h"

static json_t *
integer(uint64_t n)
{
	return json_integer((json_int_t)(n & INT64_MAX));
}

static uint64_t
since(uint64_t then_ms, uint64_t now_ms)
{
	return then_ms != 0 && then_ms < now_ms ? now_ms - then_ms : 0;
}

static json_t *
worker_json(unsigned index, const struct worker_sample *w, uint64_t now_ms)
{
	json_t *o = json_pack("{s:i, s:i, s:i, s:s, s:o, s:o}", "index", (int)index,
	    "pid", (int)w->now.pid, "cpu", (int)w->now.cpu, "state",
	    worker_sample_state(w), "restarts",
	    integer(w->now.lives > 0 ? w->now.lives - 1 : 0), "heartbeat_ms",
	    integer(since(w->now.beat_ms, now_ms)));

	for (int c = 0; o != NULL && c < PAGE_COUNTER_COUNT; c++)
		(void)json_object_set_new(
		    o, page_counter_name((enum page_counter)c), integer(w->counter[c]));
	return o;
}

static json_t *
workers_json(const struct sample *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->n; i++)
		(void)json_array_append_new(
		    list, worker_json(i, &s->workers[i], s->at_ns / 1000000));
	return list;
}

static uint64_t
sum(const struct sample *s, enum page_counter c)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < s->n; i++)
		total += s->workers[i].counter[c];
	return total;
}

json_t *
maps_status(const struct maps *m)
{
	uint64_t down_ms = ring_feed_down(m->ring);
	struct sample s;
	json_t *o;

	if (sample_take(m, &s) < 0)
		return NULL;
	o = json_pack("{s:b, s:i, s:o, s:s, s:b, s:o, s:o, s:{s:b, s:f},"
		      " s:{s:o, s:o, s:o}, s:o, s:o, s:o}",
	    "answered", 0, "pid", (int)m->supervisor, "uptime_s",
	    integer(maps_up_ms(m) / 1000), "epoch", ring_epoch(m->ring), "draining",
	    (int)ring_draining(m->ring), "connections",
	    integer(sum(&s, PAGE_connections)), "subscriptions",
	    integer(sum(&s, PAGE_subscriptions)), "feed", "connected",
	    (int)(down_ms == 0), "down_s",
	    (double)since(down_ms, clock_ms(CLOCK_REALTIME)) / 1000, "ring", "size",
	    integer(ring_frames_size(m->ring)), "head", integer(s.head), "retain",
	    integer(ring_retain(m->ring, s.head)), "workers", workers_json(&s),
	    "messages_out", integer(sum(&s, PAGE_sent)), "bytes_out",
	    integer(sum(&s, PAGE_sent_bytes)));
	sample_done(&s);
	return o;
}
