/*
 * wsbench_report.h - figures for people: a report of one measurement, and tables of
 * several. Also the list of what is compared.
 */
#ifndef WSCAST_TOOLS_WSBENCH_REPORT_H
#define WSCAST_TOOLS_WSBENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

struct measure {
	const char *key; /* in "medians" and "ratios" */
	const char *title;
	const char *path; /* in one run's object: "server.cpu_us_per_delivery" */
	const char *unit;
	bool more_is_better;
};

extern const struct measure measures[];
extern const size_t nmeasures;

/* The number at a path. Returns false when there is none, or no sense in it (null). */
bool report_number(const json_t *run, const char *path, double *ret);

/* One run; warnings included. */
void report_run(FILE *out, const json_t *run);
/* "medians" and "ratios" of rounds. */
void report_rounds(FILE *out, const json_t *all);

/* `wsbench compare A.json B.json`: one run, or rounds, each. Returns an exit status. */
int report_compare(const char *a, const char *b);

/* 12,345,678 or 12.3 or 0.00123: as many digits as a reader needs. Returns buf. */
const char *report_figure(double v, char buf[32]);

#endif
