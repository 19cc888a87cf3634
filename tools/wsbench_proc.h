/*
 * wsbench_proc.h - what processes cost: CPU and memory of a tree of processes or of a
 * cgroup, and the kernel's memory for sockets. All from /proc; nothing is attached.
 */
#ifndef WSCAST_TOOLS_WSBENCH_PROC_H
#define WSCAST_TOOLS_WSBENCH_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_PIDS_MAX 2048

/* One process, as long as it lived. */
struct proc_entry {
	pid_t pid;
	uint64_t start;        /* in ticks since boot: tells a reused pid */
	uint64_t run_ns;       /* on a core, all threads */
	uint64_t user, system; /* ticks */
	bool alive;
};

/* Follows a tree, a cgroup, or a list; processes that ended stay in the sums. */
struct proc_set {
	pid_t root;         /* 0: none */
	const char *cgroup; /* borrowed; NULL: none */
	const pid_t *pids;  /* borrowed; NULL: none */
	unsigned npids;
	struct proc_entry entries[PROC_PIDS_MAX];
	unsigned n;
};

struct proc_usage {
	double cpu_s;
	uint64_t user, system; /* ticks: how CPU time is shared between the two */
	uint64_t pss;          /* bytes; 0: not asked for, or not allowed */
	unsigned processes;    /* alive */
};

struct proc_kernel {
	uint64_t sockets;   /* TCP, both ends where both are here */
	uint64_t tcp_bytes; /* their buffers */
	uint64_t slab;
	double busy_s, idle_s; /* of all cores together */
};

void proc_set_tree(struct proc_set *p, pid_t root);
void proc_set_cgroup(struct proc_set *p, const char *cgroup);
void proc_set_list(struct proc_set *p, const pid_t *pids, unsigned n);

/* Look again; `memory` costs a walk over each process's map. */
void proc_set_sample(struct proc_set *p, bool memory, struct proc_usage *ret);

void proc_kernel_sample(struct proc_kernel *ret);

#endif
