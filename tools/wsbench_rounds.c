/*
 * wsbench_rounds.c - floors and server in turn, A B A B: what drifts on a machine
 * drifts for all of them. Of each measure the median over the rounds, and the median of
 * each round's ratio to the first floor.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsbench_report.h"
#include "tools/wsbench_run.h"

#define TARGETS_MAX 8
#define ROUNDS_MAX 100

struct rounds {
	char *names[TARGETS_MAX]; /* floors, then "server" */
	unsigned ntargets;
	json_t *runs[ROUNDS_MAX][TARGETS_MAX];
	json_t *cut_short; /* the run that an interrupt ended; borrowed */
	unsigned n;
};

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare_doubles);
	return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* One measure of one target over all rounds; divided by the first floor's of the same
 * round when `ratio`. Null: no round has it. */
static json_t *
one_median(const struct rounds *r, unsigned target, const char *path, bool ratio)
{
	double v[ROUNDS_MAX], x, by;
	unsigned n = 0;

	for (unsigned i = 0; i < r->n; i++) {
		if (!report_number(r->runs[i][target], path, &x))
			continue;
		if (ratio && (!report_number(r->runs[i][0], path, &by) || by <= 0))
			continue;
		v[n++] = ratio ? x / by : x;
	}
	return n == 0 ? json_null() : json_real(median(v, n));
}

static json_t *
all_medians(const struct rounds *r, unsigned target, bool ratio)
{
	json_t *o = json_object();

	for (size_t i = 0; i < nmeasures; i++)
		(void)json_object_set_new(
		    o, measures[i].key, one_median(r, target, measures[i].path, ratio));
	return o;
}

static json_t *
summary(const struct rounds *r)
{
	json_t *o = json_object(), *runs = json_array(), *medians = json_object(),
	       *ratios = json_object();

	for (unsigned i = 0; i < r->n; i++)
		for (unsigned t = 0; t < r->ntargets; t++)
			(void)json_array_append(runs, r->runs[i][t]);
	for (unsigned t = 0; t < r->ntargets; t++) {
		(void)json_object_set_new(
		    medians, r->names[t], all_medians(r, t, false));
		if (t > 0)
			(void)json_object_set_new(
			    ratios, r->names[t], all_medians(r, t, true));
	}
	(void)json_object_set_new(o, "wsbench", json_string(WSCAST_VERSION));
	(void)json_object_set_new(o, "rounds", json_integer(r->n));
	if (r->cut_short != NULL)
		(void)json_object_set(o, "cut_short", r->cut_short);
	(void)json_object_set_new(o, "medians", medians);
	(void)json_object_set_new(o, "ratios", ratios);
	(void)json_object_set_new(o, "runs", runs);
	return o;
}

static int
name_targets(struct rounds *r, const char *floors)
{
	char *copy = strdup(floors), *rest = copy, *name;

	if (copy == NULL)
		return -ENOMEM;
	while ((name = strsep(&rest, ",")) != NULL && r->ntargets < TARGETS_MAX - 1)
		if (*name != '\0')
			r->names[r->ntargets++] = strdup(name);
	r->names[r->ntargets++] = strdup("server");
	free(copy);
	return 0;
}

/* Faults of a run are told at once: they do not show in a table of medians. */
static void
tell_faults(const json_t *run, unsigned round, const char *name)
{
	static const char *const faults[] = {"check.lost", "check.repeated",
	    "check.reordered", "check.altered", "connections.given_up"};
	double v;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		if (report_number(run, faults[i], &v) && v > 0)
			fprintf(stderr, "wsbench: round %u, %s: %s %.0f\n", round + 1,
			    name, strchr(faults[i], '.') + 1, v);
}

static int
one_round(const struct options *o, struct rounds *r)
{
	int err;

	for (unsigned t = 0; t < r->ntargets; t++) {
		if (!o->quiet)
			fprintf(stderr, "round %u of %u: %s\n", r->n + 1, o->rounds,
			    r->names[t]);
		err = run_once(o, r->names[t], &r->runs[r->n][t]);
		if (err < 0)
			return err;
		if (run_interrupted()) { /* half a round has no ratio */
			r->cut_short = r->runs[r->n][t];
			return -EINTR;
		}
		tell_faults(r->runs[r->n][t], r->n, r->names[t]);
	}
	r->n++;
	return 0;
}

int
run_rounds(const struct options *o, json_t **ret)
{
	struct rounds *r = calloc(1, sizeof(*r));
	int err;

	if (r == NULL)
		return -ENOMEM;
	err = name_targets(r, o->floor);
	while (err == 0 && r->n < o->rounds)
		err = one_round(o, r);
	if (r->n > 0 || r->cut_short != NULL) {
		*ret = summary(r);
		err = 0;
	}
	for (unsigned i = 0; i <= r->n && i < ROUNDS_MAX; i++)
		for (unsigned t = 0; t < r->ntargets; t++)
			json_decref(r->runs[i][t]);
	for (unsigned t = 0; t < r->ntargets; t++)
		free(r->names[t]);
	free(r);
	return err;
}
