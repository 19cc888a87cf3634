#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/wsbench_result.h"
#include "tools/wsbench_run.h"

uint64_t
result_sum(const struct run *r, enum result_counter which)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < r->o->processes; i++) {
		const struct gen_shared *g = &r->shared->gens[i];

		switch (which) {
#define X(name, what)                                                                  \
	case RESULT_##name:                                                            \
		sum += OWN_GET(g->name);                                               \
		break;
			GEN_COUNTERS(X)
#undef X
#define X(name)                                                                        \
	case RESULT_##name:                                                            \
		sum += OWN_GET(g->name);                                               \
		break;
			GEN_GAUGES(X)
#undef X
		}
	}
	return sum;
}

static void
set_real(json_t *o, const char *key, double value)
{
	(void)json_object_set_new(
	    o, key, isfinite(value) ? json_real(value) : json_null());
}

static void
set_count(json_t *o, const char *key, uint64_t value)
{
	(void)json_object_set_new(o, key, json_integer((json_int_t)value));
}

/* Null where there is nothing to divide by. */
static void
set_ratio(json_t *o, const char *key, double value, double by)
{
	set_real(o, key, by > 0 ? value / by : NAN);
}

/* -- times ---------------------------------------------------------------------- */

/* [from_us, count] for each fourth of a power of two that has any. */
static json_t *
hist_steps(const struct hist *h)
{
	json_t *all = json_array();
	uint64_t n = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		n += h->buckets[i];
		if (i % (HIST_PARTS / 4) != HIST_PARTS / 4 - 1)
			continue;
		if (n > 0)
			(void)json_array_append_new(
			    all, json_pack("[f, I]",
				     (double)hist_low(i + 1 - HIST_PARTS / 4) / 1e3,
				     (json_int_t)n));
		n = 0;
	}
	return all;
}

static json_t *
hist_json(const struct hist *h)
{
	static const struct {
		const char *key;
		double q;
	} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};
	json_t *o = json_object();

	set_count(o, "count", h->count);
	if (h->count == 0)
		return o;
	set_real(o, "min", (double)h->min / 1e3);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		set_real(o, quantiles[i].key,
		    (double)hist_quantile(h, quantiles[i].q) / 1e3);
	set_real(o, "max", (double)h->max / 1e3);
	set_real(o, "mean", hist_mean(h) / 1e3);
	(void)json_object_set_new(o, "histogram", hist_steps(h));
	return o;
}

static json_t *
gens_hist(const struct run *r, size_t at)
{
	struct hist *all = calloc(1, sizeof(*all));
	json_t *o;

	if (all == NULL)
		return json_null();
	for (unsigned i = 0; i < r->o->processes; i++)
		hist_merge(
		    all, (const struct hist *)((const char *)&r->shared->gens[i] + at));
	o = hist_json(all);
	free(all);
	return o;
}

/* -- parts ---------------------------------------------------------------------- */

static json_t *
close_codes(const struct run *r)
{
	json_t *o = json_object();
	char key[16];
	uint64_t n;

	for (unsigned code = 0; code < CLOSE_CODES; code++) {
		n = 0;
		for (unsigned i = 0; i < r->o->processes; i++)
			n += OWN_GET(r->shared->gens[i].close_codes[code]);
		if (n == 0)
			continue;
		if (code < CLOSE_CODES - 2)
			snprintf(key, sizeof(key), "%u", 1000 + code);
		else
			snprintf(key, sizeof(key), "%s",
			    code == CLOSE_CODES - 1 ? "none" : "other");
		set_count(o, key, n);
	}
	return o;
}

static json_t *
connections_json(const struct run *r)
{
	json_t *o = json_object();
	uint64_t first = UINT64_MAX, last = 0, back = 0, at;

	for (unsigned i = 0; i < r->o->processes; i++) {
		at = OWN_GET(r->shared->gens[i].first_open_ns);
		if (at != 0 && at < first)
			first = at;
		at = OWN_GET(r->shared->gens[i].last_open_ns);
		last = at > last ? at : last;
		at = OWN_GET(r->shared->gens[i].back_ns);
		back = at > back ? at : back;
	}
	set_count(o, "wanted", r->o->connections);
	set_count(o, "open", result_sum(r, RESULT_open));
	set_count(o, "opened", result_sum(r, RESULT_opened));
	if (r->o->tls) {
		set_count(o, "tls_opened", result_sum(r, RESULT_tls_opened));
		set_count(o, "tls_resumed", result_sum(r, RESULT_tls_resumed));
	}
	set_count(o, "failed", result_sum(r, RESULT_failed));
	set_count(o, "refused", result_sum(r, RESULT_refused));
	set_count(o, "given_up", result_sum(r, RESULT_given_up));
	set_count(o, "closed_by_server", result_sum(r, RESULT_closed));
	set_count(o, "broken", result_sum(r, RESULT_broken));
	set_count(o, "dropped", result_sum(r, RESULT_dropped));
	(void)json_object_set_new(o, "close_codes", close_codes(r));
	if (last > first) {
		set_real(o, "seconds", (double)(last - first) / 1e9);
		/* At a given rate, the rate is not the server's. */
		set_real(o, "per_s",
		    r->o->connect_rate > 0 ? NAN
					   : (double)result_sum(r, RESULT_arrived) /
						 ((double)(last - first) / 1e9));
	}
	if (r->trouble.stormed)
		set_real(o, "storm_seconds",
		    back > r->trouble.storm_ns
			? (double)(back - r->trouble.storm_ns) / 1e9
			: NAN);
	(void)json_object_set_new(
	    o, "opening_us", gens_hist(r, offsetof(struct gen_shared, opening)));
	return o;
}

static json_t *
messages_json(const struct run *r)
{
	const struct pub_shared *p = &r->shared->pub;
	double seconds = (double)(OWN_GET(p->end_ns) - OWN_GET(p->begin_ns)) / 1e9;
	uint64_t n = OWN_GET(p->measured);
	json_t *o = json_object();

	set_count(o, "published", OWN_GET(p->published));
	set_count(o, "measured", n);
	set_ratio(o, "per_s", n > 1 ? (double)(n - 1) : NAN, seconds);
	set_ratio(o, "bytes_each", (double)OWN_GET(p->measured_bytes), (double)n);
	set_count(o, "acknowledged", OWN_GET(p->acked));
	set_count(o, "errors", OWN_GET(p->errors));
	set_count(o, "incomplete", OWN_GET(p->incomplete));
	set_real(o, "late_ms", (double)OWN_GET(p->late_ns) / 1e6);
	return o;
}

static double
delivery_seconds(const struct run *r)
{
	uint64_t begin = OWN_GET(r->shared->pub.begin_ns), last = 0, at;

	for (unsigned i = 0; i < r->o->processes; i++) {
		at = OWN_GET(r->shared->gens[i].last_measured_ns);
		last = at > last ? at : last;
	}
	return last > begin ? (double)(last - begin) / 1e9 : 0;
}

static json_t *
deliveries_json(const struct run *r)
{
	json_t *o = json_object();
	double seconds = delivery_seconds(r);
	double reads = (double)result_sum(r, RESULT_reads);

	set_count(o, "measured", result_sum(r, RESULT_measured));
	set_real(o, "seconds", seconds);
	set_ratio(o, "per_s", (double)result_sum(r, RESULT_measured), seconds);
	set_count(o, "received", result_sum(r, RESULT_received));
	set_count(o, "bytes", result_sum(r, RESULT_received_bytes));
	set_ratio(o, "per_read", (double)result_sum(r, RESULT_received), reads);
	return o;
}

static json_t *
check_json(const struct run *r)
{
	json_t *o = json_object();

	set_count(o, "lost", result_sum(r, RESULT_lost));
	set_count(o, "repeated", result_sum(r, RESULT_repeated));
	set_count(o, "reordered", result_sum(r, RESULT_reordered));
	set_count(o, "altered", result_sum(r, RESULT_altered));
	set_count(o, "foreign", result_sum(r, RESULT_foreign));
	set_count(o, "silent", result_sum(r, RESULT_silent));
	set_count(o, "told", result_sum(r, RESULT_told));
	set_count(o, "away", result_sum(r, RESULT_away));
	set_count(o, "resumed", result_sum(r, RESULT_resumed));
	set_count(o, "recovered", result_sum(r, RESULT_recovered));
	set_count(o, "refused", result_sum(r, RESULT_refusals));
	set_count(o, "slow_received", result_sum(r, RESULT_slow_received));
	set_count(o, "slow_closed", result_sum(r, RESULT_slow_closed));
	return o;
}

static json_t *
usage_json(const struct proc_usage *before, const struct proc_usage *after,
    double seconds, double deliveries)
{
	double cpu = after->cpu_s - before->cpu_s;
	double user = (double)(after->user - before->user);
	double ticks = user + (double)(after->system - before->system);
	json_t *o = json_object();

	set_count(o, "processes", after->processes);
	set_real(o, "cpu_s", cpu);
	/* Less than a tick tells nothing about the two. */
	set_ratio(o, "user_s", cpu * user, ticks);
	set_ratio(o, "system_s", cpu * (ticks - user), ticks);
	set_ratio(o, "cores", cpu, seconds);
	set_ratio(o, "cpu_us_per_delivery", cpu * 1e6, deliveries);
	return o;
}

static json_t *
server_json(const struct run *r, double seconds, double deliveries)
{
	double messages;
	json_t *o;

	if (r->server.n == 0)
		return json_null();
	messages = (double)OWN_GET(r->shared->pub.measured);
	o = usage_json(&r->before.server, &r->after.server, seconds, deliveries);
	set_ratio(o, "cpu_us_per_message",
	    (r->after.server.cpu_s - r->before.server.cpu_s) * 1e6, messages);
	set_ratio(o, "cpu_us_per_connection",
	    (r->connected.server.cpu_s - r->empty.server.cpu_s) * 1e6,
	    (double)r->connected.opened);
	return o;
}

static json_t *
memory_json(const struct run *r)
{
	const struct sample *a = &r->empty, *b = &r->connected;
	double n = (double)(b->kernel.sockets - a->kernel.sockets) / 2;
	json_t *o = json_object();

	set_count(o, "pss_empty", a->server.pss);
	set_count(o, "pss_connected", b->server.pss);
	set_count(o, "pss_end", r->after.server.pss);
	set_ratio(o, "user_bytes_per_connection",
	    b->server.pss > 0 ? (double)b->server.pss - (double)a->server.pss : NAN,
	    (double)b->opened);
	set_ratio(o, "kernel_bytes_per_pair",
	    (double)b->kernel.slab - (double)a->kernel.slab, n);
	set_count(o, "tcp_buffers", b->kernel.tcp_bytes);
	set_count(o, "own_pss", b->own.pss);
	return o;
}

static double
busiest(const struct run *r, double seconds)
{
	double most = 0, share;

	for (unsigned i = 0; i < r->own.n && i < RUN_PIDS_MAX; i++) {
		share = (double)(r->after.own_run_ns[i] - r->before.own_run_ns[i]) /
			1e9 / seconds;
		most = share > most ? share : most;
	}
	return most;
}

static double
idle_share(const struct run *r)
{
	double idle = r->after.kernel.idle_s - r->before.kernel.idle_s;
	double busy = r->after.kernel.busy_s - r->before.kernel.busy_s;

	return idle + busy > 0 ? idle / (idle + busy) : 1;
}

/* -- doubts --------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void
warn(json_t *warnings, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)json_array_append_new(warnings, json_string(text));
}

static json_t *
warnings_json(const struct run *r, double seconds)
{
	const struct pub_shared *p = &r->shared->pub;
	double most = busiest(r, seconds), late_ms = (double)OWN_GET(p->late_ns) / 1e6;
	json_t *w = json_array();

	if (most > 0.9)
		warn(w,
		    "a process of wsbench was busy %.0f %% of the time: it may be "
		    "what limits these figures",
		    most * 100);
	if (idle_share(r) < 0.05)
		warn(w, "no core was idle: times include waiting for one");
	if (r->o->in_flight == 0 && late_ms > 20)
		warn(w, "the publisher was %.0f ms behind its schedule", late_ms);
	if (OWN_GET(p->errors) > 0)
		warn(w, "%llu messages were refused",
		    (unsigned long long)OWN_GET(p->errors));
	if (OWN_GET(p->incomplete) > 0)
		warn(w, "%llu messages did not reach all in time: no part of fanout",
		    (unsigned long long)OWN_GET(p->incomplete));
	if (result_sum(r, RESULT_silent) > 0)
		warn(w, "%llu subscriptions never brought anything",
		    (unsigned long long)result_sum(r, RESULT_silent));
	if (result_sum(r, RESULT_given_up) > 0)
		warn(w, "%llu clients could not connect",
		    (unsigned long long)result_sum(r, RESULT_given_up));
	if (r->trouble.failures > 0)
		warn(w, "%u restarts failed", r->trouble.failures);
	return w;
}

json_t *
result_json(const struct run *r)
{
	double seconds = (double)(r->after.at_ns - r->before.at_ns) / 1e9;
	double deliveries = (double)result_sum(r, RESULT_measured);
	json_t *o = json_object(), *own;

	(void)json_object_set_new(o, "wsbench", json_string(WSCAST_VERSION));
	(void)json_object_set_new(o, "preset", json_string(r->o->preset));
	(void)json_object_set_new(o, "target", json_string(r->target));
	(void)json_object_set_new(o, "options", options_json(r->o));
	(void)json_object_set_new(o, "interrupted", json_boolean(run_interrupted()));
	(void)json_object_set_new(o, "connections", connections_json(r));
	(void)json_object_set_new(o, "messages", messages_json(r));
	(void)json_object_set_new(o, "deliveries", deliveries_json(r));
	(void)json_object_set_new(o, "check", check_json(r));
	(void)json_object_set_new(
	    o, "latency_us", gens_hist(r, offsetof(struct gen_shared, latency)));
	(void)json_object_set_new(o, "fanout_us", hist_json(&r->shared->pub.fanout));
	(void)json_object_set_new(o, "server", server_json(r, seconds, deliveries));
	(void)json_object_set_new(o, "memory", memory_json(r));
	own = usage_json(&r->before.own, &r->after.own, seconds, deliveries);
	set_real(own, "busiest", busiest(r, seconds));
	set_real(own, "machine_idle", idle_share(r));
	(void)json_object_set_new(o, "generator", own);
	set_count(o, "restarts", r->trouble.restarts);
	(void)json_object_set_new(o, "warnings", warnings_json(r, seconds));
	return o;
}
