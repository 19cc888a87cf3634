/* keeper.c - see keeper.h */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/journal.h"
#include "shm/launch.h"
#include "shm/page.h"
#include "worker/keeper.h"
#include "worker/renew.h"
#include "worker/serve.h"

#define STOP_MS 10000   /* for the serving process to say goodbye */
#define RESTART_MS 5000 /* ... to stop between two events */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define SPARE_WAIT_MS 100
/* Deaths that are followed by a successor at once, though it had served: so many in a
 * row, and so many more each second. Beyond, they count as too early. */
#define DEATHS_MAX 100
#define DEATHS_PER_S 10

struct keeper {
	const struct launch *launch;
	struct keeper_shared *shared;
	struct page *page;
	enum launch_why why; /* of the serving process being made */
	bool control_ended;
	bool renew; /* execute the program anew before the next serving process */
	uint64_t serving_at_ms; /* when to make the next; 0 = one lives */
	uint64_t spare_at_ms;
	uint64_t kill_at_ms; /* when patience with the serving process ends; 0 = none */
	double deaths;       /* allowance left */
	uint64_t deaths_ms;  /* when it was reckoned */
};

/* What a clone() came back as. */
enum cloned { CLONED_FAILED, CLONED_PARENT, CLONED_CHILD };

static uint64_t
now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int
fd_get(const struct keeper *k, enum keeper_role role)
{
	return atomic_load_explicit(&k->shared->fd[role], memory_order_relaxed);
}

static int
pid_get(const struct keeper *k, enum keeper_role role)
{
	return atomic_load_explicit(&k->shared->pid[role], memory_order_relaxed);
}

static bool
stopping(const struct keeper *k)
{
	return atomic_load_explicit(&k->shared->stopping, memory_order_relaxed);
}

bool
keeper_has_fd(const struct keeper_shared *shared, int fd)
{
	for (int i = 0; i < ROLE_COUNT; i++)
		if (atomic_load_explicit(&shared->fd[i], memory_order_relaxed) == fd)
			return true;
	return false;
}

void
launch_name(const struct launch *launch, const char *comm, const char *what)
{
	(void)prctl(PR_SET_NAME, comm, 0, 0, 0);
	if (launch->title_len == 0)
		return;
	memset(launch->title, 0, launch->title_len);
	(void)snprintf(launch->title, launch->title_len, "wscast-worker %u%s",
	    launch->index, what);
}

void
launch_tell(uint32_t type, int32_t pid, int32_t arg)
{
	struct launch_msg msg = {.type = type, .pid = pid, .arg = arg};

	/* A supervisor that has stopped reading must not stop the keeper as well. */
	if (send(LAUNCH_CONTROL, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	    errno != EPIPE && errno != ECONNRESET)
		log_warning(-errno, "the supervisor was not told of event %u", type);
}

/* As the serving process does, which has read the settings. */
static void
log_as_set(const struct keeper *k)
{
	uint32_t level, format;

	page_log(k->page, &level, &format);
	log_set_level(level < LOG_DEBUG - LOG_ERROR
			  ? (enum log_level)(LOG_ERROR + level)
			  : LOG_DEBUG);
	log_set_format(format == LOG_JSON ? LOG_JSON : LOG_TEXT);
}

/*
 * Clone into a role. The kernel stores the pidfd in the shared page before the
 * descriptor is there for others to see: so a serving process that closes what it does
 * not know never meets a pidfd without a name.
 */
static enum cloned
clone_role(struct keeper *k, enum keeper_role role)
{
	long pid = syscall(SYS_clone, CLONE_FILES | CLONE_PIDFD | SIGCHLD, NULL,
	    &k->shared->fd[role], NULL, 0);

	if (pid < 0) {
		atomic_store_explicit(&k->shared->fd[role], -1, memory_order_relaxed);
		return CLONED_FAILED;
	}
	/* Both say so: either may be killed before it does. */
	atomic_store_explicit(&k->shared->pid[role], pid > 0 ? (int32_t)pid : getpid(),
	    memory_order_relaxed);
	return pid > 0 ? CLONED_PARENT : CLONED_CHILD;
}

static void
signal_role(const struct keeper *k, enum keeper_role role, int sig)
{
	int fd = fd_get(k, role);

	if (fd >= 0)
		(void)syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
}

/* The role's process is dead. Returns its wait status, -1 when it was not our child
 * (but our predecessor's: then the supervisor reaps it). */
static int
bury(struct keeper *k, enum keeper_role role)
{
	int fd = fd_get(k, role), status;

	if (waitpid(pid_get(k, role), &status, 0) < 0)
		status = -1;
	/* It keeps its name until it is closed: a serving process that is just closing
	 * what it does not know must not close it as well, since the number may be
	 * another file's by the time we do. */
	(void)close(fd);
	atomic_store_explicit(&k->shared->fd[role], -1, memory_order_relaxed);
	return status;
}

/* ---- the serving process ---- */

/* Whether this death is within what may happen to a worker that serves well. */
static bool
death_allowed(struct keeper *k, uint64_t now)
{
	k->deaths += (double)(now - k->deaths_ms) * DEATHS_PER_S / 1000;
	if (k->deaths > DEATHS_MAX)
		k->deaths = DEATHS_MAX;
	k->deaths_ms = now;
	if (k->deaths < 1)
		return false;
	k->deaths -= 1;
	return true;
}

static void
schedule_serving(struct keeper *k, bool healthy, uint64_t now)
{
	uint32_t failures, wait_ms = BACKOFF_MIN_MS;

	if (death_allowed(k, now) && healthy) {
		atomic_store_explicit(&k->shared->failures, 0, memory_order_relaxed);
		k->serving_at_ms = now;
		return;
	}
	failures =
	    atomic_fetch_add_explicit(&k->shared->failures, 1, memory_order_relaxed);
	while (failures-- > 0 && wait_ms < BACKOFF_MAX_MS)
		wait_ms *= 2;
	if (wait_ms > BACKOFF_MAX_MS)
		wait_ms = BACKOFF_MAX_MS;
	k->serving_at_ms = now + wait_ms;
	log_error(0, "serving processes die too early: the next one starts in %u ms",
	    wait_ms);
	launch_tell(LAUNCH_BACKOFF, 0, (int32_t)wait_ms);
}

static void
on_serving_died(struct keeper *k)
{
	int pid = pid_get(k, ROLE_SERVING);
	bool healthy = atomic_load_explicit(&k->page->state, memory_order_relaxed) >=
		       WORKER_SERVING;
	int status = bury(k, ROLE_SERVING);
	bool ended = status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0;

	k->kill_at_ms = 0;
	if (status != -1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
		/* Nobody else writes to the page now. */
		page_add(k->page, PAGE_sandbox_killed, 1);
		log_error(0,
		    "serving process %d was killed by its sandbox: it asked the kernel "
		    "for what it does not need, by a fault or an attack; the kernel's "
		    "log (type=1326) has the number of the system call",
		    pid);
	} else if (!ended && status != -1 && WIFSIGNALED(status))
		log_warning(
		    0, "serving process %d died of signal %d", pid, WTERMSIG(status));
	else if (!ended)
		log_warning(0, "serving process %d died", pid);
	launch_tell(LAUNCH_DIED, pid, status);
	if (stopping(k))
		k->serving_at_ms = 0;
	else
		schedule_serving(k, healthy, now_ms());
}

/* A restart is when a new program is taken up. No serving process lives now. */
static void
renew(struct keeper *k)
{
	int r;

	k->renew = false;
	if (fd_get(k, ROLE_SPARE) < 0) {
		log_error(0, "no spare keeper is there: the program goes on as it was, "
			     "restart again for the one that is installed now");
		return;
	}
	r = renew_begin(k->launch, fd_get(k, ROLE_SPARE), pid_get(k, ROLE_SPARE));
	log_error(r, "cannot execute the program that is installed now: the one before "
		     "goes on");
}

/* Returns true in the child. */
static bool
make_serving(struct keeper *k)
{
	if (k->renew)
		renew(k);
	/* No serving process lives now, so the page's words are ours for a moment: what
	 * dies before it says anything must not look healthy. */
	atomic_store_explicit(&k->page->state, WORKER_STARTING, memory_order_relaxed);
	k->why = atomic_load_explicit(&k->shared->why, memory_order_relaxed);
	switch (clone_role(k, ROLE_SERVING)) {
	case CLONED_CHILD:
		return true;
	case CLONED_PARENT:
		atomic_store_explicit(
		    &k->shared->why, LAUNCH_WHY_DIED, memory_order_relaxed);
		k->serving_at_ms = 0;
		break;
	case CLONED_FAILED:
		log_error(-errno, "cannot clone a serving process");
		schedule_serving(k, false, now_ms());
		break;
	}
	return false;
}

/* Until a serving process that was told to stop is killed. */
static uint64_t
stop_patience(const struct keeper *k)
{
	return STOP_MS +
	       atomic_load_explicit(&k->shared->stop_ms, memory_order_relaxed);
}

/* over_ms: for the clients to be told. */
static void
stop(struct keeper *k, uint32_t over_ms)
{
	if (stopping(k))
		return;
	atomic_store_explicit(&k->shared->stop_ms, over_ms, memory_order_relaxed);
	atomic_store_explicit(&k->shared->stopping, true, memory_order_relaxed);
	k->serving_at_ms = 0;
	k->kill_at_ms = now_ms() + stop_patience(k);
	signal_role(k, ROLE_SERVING, SIGTERM);
	signal_role(k, ROLE_SERVING, SIGCONT); /* it may have been stopped */
}

static void
restart(struct keeper *k, enum launch_why why)
{
	if (stopping(k))
		return;
	atomic_store_explicit(&k->shared->why, why, memory_order_relaxed);
	k->renew = why == LAUNCH_WHY_RESTART;
	if (k->renew && k->spare_at_ms != 0)
		k->spare_at_ms = now_ms(); /* it takes one */
	if (k->serving_at_ms != 0) {       /* none lives: whoever asks will not wait */
		k->serving_at_ms = now_ms();
		return;
	}
	if (why == LAUNCH_WHY_KILLED) {
		signal_role(k, ROLE_SERVING, SIGKILL);
		return;
	}
	k->kill_at_ms = now_ms() + RESTART_MS;
	signal_role(k, ROLE_SERVING, SIGUSR1);
	signal_role(k, ROLE_SERVING, SIGCONT);
}

/* ---- the supervisor ---- */

/* A message is taken off the socket when it was acted upon: a spare that becomes the
 * keeper in between acts upon it again. */
static void
on_control(struct keeper *k)
{
	struct launch_msg msg;
	ssize_t n = recv(LAUNCH_CONTROL, &msg, sizeof(msg), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		k->control_ended = true;
		log_notice("the supervisor is gone, stopping");
		stop(k, 0);
		return;
	}
	if (n == sizeof(msg) && msg.type == LAUNCH_STOP)
		stop(k, (uint32_t)msg.arg);
	else if (n == sizeof(msg) && msg.type == LAUNCH_RESTART)
		restart(k, LAUNCH_WHY_RESTART);
	else if (n == sizeof(msg) && msg.type == LAUNCH_KILL)
		restart(k, LAUNCH_WHY_KILLED);
	else
		log_warning(0, "unknown message of the supervisor");
	(void)recv(LAUNCH_CONTROL, &msg, sizeof(msg), MSG_DONTWAIT);
}

/* ---- the spare ---- */

/* Wait until the keeper dies, and take over. Returns false when it left as it should.
 */
static bool
spare_wait(struct keeper *k)
{
	int old = fd_get(k, ROLE_KEEPER);
	struct pollfd pfd = {.fd = old, .events = POLLIN};

	launch_name(k->launch, "wscast-spare", " (spare)");
	while (poll(&pfd, 1, -1) <= 0)
		;
	if (atomic_load_explicit(&k->shared->ended, memory_order_relaxed))
		return false;
	(void)close(old); /* closed, then nameless: bury() */
	/* Our own pidfd is there, and is never without a name. */
	atomic_store_explicit(
	    &k->shared->pid[ROLE_KEEPER], getpid(), memory_order_relaxed);
	atomic_store_explicit(
	    &k->shared->fd[ROLE_KEEPER], fd_get(k, ROLE_SPARE), memory_order_relaxed);
	atomic_store_explicit(&k->shared->fd[ROLE_SPARE], -1, memory_order_relaxed);
	log_as_set(k);
	log_warning(0, "the keeper died, its spare takes over");
	return true;
}

/* Returns true in the child, once it is the keeper or is to end. */
static bool
make_spare(struct keeper *k)
{
	switch (clone_role(k, ROLE_SPARE)) {
	case CLONED_CHILD:
		return true;
	case CLONED_PARENT:
		k->spare_at_ms = 0;
		launch_tell(LAUNCH_KEEPER, getpid(), pid_get(k, ROLE_SPARE));
		break;
	case CLONED_FAILED:
		log_error(-errno, "cannot clone a spare keeper");
		k->spare_at_ms = now_ms() + 10 * SPARE_WAIT_MS;
		break;
	}
	return false;
}

static void
on_spare_died(struct keeper *k)
{
	(void)bury(k, ROLE_SPARE);
	k->spare_at_ms = now_ms() + SPARE_WAIT_MS;
}

/* ---- the keeper ---- */

/* What was left to do when we became the keeper: all of it is in the shared page. */
static void
keeper_begin(struct keeper *k)
{
	uint64_t now = now_ms();

	launch_name(k->launch, "wscast-keeper", " (keeper)");
	k->control_ended = false;
	k->renew = false;
	k->deaths = DEATHS_MAX;
	k->deaths_ms = now;
	k->spare_at_ms = now;
	k->serving_at_ms = fd_get(k, ROLE_SERVING) < 0 && !stopping(k) ? now : 0;
	k->kill_at_ms = stopping(k) ? now + stop_patience(k) : 0;
}

static int
next_timeout(const struct keeper *k, uint64_t now)
{
	const uint64_t at[] = {k->serving_at_ms, k->spare_at_ms, k->kill_at_ms};
	uint64_t first = UINT64_MAX;

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		if (at[i] != 0 && at[i] < first)
			first = at[i];
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)(first - now);
}

static void
keeper_poll(struct keeper *k)
{
	struct pollfd pfd[] = {
	    {.fd = k->control_ended ? -1 : LAUNCH_CONTROL, .events = POLLIN},
	    {.fd = fd_get(k, ROLE_SERVING), .events = POLLIN},
	    {.fd = fd_get(k, ROLE_SPARE), .events = POLLIN},
	};

	int n = poll(pfd, 3, next_timeout(k, now_ms()));

	log_as_set(k);
	if (n > 0) {
		if (pfd[1].revents != 0)
			on_serving_died(k);
		if (pfd[2].revents != 0)
			on_spare_died(k);
		if (pfd[0].revents != 0)
			on_control(k);
	}
	if (k->kill_at_ms != 0 && now_ms() >= k->kill_at_ms) {
		log_warning(0, "the serving process does not end, killing it");
		signal_role(k, ROLE_SERVING, SIGKILL);
		k->kill_at_ms = 0;
	}
}

static int
keeper_end(struct keeper *k)
{
	atomic_store_explicit(&k->shared->ended, true, memory_order_relaxed);
	if (fd_get(k, ROLE_SPARE) >= 0) {
		signal_role(k, ROLE_SPARE, SIGKILL);
		(void)bury(k, ROLE_SPARE);
	}
	return 0;
}

static int
keep(struct keeper *k)
{
	keeper_begin(k);
	while (!stopping(k) || fd_get(k, ROLE_SERVING) >= 0) {
		uint64_t now = now_ms();

		/* First the spare: then nothing is lost when we are killed. */
		if (k->spare_at_ms != 0 && now >= k->spare_at_ms && make_spare(k)) {
			if (!spare_wait(k))
				return 0;
			keeper_begin(k);
			continue;
		}
		if (k->serving_at_ms != 0 && now >= k->serving_at_ms && make_serving(k))
			return serve_run(k->launch, k->shared, k->why);
		keeper_poll(k);
	}
	return keeper_end(k);
}

/* Held back here, so that a clone can be sent a signal before it is ready for it.
 * Pending ones are not inherited, and those that stay pending do no harm. */
static void
hold_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigaddset(&set, SIGUSR2);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGCHLD, SIG_DFL);
}

/*
 * Nothing that comes of us ever gains a right by exec. That is all that keeper and
 * spare can give up: they parse nothing, and a filter would be their children's as
 * well, and that of the next version that is executed in their place.
 */
static void
give_up_rights(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		log_warning(-errno, "cannot set no_new_privs, going on");
}

static int
shared_open(struct keeper_shared **ret)
{
	struct keeper_shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd;

	if (s == MAP_FAILED)
		return -errno;
	fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < ROLE_COUNT; i++)
		atomic_init(&s->fd[i], -1);
	atomic_store_explicit(&s->fd[ROLE_KEEPER], fd, memory_order_relaxed);
	atomic_store_explicit(&s->pid[ROLE_KEEPER], getpid(), memory_order_relaxed);
	*ret = s;
	return 0;
}

int
keeper_run(const struct launch *launch)
{
	struct keeper k = {.launch = launch};
	int r;

	hold_signals();
	give_up_rights();
	r = page_open(LAUNCH_PAGE, true, &k.page);
	if (r < 0) {
		log_error(r, "cannot map the worker's page");
		return 1;
	}
	log_as_set(&k);
	r = shared_open(&k.shared);
	if (r < 0) {
		log_error(r, "cannot set up the keeper");
		return 1;
	}
	if (launch->spare_fd >= 0) {
		if (renew_end(launch) < 0)
			return 1;
		atomic_store_explicit(
		    &k.shared->why, LAUNCH_WHY_RESTART, memory_order_relaxed);
	}
	return keep(&k);
}
