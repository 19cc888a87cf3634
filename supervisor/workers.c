/* workers.c - see workers.h */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/journal.h"
#include "shm/directory.h"
#include "supervisor/keeper_link.h"
#include "supervisor/workers.h"

#define SLOTS_MAX (1u << 20)
#define FDS_RESERVE 64 /* descriptors of a worker that are no connections */
#define UPSTREAM_MIN (1u << 20)
#define MESSAGE_MORE 4096 /* what goes upstream with a message: names, ids */

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

/* A worker's ring towards us: several of the longest messages fit. What is too long for
 * the ring need not get as far. */
static uint32_t
upstream_size(const struct settings *settings)
{
	uint64_t size = 8ull * settings->max_message_size;

	size = size > settings->ring_size ? settings->ring_size : size;
	return power_of_two(size < UPSTREAM_MIN ? UPSTREAM_MIN : size);
}

/* What goes upstream is bound by its ring, which is as large for all. */
static int
copy_make(struct workers *w)
{
	w->copy_len = upstream_max(w->links[0].up);
	w->s->settings->message_bound = (uint32_t)w->copy_len - MESSAGE_MORE;
	w->copy = malloc(w->copy_len);
	return w->copy != NULL ? 0 : -ENOMEM;
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
	/* Also the one that failed is to be ended. */
	for (; r == 0 && w->n < s->nworkers; w->n++)
		r = keeper_init(&w->links[w->n], w, w->n, cpu_of(w->n, s->nworkers));
	if (r == 0)
		r = copy_make(w);
	if (r < 0)
		goto fail;
	*ret_workers = w;
	return 0;
fail:
	workers_free(w);
	return r;
}

void
workers_free(struct workers *w)
{
	if (w == NULL)
		return;
	for (unsigned i = 0; i < w->n; i++)
		keeper_done(&w->links[i]);
	launcher_done(&w->launcher);
	generation_close(w->generation);
	if (w->settings_fd >= 0)
		(void)close(w->settings_fd);
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

void
workers_start(struct workers *w)
{
	for (unsigned i = 0; i < w->n; i++)
		keeper_launch(&w->links[i]);
}

/* ---- telling and ending ---- */

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
