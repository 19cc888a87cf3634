#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/wsbench_gen.h"
#include "tools/wsbench_limit.h"
#include "tools/wsbench_net.h"
#include "tools/wsbench_proc.h"
#include "tools/wsbench_progress.h"
#include "tools/wsbench_proto.h"
#include "tools/wsbench_pub.h"
#include "tools/wsbench_result.h"
#include "tools/wsbench_run.h"
#include "tools/wsbench_server.h"
#include "tools/wsbench_shared.h"
#include "tools/wsbench_trouble.h"
#include "tools/wsbench_via.h"

#define CONNECT_STALL_NS 60000000000u /* nothing moves for so long: go on without */
#define START_STILL_S 0.1 /* a server that was started: not at work for so long */
#define START_STILL_CPU_S 0.001
#define START_MOST_NS 10000000000u

static volatile sig_atomic_t interrupts;

static void
on_interrupt(int sig)
{
	if (++interrupts > 1)
		_exit(130); /* the others follow by PR_SET_PDEATHSIG */
}

void
run_catch_signals(void)
{
	struct sigaction act = {.sa_handler = on_interrupt};

	(void)sigaction(SIGINT, &act, NULL);
	(void)sigaction(SIGTERM, &act, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

bool
run_interrupted(void)
{
	return interrupts > 0;
}

/* -- processes ------------------------------------------------------------------ */

static int
start_children(struct run *r)
{
	/* ^C reaches the whole group; only we act on it. */
	for (unsigned i = 0; i <= r->o->processes; i++) {
		bool publisher = i == r->o->processes;
		pid_t pid;

		if (publisher && strcmp(r->o->publish, "none") == 0)
			break;
		pid = fork();
		if (pid < 0)
			return -errno;
		if (pid == 0) {
			(void)signal(SIGINT, SIG_IGN);
			(void)signal(SIGTERM, SIG_DFL);
			_exit(publisher ? pub_main(r->o, r->shared)
					: gen_main(r->o, r->shared, i));
		}
		r->pids[r->npids++] = pid;
		r->has_publisher = publisher;
	}
	return 0;
}

static void
stop_children(struct run *r)
{
	if (r->shared != NULL)
		shared_begin(r->shared, r->o, PHASE_EXIT);
	for (unsigned i = 0; i < r->npids; i++)
		(void)waitpid(r->pids[i], NULL, 0);
	r->npids = 0;
}

/* A child that ended before its time, or a publisher that cannot publish. */
static bool
children_failed(struct run *r)
{
	for (unsigned i = 0; i < r->npids; i++) {
		if (waitpid(r->pids[i], NULL, WNOHANG) != r->pids[i])
			continue;
		r->pids[i] = r->pids[--r->npids];
		return true;
	}
	return r->has_publisher && OWN_GET(r->shared->pub.failed) != 0;
}

/* -- phases --------------------------------------------------------------------- */

/* One short wait, for the display and for what else must be looked at. Returns false
 * when the measurement must end. */
static bool
pass_time(struct run *r, const char *what, double share)
{
	(void)usleep(20000);
	progress_show(&r->progress, r, what, share);
	if (!r->failed && children_failed(r)) {
		fprintf(stderr, "wsbench: %s\n",
		    OWN_GET(r->shared->pub.failed) != 0 ? "the way to publish broke"
							: "a process of ours ended");
		r->failed = true;
	}
	return !r->failed && !run_interrupted();
}

static void
connect_all(struct run *r)
{
	uint64_t moved_ns = net_now_ns(), done = 0, now, n = r->o->connections;

	shared_begin(r->shared, r->o, PHASE_CONNECT);
	while (done < n) {
		now = result_sum(r, RESULT_ready) + result_sum(r, RESULT_given_up);
		if (!r->o->reconnect)
			now += result_sum(r, RESULT_closed);
		now += result_sum(r, RESULT_broken);
		if (now != done)
			moved_ns = net_now_ns();
		done = now;
		if (!pass_time(r, "connecting", (double)done / (double)n) ||
		    net_now_ns() - moved_ns > CONNECT_STALL_NS)
			return;
	}
}

/* Wait until the publisher says that every subscription works. Returns whether they had
 * the time for it. */
static bool
subscribe_all(struct run *r)
{
	uint64_t begin_ns = net_now_ns();
	double share = 0;
	uint32_t step;

	if (!r->has_publisher)
		return true;
	shared_begin(r->shared, r->o, PHASE_SETTLE);
	step = OWN_GET(r->shared->step);
	while (
	    share < 1 && /* S1 */
	    atomic_load_explicit(&r->shared->pub.step, memory_order_acquire) != step) {
		share = (double)(net_now_ns() - begin_ns) / 1e9 / r->o->settle;
		if (!pass_time(r, "subscribing", share))
			return false;
	}
	return true;
}

/* Wait until the publisher says that all has arrived, or nothing arrives any more: a
 * server that is behind has lost nothing yet. */
static void
drain(struct run *r, const char *what)
{
	uint64_t moved_ns = net_now_ns(), received = 0, now;
	double still_s = 0, most_s = r->o->drain;
	bool done = false;
	uint32_t step;

	if (!r->has_publisher)
		return;
	shared_begin(r->shared, r->o, PHASE_QUIET);
	step = OWN_GET(r->shared->step);
	while (still_s < most_s) {
		now = result_sum(r, RESULT_received);
		if (now != received)
			moved_ns = net_now_ns();
		received = now;
		still_s = (double)(net_now_ns() - moved_ns) / 1e9;
		done = atomic_load_explicit(/* S1 */
			   &r->shared->pub.step, memory_order_acquire) == step;
		if (done && OWN_GET(r->shared->pub.incomplete) == 0)
			return;
		/* What was given up may come yet; a second of silence says no. */
		if (done || run_interrupted())
			most_s = most_s > 1 ? 1 : most_s;
		if (!pass_time(r, what, still_s / most_s) && r->failed)
			return;
	}
}

static void
last_for(struct run *r, enum phase phase, const char *what, double seconds)
{
	uint64_t begin_ns = net_now_ns();
	double elapsed = 0;

	if (run_interrupted() || r->failed || seconds == 0)
		return;
	shared_begin(r->shared, r->o, phase);
	while (elapsed < seconds && pass_time(r, what, elapsed / seconds)) {
		elapsed = (double)(net_now_ns() - begin_ns) / 1e9;
		if (phase == PHASE_MEASURE)
			trouble_at(&r->trouble, r->o, r->shared, elapsed, seconds);
		/* A process that dies between two looks would take its CPU along. */
		if (phase == PHASE_MEASURE && r->o->restart_every > 0)
			proc_set_sample(&r->server, false, &r->after.server);
	}
}

static void
sample(struct run *r, struct sample *s, bool memory)
{
	s->at_ns = net_now_ns();
	s->opened = result_sum(r, RESULT_opened);
	proc_set_sample(&r->server, memory, &s->server);
	proc_set_sample(&r->own, memory, &s->own);
	for (unsigned i = 0; i < r->own.n && i < RUN_PIDS_MAX; i++)
		s->own_run_ns[i] = r->own.entries[i].run_ns;
	proc_kernel_sample(&s->kernel);
}

/* A server takes connections before its last process stands, and what starting costs is
 * no connection's. */
static void
let_server_start(struct run *r)
{
	uint64_t begin_ns = net_now_ns(), still_ns = begin_ns, now_ns = begin_ns;
	struct proc_usage seen, now;

	if (r->o->server == NULL)
		return;
	proc_set_sample(&r->server, true, &seen);
	while ((double)(now_ns - still_ns) / 1e9 < START_STILL_S &&
	       now_ns - begin_ns < START_MOST_NS && pass_time(r, "starting", 0)) {
		proc_set_sample(&r->server, true, &now);
		now_ns = net_now_ns();
		if (now.processes == seen.processes && now.pss == seen.pss &&
		    now.cpu_s - seen.cpu_s < START_STILL_CPU_S)
			continue;
		still_ns = now_ns;
		seen = now;
	}
}

static void
count_missing(struct run *r)
{
	uint64_t begin_ns = net_now_ns();
	uint32_t step;
	bool all = false;

	shared_begin(r->shared, r->o, PHASE_END);
	step = OWN_GET(r->shared->step);
	while (!all && net_now_ns() - begin_ns < 5000000000u) {
		all = true;
		for (unsigned i = 0; i < r->o->processes; i++)
			all = all && /* S1 */
			      atomic_load_explicit(&r->shared->gens[i].step,
				  memory_order_acquire) == step;
		(void)usleep(2000);
	}
}

static void
lead(struct run *r)
{
	bool subscribed;

	let_server_start(r);
	sample(r, &r->empty, true);
	connect_all(r);
	/* Let buffers of the handshake go before memory is measured. */
	last_for(r, PHASE_CONNECT, "settling", 0.3);
	sample(r, &r->connected, true);
	subscribed = subscribe_all(r);
	last_for(r, PHASE_WARMUP, "warming up", r->has_publisher ? r->o->warmup : 0);
	drain(r, "warming up");
	sample(r, &r->before, false);
	last_for(r, PHASE_MEASURE, "measuring", r->o->duration);
	drain(r, "draining");
	sample(r, &r->after, true);
	if (subscribed) /* else nothing was due to anybody */
		count_missing(r);
	progress_end(&r->progress);
}

/* -- one target ----------------------------------------------------------------- */

/* Make options that lead to a floor of our own. command: what starts it. */
static int
make_floor(const struct options *o, const char *kind, struct options *ret, char *texts,
    size_t size)
{
	bool uring = strncmp(kind, "uring", 5) == 0;
	bool share = strstr(kind, "-share") != NULL;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned n = cores > 0 ? (unsigned)cores : 1, port = net_free_port(n + 1);
	char *url = texts, *control = texts + size / 3, *command = texts + size / 3 * 2;

	if (strcmp(kind + (uring ? 5 : 4), share ? "-share" : "") != 0 ||
	    (!uring && strncmp(kind, "send", 4) != 0)) {
		fprintf(stderr, "wsbench: no floor %s\n", kind);
		return -EINVAL;
	}
	if (uring && !limit_uring_works()) {
		fprintf(stderr, "wsbench: no io_uring here, no floor with it\n");
		return -ENOSYS;
	}
	*ret = *o;
	snprintf(url, size / 3, "ws://127.0.0.1:%u/", port);
	snprintf(control, size / 3, "127.0.0.1:%u", port + 1);
	snprintf(command, size / 3,
	    "exec /proc/%d/exe limit --port=%u --control=%u --processes=%u%s%s",
	    (int)getpid(), port, port + 1, n, uring ? " --uring" : "",
	    share ? " --share" : "");
	ret->url = url;
	ret->control = control;
	ret->server = command;
	ret->protocol = "raw";
	if (strcmp(o->publish, "none") != 0)
		ret->publish = "floor";
	ret->nsources = 0;
	ret->source = NULL;
	ret->token = NULL;
	ret->pid = 0;
	ret->cgroup = NULL;
	ret->restart_every = 0;
	ret->floor_processes = n;
	return options_finish(ret);
}

static int
check_names(const struct options *o)
{
	if (proto_find(o->protocol) == NULL) {
		fprintf(stderr, "wsbench: no protocol %s\n", o->protocol);
		return -EINVAL;
	}
	if (strcmp(o->protocol, "socketio") == 0 && o->channels > 1) {
		fprintf(stderr, "wsbench: the socketio client has one channel\n");
		return -EINVAL;
	}
	if (strcmp(o->publish, "none") != 0 && via_find(o->publish) == NULL) {
		fprintf(stderr, "wsbench: no way to publish through %s\n", o->publish);
		return -EINVAL;
	}
	return 0;
}

static int
run_init(struct run *r, pid_t server)
{
	int err;

	if (server > 0)
		proc_set_tree(&r->server, server);
	else if (r->o->cgroup != NULL)
		proc_set_cgroup(&r->server, r->o->cgroup);
	else
		proc_set_tree(&r->server, (pid_t)r->o->pid);
	err = shared_new(r->o, &r->shared);
	if (err == 0)
		err = start_children(r);
	if (err < 0)
		fprintf(stderr, "wsbench: %s\n", strerror(-err));
	proc_set_list(&r->own, r->pids, r->npids);
	progress_init(&r->progress, r->o);
	return err;
}

int
run_once(const struct options *given, const char *target, json_t **ret)
{
	struct options o = *given;
	char texts[3 * 256];
	struct run *r;
	pid_t server = 0;
	int err = 0;

	if (strcmp(target, "server") != 0)
		err = make_floor(given, target, &o, texts, sizeof(texts));
	if (err == 0)
		err = check_names(&o);
	if (err == 0 && o.server != NULL)
		err = server_start(&o, o.server, &server);
	if (err < 0)
		return err;
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		server_stop(&o, server);
		return -ENOMEM;
	}
	r->o = &o;
	r->target = target;
	err = run_init(r, server);
	if (err == 0) {
		lead(r);
		*ret = result_json(r);
		if (r->failed)
			(void)json_object_set_new(*ret, "failed", json_true());
	}
	stop_children(r);
	server_stop(&o, server);
	shared_free(r->shared, &o);
	free(r);
	return err;
}
