/* supervisor.c - see supervisor.h */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/journal.h"
#include "shm/map.h"
#include "supervisor/admin.h"
#include "supervisor/certificates.h"
#include "supervisor/ctlsock.h"
#include "supervisor/drain.h"
#include "supervisor/expel.h"
#include "supervisor/notify.h"
#include "supervisor/peers.h"
#include "supervisor/presence.h"
#include "supervisor/rules.h"
#include "supervisor/supervisor.h"

#define INDEX_SHARE 256 /* bytes of frames for each descriptor of the index */
#define INDEX_MIN 4096
#define CHANNELS_MAX (1u << 20)
#define RETRY_S 0.001
#define STOP_S 10.0     /* behind drain_timeout */
#define EXTEND_MS 15000 /* of start and stop, said anew each second */
#define REAP_BATCH 64

static uint64_t
clock_ms(clockid_t which)
{
	struct timespec ts;

	(void)clock_gettime(which, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t
supervisor_now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

uint64_t
supervisor_real_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

bool
supervisor_ready(const struct supervisor *s)
{
	struct feed_status feed;

	feed_look(s->feed, &feed);
	return feed.connected && !ring_draining(s->ring) && workers_healthy(s->workers);
}

/* ---- what the parts tell each other ---- */

static void
on_registry_want(void *owner, uint32_t channel)
{
	feed_want(((struct supervisor *)owner)->feed, channel);
}

static void
on_registry_drop(void *owner, uint32_t channel)
{
	feed_drop(((struct supervisor *)owner)->feed, channel);
}

static void
on_registry_live(void *owner, uint32_t channel, int err)
{
	ctlsock_live(((struct supervisor *)owner)->ctlsock, channel, err);
}

static void
on_publisher_message(
    void *owner, uint32_t channel, const struct message *m, uint64_t time_ns)
{
	const struct supervisor *s = owner;

	rules_message(s->rules, channel, m->data_len);
	if (registry_tails(s->registry, channel) > 0)
		ctlsock_message(s->ctlsock, channel, m, time_ns);
}

static void
on_feed_done(void *owner, const struct receipt *receipt, int err)
{
	struct supervisor *s = owner;
	struct ring_desc ack = {
	    .type = RING_ACK,
	    .worker = (uint16_t)receipt->worker,
	    .channel = receipt->slot,
	    .offset = receipt->cookie,
	    .arg = (uint64_t)-err,
	};

	if (receipt->kind == RECEIPT_CONTROL)
		ctlsock_published(s->ctlsock, receipt, err);
	else if (receipt->kind == RECEIPT_ADMIN)
		admin_published(s->admin, receipt, err);
	else if (publisher_control(&s->publisher, &ack) == 0)
		log_error(-ENOMEM, "a client of worker %u gets no answer to a publish",
		    receipt->worker);
}

static void look_ready(struct supervisor *s);

static void
on_feed_link(void *owner, uint64_t down_since_ms)
{
	struct supervisor *s = owner;

	ring_set_feed_down(s->ring, down_since_ms);
	if (down_since_ms == 0)
		look_ready(s);
}

static void
on_peers_up(void *owner)
{
	struct supervisor *s = owner;

	expel_learn(s);
	presence_hosts_up(s->presence);
}

static void
on_peers_message(void *owner, struct slice name, struct slice data)
{
	struct supervisor *s = owner;

	if (slice_is(name, PEERS_REVOKE))
		expel_told(s, data.p, data.len);
	else if (slice_is(name, PEERS_PRESENCE))
		presence_hear(s->presence, data.p, data.len);
}

static void
resume_sources(struct supervisor *s)
{
	feed_resume(s->feed);
	presence_resume(s->presence);
	workers_resume(s->workers);
	ctlsock_resume(s->ctlsock);
	admin_resume(s->admin);
}

static void
on_feed_room(void *owner)
{
	struct supervisor *s = owner;

	if (!s->publisher.blocked)
		resume_sources(s);
}

/* ---- the loop ---- */

/* Everything of this turn is in the ring: wake those who wait for it, once. */
static void
on_turn(struct ev_loop *loop, ev_prepare *w, int revents)
{
	struct supervisor *s = container_of(w, struct supervisor, turn);

	ctlsock_flush(s->ctlsock); /* may publish, so before the feed sends */
	admin_flush(s->admin);
	feed_flush(s->feed);
	presence_flush(s->presence);
	peers_flush(s->peers);
	if (publisher_take_batch(&s->publisher)) {
		workers_wake(s->workers);
		workers_watch(s->workers, supervisor_now_ms());
	}
	if (s->publisher.blocked && !ev_is_active(&s->retry))
		ev_timer_again(loop, &s->retry);
}

/* A floor was in the way, and no one tells us when it rises. */
static void
on_retry(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct supervisor *s = container_of(t, struct supervisor, retry);

	workers_watch(s->workers, supervisor_now_ms());
	if (!publisher_retry(&s->publisher))
		return;
	resume_sources(s);
	if (!s->publisher.blocked)
		ev_timer_stop(loop, t);
}

static void
say_ready(struct supervisor *s, const char *source)
{
	char where[SETTINGS_LISTENERS_MAX * (sizeof(s->listeners.text[0]) + 2)] = "";
	size_t len = 0;

	s->ready = true;
	for (unsigned i = 0; i < s->listeners.naddresses; i++)
		len += (size_t)snprintf(where + len, sizeof(where) - len, "%s%s",
		    i > 0 ? ", " : "", s->listeners.text[i]);
	log_notice(
	    "ready: listening on %s, %u workers, feed %s", where, s->nworkers, source);
	notify_ready(s->notify);
}

static void
say_status(const struct supervisor *s)
{
	struct feed_status feed;
	struct drain_look drain;
	uint64_t connections = 0;
	char what[80] = "";

	drain_look(s, &drain);
	if (s->stopping)
		(void)snprintf(what, sizeof(what), "stopping: ");
	else if (s->waiting)
		(void)snprintf(what, sizeof(what), "waiting for the feed: ");
	else if (!s->ready)
		(void)snprintf(what, sizeof(what), "starting: ");
	else if (drain.workers > 0)
		(void)snprintf(what, sizeof(what),
		    "draining %u of %u workers: ", drain.workers, s->nworkers);
	for (unsigned i = 0; i < s->nworkers; i++)
		connections += page_get(workers_pages(s->workers)[i], PAGE_connections);
	feed_look(s->feed, &feed);
	notify_status(s->notify, "%s%llu connections, feed %s%s%s", what,
	    (unsigned long long)connections, feed.source,
	    feed.connected ? "" : " is down: ", feed.connected ? "" : feed.why);
}

/* Ready is who serves and has its feed. A Redis that is away is no reason to be killed
 * and started anew, since clients are served meanwhile: so the wait has no end. */
static void
look_ready(struct supervisor *s)
{
	struct feed_status feed;

	if (s->ready || s->stopping || !workers_healthy(s->workers))
		return;
	feed_look(s->feed, &feed);
	if (feed.connected || !s->settings->feed_required) {
		s->waiting = false;
		say_ready(s, feed.source);
	} else if (!s->waiting) {
		s->waiting = true;
		notify_extend(s->notify, EXTEND_MS);
		log_notice(
		    "clients are served, but the service is not ready before the "
		    "feed is up (feed.required): %s",
		    feed.why);
	} else {
		return;
	}
	say_status(s);
	ev_timer_again(s->loop, &s->second); /* the next STATUS= in a second */
}

static void
on_second(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct supervisor *s = container_of(t, struct supervisor, second);
	uint64_t now_ms = supervisor_now_ms();

	registry_tick(s->registry, now_ms);
	expel_tick(s);
	workers_watch(s->workers, now_ms);
	supervisor_renew_tickets(s, now_ms);
	look_ready(s);
	if (s->stopping || s->waiting)
		notify_extend(s->notify, EXTEND_MS);
	say_status(s);
}

/* systemd is to restart us when nothing else helps, and for nothing less. */
static bool
on_notify_feed(void *owner)
{
	return workers_move(((struct supervisor *)owner)->workers, supervisor_now_ms());
}

void
supervisor_workers_changed(struct supervisor *s)
{
	look_ready(s);
	if (s->stopping && workers_gone(s->workers))
		ev_break(s->loop, EVBREAK_ALL);
}

/* ---- signals ---- */

static void
on_deadline(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct supervisor *s = container_of(t, struct supervisor, deadline);

	/* Their sockets say end of file at once, unless something is very wrong. */
	if (t->repeat > 0.) {
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	log_warning(0, "some workers did not stop in time: killing them");
	workers_kill(s->workers);
	ev_timer_set(t, 2., 2.);
	ev_timer_start(loop, t);
}

static void
stop(struct supervisor *s)
{
	if (s->stopping) {
		log_warning(0, "told to stop again: killing the workers");
		workers_kill(s->workers);
		return;
	}
	s->stopping = true;
	s->waiting = false;
	log_notice("stopping: clients are told to go away");
	notify_stopping(s->notify);
	notify_extend(s->notify, EXTEND_MS);
	ring_set_draining(s->ring, true);
	workers_stop(s->workers);
	ev_timer_init(&s->deadline, on_deadline,
	    STOP_S + s->settings->drain_timeout_ms / 1000., 0.);
	ev_timer_start(s->loop, &s->deadline);
	supervisor_workers_changed(s);
}

static void
on_term(struct ev_loop *loop, ev_signal *w, int revents)
{
	stop(container_of(w, struct supervisor, on_term));
}

static void
on_int(struct ev_loop *loop, ev_signal *w, int revents)
{
	stop(container_of(w, struct supervisor, on_int));
}

static void
on_hup(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct supervisor *s = container_of(w, struct supervisor, on_hup);
	struct settings_changes changes;
	struct faults faults;

	if (s->stopping)
		return;
	(void)!supervisor_reload(s, &changes, &faults); /* it has said how it went */
	settings_changes_done(&changes);
	faults_done(&faults);
}

/* All that we started and, as their subreaper, what they left behind. */
static void
on_child(struct ev_loop *loop, ev_signal *w, int revents)
{
	struct supervisor *s = container_of(w, struct supervisor, on_child);

	for (int i = 0; i < REAP_BATCH; i++) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid <= 0)
			return;
		workers_reaped(s->workers, pid, status);
	}
	ev_feed_signal_event(loop, SIGCHLD); /* there may be more */
}

static void
signals_start(struct supervisor *s)
{
	ev_signal_init(&s->on_term, on_term, SIGTERM);
	ev_signal_init(&s->on_int, on_int, SIGINT);
	ev_signal_init(&s->on_hup, on_hup, SIGHUP);
	ev_signal_init(&s->on_child, on_child, SIGCHLD);
	ev_signal_start(s->loop, &s->on_term);
	ev_signal_start(s->loop, &s->on_int);
	ev_signal_start(s->loop, &s->on_hup);
	ev_signal_start(s->loop, &s->on_child);
	ev_prepare_init(&s->turn, on_turn);
	ev_prepare_start(s->loop, &s->turn);
	ev_timer_init(&s->retry, on_retry, 0., RETRY_S);
	ev_timer_init(&s->second, on_second, 1., 1.);
	ev_timer_start(s->loop, &s->second);
}

static void
signals_stop(struct supervisor *s)
{
	ev_signal_stop(s->loop, &s->on_term);
	ev_signal_stop(s->loop, &s->on_int);
	ev_signal_stop(s->loop, &s->on_hup);
	ev_signal_stop(s->loop, &s->on_child);
	ev_prepare_stop(s->loop, &s->turn);
	ev_timer_stop(s->loop, &s->retry);
	ev_timer_stop(s->loop, &s->second);
	ev_timer_stop(s->loop, &s->deadline);
}

/* ---- coming to life ---- */

static void
process_prepare(void)
{
	struct rlimit nofile;

	(void)signal(SIGPIPE, SIG_IGN);
	/* Keepers that lose their parent become our children: we see them end. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		log_warning(-errno, "cannot become a subreaper");
	/* The keepers have the limit from us: a connection is a descriptor. */
	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0 &&
	    nofile.rlim_cur < nofile.rlim_max) {
		nofile.rlim_cur = nofile.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &nofile) < 0)
			log_warning(-errno, "cannot raise the limit of open files");
	}
}

static int
ring_make(struct supervisor *s)
{
	struct ring_config cfg = {
	    .frames_size = s->settings->ring_size,
	    .index_len = s->settings->ring_size / INDEX_SHARE,
	    .channels_max = CHANNELS_MAX,
	};
	int r;

	if (cfg.index_len < INDEX_MIN)
		cfg.index_len = INDEX_MIN;
	r = ring_create(&cfg, &s->ring, &s->ring_fd);
	if (r < 0) {
		s->ring_fd = -1;
		log_error(r, "cannot make the ring of %u bytes for each dialect",
		    cfg.frames_size);
		return r;
	}
	r = map_reader_fd(s->ring_fd, &s->reader_fd);
	if (r < 0) {
		s->reader_fd = -1;
		log_error(r, "cannot make the ring's read-only descriptor");
	}
	return r;
}

static int
feed_make(struct supervisor *s)
{
	static const struct peers_events peers_events = {
	    .on_up = on_peers_up,
	    .on_message = on_peers_message,
	};
	static struct registry_feed asks = {
	    .want = on_registry_want,
	    .drop = on_registry_drop,
	    .on_live = on_registry_live,
	};
	struct feed_env env = {
	    .loop = s->loop,
	    .settings = s->settings,
	    .registry = s->registry,
	    .publisher = &s->publisher,
	    .on_done = on_feed_done,
	    .on_room = on_feed_room,
	    .on_link = on_feed_link,
	    .owner = s,
	};
	static int (*const makers[])(const struct feed_env *, struct feed **) = {
	    [FEED_EMBEDDED] = feed_embedded_new,
	    [FEED_PUBSUB] = feed_pubsub_new,
	    [FEED_STREAM] = feed_stream_new,
	};
	bool sharded = s->settings->source == FEED_PUBSUB && s->settings->sharded;
	int r = sharded ? feed_sharded_new(&env, &s->feed)
			: makers[s->settings->source](&env, &s->feed);

	if (r < 0) {
		log_error(r, "cannot make the feed");
		return r;
	}
	asks.complete = s->feed->ops->complete;
	registry_set_feed(s->registry, &asks, s);
	expel_tell_init(&s->expel_tell);
	r = peers_new(s->loop, s->settings, &peers_events, s, &s->peers);
	return r < 0 ? r : presence_new(s, &s->presence);
}

static int
parts_make(struct supervisor *s)
{
	int r = ctlsock_open(s, s->settings->control_socket, &s->ctlsock);

	if (r < 0)
		return r; /* said */
	r = listeners_open(s->settings, s->nworkers, &s->listeners);
	if (r == 0)
		r = admin_open(s, &s->admin);
	if (r < 0)
		return r; /* said */
	r = ring_make(s);
	if (r < 0)
		return r; /* said */
	ticket_keys_init(&s->tickets, supervisor_now_ms());
	certificates_look(s->settings);
	r = workers_new(s, &s->workers);
	if (r < 0) {
		log_error(r, "cannot make the maps of %u workers", s->nworkers);
		return r;
	}
	publisher_init(&s->publisher, s->ring, workers_pages(s->workers), s->nworkers);
	s->publisher.on_message = on_publisher_message;
	s->publisher.owner = s;
	r = publisher_set_compression(&s->publisher, s->settings);
	if (r == 0)
		r = registry_new(&s->publisher, s->nworkers, &s->registry);
	if (r == 0)
		r = rules_new(ring_directory(s->ring), &s->rules);
	if (r == 0)
		r = notify_new(s->loop, on_notify_feed, s, &s->notify);
	if (r < 0) {
		log_error(r, "cannot start");
		return r;
	}
	rules_reload(s->rules, s->settings);
	return feed_make(s);
}

static void
supervisor_done(struct supervisor *s)
{
	admin_close(s->admin);
	ctlsock_close(s->ctlsock);
	feed_free(s->feed);
	presence_free(s->presence);
	peers_free(s->peers);
	expel_tell_done(&s->expel_tell);
	notify_free(s->notify);
	registry_free(s->registry);
	rules_free(s->rules);
	if (s->workers != NULL)
		workers_free(s->workers);
	publisher_done(&s->publisher);
	listeners_close(&s->listeners);
	ring_close(s->ring);
	if (s->reader_fd >= 0)
		(void)close(s->reader_fd);
	if (s->ring_fd >= 0)
		(void)close(s->ring_fd);
	ev_loop_destroy(s->loop);
	settings_free(s->settings);
}

/* A worker counts as gone when its control socket ends, a moment before its last
 * process can be reaped. Nobody is to find those: wait, but not for one that hangs. */
static void
reap_rest(void)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
	pid_t pid = 1;

	for (int i = 0; i < 100 && pid >= 0; i++) {
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid == 0)
			(void)nanosleep(&pause, NULL);
	}
}

int
supervisor_run(const struct settings_source *source, struct settings *settings,
    const char *worker_path)
{
	struct supervisor s = {
	    .source = source,
	    .settings = settings,
	    .worker_path = worker_path,
	    .nworkers = workers_wanted(settings->workers),
	    .started_ms = supervisor_now_ms(),
	    .ring_fd = -1,
	    .reader_fd = -1,
	};
	int status = EXIT_FAILURE;

	process_prepare();
	s.loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	if (s.loop == NULL) {
		log_error(0, "cannot make an epoll loop");
		settings_free(settings);
		return EXIT_FAILURE;
	}
	if (parts_make(&s) == 0) {
		signals_start(&s);
		workers_start(s.workers);
		ev_run(s.loop, 0);
		presence_bye(s.presence);
		peers_flush(s.peers);
		signals_stop(&s);
		reap_rest();
		log_notice("stopped");
		status = EXIT_SUCCESS;
	}
	supervisor_done(&s);
	return status;
}
