/*
 * serve.c - see serve.h
 *
 * The loop: a slice of fanout, then whatever the sockets, timers and signals have to
 * say, once; again. When the ring is read to its end the loop sleeps until the
 * supervisor rings. So no callback feeds itself, and neither fanout nor sockets can
 * keep the others waiting for longer than one slice.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proto/journal.h"
#include "shm/arena.h"
#include "shm/generation.h"
#include "shm/launch.h"
#include "worker/accept.h"
#include "worker/adopt.h"
#include "worker/auth.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/edge.h"
#include "worker/fanout.h"
#include "worker/farewell.h"
#include "worker/handshake.h"
#include "worker/history.h"
#include "worker/limits.h"
#include "worker/reader.h"
#include "worker/reload.h"
#include "worker/sandbox.h"
#include "worker/serve.h"
#include "worker/side.h"
#include "worker/stale.h"
#include "worker/timers.h"
#include "worker/tls.h"
#include "worker/uring.h"
#include "worker/worker.h"

#define STOP_MS 3000     /* for clients to take their goodbye and answer it */
#define FINISH_MS 1000   /* for messages that are half here */
#define ORPHANED_MS 5000 /* without a supervisor, and the keeper does nothing */
#define LEAVE_RATE 5000  /* clients told to go in a second at a restart */
#define LEAVE_MS 2000    /* ... which takes no longer, however many they are */

enum serve_mode {
	MODE_SERVE,
	/* Leave all as it is, once nobody is inside a message, and those who cannot be
	 * left so (TLS) have been told to come again. */
	MODE_RESTART,
	MODE_STOP, /* say goodbye, and leave once all are gone */
};

struct serve {
	struct worker w;
	const struct launch *launch;
	enum serve_mode mode;
	bool awake;           /* the ring may hold what was not passed on */
	uint64_t end_ms;      /* MODE_RESTART, MODE_STOP: when patience ends */
	uint64_t orphaned_ms; /* since when the supervisor is gone; 0 = it is there */
	uint64_t turn_ns;     /* when this turn of the loop began */
	ev_io wake;
	ev_timer tick;
	ev_timer beat;
	ev_check clock;
	ev_signal term;
	ev_signal usr1;
};

static uint64_t
now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t
now_ms(void)
{
	return now_ns() / 1000000;
}

static void
begin_turn(struct serve *s)
{
	s->turn_ns = now_ns();
	s->w.tick = (uint32_t)(s->turn_ns / 1000000 / TICK_MS);
}

/* ---- events ---- */

static struct serve *
serve_of(struct ev_loop *loop)
{
	return (struct serve *)((char *)ev_userdata(loop) - offsetof(struct serve, w));
}

/* The supervisor rang: it has published. */
static void
on_wake(struct ev_loop *loop, ev_io *io, int revents)
{
	struct serve *s = serve_of(loop);
	eventfd_t n;

	(void)eventfd_read(io->fd, &n);
	page_wake(s->w.page);
	s->awake = true;
}

/* Right behind each poll, before all other callbacks. */
static void
on_clock(struct ev_loop *loop, ev_check *c, int revents)
{
	begin_turn(serve_of(loop));
	tls_turn(ev_userdata(loop));
}

static void
on_tick(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct worker *w = ev_userdata(loop);

	timers_tick(w);
	readers_tick(w);
	channels_turn(
	    w); /* what the supervisor could not be told while nothing comes */
}

static bool
supervisor_is_gone(void)
{
	struct pollfd pfd = {.fd = LAUNCH_CONTROL};

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLHUP | POLLERR));
}

/* The keeper hears when the supervisor is gone, and tells us. But keeper and spare may
 * have been killed together. */
static void
look_for_supervisor(struct serve *s)
{
	if (!supervisor_is_gone()) {
		s->orphaned_ms = 0;
		return;
	}
	if (s->orphaned_ms == 0)
		s->orphaned_ms = now_ms();
	else if (s->mode == MODE_SERVE && now_ms() - s->orphaned_ms >= ORPHANED_MS)
		(void)raise(SIGTERM);
}

/* Also when there is nothing to do: who is not heard of is taken for stuck. */
static void
on_beat(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct serve *s = serve_of(loop);

	page_beat(s->w.page, now_ms());
	page_set(s->w.page, PAGE_arena_bytes, arena_used(s->w.arena));
	look_for_supervisor(s);
}

static void
on_stop(struct ev_loop *loop, ev_signal *sig, int revents)
{
	struct serve *s = serve_of(loop);
	/* Whoever starts a new one wants our place at once. */
	uint64_t over_ms = supervisor_is_gone() ? 0 : s->w.settings->drain_timeout_ms;

	if (s->mode == MODE_STOP)
		return;
	s->mode = MODE_STOP;
	s->end_ms = now_ms() + over_ms + STOP_MS;
	page_set_state(s->w.page, WORKER_STOPPING);
	/* New connections are let in, to be told that they are not. */
	farewell_begin(&s->w, FAREWELL_STOP, over_ms);
}

static void
on_restart(struct ev_loop *loop, ev_signal *sig, int revents)
{
	struct serve *s = serve_of(loop);
	uint64_t leave_ms;

	if (s->mode != MODE_SERVE)
		return;
	s->mode = MODE_RESTART;
	leave_ms = (uint64_t)tls_connections(&s->w) * 1000 / LEAVE_RATE;
	if (leave_ms > LEAVE_MS)
		leave_ms = LEAVE_MS;
	s->end_ms = now_ms() + leave_ms + FINISH_MS;
	page_set_state(s->w.page, WORKER_STOPPING);
	acceptor_run(&s->w, false);
	farewell_begin(&s->w, FAREWELL_RESTART, leave_ms);
	clients_finish(&s->w);
}

/* ---- the end ---- */

static bool
is_over(const struct serve *s)
{
	switch (s->mode) {
	case MODE_SERVE:
		return false;
	case MODE_RESTART:
		return now_ms() >= s->end_ms ||
		       (readers_busy(&s->w) == 0 && tls_connections(&s->w) == 0);
	case MODE_STOP:
		return page_get(s->w.page, PAGE_connections) == 0 ||
		       now_ms() >= s->end_ms;
	}
	return true;
}

static void
serve_loop(struct serve *s)
{
	bool more;

	s->awake = true;
	begin_turn(s);
	while (!is_over(s)) {
		if (s->awake)
			s->awake = fanout_turn(&s->w) == FANOUT_MORE;
		more = history_turn(&s->w);
		more = auth_turn(&s->w) || more;
		more = farewell_turn(&s->w) || more;
		page_beat(s->w.page, (uint64_t)s->w.tick * TICK_MS);
		page_time_add(s->w.page, PAGE_TIME_turn, now_ns() - s->turn_ns);
		(void)ev_run(s->w.loop, s->awake || more ? EVRUN_NOWAIT : EVRUN_ONCE);
	}
}

/* ---- the beginning ---- */

static int
map_all(struct worker *w)
{
	int r = ring_open(LAUNCH_RING, false, &w->ring);

	if (r == 0)
		r = page_open(LAUNCH_PAGE, true, &w->page);
	if (r == 0)
		r = table_open(LAUNCH_TABLE, true, &w->table);
	if (r == 0)
		r = upstream_open(LAUNCH_UPSTREAM, &w->up);
	if (r == 0)
		r = arena_new(w->table.arena, w->table.header->arena_len, &w->arena);
	w->doorbell = LAUNCH_DOORBELL;
	return r;
}

/* The workers of this host: as set, or one for each core that we may use. To be asked
 * before we pin ourselves to one. */
static unsigned
count_workers(const struct settings *settings)
{
	cpu_set_t set;

	if (settings->workers != 0)
		return settings->workers;
	if (sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) < 1)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

static void
pin(const struct serve *s)
{
	cpu_set_t set;
	int cpu = s->launch->cpu;

	if (cpu >= CPU_SETSIZE)
		cpu = -1;
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((unsigned)cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set) < 0) {
			log_warning(-errno, "cannot pin to core %d, going on", cpu);
			cpu = -1;
		}
	}
	atomic_store_explicit(&s->w.page->cpu, cpu, memory_order_relaxed);
}

static void
tell_page(struct serve *s)
{
	struct page *p = s->w.page;
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	atomic_store_explicit(&p->pid, getpid(), memory_order_relaxed);
	atomic_store_explicit(&p->started_ms,
	    (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000,
	    memory_order_relaxed);
	atomic_store_explicit(&p->lives,
	    atomic_load_explicit(&p->lives, memory_order_relaxed) + 1,
	    memory_order_relaxed);
	page_beat(p, now_ms());
	page_set_state(p, WORKER_ADOPTING);
}

static void
watch_all(struct serve *s)
{
	struct ev_loop *loop = s->w.loop;

	ev_io_init(&s->wake, on_wake, LAUNCH_WAKE, EV_READ);
	ev_io_start(loop, &s->wake);
	ev_timer_init(&s->tick, on_tick, TICK_MS / 1000., TICK_MS / 1000.);
	ev_timer_start(loop, &s->tick);
	ev_timer_init(&s->beat, on_beat, 1., 1.);
	ev_timer_start(loop, &s->beat);
	ev_check_init(&s->clock, on_clock);
	ev_set_priority(&s->clock, EV_MAXPRI);
	ev_check_start(loop, &s->clock);
}

/* Sent ones were held back since the keeper's first moment, and come now. */
static void
heed_signals(struct serve *s)
{
	sigset_t none;

	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGUSR2, SIG_IGN);
	ev_signal_init(&s->term, on_stop, SIGTERM);
	ev_signal_start(s->w.loop, &s->term);
	ev_signal_init(&s->usr1, on_restart, SIGUSR1);
	ev_signal_start(s->w.loop, &s->usr1);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* io_uring where settings and kernel allow, unless it failed a predecessor. */
static int
make_uring(struct worker *w)
{
	bool failed = page_sending(w->page) == SENDING_URING_FAILED;
	int r = -ENOSYS;

	if (w->settings->send == SEND_URING ||
	    (w->settings->send == SEND_AUTO && !failed))
		r = uring_new(&w->uring);
	if (r == 0)
		page_set_sending(w->page, SENDING_URING);
	else if (!failed)
		page_set_sending(w->page, SENDING_PLAIN);
	if (r < 0 && w->settings->send == SEND_URING) {
		log_error(r, "cannot use io_uring, which server.send demands: set it "
			     "to `auto`");
		return r;
	}
	return 0;
}

static int
make_parts(struct worker *w)
{
	int r = limits_new(w, &w->limits);

	if (r == 0)
		r = auth_new(w, &w->auth);
	if (r == 0)
		r = timers_new(w, &w->timers);
	if (r == 0)
		r = clients_new(w, &w->clients);
	if (r == 0)
		r = acceptor_new(w, &w->acceptor);
	if (r == 0)
		r = edges_new(w, &w->edges);
	if (r == 0)
		r = readers_new(w, &w->readers);
	if (r == 0)
		r = channels_new(w, &w->channels);
	if (r == 0)
		r = side_new(w, &w->side);
	if (r == 0)
		r = history_new(w, &w->history);
	if (r == 0)
		r = fanout_new(w, &w->fanout);
	if (r == 0)
		r = tls_new(w, &w->tls);
	if (r == 0)
		r = make_uring(w);
	return r;
}

/* All is open and mapped that will ever be: give up what it took. No client's byte was
 * looked at yet, only what a predecessor left in the maps. */
static int
enter_sandbox(struct serve *s)
{
	int r = -EOPNOTSUPP;

	if (s->w.settings->sandbox)
		r = sandbox_enter(s->w.first_fd, tls_has_kernel(&s->w));
	page_set_sandboxed(s->w.page, r == 0);
	if (r == 0 || !s->w.settings->sandbox)
		return 0;
	if (r == -EOPNOTSUPP) {
		log_warning(r, "no sandbox for the serving process here: going on "
			       "without (server.sandbox)");
		return 0;
	}
	log_error(r, "cannot enter the sandbox: set server.sandbox to `no` to do "
		     "without");
	return r;
}

static void
begin_orphans(struct worker *w, const struct stale *stale)
{
	for (size_t i = 0; i < stale->norphans; i++)
		acceptor_take(w, stale->orphans[i]);
}

static int
serve_init(struct serve *s, const struct keeper_shared *shared)
{
	struct worker *w = &s->w;
	struct stale stale = {0};
	int r = map_all(w);

	if (r < 0) {
		log_error(r, "cannot map what the supervisor shares");
		return r;
	}
	r = reload_begin(w);
	if (r < 0)
		return r;
	w->first_fd = LAUNCH_LISTENERS + (int)s->launch->nlisteners;
	w->nworkers = count_workers(w->settings);
	pin(s);
	tell_page(s);
	r = stale_close(&w->table, s->launch, shared, &stale);
	if (r < 0) {
		log_error(r, "cannot look through a predecessor's descriptors");
		return r;
	}
	w->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	if (w->loop == NULL) {
		log_error(-ENOMEM, "cannot make an event loop");
		return -ENOMEM;
	}
	ev_set_userdata(w->loop, w);
	begin_turn(s);
	w->done = atomic_load_explicit(&w->page->done, memory_order_relaxed);
	r = handshake_prepare();
	if (r == 0)
		r = make_parts(w);
	if (r == 0)
		r = adopt_all(w);
	if (r < 0) {
		log_error(r, "cannot begin to serve");
		return r;
	}
	reload_adopted(w);
	acceptor_listen(w, s->launch->nlisteners);
	begin_orphans(w, &stale);
	stale_done(&stale);
	watch_all(s);
	heed_signals(s);
	return enter_sandbox(s);
}

int
serve_check(void)
{
	struct generation *settings = NULL;
	struct worker w = {0};
	int r = map_all(&w);

	if (r == 0)
		r = generation_open(LAUNCH_SETTINGS, &settings);
	generation_close(settings);
	arena_free_all(w.arena);
	upstream_close(w.up);
	table_close(&w.table);
	page_close(w.page);
	ring_close(w.ring);
	return r;
}

int
serve_run(const struct launch *launch, const struct keeper_shared *shared,
    enum launch_why why)
{
	static struct serve s; /* one in a process, and zero */
	unsigned adopted;
	int r;

	launch_name(launch, "wscast-worker", "");
	launch_tell(LAUNCH_SERVING, getpid(), (int32_t)why);
	s.launch = launch;
	s.w.index = launch->index;
	r = serve_init(&s, shared);
	if (r < 0)
		return 1;
	adopted = (unsigned)page_get(s.w.page, PAGE_connections);
	farewell_resume(&s.w);
	launch_tell(LAUNCH_HEALTHY, getpid(), (int32_t)adopted);
	if (adopted > 0)
		log_notice("serving, %u connections adopted", adopted);
	acceptor_run(&s.w, true);
	serve_loop(&s);
	/* The maps hold all that a successor needs, and the kernel takes the rest back:
	 * nothing is freed that would only take time from those who wait. */
	return 0;
}
