/*
 * wscastd - the supervisor of wscast, a WebSocket fanout gateway.
 *
 * In the order they come to life:
 *   main.c            options and settings
 *   supervisor.c      the loop, signals, and what the parts tell each other
 *   reload.c          settings that change while all runs (tickets.c, certificates.c:
 *                     what there is of TLS)
 *   ctlsock.c         the control socket (commands.c, command_*.c: what wsctl may ask;
 *                     report.c: what it is shown)
 *   listeners.c       the listening sockets, one for each address and worker
 *   admin.c           HTTP: metrics.c, and what is published there (admin_publish.c)
 *   workers.c         the workers' lives (keeper_link.c, launcher.c, uplinks.c,
 *                     watch.c, drain.c)
 *   publisher.c       writes the ring
 *   registry.c        the channels, and who is interested in each
 *   rules.c           what is counted for each rule of the settings
 *   notify.c          what systemd is told
 *   feed_embedded.c   the feed: none but ourselves, or
 *   feed_stream.c     Redis streams (stream_places.c: how far each was read), or
 *   feed_sharded.c    sharded pub/sub of a Redis cluster, or
 *   feed_pubsub.c     Redis pub/sub (feed_state.c, feed_probe.c, redis_commands.c),
 *                     over links (redis_link.c) to whichever server is the right one
 *                     (redis_target.c, redis_topology.c), each a connection
 *                     (redis_conn.c, redis_input.c, redis_tls.c, resolver.c) that is
 *                     made anew when it is lost
 *   peers.c           what hosts on one Redis tell each other (expel.c, expel_tell.c:
 *                     who is to go)
 *   presence.c        who is in which channel (members.c), on all hosts (hosts.c,
 *                     hosts_tell.c)
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/journal.h"
#include "proto/settings.h"
#include "supervisor/supervisor.h"

#define OVERRIDES_MAX 256
#define EXIT_USAGE 2

static const char usage[] =
    "usage: wscastd [-tV] [-c FILE] [-o SECTION.KEY=VALUE]...\n"
    "  -c FILE               settings, in place of " WSCAST_SYSCONFDIR
    "/wscast/wscast.conf\n"
    "  -o SECTION.KEY=VALUE  one setting over the file's; may be repeated\n"
    "  -t                    check the settings, say all that is wrong, and exit\n"
    "  -V                    print the version and exit\n"
    "  -h                    print this and exit\n";

struct options {
	const char *file; /* NULL: none is there */
	const char *overrides[OVERRIDES_MAX];
	size_t noverrides;
	bool check;
};

/* Returns -1 to go on, or the exit status. */
static int
options_parse(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt(argc, argv, "c:o:tVh")) != -1) {
		switch (c) {
		case 'c':
			o->file = optarg;
			break;
		case 'o':
			if (o->noverrides == OVERRIDES_MAX) {
				(void)fputs("wscastd: too many -o\n", stderr);
				return EXIT_USAGE;
			}
			o->overrides[o->noverrides++] = optarg;
			break;
		case 't':
			o->check = true;
			break;
		case 'V':
			(void)puts("wscastd " WSCAST_VERSION " (" WSCAST_COMMIT
				   ") supervisor " WSCAST_SUPERVISOR);
			return EXIT_SUCCESS;
		case 'h':
			(void)fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			(void)fputs(usage, stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		(void)fprintf(
		    stderr, "wscastd: what is '%s'?\n%s", argv[optind], usage);
		return EXIT_USAGE;
	}
	return -1;
}

/* The build tree's worker lies beside us, an installed one in libexec. Returns false
 * when neither can be executed (logged). */
static bool
worker_find(char *path, size_t size)
{
	static const char name[] = "wscast-worker";
	ssize_t len = readlink("/proc/self/exe", path, size - 1);
	char *slash;

	path[len < 0 ? 0 : len] = '\0';
	slash = strrchr(path, '/');
	if (slash != NULL && (size_t)(slash + 1 - path) + sizeof(name) <= size) {
		memcpy(slash + 1, name, sizeof(name));
		if (access(path, X_OK) == 0)
			return true;
	}
	(void)snprintf(path, size, "%s/wscast/%s", WSCAST_LIBEXECDIR, name);
	if (access(path, X_OK) == 0)
		return true;
	log_error(-errno,
	    "cannot find wscast-worker, neither beside wscastd nor as %s: install "
	    "wscast again, or run `make`",
	    path);
	return false;
}

static int
settings_read(const struct options *o, struct settings **ret_settings)
{
	struct faults faults = {0};
	int r =
	    settings_load(o->file, o->overrides, o->noverrides, ret_settings, &faults);

	for (unsigned i = 0; i < faults.n; i++)
		log_error(0, "%s", faults.line[i]);
	if (r < 0 && faults.n == 0)
		log_error(r, "cannot read the settings");
	faults_done(&faults);
	return r;
}

int
main(int argc, char **argv)
{
	static const char default_file[] = WSCAST_SYSCONFDIR "/wscast/wscast.conf";
	struct options o = {0};
	struct settings_source source = {.path_else = default_file};
	struct settings *settings = NULL;
	char worker[PATH_MAX];
	int status = options_parse(argc, argv, &o);

	if (status >= 0)
		return status;
	log_open("wscastd");
	/* Without the file all has a default; a file that cannot be read is a fault. */
	if (o.file == NULL && (access(default_file, F_OK) == 0 || errno != ENOENT))
		o.file = default_file;
	if (settings_read(&o, &settings) < 0)
		return EXIT_FAILURE;
	settings_log(settings);
	source.path = o.file;
	source.overrides = o.overrides;
	source.noverrides = o.noverrides;
	if (!o.check && worker_find(worker, sizeof(worker)))
		return supervisor_run(&source, settings, worker);
	settings_free(settings);
	return o.check ? EXIT_SUCCESS : EXIT_FAILURE;
}
