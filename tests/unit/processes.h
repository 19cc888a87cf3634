/*
 * processes.h - what a test has whose sides are processes: a start, an end, memory that
 * both write, and a clock.
 */
#ifndef WSCAST_TESTS_UNIT_PROCESSES_H
#define WSCAST_TESTS_UNIT_PROCESSES_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Nobody is so late without having lost a wake-up, not on a machine that stands still
 * for seconds either. Only a test that fails waits for it. */
#define LOST_MS 30000

static inline uint64_t
now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Memory that children have in common with us; NULL: there is none. */
static inline void *
shared_memory(size_t len)
{
	void *p =
	    mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* As fork(); a test that fails leaves no child behind. */
static inline pid_t
process_start(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return pid;
}

/* pid: 0 or -1 = there is none. */
static inline void
process_end(pid_t pid)
{
	if (pid <= 0)
		return;
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

#endif
