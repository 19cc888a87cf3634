/*
 * wsctl_proc.c - see wsctl_proc.h
 *
 * Source   proc(5): /proc/PID/stat
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/wsctl_proc.h"

void
proc_look(pid_t pid, struct proc_look *ret)
{
	char path[40], text[1024] = "";
	unsigned long long user, kernel, started;
	double hz = (double)sysconf(_SC_CLK_TCK);
	const char *behind;
	FILE *f;
	char state;

	*ret = (struct proc_look){.state = '?'};
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = pid > 0 ? fopen(path, "re") : NULL;
	if (f == NULL)
		return;
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	(void)fclose(f);
	/* The name, in parentheses, may hold anything. */
	behind = strrchr(text, ')');
	if (behind != NULL &&
	    sscanf(behind,
		") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d "
		"%*d %*d %*d %llu",
		&state, &user, &kernel, &started) == 4)
		*ret = (struct proc_look){state, (double)(user + kernel) / hz,
		    (uint64_t)((double)started / hz)};
}

bool
proc_is_stopped(pid_t pid)
{
	struct proc_look look;

	proc_look(pid, &look);
	return look.state == 'T' || look.state == 't';
}
