/* wsctl_proc.h - what /proc says of a process, to whoever may look. */
#ifndef WSCAST_TOOLS_WSCTL_PROC_H
#define WSCAST_TOOLS_WSCTL_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_look {
	char state;         /* 'R', 'S', 'T', …; '?' when there is no such process */
	double cpu_s;       /* CPU time so far, of user and kernel */
	uint64_t started_s; /* after the machine's boot */
};

void proc_look(pid_t pid, struct proc_look *ret);
/* Stopped by a signal or a debugger: it will not do anything. */
bool proc_is_stopped(pid_t pid);

#endif
