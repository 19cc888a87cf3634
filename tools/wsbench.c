/*
 * wsbench - load generator and latency meter for WebSocket fanout servers.
 *
 * Subcommands: run, limit, compare, help. Reading order:
 *
 *   wsbench_options.c   what is to be done
 *   wsbench_run.c       one measurement: forks the others, leads them through phases
 *   wsbench_shared.c    what they share
 *   wsbench_gen.c       the clients; wsbench_conn.c, _judge.c; _wire.c, _check.c,
 *                       _hist.c, _proto_*.c
 *   wsbench_pub.c       the publisher, and its ways: wsbench_via.c
 *   wsbench_result.c    the figures; wsbench_proc.c for CPU and memory
 *   wsbench_report.c    for people; wsbench_rounds.c with floors in turn
 *   wsbench_limit.c     the floor
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "tools/wsbench_limit.h"
#include "tools/wsbench_options.h"
#include "tools/wsbench_report.h"
#include "tools/wsbench_run.h"

#define STATUS_FAILED 1
#define STATUS_USAGE 2

static int
write_json(const struct options *o, const json_t *result)
{
	size_t flags = JSON_INDENT(1) | JSON_REAL_PRECISION(7);
	FILE *f = stdout;
	int r;

	if (strcmp(o->json, "-") != 0) {
		f = fopen(o->json, "we");
		if (f == NULL) {
			fprintf(stderr, "wsbench: %s: %s\n", o->json, strerror(errno));
			return -errno;
		}
	}
	r = json_dumpf(result, f, flags) < 0 || fputc('\n', f) == EOF ? -EIO : 0;
	if (f != stdout && fclose(f) != 0)
		r = -EIO;
	if (r < 0)
		fprintf(stderr, "wsbench: cannot write %s\n", o->json);
	return r;
}

static int
command_run(int argc, char **argv)
{
	struct options o;
	json_t *result = NULL;
	int r;

	if (argc > 0 && strcmp(argv[0], "--help") == 0) {
		options_help();
		return 0;
	}
	if (options_parse(argc, argv, &o) < 0 || options_finish(&o) < 0)
		return STATUS_USAGE;
	run_catch_signals();
	r = o.floor != NULL ? run_rounds(&o, &result) : run_once(&o, "server", &result);
	if (r < 0)
		return STATUS_FAILED;
	if (o.json == NULL || strcmp(o.json, "-") != 0) {
		if (o.floor != NULL)
			report_rounds(stdout, result);
		else
			report_run(stdout, result);
	}
	if (o.json != NULL)
		r = write_json(&o, result);
	if (json_is_true(json_object_get(result, "failed")))
		r = -EIO;
	json_decref(result);
	return r < 0 ? STATUS_FAILED : 0;
}

int
main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "help";

	if (strcmp(command, "run") == 0)
		return command_run(argc - 2, argv + 2);
	if (strcmp(command, "limit") == 0)
		return limit_main(argc - 2, argv + 2);
	if (strcmp(command, "compare") == 0 && argc == 4)
		return report_compare(argv[2], argv[3]);
	if (strcmp(command, "help") == 0 || strcmp(command, "--help") == 0) {
		options_help();
		return 0;
	}
	if (strcmp(command, "version") == 0 || strcmp(command, "--version") == 0) {
		printf("wsbench %s (%s)\n", WSCAST_VERSION, WSCAST_COMMIT);
		return 0;
	}
	fprintf(stderr, "wsbench: see wsbench help\n");
	return STATUS_USAGE;
}
