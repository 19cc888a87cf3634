/* keeper_link.c - see keeper_link.h */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/journal.h"
#include "supervisor/keeper_link.h"
#include "supervisor/presence.h"

#define CONTROL_BATCH 32 /* messages read in one turn */
#define DELAY_MIN_MS 100
#define DELAY_MAX_MS 10000
#define BACKOFFS_MAX 6 /* about 6 s */

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* ---- its maps ---- */

/* A page to begin with. Of a former one the counters are taken over, and nothing else:
 * whoever wrote it may have been out of its mind. */
static int
page_renew(struct keeper_link *k)
{
	struct page *page;
	int fd, r = page_create(k->index, &page, &fd);

	if (r < 0)
		return r;
	if (k->page != NULL) {
		page_continue(page, k->page);
		page_set_state(k->page, WORKER_GONE); /* for wsctl, which maps it */
		page_close(k->page);
		close_fd(&k->page_fd);
	}
	page_set_log(page, k->all->s->settings->log_level,
	    (uint32_t)k->all->s->settings->log_format);
	k->page = k->all->pages[k->index] = page;
	k->page_fd = fd;
	k->rung = 0;
	return 0;
}

static int
upstream_renew(struct keeper_link *k)
{
	struct upstream *up;
	int fd, r = upstream_create(k->all->upstream_size, &up, &fd);

	if (r < 0)
		return r;
	upstream_close(k->up);
	close_fd(&k->up_fd);
	k->up = up;
	k->up_fd = fd;
	return 0;
}

static void
table_drop(struct keeper_link *k)
{
	if (k->table_fd < 0)
		return;
	table_close(&k->table);
	close_fd(&k->table_fd);
}

/* ---- telling it ---- */

void
keeper_tell(struct keeper_link *k, enum launch_type type, uint32_t arg)
{
	struct launch_msg m = {.type = type, .arg = (int32_t)arg};

	if (k->control >= 0)
		(void)send(k->control, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
keeper_kill_all(struct keeper_link *k)
{
	/* While the control socket is open somebody of the group is there, so that its
	 * number cannot be another's. */
	if (k->control >= 0 && k->group > 1)
		(void)kill(-k->group, SIGKILL);
}

static void
control_close(struct keeper_link *k)
{
	if (k->control < 0)
		return;
	ev_io_stop(k->all->s->loop, &k->control_io);
	close_fd(&k->control);
}

/* ---- life and death ---- */

static void
launch_later(struct keeper_link *k)
{
	k->state = KEEPER_AWAY;
	ev_timer_stop(k->all->s->loop, &k->relaunch);
	ev_timer_set(&k->relaunch, k->delay_ms / 1000.0, 0.);
	ev_timer_start(k->all->s->loop, &k->relaunch);
	k->delay_ms = 2 * k->delay_ms < DELAY_MAX_MS ? 2 * k->delay_ms : DELAY_MAX_MS;
}

static void
on_relaunch(struct ev_loop *loop, ev_timer *t, int revents)
{
	keeper_launch(container_of(t, struct keeper_link, relaunch));
}

/* All that shared the control socket are dead. */
static void
keeper_ended(struct keeper_link *k)
{
	struct supervisor *s = k->all->s;
	uint64_t lost = page_get(k->page, PAGE_connections);

	control_close(k);
	uplink_stop(k);
	k->keeper = k->serving = k->group = 0;
	k->healthy = false;
	if (k->all->stopping) {
		ring_set_worker(s->ring, k->index, NULL);
		k->state = KEEPER_GONE;
		supervisor_workers_changed(s);
		return;
	}
	ring_set_worker(s->ring, k->index, NULL);
	registry_worker_gone(s->registry, k->index);
	presence_worker_gone(s->presence, k->index);
	table_drop(k);
	k->used = true;
	page_reset(k->page, ring_head(s->ring)); /* for those who look meanwhile */
	if (k->ever_healthy)
		k->delay_ms = DELAY_MIN_MS;
	log_error(0,
	    "worker %u is gone with its keeper: %llu connections are lost; starting "
	    "it anew in %u ms",
	    k->index, (unsigned long long)lost, k->ever_healthy ? 0 : k->delay_ms);
	if (k->ever_healthy)
		keeper_launch(k);
	else
		launch_later(k);
}

/* Serving processes that all die where one before them served: what it left in the maps
 * is what kills them. Its connections are served by nobody; anew they can come back.
 * One that never served under this keeper would not under another. */
static void
give_up_at_last(struct keeper_link *k)
{
	if (!k->ever_healthy || ++k->backoffs < BACKOFFS_MAX)
		return;
	log_error(0,
	    "worker %u: no serving process can take over; its connections are given up",
	    k->index);
	keeper_kill_all(k);
}

/* The sender is what the kernel says it is; the pid in the message is only a claim. The
 * keeper logs what happened: not again here. */
static void
on_message(struct keeper_link *k, const struct launch_msg *m, pid_t sender)
{
	switch (m->type) {
	case LAUNCH_KEEPER:
		k->keeper = sender;
		break;
	case LAUNCH_SERVING:
		k->serving = m->pid;
		k->healthy = false;
		k->state = KEEPER_RUNNING;
		if (m->arg != LAUNCH_WHY_FIRST)
			k->restarts++;
		watch_begin(k);
		break;
	case LAUNCH_HEALTHY:
		k->serving = sender;
		k->healthy = k->ever_healthy = true;
		k->healthy_count++;
		k->backoffs = 0;
		k->delay_ms = DELAY_MIN_MS;
		log_info("worker %u serves (pid %d)", k->index, (int)sender);
		supervisor_workers_changed(k->all->s);
		break;
	case LAUNCH_DIED:
		k->healthy = false;
		k->serving = 0;
		watch_begin(k);
		break;
	case LAUNCH_BACKOFF:
		k->state = KEEPER_BACKOFF;
		give_up_at_last(k);
		break;
	default:
		log_warning(0, "worker %u: unknown message %u", k->index, m->type);
	}
}

/* Returns 1, 0 when nothing waits, -EPIPE at the end. */
static int
control_read(struct keeper_link *k)
{
	struct launch_msg m;
	char space[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = space,
	    .msg_controllen = sizeof(space)};
	ssize_t n = recvmsg(k->control, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;
	struct ucred cred = {0};

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	if (n == 0)
		return -EPIPE;
	for (c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
	if (n == sizeof(m) && cred.pid > 0)
		on_message(k, &m, cred.pid);
	return 1;
}

static void
on_control(struct ev_loop *loop, ev_io *io, int revents)
{
	struct keeper_link *k = container_of(io, struct keeper_link, control_io);

	for (int i = 0; i < CONTROL_BATCH; i++) {
		int r = control_read(k);

		if (r < 0) {
			keeper_ended(k);
			return;
		}
		if (r == 0)
			return;
	}
}

/* A descriptor of its own: a shared one would share the place in the file. */
static int
settings_reader(const struct workers *w)
{
	char path[40];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", w->settings_fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int
start_keeper(struct keeper_link *k, int control)
{
	struct workers *w = k->all;
	const struct listeners *l = &w->s->listeners;
	int fds[LAUNCHER_FDS_MAX], r;
	unsigned n = LAUNCH_LISTENERS - LAUNCH_CONTROL;

	_Static_assert(LAUNCH_LISTENERS - LAUNCH_CONTROL + SETTINGS_LISTENERS_MAX <=
			   LAUNCHER_FDS_MAX,
	    "they fit");
	fds[0] = control; /* LAUNCH_CONTROL is the first of them */
	fds[LAUNCH_RING - LAUNCH_CONTROL] = w->s->reader_fd;
	fds[LAUNCH_PAGE - LAUNCH_CONTROL] = k->page_fd;
	fds[LAUNCH_TABLE - LAUNCH_CONTROL] = k->table_fd;
	fds[LAUNCH_UPSTREAM - LAUNCH_CONTROL] = k->up_fd;
	fds[LAUNCH_WAKE - LAUNCH_CONTROL] = k->wake_fd;
	fds[LAUNCH_DOORBELL - LAUNCH_CONTROL] = k->doorbell_fd;
	fds[LAUNCH_SETTINGS - LAUNCH_CONTROL] = settings_reader(w);
	if (fds[LAUNCH_SETTINGS - LAUNCH_CONTROL] < 0)
		return -errno;
	for (unsigned i = 0; i < l->naddresses; i++)
		fds[n++] = listeners_fd(l, i, k->index);
	r = launcher_start(
	    &w->launcher, k->index, k->cpu, l->naddresses, fds, n, &k->group);
	(void)close(fds[LAUNCH_SETTINGS - LAUNCH_CONTROL]);
	return r;
}

/* Try to start; the caller logs and undoes. */
static int
try_launch(struct keeper_link *k)
{
	struct workers *w = k->all;
	int pair[2], on = 1, r;

	if (k->used) {
		r = page_renew(k);
		if (r == 0)
			r = upstream_renew(k);
		if (r < 0)
			return r;
		k->used = false;
	}
	if (k->table_fd < 0) {
		r = table_create(
		    w->nslots, w->nchannels, w->arena_len, &k->table, &k->table_fd);
		if (r < 0) {
			k->table_fd = -1;
			return r;
		}
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	if (setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) {
		r = -errno;
		(void)close(pair[0]);
		(void)close(pair[1]);
		return r;
	}
	/* Before the first process that reads the ring by this page is there. */
	page_reset(k->page, ring_head(w->s->ring));
	page_set_drain(k->page, k->drain.begin_ms, k->drain.end_ms);
	ring_set_worker(w->s->ring, k->index, k->page);
	r = start_keeper(k, pair[1]);
	(void)close(pair[1]);
	if (r < 0) {
		ring_set_worker(w->s->ring, k->index, NULL);
		(void)close(pair[0]);
		return r;
	}
	k->control = pair[0];
	return 0;
}

void
keeper_launch(struct keeper_link *k)
{
	struct workers *w = k->all;
	int r = try_launch(k);

	if (r < 0) {
		log_error(r, "worker %u: cannot start its keeper; again in %u ms",
		    k->index, k->delay_ms);
		launch_later(k);
		return;
	}
	k->keeper = k->group;
	k->state = KEEPER_RUNNING;
	k->ever_healthy = k->healthy = false;
	k->backoffs = 0;
	watch_begin(k);
	ev_io_init(&k->control_io, on_control, k->control, EV_READ);
	ev_io_start(w->s->loop, &k->control_io);
	uplink_start(k);
}

/* ---- the whole of it ---- */

int
keeper_init(struct keeper_link *k, struct workers *all, unsigned index, int cpu)
{
	int r;

	k->all = all;
	k->index = index;
	k->cpu = cpu;
	k->page_fd = k->control = k->table_fd = k->up_fd = k->wake_fd = k->doorbell_fd =
	    -1;
	k->delay_ms = DELAY_MIN_MS;
	ev_timer_init(&k->relaunch, on_relaunch, 0., 0.);
	r = page_renew(k);
	if (r == 0)
		r = upstream_renew(k);
	if (r < 0)
		return r;
	k->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->wake_fd < 0 || k->doorbell_fd < 0)
		return -errno;
	return 0;
}

void
keeper_done(struct keeper_link *k)
{
	struct supervisor *s = k->all->s;

	ev_timer_stop(s->loop, &k->relaunch);
	uplink_stop(k);
	control_close(k);
	ring_set_worker(s->ring, k->index, NULL);
	table_drop(k);
	upstream_close(k->up);
	if (k->page != NULL)
		page_close(k->page);
	close_fd(&k->page_fd);
	close_fd(&k->up_fd);
	close_fd(&k->wake_fd);
	close_fd(&k->doorbell_fd);
}
