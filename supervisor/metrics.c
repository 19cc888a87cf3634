/* metrics.c - see metrics.h */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "shm/ring.h"
#include "supervisor/admin.h"
#include "supervisor/hosts.h"
#include "supervisor/metrics.h"
#include "supervisor/peers.h"
#include "supervisor/presence.h"
#include "supervisor/rules.h"
#include "supervisor/supervisor.h"

#define NS 1e9

static void
head(
    FILE *out, const char *name, const char *suffix, const char *type, const char *help)
{
	(void)fprintf(out, "# HELP wscast_%s%s %s\n# TYPE wscast_%s%s %s\n", name,
	    suffix, help, name, suffix, type);
}

static void
count(FILE *out, const char *name, const char *help, uint64_t n)
{
	head(out, name, "_total", "counter", help);
	(void)fprintf(out, "wscast_%s_total %" PRIu64 "\n", name, n);
}

static void
gauge(FILE *out, const char *name, const char *help, double value)
{
	head(out, name, "", "gauge", help);
	(void)fprintf(out, "wscast_%s %.17g\n", name, value);
}

/* ---- workers ---- */

static void
put_counters(const struct supervisor *s, FILE *out)
{
	for (int i = 0; i < PAGE_COUNTER_COUNT; i++) {
		enum page_counter c = (enum page_counter)i;
		const char *name = page_counter_name(c);
		bool is_gauge = page_counter_is_gauge(c);
		const char *suffix = is_gauge ? "" : "_total";

		head(out, name, suffix, is_gauge ? "gauge" : "counter",
		    page_counter_help(c));
		for (unsigned w = 0; w < s->nworkers; w++)
			(void)fprintf(out, "wscast_%s%s{worker=\"%u\"} %" PRIu64 "\n",
			    name, suffix, w, page_get(workers_pages(s->workers)[w], c));
	}
}

static void
put_histogram(FILE *out, const struct page *page, enum page_time t, unsigned worker)
{
	const char *name = page_time_name(t);
	struct page_times_now now;
	uint64_t n = 0;

	page_times_look(page, t, &now);
	for (unsigned i = 0; i < PAGE_TIME_BUCKETS - 1; i++) {
		n += now.bucket[i];
		(void)fprintf(out,
		    "wscast_%s_seconds_bucket{worker=\"%u\",le=\"%g\"} %" PRIu64 "\n",
		    name, worker, (double)page_time_bound_ns(i) / NS, n);
	}
	n += now.bucket[PAGE_TIME_BUCKETS - 1];
	(void)fprintf(out,
	    "wscast_%s_seconds_bucket{worker=\"%u\",le=\"+Inf\"} %" PRIu64
	    "\nwscast_%s_seconds_sum{worker=\"%u\"} %.9f"
	    "\nwscast_%s_seconds_count{worker=\"%u\"} %" PRIu64 "\n",
	    name, worker, n, name, worker, (double)now.sum_ns / NS, name, worker, n);
}

static void
put_times(const struct supervisor *s, FILE *out)
{
	for (int t = 0; t < PAGE_TIME_COUNT; t++) {
		head(out, page_time_name((enum page_time)t), "_seconds", "histogram",
		    page_time_help((enum page_time)t));
		for (unsigned w = 0; w < s->nworkers; w++)
			put_histogram(
			    out, workers_pages(s->workers)[w], (enum page_time)t, w);
	}
}

/* What the supervisor knows of a worker. */
static double
worker_up(const struct worker_look *look, uint64_t now_ms)
{
	return look->healthy;
}

static double
worker_restarts(const struct worker_look *look, uint64_t now_ms)
{
	return (double)look->restarts;
}

static double
worker_stuck(const struct worker_look *look, uint64_t now_ms)
{
	return (double)look->stuck;
}

static double
worker_beat(const struct worker_look *look, uint64_t now_ms)
{
	struct page_now now;

	page_look(look->page, &now);
	return now.beat_ms == 0 || now.beat_ms > now_ms
		   ? 0.
		   : (double)(now_ms - now.beat_ms) / 1e3;
}

static double
worker_settings(const struct worker_look *look, uint64_t now_ms)
{
	return (double)page_settings(look->page);
}

static const struct {
	const char *name, *type, *help;
	double (*value)(const struct worker_look *look, uint64_t now_ms);
} worker_metrics[] = {
    {"worker_up", "gauge", "1: the worker serves", worker_up},
    {"worker_restarts_total", "counter",
	"serving processes that followed another, after a crash or on demand",
	worker_restarts},
    {"worker_stuck_total", "counter",
	"times that a worker was killed because it did not move", worker_stuck},
    {"worker_heartbeat_age_seconds", "gauge",
	"time since the worker's last sign of life", worker_beat},
    {"worker_settings_generation", "gauge",
	"which settings the worker has; each reload is one more", worker_settings},
};

static void
put_workers(const struct supervisor *s, FILE *out)
{
	uint64_t now_ms = supervisor_now_ms();

	for (size_t i = 0; i < sizeof(worker_metrics) / sizeof(worker_metrics[0]);
	     i++) {
		head(out, worker_metrics[i].name, "", worker_metrics[i].type,
		    worker_metrics[i].help);
		for (unsigned w = 0; w < s->nworkers; w++) {
			struct worker_look look;

			workers_look(s->workers, w, &look);
			(void)fprintf(out, "wscast_%s{worker=\"%u\"} %.17g\n",
			    worker_metrics[i].name, w,
			    worker_metrics[i].value(&look, now_ms));
		}
	}
}

/* ---- rules ---- */

static void
put_label(FILE *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			(void)fputc('\\', out);
		(void)fputc(*text, out);
	}
}

static void
put_rules(const struct supervisor *s, FILE *out)
{
	struct rule_sum sum[RULE_ROWS];
	unsigned n = rules_sum(s->rules, workers_pages(s->workers), s->nworkers, sum);

	for (int c = 0; c < RULE_COUNTER_COUNT; c++) {
		const char *name = rule_counter_name((enum rule_counter)c);

		(void)fprintf(out,
		    "# HELP wscast_rule_%s_total %s\n# TYPE wscast_rule_%s_total "
		    "counter\n",
		    name, rule_counter_help((enum rule_counter)c), name);
		for (unsigned i = 0; i < n; i++) {
			(void)fprintf(out, "wscast_rule_%s_total{rule=\"", name);
			put_label(out, sum[i].glob != NULL ? sum[i].glob : "(others)");
			(void)fprintf(out, "\"} %" PRIu64 "\n", sum[i].counter[c]);
		}
	}
}

/* ---- the supervisor ---- */

static void
put_feed(const struct supervisor *s, FILE *out)
{
	struct feed_status feed;

	feed_look(s->feed, &feed);
	head(
	    out, "feed_info", "", "gauge", "1, with the source of messages as a label");
	(void)fprintf(out, "wscast_feed_info{source=\"%s\"} 1\n", feed.source);
	gauge(out, "feed_up", "1: the feed delivers", feed.connected);
	gauge(out, "feed_lag_seconds", "round trip of the last probe of the feed",
	    feed.lag_ms / 1e3);
	head(out, "feed_down_seconds", "_total", "counter",
	    "how long the feed was down, all in all");
	(void)fprintf(
	    out, "wscast_feed_down_seconds_total %.3f\n", (double)feed.down_ms / 1e3);
	count(out, "feed_reconnects", "times that the feed's link came again",
	    feed.reconnects);
	count(out, "feed_breaker_opened",
	    "times that publishing was refused at once since Redis answered too slowly",
	    feed.breaker_opened);
	count(out, "stream_malformed", "entries of a stream that are no messages",
	    feed.malformed);
	count(out, "stream_repeated",
	    "entries of a stream that came again and were dropped", feed.repeated);
	count(out, "stream_passed_over", "entries of a stream that nobody here wanted",
	    feed.passed_over);
}

static void
put_messages(const struct supervisor *s, FILE *out)
{
	const struct publisher *p = &s->publisher;

	count(out, "messages", "messages put into the ring", p->messages);
	count(out, "message_bytes", "bytes of payload put into the ring",
	    p->message_bytes);
	count(out, "keys_forgotten",
	    "keys that gave way to others before their newest message left the ring",
	    ring_keys_forgotten(p->ring));
	count(out, "messages_too_long",
	    "messages refused since the ring takes none so long", p->too_long);
	count(out, "ring_blocked",
	    "times that the ring had no room because a worker was behind",
	    p->blocked_times);
	count(out, "deflated", "frames deflated, once for all clients", p->deflated);
	count(out, "deflate_saved_bytes", "bytes by which deflated frames are smaller",
	    p->deflate_saved);
	count(out, "deflate_dropped",
	    "frames left plain since deflating saved too little", p->deflate_tried);
	gauge(out, "ring_size_bytes", "room for frames, for each protocol",
	    ring_frames_size(s->ring));
	count(out, "ring_records", "records written to the ring, messages and others",
	    ring_head(s->ring));
}

static void
put_expelled(const struct supervisor *s, FILE *out)
{
	const struct expel_counts *n = &s->expelled;

	gauge(out, "revocations", "users and tokens that are revoked now",
	    (double)revoked_live(ring_revoked(s->ring)));
	count(out, "revoked", "revocations that were asked for here or came from Redis",
	    n->revocations);
	count(out, "revoked_full", "revocations that there was no room to remember",
	    n->full);
	count(out, "revoked_malformed", "what came from Redis and revokes nobody",
	    n->malformed);
	gauge(out, "revocations_unkept",
	    "revocations that Redis has not taken yet, and is asked to again",
	    s->expel_tell.n);
	count(out, "revoked_not_kept",
	    "revocations that Redis did not keep, when too many waited to ask it again",
	    n->not_kept);
	count(out, "kicks", "kicks that were asked for", n->kicks);
}

static void
put_presence(const struct supervisor *s, FILE *out)
{
	const struct presence *p = s->presence;
	struct hosts_counts hosts;

	hosts_look(p->hosts, &hosts);
	gauge(out, "presence_members",
	    "members of channels on all hosts, as this one knows them",
	    (double)p->members.n);
	count(out, "presence_joins", "members that came, on whichever host", p->joins);
	count(
	    out, "presence_leaves", "members that went, on whichever host", p->leaves);
	count(out, "presence_untold", "joins and leaves that were not told", p->lost);
	count(out, "presence_members_refused",
	    "members that are not shown since there are too many", p->members.refused);
	count(out, "presence_answers_refused",
	    "lists of members that were refused since too many were asked for",
	    p->answers_refused);
	gauge(
	    out, "presence_hosts", "other hosts whose members are known", hosts.hosts);
	count(out, "presence_hosts_silent",
	    "hosts whose members were dropped since they were not heard", hosts.silent);
	count(out, "presence_malformed",
	    "what came from Redis and is of no host of ours", hosts.malformed);
	count(out, "presence_scans",
	    "times that a host's members were read since the counts were not equal",
	    hosts.scans);
	if (s->peers == NULL)
		return;
	gauge(
	    out, "peers_up", "1: other hosts hear us, and we them", peers_up(s->peers));
	count(out, "peers_refused",
	    "commands of what hosts tell each other that Redis "
	    "refused",
	    peers_refused(s->peers));
}

static void
put_limits(const struct supervisor *s, FILE *out)
{
	const struct settings *set = s->settings;
	const struct {
		const char *name, *setting;
		double value;
	} limits[] = {
	    {"connections", "server.max_connections", set->max_connections},
	    {"connections_per_ip", "server.max_connections_per_ip",
		set->max_connections_per_ip},
	    {"handshakes_per_second", "server.max_handshakes_per_second",
		set->max_handshakes_per_second},
	    {"handshakes_per_second_per_ip", "server.max_handshakes_per_second_per_ip",
		set->max_handshakes_per_second_per_ip},
	    {"message_size_bytes", "limits.max_message_size", set->max_message_size},
	    {"message_rate", "limits.message_rate", set->message_rate},
	    {"message_burst", "limits.message_burst", set->message_burst},
	    {"byte_rate", "limits.byte_rate", set->byte_rate},
	    {"byte_burst", "limits.byte_burst", set->byte_burst},
	    {"channels_per_connection", "limits.channels_per_connection",
		set->channels_per_connection},
	    {"handshake_timeout_seconds", "limits.handshake_timeout",
		set->handshake_timeout_ms / 1e3},
	    {"ping_interval_seconds", "limits.ping_interval",
		set->ping_interval_ms / 1e3},
	    {"pong_timeout_seconds", "limits.pong_timeout", set->pong_timeout_ms / 1e3},
	    {"write_timeout_seconds", "limits.write_timeout",
		set->write_timeout_ms / 1e3},
	    {"send_buffer_bytes", "limits.send_buffer", set->send_buffer},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		char name[64], help[80];

		(void)snprintf(name, sizeof(name), "limit_%s", limits[i].name);
		(void)snprintf(help, sizeof(help), "the setting %s", limits[i].setting);
		gauge(out, name, help, limits[i].value);
	}
}

static void
put_channels(const struct supervisor *s, FILE *out)
{
	gauge(out, "channels_known", "channels that the ring or a worker refers to",
	    registry_count(s->registry));
	count(out, "gaps",
	    "gaps declared: of a channel, as messages may have been lost",
	    registry_gaps(s->registry));
}

static void
put_host(const struct supervisor *s, FILE *out)
{
	head(out, "build_info", "", "gauge", "1, with the version as a label");
	(void)fprintf(out, "wscast_build_info{version=\"%s\",commit=\"%s\"} 1\n",
	    WSCAST_VERSION, WSCAST_COMMIT);
	gauge(out, "uptime_seconds", "time since wscastd started",
	    (double)(supervisor_now_ms() - s->started_ms) / 1e3);
	gauge(out, "ready", "1: /ready says so", supervisor_ready(s));
	gauge(out, "draining", "1: all workers are drained, or it stops",
	    ring_draining(s->ring));
	gauge(out, "workers", "workers of this host", s->nworkers);
	count(out, "reloads", "times that new settings were taken", s->reloads);
	count(out, "reloads_failed", "reloads refused for faults in the settings",
	    s->reloads_failed);
	gauge(out, "settings_generation", "which settings hold",
	    (double)workers_settings(s->workers));
}

char *
metrics_text(const struct supervisor *s, size_t *ret_len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_len);
	bool failed;

	if (out == NULL)
		return NULL;
	put_host(s, out);
	put_feed(s, out);
	put_messages(s, out);
	put_expelled(s, out);
	put_presence(s, out);
	put_channels(s, out);
	put_limits(s, out);
	admin_metrics(s->admin, out);
	put_rules(s, out);
	put_workers(s, out);
	put_counters(s, out);
	put_times(s, out);
	failed = ferror(out) != 0;
	if (fclose(out) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}
