/* workers.c - see workers.h */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/journal.h"
#include "shm/directory.h"
#include "supervisor/keeper_link.h"
#include "supervisor/presence.h"
#include "supervisor/workers.h"

#define SLOTS_MAX (1u << 20)
#define FDS_RESERVE 64 /* descriptors of a worker that are no connections */
#define UPSTREAM_MIN (1u << 20)
#define MESSAGE_MORE 4096 /* what goes upstream with a message: names, ids */
#define CONTROL_BATCH 32  /* messages read in one turn */
#define DELAY_MIN_MS 100
#define BACKOFFS_MAX 6 /* about 6 s */
#define DELAY_MAX_MS 10000

/* ---- CPUs ---- */

static unsigned
cpus(cpu_set_t *set)
{
	CPU_ZERO(set);
	if (sched_getaffinity(0, sizeof(*set), set) < 0 || CPU_COUNT(set) == 0)
		CPU_SET(0, set);
	return (unsigned)CPU_COUNT(set);
}

unsigned
workers_wanted(unsigned setting)
{
	cpu_set_t set;
	unsigned n = setting > 0 ? setting : cpus(&set);

	return n < RING_WORKERS_MAX ? n : RING_WORKERS_MAX;
}

/* The CPU of worker `index`. More workers than CPUs are better placed by the kernel
 * than by us: two that are busy would share a CPU while another is idle. */
static int
cpu_of(unsigned index, unsigned n)
{
	cpu_set_t set;
	unsigned nth = 0;

	if (n > cpus(&set))
		return -1;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && nth++ == index)
			return cpu;
	return -1;
}

/* ---- maps ---- */

int
workers_set_settings(struct workers *w, const struct settings *settings)
{
	struct generation_part part[2 + SETTINGS_FILES_MAX];
	char *text = settings_dump(settings);
	const struct tickets *tickets = &w->s->tickets.tickets;
	size_t n = 2;
	int r;

	if (text == NULL)
		return -ENOMEM;
	part[0] = (struct generation_part){GENERATION_SETTINGS, text, strlen(text)};
	part[1] = (struct generation_part){TICKETS_PART, tickets, sizeof(*tickets)};
	for (unsigned i = 0; i < settings->nfiles; i++) {
		const struct settings_file *f = &settings->files[i];

		if (f->readers == FILE_WORKERS)
			part[n++] = (struct generation_part){f->name, f->data, f->len};
	}
	r = generation_write(w->generation, part, n);
	free(text);
	return r;
}

uint64_t
workers_settings(const struct workers *w)
{
	return generation_number(w->generation);
}

static uint32_t
power_of_two(uint64_t n)
{
	uint64_t p = 1;

	while (p < n)
		p *= 2;
	return p <= 1u << 30 ? (uint32_t)p : 1u << 30;
}

/* Sizes of the tables: as many connections as there can be descriptors, since
 * max_connections may change, and all channels that the ring can know. They cost
 * address space; memory only as it is used. */
static void
choose_sizes(struct workers *w)
{
	struct rlimit nofile;
	uint64_t n = SLOTS_MAX;

	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0 &&
	    nofile.rlim_cur != RLIM_INFINITY && nofile.rlim_cur < n)
		n = nofile.rlim_cur > 2 * FDS_RESERVE ? nofile.rlim_cur - FDS_RESERVE
						      : FDS_RESERVE;
	w->nslots = (uint32_t)n;
	w->nchannels = ring_directory(w->s->ring)->max;
	w->arena_len = (64u << 20) + (n * 512 + (1u << 20)) / (1u << 20) * (1u << 20);
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

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

/* A worker's ring towards us: several of the longest messages fit. What is too long for
 * the ring need not get as far. */
static uint32_t
upstream_size(const struct settings *settings)
{
	uint64_t size = 8ull * settings->max_message_size;

	size = size > settings->ring_size ? settings->ring_size : size;
	return power_of_two(size < UPSTREAM_MIN ? UPSTREAM_MIN : size);
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

static int
link_init(struct workers *w, struct keeper_link *k, unsigned index)
{
	int r;

	k->all = w;
	k->index = index;
	k->cpu = cpu_of(index, w->n);
	k->control = k->table_fd = k->up_fd = k->wake_fd = k->doorbell_fd = -1;
	k->delay_ms = DELAY_MIN_MS;
	r = page_renew(k);
	if (r == 0)
		r = upstream_renew(k);
	if (r < 0)
		return r;
	if (w->copy == NULL) {
		w->copy_len = upstream_max(k->up); /* the same for all */
		w->s->settings->message_bound = (uint32_t)w->copy_len - MESSAGE_MORE;
		w->copy = malloc(w->copy_len);
		if (w->copy == NULL)
			return -ENOMEM;
	}
	k->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->wake_fd < 0 || k->doorbell_fd < 0)
		return -errno;
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

int
workers_new(struct supervisor *s, struct workers **ret_workers)
{
	struct workers *w = calloc(1, sizeof(*w));
	int r = -ENOMEM;

	if (w == NULL)
		return r;
	w->s = s;
	w->settings_fd = -1;
	w->pages = calloc(s->nworkers, sizeof(struct page *));
	w->links = calloc(s->nworkers, sizeof(*w->links));
	if (w->pages == NULL || w->links == NULL)
		goto fail;
	choose_sizes(w);
	w->upstream_size = upstream_size(s->settings);
	r = launcher_init(&w->launcher, s->worker_path);
	if (r < 0)
		goto fail;
	r = generation_create(&w->generation, &w->settings_fd);
	if (r == 0)
		r = workers_set_settings(w, s->settings);
	if (r < 0)
		goto fail;
	w->n = s->nworkers;
	for (unsigned i = 0; i < w->n; i++)
		w->links[i].page_fd = w->links[i].control = w->links[i].table_fd =
		    w->links[i].up_fd = w->links[i].wake_fd = w->links[i].doorbell_fd =
			-1;
	for (unsigned i = 0; r == 0 && i < w->n; i++)
		r = link_init(w, &w->links[i], i);
	if (r < 0)
		goto fail;
	*ret_workers = w;
	return 0;
fail:
	workers_free(w);
	return r;
}

static void
control_close(struct keeper_link *k)
{
	if (k->control < 0)
		return;
	ev_io_stop(k->all->s->loop, &k->control_io);
	close_fd(&k->control);
}

void
workers_free(struct workers *w)
{
	if (w == NULL)
		return;
	for (unsigned i = 0; i < w->n; i++) {
		struct keeper_link *k = &w->links[i];

		ev_timer_stop(w->s->loop, &k->relaunch);
		uplink_stop(k);
		control_close(k);
		ring_set_worker(w->s->ring, i, NULL);
		table_drop(k);
		upstream_close(k->up);
		if (k->page != NULL)
			page_close(k->page);
		close_fd(&k->page_fd);
		close_fd(&k->up_fd);
		close_fd(&k->wake_fd);
		close_fd(&k->doorbell_fd);
	}
	launcher_done(&w->launcher);
	generation_close(w->generation);
	close_fd(&w->settings_fd);
	free(w->copy);
	free(w->pages);
	free(w->links);
	free(w);
}

struct page *const *
workers_pages(const struct workers *w)
{
	return w->pages;
}

/* ---- launching ---- */

static void launch(struct keeper_link *k);

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
	launch(container_of(t, struct keeper_link, relaunch));
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
		launch(k);
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

static void
launch(struct keeper_link *k)
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

void
workers_start(struct workers *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		ev_timer_init(&w->links[i].relaunch, on_relaunch, 0., 0.);
		launch(&w->links[i]);
	}
}

/* ---- telling and ending ---- */

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

int
workers_restart(struct workers *w, unsigned index)
{
	struct keeper_link *k = &w->links[index];

	if (k->control < 0)
		return -ENOTCONN;
	keeper_tell(k, LAUNCH_RESTART, 0);
	return 0;
}

void
workers_stop(struct workers *w)
{
	w->stopping = true;
	for (unsigned i = 0; i < w->n; i++) {
		struct keeper_link *k = &w->links[i];

		ev_timer_stop(w->s->loop, &k->relaunch);
		if (k->control >= 0)
			keeper_tell(k, LAUNCH_STOP, w->s->settings->drain_timeout_ms);
		else
			k->state = KEEPER_GONE;
	}
}

void
workers_kill(struct workers *w)
{
	for (unsigned i = 0; i < w->n; i++)
		keeper_kill_all(&w->links[i]);
}

bool
workers_gone(const struct workers *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (w->links[i].control >= 0)
			return false;
	return true;
}

/* ---- the rest ---- */

void
workers_wake(struct workers *w)
{
	uint64_t now_ms = supervisor_now_ms();

	for (unsigned i = 0; i < w->n; i++) {
		struct keeper_link *k = &w->links[i];

		if (!page_must_ring(k->page, &k->rung))
			continue;
		k->rung_ms = now_ms;
		(void)eventfd_write(k->wake_fd, 1);
	}
}

void
workers_resume(struct workers *w)
{
	for (unsigned i = 0; i < w->n; i++)
		uplink_resume(&w->links[i]);
}

void
workers_watch(struct workers *w, uint64_t now_ms)
{
	for (unsigned i = 0; i < w->n; i++)
		watch_keeper(&w->links[i], now_ms);
}

void
workers_reaped(struct workers *w, pid_t pid, int status)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct keeper_link *k = &w->links[i];

		if (k->keeper != pid)
			continue;
		k->keeper = 0; /* its number may be another's from now on */
		if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
			log_error(0, "worker %u: cannot execute %s", k->index,
			    w->s->worker_path);
		else if (!w->stopping && WIFSIGNALED(status))
			log_warning(0, "worker %u: its keeper was killed by %s",
			    k->index, strsignal(WTERMSIG(status)));
	}
}

bool
workers_move(const struct workers *w, uint64_t now_ms)
{
	for (unsigned i = 0; i < w->n; i++)
		if (!keeper_moves(&w->links[i], now_ms))
			return false;
	return true;
}

bool
workers_healthy(const struct workers *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (!w->links[i].healthy)
			return false;
	return true;
}

void
workers_look(const struct workers *w, unsigned index, struct worker_look *ret)
{
	const struct keeper_link *k = &w->links[index];

	*ret = (struct worker_look){
	    .state = k->state,
	    .healthy = k->healthy,
	    .keeper = k->keeper,
	    .pid = k->serving,
	    .restarts = k->restarts,
	    .healthy_count = k->healthy_count,
	    .stuck = k->stuck,
	    .page = k->page,
	    .page_fd = k->page_fd,
	    .table = k->table_fd >= 0 ? &k->table : NULL,
	    .nslots = w->nslots,
	    .nchannels = w->nchannels,
	};
}
