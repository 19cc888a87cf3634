/*
 * wsbench_gen.c - the client engine: one epoll loop, edge-triggered, one read buffer.
 * Its parts are listed in wsbench_clients.h.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tools/wsbench_clients.h"
#include "tools/wsbench_gen.h"
#include "tools/wsbench_net.h"

#define EVENTS 512
#define WAKE_TOKEN UINT32_MAX

/* -- trouble on purpose --------------------------------------------------------- */

static void
drop_some(struct gen *g, double elapsed)
{
	struct client *c;

	g->drop_due += g->o->drops * elapsed * (double)g->n;
	for (; g->drop_due >= 1; g->drop_due -= 1) {
		c = &g->clients[gen_random(g) % g->n];
		if (c->state == STATE_OPEN && c->pending == 0 && !c->slow)
			conn_vanish(g, c, g->o->away);
	}
}

static void
storm(struct gen *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->clients[i].state == STATE_OPEN)
			conn_vanish(g, &g->clients[i], 0);
	OWN_SET(g->mine->back_ns, 0);
	g->storm_back = true;
}

static void
read_slowly(struct gen *g, double elapsed)
{
	size_t most = (size_t)(g->o->slow_bytes * elapsed) + 1;

	for (uint32_t i = 0; i < g->n; i++)
		if (g->clients[i].slow && g->clients[i].state == STATE_OPEN)
			conn_read(g, &g->clients[i], most);
}

/* -- the loop ------------------------------------------------------------------- */

static void
follow_phase(struct gen *g)
{
	/* S1: phase was written before step. */
	uint32_t step = atomic_load_explicit(&g->s->step, memory_order_acquire);
	uint32_t storms = OWN_GET(g->s->storms);

	if (storms != g->storms) {
		g->storms = storms;
		storm(g);
	}
	if (step == g->step)
		return;
	if (g->step == 0)
		g->start_ns = net_now_ns();
	g->step = step;
	if (OWN_GET(g->s->phase) == PHASE_END)
		judge_missing(g);
	atomic_store_explicit(&g->mine->step, step, memory_order_release); /* S1 */
}

static void
tick(struct gen *g)
{
	uint64_t now_ns = net_now_ns();
	double elapsed = (double)(now_ns - g->tick_ns) / 1e9;
	bool measuring = OWN_GET(g->s->phase) == PHASE_MEASURE;

	if (elapsed < 0.01)
		return;
	g->tick_ns = now_ns;
	if (measuring && g->o->drops > 0)
		drop_some(g, elapsed);
	if (g->o->slow > 0 && g->o->slow_bytes > 0)
		read_slowly(g, elapsed);
	if (now_ns - g->scan_ns > 1000000000u && g->under_way > 0) {
		g->scan_ns = now_ns;
		conn_drop_late(g, now_ns);
	}
}

static int
loop_timeout_ms(const struct gen *g)
{
	if (g->step == 0) /* PHASE_START */
		return 500;
	if (g->o->drops > 0 || (g->o->slow > 0 && g->o->slow_bytes > 0))
		return 10;
	if (g->away.head != NOBODY || g->retry.head != NOBODY)
		return 10;
	if (g->begun < g->n)
		return g->under_way < g->max_under_way && g->connect_rate == 0 ? 0 : 5;
	return 500;
}

static void
run_loop(struct gen *g)
{
	struct epoll_event events[EVENTS];
	eventfd_t rung;
	int n;

	while (OWN_GET(g->s->phase) != PHASE_EXIT) {
		n = epoll_wait(g->epoll_fd, events, EVENTS, loop_timeout_ms(g));
		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == WAKE_TOKEN)
				(void)eventfd_read(g->s->wake_fds[g->index], &rung);
			else
				conn_event(g, &g->clients[events[i].data.u32],
				    events[i].events);
		}
		follow_phase(g);
		if (g->step != 0)
			conn_begin_some(g);
		tick(g);
	}
}

static int
make_keys(struct gen *g)
{
	uint8_t random[16];

	/* Real clients make a key each; 64 known pairs spare us two hashes for each
	 * connection, and the server cannot tell. */
	for (int i = 0; i < KEYS; i++) {
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return -EIO;
		wire_key(random, g->keys[i]);
		if (wire_accept(g->keys[i], g->accepts[i]) < 0)
			return -ENOSYS;
	}
	return 0;
}

static int
gen_init(struct gen *g)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = WAKE_TOKEN};
	uint64_t from = (uint64_t)g->o->connections * g->index / g->o->processes;
	uint64_t to = (uint64_t)g->o->connections * (g->index + 1) / g->o->processes;
	uint32_t slow_every;

	g->first = from;
	g->n = (uint32_t)(to - from);
	g->clients = calloc(g->n, sizeof(*g->clients));
	g->orders = calloc((size_t)g->n * g->o->subscriptions, sizeof(*g->orders));
	g->known = calloc(CHECK_KNOWN, sizeof(*g->known));
	g->buffer = malloc(BUFFER_LEN);
	g->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (g->clients == NULL || g->orders == NULL || g->known == NULL ||
	    g->buffer == NULL)
		return -ENOMEM;
	if (g->epoll_fd < 0 ||
	    epoll_ctl(g->epoll_fd, EPOLL_CTL_ADD, g->s->wake_fds[g->index], &e) < 0)
		return -errno;
	slow_every = g->o->slow > 0 ? (uint32_t)(1 / g->o->slow + 0.5) : 0;
	for (uint32_t i = 0; i < g->n; i++) {
		g->clients[i].fd = -1;
		g->clients[i].slow = slow_every != 0 && (from + i) % slow_every == 0;
	}
	g->away.head = g->retry.head = NOBODY;
	g->max_under_way = (g->o->concurrency + g->o->processes - 1) / g->o->processes;
	g->connect_rate = g->o->connect_rate / g->o->processes;
	if (getrandom(&g->random, sizeof(g->random), 0) != sizeof(g->random))
		return -EIO;
	g->random |= 1;
	g->start_ns = g->tick_ns = g->scan_ns = net_now_ns();
	if (g->o->tls && tls_client_new(g->o->resume, &g->tls) < 0)
		return -ENOMEM;
	return make_keys(g);
}

static void
gen_done(struct gen *g)
{
	for (uint32_t i = 0; g->clients != NULL && i < g->n; i++) {
		SSL_free(g->clients[i].ssl);
		free(g->clients[i].stash);
	}
	tls_client_free(g->tls);
	for (unsigned i = 0; g->known != NULL && i < CHECK_KNOWN; i++)
		free(g->known[i].bytes);
	free(g->clients);
	free(g->orders);
	free(g->known);
	free(g->buffer);
	if (g->epoll_fd >= 0)
		(void)close(g->epoll_fd);
	/* The sockets go with the process: one by one would take a while. */
}

static void
pin(unsigned index)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(index % (unsigned)(cores > 0 ? cores : 1), &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

int
gen_main(const struct options *o, struct shared *s, unsigned index)
{
	struct gen g = {
	    .o = o,
	    .s = s,
	    .mine = &s->gens[index],
	    .sure = s->sure + (size_t)index * o->channels,
	    .unsure = s->unsure + (size_t)index * o->channels,
	    .proto = proto_find(o->protocol),
	    .index = index,
	    .epoll_fd = -1,
	};
	struct rlimit limit;
	int r;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_NAME, "wsbench-gen");
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (o->pin)
		pin(index);
	r = gen_init(&g);
	if (r < 0)
		fprintf(stderr, "wsbench: generator %u: %s\n", index, strerror(-r));
	else
		run_loop(&g);
	gen_done(&g);
	return r < 0;
}
