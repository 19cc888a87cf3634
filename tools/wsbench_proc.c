#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/wsbench_proc.h"

/* A small file of /proc as text. Returns its length, 0 when there is none. */
static size_t
read_text(const char *path, char *out, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n;

	if (f == NULL)
		return 0;
	n = fread(out, 1, size - 1, f);
	(void)fclose(f);
	out[n] = '\0';
	return n;
}

struct stat_line {
	pid_t parent;
	uint64_t user, system, start;
};

static bool
read_stat(pid_t pid, struct stat_line *ret)
{
	char path[64], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_text(path, text, sizeof(text)) == 0)
		return false;
	at = strrchr(text, ')'); /* the name before it may hold anything */
	return at != NULL &&
	       sscanf(at + 1,
		   " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
		   " %*d %*d %*d %*d %*d %*d %" SCNu64,
		   &ret->parent, &ret->user, &ret->system, &ret->start) == 4;
}

/* Time on a core of all threads, which the kernel keeps in nanoseconds; `stat` has
 * ticks of 10 ms. */
static uint64_t
read_run_ns(pid_t pid)
{
	char path[320], text[128];
	struct dirent *d;
	uint64_t sum = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (dir == NULL)
		return 0;
	/* cppcheck-suppress readdirCalled ; there is one thread */
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid,
		    d->d_name);
		if (read_text(path, text, sizeof(text)) > 0)
			sum += strtoull(text, NULL, 10);
	}
	(void)closedir(dir);
	return sum;
}

static uint64_t
read_pss(pid_t pid)
{
	char path[64], text[4096], *at;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	if (read_text(path, text, sizeof(text)) == 0)
		return 0;
	at = strstr(text, "\nPss:");
	return at == NULL ? 0 : strtoull(at + 5, NULL, 10) * 1024;
}

static struct proc_entry *
find_entry(struct proc_set *p, pid_t pid, uint64_t start)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->entries[i].pid == pid && p->entries[i].start == start)
			return &p->entries[i];
	if (p->n == PROC_PIDS_MAX)
		return NULL;
	p->entries[p->n] = (struct proc_entry){.pid = pid, .start = start};
	return &p->entries[p->n++];
}

static void
see(struct proc_set *p, pid_t pid, const struct stat_line *s)
{
	struct proc_entry *e = find_entry(p, pid, s->start);
	uint64_t run_ns;

	if (e == NULL)
		return;
	run_ns = read_run_ns(pid);
	/* A thread that ended took its share out of the sum; keep the most seen. */
	if (run_ns > e->run_ns)
		e->run_ns = run_ns;
	e->user = s->user;
	e->system = s->system;
	e->alive = true;
}

static void
look_at_cgroup(struct proc_set *p)
{
	char path[1024], line[32];
	struct stat_line s;
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.procs", p->cgroup);
	f = fopen(path, "re");
	if (f == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL)
		if (read_stat((pid_t)atoi(line), &s))
			see(p, (pid_t)atoi(line), &s);
	(void)fclose(f);
}

/* Descendants of the root: whoever has a parent among those found, until no more are.
 */
static void
look_at_tree(struct proc_set *p)
{
	static struct {
		pid_t pid;
		bool in;
		struct stat_line stat;
	} all[32768];
	unsigned n = 0;
	bool more = true;
	struct dirent *d;
	DIR *dir = opendir("/proc");

	if (dir == NULL)
		return;
	/* cppcheck-suppress readdirCalled ; there is one thread */
	while ((d = readdir(dir)) != NULL && n < sizeof(all) / sizeof(all[0])) {
		all[n].pid = (pid_t)atoi(d->d_name);
		if (all[n].pid <= 0 || !read_stat(all[n].pid, &all[n].stat))
			continue;
		all[n].in = all[n].pid == p->root;
		n++;
	}
	(void)closedir(dir);
	while (more) {
		more = false;
		for (unsigned i = 0; i < n; i++)
			for (unsigned k = 0; !all[i].in && k < n; k++)
				if (all[k].in && all[k].pid == all[i].stat.parent)
					all[i].in = more = true;
	}
	for (unsigned i = 0; i < n; i++)
		if (all[i].in)
			see(p, all[i].pid, &all[i].stat);
}

void
proc_set_tree(struct proc_set *p, pid_t root)
{
	memset(p, 0, sizeof(*p));
	p->root = root;
}

void
proc_set_cgroup(struct proc_set *p, const char *cgroup)
{
	memset(p, 0, sizeof(*p));
	p->cgroup = cgroup;
}

void
proc_set_list(struct proc_set *p, const pid_t *pids, unsigned n)
{
	memset(p, 0, sizeof(*p));
	p->pids = pids;
	p->npids = n;
}

static void
look_at_list(struct proc_set *p)
{
	struct stat_line s;

	for (unsigned i = 0; i < p->npids; i++)
		if (read_stat(p->pids[i], &s))
			see(p, p->pids[i], &s);
}

void
proc_set_sample(struct proc_set *p, bool memory, struct proc_usage *ret)
{
	uint64_t run_ns = 0;

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < p->n; i++)
		p->entries[i].alive = false;
	if (p->cgroup != NULL)
		look_at_cgroup(p);
	else if (p->pids != NULL)
		look_at_list(p);
	else if (p->root > 0)
		look_at_tree(p);
	for (unsigned i = 0; i < p->n; i++) {
		run_ns += p->entries[i].run_ns;
		ret->user += p->entries[i].user;
		ret->system += p->entries[i].system;
		ret->processes += p->entries[i].alive;
		if (memory && p->entries[i].alive)
			ret->pss += read_pss(p->entries[i].pid);
	}
	ret->cpu_s = (double)run_ns / 1e9;
	if (run_ns == 0) /* a kernel without schedstat */
		ret->cpu_s =
		    (double)(ret->user + ret->system) / (double)sysconf(_SC_CLK_TCK);
}

void
proc_kernel_sample(struct proc_kernel *ret)
{
	char text[65536], *at;
	uint64_t v[8] = {0}, pages = 0;
	double tick = (double)sysconf(_SC_CLK_TCK);

	memset(ret, 0, sizeof(*ret));
	if (read_text("/proc/net/sockstat", text, sizeof(text)) > 0) {
		at = strstr(text, "TCP: inuse ");
		if (at != NULL && sscanf(at,
				      "TCP: inuse %" SCNu64
				      " orphan %*u tw %*u alloc %*u mem %" SCNu64,
				      &ret->sockets, &pages) == 2)
			ret->tcp_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	}
	if (read_text("/proc/meminfo", text, sizeof(text)) > 0) {
		at = strstr(text, "\nSlab:");
		if (at != NULL)
			ret->slab = strtoull(at + 6, NULL, 10) * 1024;
	}
	/* user nice system idle iowait irq softirq steal */
	if (read_text("/proc/stat", text, sizeof(text)) > 0 &&
	    sscanf(text,
		"cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		" %" SCNu64 " %" SCNu64 " %" SCNu64,
		&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 8) {
		ret->idle_s = (double)(v[3] + v[4]) / tick;
		ret->busy_s = (double)(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / tick;
	}
}
