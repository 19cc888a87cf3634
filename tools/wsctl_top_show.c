/* wsctl_top_show.c - see wsctl_top.h */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/wsctl_clock.h"
#include "tools/wsctl_proc.h"
#include "tools/wsctl_top.h"

#define CHANNELS_REPORTED 20 /* where no screen says how many */
#define FRAME_ROWS 11        /* of a screen, beside workers and channels */

/* ---- cells ---- */

/* So many a second. */
static char *
rate_text(uint64_t n, double seconds)
{
	double rate = seconds > 0 ? (double)n / seconds : 0;

	return rate > 0 && rate < 9.95 ? text_format("%.1f", rate)
				       : text_count((uint64_t)(rate + .5));
}

static char *
size_rate_text(uint64_t n, double seconds)
{
	return text_size(seconds > 0 ? (uint64_t)((double)n / seconds + .5) : 0);
}

static char *
percentile_text(const struct percentile *p)
{
	const char *more = p->over ? ">" : "";

	if (p->ms >= 999.5)
		return text_format("%s%.3gs", more, p->ms / 1000);
	return p->ms < 1 ? text_format("%s%.0fus", more, p->ms * 1000)
			 : text_format("%s%.3gms", more, p->ms);
}

/* Print and free; NULL: no memory for it. */
static void
put(FILE *out, const char *before, char *text, const char *behind)
{
	fprintf(out, "%s%s%s", before, text == NULL ? "?" : text, behind);
	free(text);
}

/* ---- head ---- */

static void
put_server(FILE *out, const struct screen *s, const struct maps *m,
    const struct top_view *v, const struct top_look *look)
{
	time_t now = time(NULL);
	struct tm tm;
	char clock[16] = "";

	put(out, *m->version != '\0' ? "wscastd " : "wscastd",
	    text_format("%s, pid %d, up ", m->version, (int)m->supervisor), "");
	put(out, "", text_duration(maps_up_ms(m)), "");
	fprintf(out, ", feed%s%s ", *m->source != '\0' ? " " : "", m->source);
	if (v->feed_down_ms > 0)
		put(out, style_on(s, STYLE_BAD),
		    text_format(
			"DOWN for %llu s", (unsigned long long)v->feed_down_ms / 1000),
		    style_off(s));
	else
		fputs("up", out);
	if (proc_is_stopped(m->supervisor))
		fprintf(out, ", %sSTOPPED%s", style_on(s, STYLE_BAD), style_off(s));
	if (v->draining)
		fprintf(out, ", %sDRAINING%s", style_on(s, STYLE_WARN), style_off(s));
	if (localtime_r(&now, &tm) != NULL)
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	fprintf(out, "  %s%s%s%s\n", clock, style_on(s, STYLE_WARN),
	    look->paused ? " paused" : "", style_off(s));
}

static void
put_totals(FILE *out, const struct top_view *v)
{
	put(out, "connections ", text_count(v->connections), "");
	put(out, "  opened ", rate_text(v->opened, v->seconds), "/s");
	put(out, "  closed ", rate_text(v->closed, v->seconds), "/s");
	put(out, "  subscriptions ", text_count(v->subscriptions), "");
	put(out, "  lagging ", text_count(v->lagging), "\n");
	put(out, "messages     in ", rate_text(v->messages_in, v->seconds), "/s");
	put(out, "  ", size_rate_text(v->bytes_in, v->seconds), "/s");
	put(out, "   out ", rate_text(v->messages_out, v->seconds), "/s");
	put(out, "  ", size_rate_text(v->bytes_out, v->seconds), "/s\n");
}

static void
put_times(FILE *out, const struct top_view *v)
{
	static const struct {
		enum page_time time;
		const char *name;
	} shown[] = {
	    {PAGE_TIME_latency, "publish-send"},
	    {PAGE_TIME_fanout, "fanout"},
	    {PAGE_TIME_turn, "loop turn"},
	};

	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		const struct percentiles *p = &v->times[shown[i].time];

		fprintf(out, "%-13s", shown[i].name);
		if (p->n == 0) {
			fputs("-\n", out);
			continue;
		}
		put(out, "p50 ", percentile_text(&p->p50), "");
		put(out, "  p90 ", percentile_text(&p->p90), "");
		put(out, "  p99 ", percentile_text(&p->p99), "");
		put(out, "  (", text_count(p->n), " timed)\n");
	}
}

/* ---- tables ---- */

static const struct column worker_columns[] = {
    {"WORKER", true, false, 0},
    {"STATE", false, false, 0},
    {"PID", true, false, 1},
    {"%CPU", true, false, 0},
    {"CONNS", true, false, 0},
    {"LAGGING", true, false, 0},
    {"BEHIND", true, false, 2},
    {"OUT/S", true, false, 0},
    {"BYTES/S", true, false, 4},
    {"P99", true, false, 3},
    {"RESTARTS", true, false, 0},
    {"CORE", true, false, 6},
    {"BEAT", true, false, 5},
};

static void
add_worker(struct table *t, const struct top_worker *w, double seconds)
{
	table_add(t, text_format("%u", w->index), STYLE_PLAIN);
	table_add(t, text_format("%s", w->state), w->good ? STYLE_GOOD : STYLE_BAD);
	table_add(t, text_format("%d", w->pid), STYLE_PLAIN);
	table_add(t, text_format("%.1f", w->cpu_percent), STYLE_PLAIN);
	table_add(t, text_count(w->connections), STYLE_PLAIN);
	table_add(t, text_count(w->lagging), w->lagging > 0 ? STYLE_WARN : STYLE_PLAIN);
	table_add(t, text_count(w->behind), STYLE_PLAIN);
	table_add(t, rate_text(w->sent, seconds), STYLE_PLAIN);
	table_add(t, size_rate_text(w->sent_bytes, seconds), STYLE_PLAIN);
	table_add(t,
	    w->latency.n > 0 ? percentile_text(&w->latency.p99) : text_format("-"),
	    STYLE_PLAIN);
	table_add(t, text_count(w->restarts), STYLE_PLAIN);
	table_add(t, w->core < 0 ? text_format("-") : text_format("%d", w->core),
	    STYLE_PLAIN);
	table_add(t, text_duration(w->beat_ms), STYLE_PLAIN);
}

static int
put_workers(FILE *out, const struct screen *s, const struct top_view *v, unsigned shown)
{
	struct table *t = table_new(
	    worker_columns, sizeof(worker_columns) / sizeof(worker_columns[0]));
	int r;

	for (unsigned i = 0; i < shown; i++)
		add_worker(t, &v->workers[i], v->seconds);
	r = table_print(t, s, out);
	table_free(t);
	if (shown < v->nworkers)
		fprintf(out, "and %u more\n", v->nworkers - shown);
	return r;
}

static const struct column channel_columns[] = {
    {"CHANNEL", false, true, 0},
    {"IN/S", true, false, 0},
    {"BYTES/S", true, false, 2},
    {"SHARE", true, false, 1},
};

static void
add_channel(struct table *t, const struct screen *s, const struct top_channel *c,
    const struct top_view *v)
{
	/* Its name was given away again by the time we looked. */
	table_add(t,
	    c->name_len <= 0 ? text_format("(gone)")
			     : text_safe(s, c->name, (size_t)c->name_len, NULL),
	    STYLE_PLAIN);
	table_add(t, rate_text(c->messages, v->seconds), STYLE_PLAIN);
	table_add(t, size_rate_text(c->bytes, v->seconds), STYLE_PLAIN);
	table_add(t,
	    text_format("%.1f%%", 100. * (double)c->messages / (double)v->messages_in),
	    STYLE_PLAIN);
}

static int
put_channels(FILE *out, const struct screen *s, const struct top_view *v, size_t shown)
{
	struct table *t = table_new(
	    channel_columns, sizeof(channel_columns) / sizeof(channel_columns[0]));
	int r;

	for (size_t i = 0; i < shown && i < v->nchannels; i++)
		add_channel(t, s, &v->channels[i], v);
	r = table_print(t, s, out);
	table_free(t);
	if (v->unseen > 0)
		put(out, "not counted: ", text_count(v->unseen),
		    " records that came faster than they could be looked at\n");
	return r;
}

/* ---- the whole ---- */

static void
put_keys(FILE *out, const struct screen *s, const struct top_look *look)
{
	static const char *const channels[] = {"messages", "bytes", "name"};
	static const char *const workers[] = {
	    "index", "connections", "sent", "lagging", "cpu"};

	fprintf(out, "%sq%s quit %sp%s pause %s+-%s every ", style_on(s, STYLE_HEAD),
	    style_off(s), style_on(s, STYLE_HEAD), style_off(s),
	    style_on(s, STYLE_HEAD), style_off(s));
	fprintf(out, "%.3gs ", (double)look->interval_ms / 1000);
	fprintf(out, "%ss%s channels by %s ", style_on(s, STYLE_HEAD), style_off(s),
	    channels[look->channel_order]);
	fprintf(out, "%sw%s workers by %s ", style_on(s, STYLE_HEAD), style_off(s),
	    workers[look->worker_order]);
	fprintf(out, "%s?%s help", style_on(s, STYLE_HEAD), style_off(s));
}

static void
put_help(FILE *out)
{
	fputs(
	    "q        quit\n"
	    "p, space pause, and go on\n"
	    "+ -      look more often, or less\n"
	    "s        the next order of channels; m by messages, b by bytes, n by "
	    "name\n"
	    "w        the next order of workers; i by index, c by connections,\n"
	    "         o by messages sent out, l by lagging connections, u by CPU used\n"
	    "? h      this, and back\n\n"
	    "publish-send  from a message's publishing to its last send of a worker\n"
	    "fanout        from the first send of a message by a worker to its last\n"
	    "LAGGING       connections with something still to send\n"
	    "BEHIND        records that the worker has not passed on yet\n"
	    "IN/S          messages a second, counted in the ring\n\n",
	    out);
}

/* How many workers and channels a screen holds. */
static void
share_rows(const struct top_view *v, const struct top_look *look, unsigned *ret_workers,
    size_t *ret_channels)
{
	unsigned free = look->rows > FRAME_ROWS + 2 ? look->rows - FRAME_ROWS : 2;
	unsigned workers = v->nworkers;

	if (look->rows == 0) {
		*ret_workers = workers;
		*ret_channels = look->channels > 0 ? look->channels : CHANNELS_REPORTED;
		return;
	}
	if (v->unseen > 0 && free > 2)
		free--;
	if (workers > free / 2 && workers > 1)
		workers = free / 2 > 2 ? free / 2 - 1 : 1; /* and a line that says so */
	*ret_workers = workers;
	*ret_channels = free - workers - (workers < v->nworkers);
	if (look->channels > 0 && look->channels < *ret_channels)
		*ret_channels = look->channels;
}

/* Leave room for the line of keys, whatever came before. */
static size_t
cut_rows(const char *text, size_t len, unsigned rows)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\n' && --rows == 0)
			return i + 1;
	return len;
}

static int
put_all(FILE *out, const struct screen *s, const struct maps *m,
    const struct top_view *v, const struct top_look *look)
{
	unsigned workers;
	size_t channels;
	int r;

	share_rows(v, look, &workers, &channels);
	put_server(out, s, m, v, look);
	put_totals(out, v);
	put_times(out, v);
	fputc('\n', out);
	if (look->help) {
		put_help(out);
		return 0;
	}
	r = put_workers(out, s, v, workers);
	fputc('\n', out);
	return r < 0 ? r : put_channels(out, s, v, channels);
}

char *
top_text(const struct ctl *ctl, const struct maps *m, const struct top_view *v,
    const struct top_look *look, size_t *ret_len)
{
	struct screen s = ctl->screen;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int r;

	if (out == NULL)
		return NULL;
	s.width = look->columns;
	r = put_all(out, &s, m, v, look);
	if (r == 0 && look->rows > 0) {
		fflush(out);
		len = look->rows > 1 ? cut_rows(text, len, look->rows - 1) : 0;
		(void)fseek(out, (long)len, SEEK_SET);
		put_keys(out, &s, look);
	}
	if (fclose(out) != 0 || r < 0) {
		free(text);
		return NULL;
	}
	*ret_len = len;
	return text;
}

/* ---- JSON ---- */

static json_t *
integer(uint64_t n)
{
	return json_integer((json_int_t)(n & INT64_MAX));
}

static json_t *
percentiles_json(const struct percentiles *p)
{
	if (p->n == 0)
		return json_pack("{s:i}", "count", 0);
	return json_pack("{s:o, s:f, s:f, s:f}", "count", integer(p->n), "p50_ms",
	    p->p50.ms, "p90_ms", p->p90.ms, "p99_ms", p->p99.ms);
}

static json_t *
workers_json(const struct top_view *v)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < v->nworkers; i++) {
		const struct top_worker *w = &v->workers[i];

		(void)json_array_append_new(list,
		    json_pack("{s:i, s:i, s:s, s:i, s:f, s:o, s:o, s:o, s:o, s:o, s:o,"
			      " s:o, s:o}",
			"index", (int)w->index, "pid", (int)w->pid, "state", w->state,
			"cpu", (int)w->core, "cpu_percent", w->cpu_percent,
			"connections", integer(w->connections), "lagging",
			integer(w->lagging), "behind", integer(w->behind), "restarts",
			integer(w->restarts), "heartbeat_ms", integer(w->beat_ms),
			"sent", integer(w->sent), "sent_bytes", integer(w->sent_bytes),
			"latency", percentiles_json(&w->latency)));
	}
	return list;
}

static json_t *
channels_json(const struct top_view *v, size_t shown)
{
	json_t *list = json_array();

	for (size_t i = 0; i < shown && i < v->nchannels; i++) {
		const struct top_channel *c = &v->channels[i];
		json_t *name = c->name_len <= 0
				   ? json_null()
				   : json_stringn(c->name, (size_t)c->name_len);

		(void)json_array_append_new(
		    list, json_pack("{s:o, s:o, s:o}", "channel", name, "messages",
			      integer(c->messages), "bytes", integer(c->bytes)));
	}
	return list;
}

json_t *
top_json(const struct maps *m, const struct top_view *v, const struct top_look *look)
{
	json_t *o, *times = json_object();

	for (int t = 0; t < PAGE_TIME_COUNT; t++)
		(void)json_object_set_new(times, page_time_name((enum page_time)t),
		    percentiles_json(&v->times[t]));
	o = json_pack("{s:f, s:f, s:i, s:{s:b, s:f}, s:b, s:o, s:o, s:o, s:o, s:o, s:o,"
		      " s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
	    "time", (double)clock_ns(CLOCK_REALTIME) / 1e9, "interval_s", v->seconds,
	    "pid", (int)m->supervisor, "feed", "connected", (int)(v->feed_down_ms == 0),
	    "down_s", (double)v->feed_down_ms / 1000, "draining", (int)v->draining,
	    "connections", integer(v->connections), "subscriptions",
	    integer(v->subscriptions), "lagging", integer(v->lagging), "opened",
	    integer(v->opened), "closed", integer(v->closed), "messages_in",
	    integer(v->messages_in), "bytes_in", integer(v->bytes_in), "messages_out",
	    integer(v->messages_out), "bytes_out", integer(v->bytes_out), "times",
	    times, "workers", workers_json(v), "channels",
	    channels_json(v, look->channels > 0 ? look->channels : CHANNELS_REPORTED),
	    "channels_seen", integer(v->channels_seen), "unseen", integer(v->unseen));
	if (o != NULL && *m->source != '\0')
		(void)json_object_set_new(
		    json_object_get(o, "feed"), "source", json_string(m->source));
	return o;
}
