#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsbench_report.h"

const struct measure measures[] = {
    {"cpu", "server CPU per delivery", "server.cpu_us_per_delivery", "us", false},
    {"deliveries", "deliveries", "deliveries.per_s", "/s", true},
    {"latency_p50", "latency p50", "latency_us.p50", "us", false},
    {"latency_p99", "latency p99", "latency_us.p99", "us", false},
    {"fanout_p50", "fanout time p50", "fanout_us.p50", "us", false},
    {"fanout_p99", "fanout time p99", "fanout_us.p99", "us", false},
    {"connects", "connections accepted", "connections.per_s", "/s", true},
    {"connect_cpu", "server CPU per connection", "server.cpu_us_per_connection", "us",
	false},
    {"memory", "user memory per connection", "memory.user_bytes_per_connection", "B",
	false},
    {"own_cpu", "generator CPU per delivery", "generator.cpu_us_per_delivery", "us",
	false},
};
const size_t nmeasures = sizeof(measures) / sizeof(measures[0]);

bool
report_number(const json_t *run, const char *path, double *ret)
{
	char key[64];
	size_t len;

	/* "latency_us.p99.9": the last part may hold a dot. */
	while (run != NULL && *path != '\0') {
		const json_t *whole = json_object_get(run, path);

		if (whole != NULL) {
			run = whole;
			break;
		}
		len = strcspn(path, ".");
		if (len >= sizeof(key))
			return false;
		memcpy(key, path, len);
		key[len] = '\0';
		run = json_object_get(run, key);
		path += len + (path[len] == '.');
	}
	if (!json_is_number(run))
		return false;
	*ret = json_number_value(run);
	return true;
}

const char *
report_figure(double v, char buf[32])
{
	char digits[32];
	size_t len, n = 0;
	double size = fabs(v);

	if (size < 1000) {
		snprintf(buf, 32, "%.*f",
		    size >= 100 || size == 0 ? 0
		    : size >= 10             ? 1
		    : size >= 0.1            ? 2
					     : 4,
		    v);
		if (strchr(buf, '.') == NULL || v != floor(v))
			return buf;
		snprintf(buf, 32, "%.0f", v);
		return buf;
	}
	len = (size_t)snprintf(digits, sizeof(digits), "%.0f", v);
	for (size_t i = 0; i < len && n < 30; i++) {
		buf[n++] = digits[i];
		if ((len - i) % 3 == 1 && i + 1 < len && digits[i] != '-')
			buf[n++] = ',';
	}
	buf[n] = '\0';
	return buf;
}

/* A time in the unit that fits it. */
static const char *
time_text(double us, char buf[32])
{
	if (us < 1000)
		snprintf(buf, 32, "%.*f us", us < 10 ? 2 : us < 100 ? 1 : 0, us);
	else if (us < 1e6)
		snprintf(buf, 32, "%.*f ms", us < 1e4 ? 2 : us < 1e5 ? 1 : 0, us / 1e3);
	else
		snprintf(buf, 32, "%.2f s", us / 1e6);
	return buf;
}

static double
number(const json_t *run, const char *path)
{
	double v = 0;

	(void)report_number(run, path, &v);
	return v;
}

/* "name figure" for those of a list of counters that are not zero. */
static void
print_counters(FILE *out, const json_t *o, const char *const *keys)
{
	char buf[32];

	for (; *keys != NULL; keys++)
		if (number(o, *keys) != 0)
			fprintf(out, ", %s %s", *keys,
			    report_figure(number(o, *keys), buf));
}

static void
print_times(FILE *out, const char *title, const json_t *times)
{
	static const char *const keys[] = {"p50", "p90", "p99", "p99.9", "max"};
	char buf[32];

	if (number(times, "count") == 0)
		return;
	fprintf(out, "%-12s", title);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		fprintf(out, "%s%s %s", i > 0 ? "   " : "", keys[i],
		    time_text(number(times, keys[i]), buf));
	fputc('\n', out);
}

/* Halves of a power of two, from the first to the last that has any. */
#define ROWS_MAX 80

static void
print_histogram(FILE *out, const json_t *times)
{
	const json_t *steps = json_object_get(times, "histogram");
	uint64_t counts[ROWS_MAX] = {0}, most = 0;
	int first = ROWS_MAX, last = -1, row, width;
	double total = number(times, "count");
	char buf[32];
	size_t i;

	for (i = 0; i < json_array_size(steps); i++) {
		const json_t *step = json_array_get(steps, i);
		double from = json_number_value(json_array_get(step, 0));

		row = from <= 0.001 ? 0 : (int)(floor(log2(from * 1000) * 2 + 0.01));
		if (row < 0 || row >= ROWS_MAX)
			continue;
		counts[row] += (uint64_t)json_integer_value(json_array_get(step, 1));
		first = row < first ? row : first;
		last = row > last ? row : last;
		most = counts[row] > most ? counts[row] : most;
	}
	for (row = first; row <= last; row++) {
		width = (int)((double)counts[row] / (double)most * 50 + 0.5);
		fprintf(out, "  %10s  %5.1f %%  %.*s%s\n",
		    time_text(exp2((double)row / 2) / 1000, buf),
		    (double)counts[row] / total * 100, width,
		    "##################################################",
		    width == 0 && counts[row] > 0 ? "." : "");
	}
}

static void
print_head(FILE *out, const json_t *run)
{
	const json_t *o = json_object_get(run, "options");
	const char *target = json_string_value(json_object_get(run, "target"));
	char a[32], b[32], c[32];

	fprintf(out, "wsbench %s, %s: %s connections, %s channels, %s, through %s",
	    json_string_value(json_object_get(run, "preset")),
	    strcmp(target, "server") == 0 ? json_string_value(json_object_get(o, "url"))
					  : target,
	    report_figure(number(o, "connections"), a),
	    report_figure(number(o, "channels"), b),
	    json_string_value(json_object_get(o, "protocol")),
	    json_string_value(json_object_get(o, "publish")));
	if (number(o, "in-flight") > 0)
		fprintf(
		    out, ", %s in flight", report_figure(number(o, "in-flight"), c));
	fputs(json_is_true(json_object_get(run, "interrupted")) ? " (interrupted)\n"
								: "\n",
	    out);
}

static void
print_connections(FILE *out, const json_t *run)
{
	static const char *const counters[] = {"failed", "refused", "given_up",
	    "closed_by_server", "broken", "dropped", NULL};
	const json_t *c = json_object_get(run, "connections");
	char a[32], b[32], d[32];

	fprintf(out, "%-12s%s open of %s in %.2f s", "connections",
	    report_figure(number(c, "open"), a), report_figure(number(c, "wanted"), b),
	    number(c, "seconds"));
	if (number(c, "per_s") > 0)
		fprintf(out, ", %s/s", report_figure(number(c, "per_s"), d));
	print_counters(out, c, counters);
	if (number(c, "storm_seconds") > 0)
		fprintf(out, ", all back after %.2f s", number(c, "storm_seconds"));
	fputc('\n', out);
	print_times(out, "  opening", json_object_get(c, "opening_us"));
}

static void
print_messages(FILE *out, const json_t *run)
{
	const json_t *m = json_object_get(run, "messages");
	const json_t *d = json_object_get(run, "deliveries");
	char a[32], b[32], c[32];

	if (number(m, "measured") == 0)
		return;
	fprintf(out, "%-12s%s of %s B, %s/s\n", "messages",
	    report_figure(number(m, "measured"), a),
	    report_figure(number(m, "bytes_each"), b),
	    report_figure(number(m, "per_s"), c));
	fprintf(out, "%-12s%s, %s/s, %s in a read\n", "deliveries",
	    report_figure(number(d, "measured"), a),
	    report_figure(number(d, "per_s"), b),
	    report_figure(number(d, "per_read"), c));
}

static void
print_check(FILE *out, const json_t *run)
{
	static const char *const counters[] = {"foreign", "silent", "told", "away",
	    "resumed", "recovered", "refused", "slow_received", "slow_closed", NULL};
	const json_t *c = json_object_get(run, "check");

	if (number(run, "messages.published") == 0)
		return;
	fprintf(out, "%-12slost %.0f, repeated %.0f, out of order %.0f, altered %.0f",
	    "checked", number(c, "lost"), number(c, "repeated"), number(c, "reordered"),
	    number(c, "altered"));
	print_counters(out, c, counters);
	fputc('\n', out);
}

static void
print_cost(FILE *out, const char *title, const json_t *u)
{
	char a[32];

	if (!json_is_object(u))
		return;
	fprintf(out, "%-12s%.2f s CPU", title, number(u, "cpu_s"));
	if (json_is_number(json_object_get(u, "user_s")))
		fprintf(out, " (user %.2f, system %.2f)", number(u, "user_s"),
		    number(u, "system_s"));
	fprintf(out, ", %.2f cores", number(u, "cores"));
	if (number(u, "cpu_us_per_delivery") > 0)
		fprintf(out, ", %s us per delivery",
		    report_figure(number(u, "cpu_us_per_delivery"), a));
	fprintf(out, ", %.0f processes\n", number(u, "processes"));
}

static void
print_memory(FILE *out, const json_t *run)
{
	const json_t *m = json_object_get(run, "memory");
	char a[32], b[32], c[32];

	if (number(m, "pss_connected") == 0)
		return;
	fprintf(out,
	    "%-12s%s MiB, %s B per connection; kernel %s B per pair of sockets\n",
	    "memory", report_figure(number(m, "pss_connected") / 1048576, a),
	    report_figure(number(m, "user_bytes_per_connection"), b),
	    report_figure(number(m, "kernel_bytes_per_pair"), c));
}

void
report_run(FILE *out, const json_t *run)
{
	const json_t *w = json_object_get(run, "warnings");
	size_t i;

	print_head(out, run);
	print_connections(out, run);
	print_messages(out, run);
	print_check(out, run);
	print_times(out, "latency", json_object_get(run, "latency_us"));
	print_histogram(out, json_object_get(run, "latency_us"));
	print_times(out, "fanout", json_object_get(run, "fanout_us"));
	print_cost(out, "server", json_object_get(run, "server"));
	print_cost(out, "generator", json_object_get(run, "generator"));
	print_memory(out, run);
	if (number(run, "restarts") > 0)
		fprintf(out, "%-12s%.0f\n", "restarts", number(run, "restarts"));
	for (i = 0; i < json_array_size(w); i++)
		fprintf(out, "warning: %s\n", json_string_value(json_array_get(w, i)));
}

/* -- rounds --------------------------------------------------------------------- */

/* One column for each target: its name, or a figure of its. */
static void
print_columns(FILE *out, const json_t *targets, const struct measure *m, bool ratio)
{
	char text[64];
	double v;

	for (void *at = json_object_iter((json_t *)targets); at != NULL;
	     at = json_object_iter_next((json_t *)targets, at)) {
		if (m == NULL)
			snprintf(text, sizeof(text), "%s%s", json_object_iter_key(at),
			    ratio ? "/floor" : "");
		else if (!report_number(json_object_iter_value(at), m->key, &v))
			snprintf(text, sizeof(text), "-");
		else if (ratio)
			snprintf(text, sizeof(text), "%.3f", v);
		else
			(void)report_figure(v, text);
		fprintf(out, " %17s", text);
	}
}

static bool
any_has(const json_t *targets, const struct measure *m)
{
	double v;

	for (void *at = json_object_iter((json_t *)targets); at != NULL;
	     at = json_object_iter_next((json_t *)targets, at))
		if (report_number(json_object_iter_value(at), m->key, &v))
			return true;
	return false;
}

void
report_rounds(FILE *out, const json_t *all)
{
	const json_t *medians = json_object_get(all, "medians");
	const json_t *ratios = json_object_get(all, "ratios");
	const json_t *cut_short = json_object_get(all, "cut_short");

	if (cut_short != NULL)
		report_run(out, cut_short);
	if (number(all, "rounds") == 0)
		return;
	fprintf(out, "%-30s", "");
	print_columns(out, medians, NULL, false);
	print_columns(out, ratios, NULL, true);
	fputc('\n', out);
	for (size_t i = 0; i < nmeasures; i++) {
		if (!any_has(medians, &measures[i]))
			continue;
		fprintf(out, "%-27s%3s", measures[i].title, measures[i].unit);
		print_columns(out, medians, &measures[i], false);
		print_columns(out, ratios, &measures[i], true);
		fputc('\n', out);
	}
	fputs("A floor's times have no way through Redis or other processes in them.\n",
	    out);
}

/* -- compare -------------------------------------------------------------------- */

#define COLUMN 14

static json_t *
load(const char *path)
{
	json_error_t error;
	json_t *o = json_load_file(path, 0, &error);

	if (o == NULL)
		fprintf(stderr, "wsbench: %s: %s\n", path, error.text);
	return o;
}

/* Of one run the figure itself, of rounds the median of the server's. */
static bool
figure_of(const json_t *o, const struct measure *m, double *ret)
{
	const json_t *medians = json_object_get(o, "medians");

	if (medians == NULL)
		return report_number(o, m->path, ret);
	return report_number(json_object_get(medians, "server"), m->key, ret);
}

static void
compare_one(
    const char *title, const char *unit, bool more_is_better, double a, double b)
{
	char left[32], right[32];
	double change = a != 0 ? (b / a - 1) * 100 : 0;
	const char *word = fabs(change) < 1                 ? ""
			   : (change > 0) == more_is_better ? "better"
							    : "worse";

	printf("%-32s%*s%*s %-3s", title, COLUMN, report_figure(a, left), COLUMN,
	    report_figure(b, right), unit);
	if (a != 0)
		printf("%+8.1f %%  %s", change, word);
	printf("\n");
}

/* Of a path its end, which differs where the folder is the same. */
static const char *
path_end(const char *path)
{
	size_t len = strlen(path);

	return len > COLUMN - 1 ? path + len - (COLUMN - 1) : path;
}

int
report_compare(const char *a, const char *b)
{
	static const char *const faults[] = {
	    "lost", "repeated", "reordered", "altered"};
	json_t *left = load(a), *right = left != NULL ? load(b) : NULL;
	double x, y;
	char path[64];

	if (left == NULL || right == NULL) {
		json_decref(left);
		return 1;
	}
	printf("%-32s%*s%*s\n", "", COLUMN, path_end(a), COLUMN, path_end(b));
	for (size_t i = 0; i < nmeasures; i++)
		if (figure_of(left, &measures[i], &x) &&
		    figure_of(right, &measures[i], &y))
			compare_one(measures[i].title, measures[i].unit,
			    measures[i].more_is_better, x, y);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		snprintf(path, sizeof(path), "check.%s", faults[i]);
		if (report_number(left, path, &x) && report_number(right, path, &y))
			compare_one(faults[i], "", false, x, y);
	}
	json_decref(left);
	json_decref(right);
	return 0;
}
