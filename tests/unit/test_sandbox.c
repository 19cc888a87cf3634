/*
 * test_sandbox.c - worker/sandbox.h
 *
 * Each test forks a child that enters the sandbox and then does one thing: what it may
 * do ends in exit status 0, what it may not in SIGSYS.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/journal.h"
#include "worker/sandbox.h"

#define FIRST_FD 30 /* as if those below were the launch's */
#define UNAVAILABLE 77

/* What a child has open when it enters; `low` is below FIRST_FD. New descriptors are
 * above: all below are taken, as they are in a worker. */
static struct {
	int listener, client, accepted, low, pipe[2];
	void *code;
	struct sockaddr_in addr;
} env;

static int
above(int fd)
{
	int moved = fcntl(fd, F_DUPFD, FIRST_FD);

	(void)close(fd);
	return moved;
}

static int
env_open(void **state)
{
	socklen_t len = sizeof(env.addr);
	int fd;

	env.addr = (struct sockaddr_in){
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	env.listener = above(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	if (bind(env.listener, (struct sockaddr *)&env.addr, sizeof(env.addr)) < 0 ||
	    listen(env.listener, 8) < 0 ||
	    getsockname(env.listener, (struct sockaddr *)&env.addr, &len) < 0)
		return -1;
	env.client = above(socket(AF_INET, SOCK_STREAM, 0));
	if (connect(env.client, (struct sockaddr *)&env.addr, sizeof(env.addr)) < 0)
		return -1;
	env.low = eventfd(0, 0);
	do {
		fd = eventfd(0, 0);
	} while (fd >= 0 && fd < FIRST_FD);
	env.code = mmap(
	    NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (env.low < 0 || env.low >= FIRST_FD || env.code == MAP_FAILED)
		return -1;
	return pipe(env.pipe);
}

static int
env_close(void **state)
{
	(void)close(env.listener);
	(void)close(env.client);
	(void)close(env.low);
	(void)close(env.pipe[0]);
	(void)close(env.pipe[1]);
	(void)munmap(env.code, 4096);
	return 0;
}

/* Returns the wait status of a child that enters, does `what` and exits with what that
 * returned. Skips the test where there is no sandbox. */
static int
inside(bool ktls, int (*what)(void))
{
	struct rlimit no_core = {0, 0};
	pid_t pid = fork();
	int status, r;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &no_core);
		r = sandbox_enter(FIRST_FD, ktls);
		if (r == -EOPNOTSUPP)
			_exit(UNAVAILABLE);
		_exit(r < 0 ? 99 : what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == UNAVAILABLE)
		skip();
	return status;
}

static void
assert_allowed_of(bool ktls, int (*what)(void))
{
	int status = inside(ktls, what);

	if (WIFSIGNALED(status))
		fail_msg("killed by signal %d", WTERMSIG(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
assert_allowed(int (*what)(void))
{
	assert_allowed_of(false, what);
}

static void
assert_killed(int (*what)(void))
{
	int status = inside(false, what);

	if (!WIFSIGNALED(status))
		fail_msg("not killed: exit status %d", WEXITSTATUS(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* ---- what serving takes ---- */

static int
do_memory(void)
{
	char *big, *small[1000];
	void *map = mmap(
	    NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || madvise(map, 1 << 20, MADV_DONTNEED) < 0 ||
	    munmap(map, 1 << 20) < 0)
		return 1;
	for (size_t i = 0; i < 1000; i++) {
		small[i] = malloc(10000);
		if (small[i] == NULL)
			return 2;
		memset(small[i], 1, 10000);
	}
	big = malloc(1 << 20);
	big = realloc(big, 64 << 20); /* mremap() */
	if (big == NULL)
		return 3;
	memset(big, 1, 64 << 20);
	free(big);
	for (size_t i = 0; i < 1000; i++)
		free(small[i]);
	return 0;
}

static int
do_sockets(void)
{
	int fd = accept4(env.listener, NULL, NULL, SOCK_NONBLOCK), n = 1;
	struct sockaddr_storage ss;
	struct tcp_info info;
	socklen_t len = sizeof(ss), info_len = sizeof(info);
	struct iovec iov[2] = {{"a", 1}, {"b", 1}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	char buf[8];

	if (fd < 0 || getpeername(fd, (struct sockaddr *)&ss, &len) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n)) < 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) < 0)
		return 1;
	if (send(fd, "hello", 5, MSG_NOSIGNAL) != 5 || sendmsg(fd, &msg, 0) != 2 ||
	    recv(env.client, buf, sizeof(buf), 0) <= 0)
		return 3;
	return shutdown(fd, SHUT_RDWR) < 0 || close(fd) < 0 ? 4 : 0;
}

static int
do_loop(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = env.client};
	int ep = epoll_create1(EPOLL_CLOEXEC), efd = eventfd(0, EFD_CLOEXEC);
	int r;

	if (ep < 0 || efd < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, env.client, &ev) < 0)
		return 1;
	r = epoll_wait(ep, &ev, 1, 1);
	return r < 0 || close(efd) < 0 || close(ep) < 0 ? 2 : 0;
}

static int
do_small_things(void)
{
	struct timespec ts;
	char buf[16];

	if (syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) < 0 || time(NULL) == 0 ||
	    getrandom(buf, sizeof(buf), 0) != sizeof(buf))
		return 1;
	if (write(env.pipe[1], "x", 1) != 1 || read(env.pipe[0], buf, 1) != 1)
		return 2;
	(void)signal(SIGTERM, SIG_IGN);
	return raise(SIGTERM) == 0 && fcntl(env.low, F_GETFD) >= 0 ? 0 : 3;
}

static int
do_log(void)
{
	log_info("a line from inside");
	return 0;
}

static void
test_sandbox_allows_memory(void **state)
{
	assert_allowed(do_memory);
}

static void
test_sandbox_allows_accepting_and_talking(void **state)
{
	assert_allowed(do_sockets);
}

static void
test_sandbox_allows_an_event_loop(void **state)
{
	assert_allowed(do_loop);
}

static void
test_sandbox_allows_clock_chance_and_signal_to_itself(void **state)
{
	assert_allowed(do_small_things);
}

/* ---- what it does not ---- */

static int
do_open(void)
{
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0;
}

static int
do_exec(void)
{
	char name[] = "/bin/true", *argv[] = {name, NULL};

	(void)execv(name, argv);
	return 1;
}

static int
do_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int
do_connect(void)
{
	return connect(env.client, (struct sockaddr *)&env.addr, sizeof(env.addr)) < 0;
}

static int
do_ptrace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0;
}

static int
do_fork(void)
{
	return fork() < 0;
}

static int
do_clone_files(void)
{
	return syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0) < 0;
}

static int
do_kill_parent(void)
{
	return kill(getppid(), 0) < 0;
}

static int
do_tgkill_parent(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0) < 0;
}

static int
do_map_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0) == MAP_FAILED;
}

static int
do_make_code(void)
{
	return mprotect(env.code, 4096, PROT_READ | PROT_EXEC) < 0;
}

static int
do_map_file(void)
{
	return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, env.low, 0) == MAP_FAILED;
}

static int
do_setfl(void)
{
	return fcntl(env.client, F_SETFL, O_NONBLOCK) < 0;
}

static int
do_close_launch_fd(void)
{
	return close(env.low) < 0;
}

static int
do_odd_socket_option(void)
{
	int n = 1;

	return setsockopt(env.client, SOL_SOCKET, SO_REUSEPORT, &n, sizeof(n)) < 0;
}

static int
do_keys_for_the_kernel(void)
{
	/* Whether this kernel knows of it does not matter. */
	(void)setsockopt(env.client, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));
	(void)setsockopt(env.client, SOL_TLS, TLS_TX, "", 0);
	(void)setsockopt(env.client, SOL_TLS, TLS_RX, "", 0);
	return 0;
}

static int
do_recvmsg(void)
{
	struct msghdr msg = {.msg_iovlen = 0};

	return recvmsg(env.client, &msg, MSG_DONTWAIT) > 0;
}

static void
test_sandbox_allows_the_kernel_s_tls(void **state)
{
	assert_allowed_of(true, do_keys_for_the_kernel);
	assert_allowed_of(true, do_recvmsg);
}

static int
do_userns(void)
{
	return unshare(CLONE_NEWUSER) < 0;
}

static int
do_io_uring_setup(void)
{
	return syscall(425 /* SYS_io_uring_setup, on every architecture */, 1, NULL) <
	       0;
}

#define KILLED(name, what)                                                             \
	static void test_sandbox_kills_##name(void **state)                            \
	{                                                                              \
		assert_killed(what);                                                   \
	}

KILLED(who_opens_a_file, do_open)
KILLED(who_executes, do_exec)
KILLED(who_makes_a_socket, do_socket)
KILLED(who_connects, do_connect)
KILLED(who_traces, do_ptrace)
KILLED(who_forks, do_fork)
KILLED(who_clones, do_clone_files)
KILLED(who_signals_another, do_kill_parent)
KILLED(who_signals_another_by_thread, do_tgkill_parent)
KILLED(who_maps_code, do_map_code)
KILLED(who_makes_memory_code, do_make_code)
KILLED(who_maps_a_file, do_map_file)
KILLED(who_sets_flags_that_others_share, do_setfl)
KILLED(who_closes_a_descriptor_of_the_launch, do_close_launch_fd)
KILLED(who_sets_an_odd_socket_option, do_odd_socket_option)
KILLED(who_gives_keys_without_ktls, do_keys_for_the_kernel)
KILLED(who_receives_more_than_bytes, do_recvmsg)
KILLED(who_unshares, do_userns)
KILLED(who_makes_an_io_uring, do_io_uring_setup)

/* The 32-bit entry has numbers of its own: its 5 is open(), ours fstat(). */
static int
do_other_abi(void)
{
#ifdef __x86_64__
	long r = 20; /* getpid() there */

	__asm__ volatile("int $0x80" : "+a"(r)::"memory", "r8", "r9", "r10", "r11");
	return r < 0 && r != -ENOSYS;
#else
	return (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0) < 0;
#endif
}

static void
test_sandbox_kills_who_uses_another_abi(void **state)
{
	int status = inside(false, do_other_abi);

	/* SIGSEGV: a kernel that has no such entry. */
	assert_true(WIFSIGNALED(status));
	assert_true(WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV);
}

/* ---- the rest ---- */

static void
test_sandbox_allows_to_log(void **state)
{
	log_open("test_sandbox"); /* as every program does at its start */
	assert_allowed(do_log);
}

/* The value of a line of /proc/PID/status, -1 when there is none. */
static int
status_of(pid_t pid, const char *key)
{
	char path[64], line[256];
	int value = -1;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (value < 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			value = atoi(line + strlen(key));
	(void)fclose(f);
	return value;
}

static void
test_sandbox_is_seen_from_outside(void **state)
{
	pid_t pid = fork();
	char c;
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		c = sandbox_enter(FIRST_FD, false) == 0;
		if (write(env.pipe[1], &c, 1) == 1)
			(void)recv(env.client, &c, 1, 0); /* until we are killed */
		_exit(0);
	}
	assert_int_equal(read(env.pipe[0], &c, 1), 1);
	if (c) {
		assert_int_equal(status_of(pid, "Seccomp:"), 2);
		assert_int_equal(status_of(pid, "NoNewPrivs:"), 1);
	}
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!c)
		skip();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sandbox_allows_memory),
	    cmocka_unit_test(test_sandbox_allows_accepting_and_talking),
	    cmocka_unit_test(test_sandbox_allows_an_event_loop),
	    cmocka_unit_test(test_sandbox_allows_clock_chance_and_signal_to_itself),
	    cmocka_unit_test(test_sandbox_allows_to_log),
	    cmocka_unit_test(test_sandbox_kills_who_opens_a_file),
	    cmocka_unit_test(test_sandbox_kills_who_executes),
	    cmocka_unit_test(test_sandbox_kills_who_makes_a_socket),
	    cmocka_unit_test(test_sandbox_kills_who_connects),
	    cmocka_unit_test(test_sandbox_kills_who_traces),
	    cmocka_unit_test(test_sandbox_kills_who_forks),
	    cmocka_unit_test(test_sandbox_kills_who_clones),
	    cmocka_unit_test(test_sandbox_kills_who_signals_another),
	    cmocka_unit_test(test_sandbox_kills_who_signals_another_by_thread),
	    cmocka_unit_test(test_sandbox_kills_who_maps_code),
	    cmocka_unit_test(test_sandbox_kills_who_makes_memory_code),
	    cmocka_unit_test(test_sandbox_kills_who_maps_a_file),
	    cmocka_unit_test(test_sandbox_kills_who_sets_flags_that_others_share),
	    cmocka_unit_test(test_sandbox_kills_who_closes_a_descriptor_of_the_launch),
	    cmocka_unit_test(test_sandbox_kills_who_sets_an_odd_socket_option),
	    cmocka_unit_test(test_sandbox_allows_the_kernel_s_tls),
	    cmocka_unit_test(test_sandbox_kills_who_gives_keys_without_ktls),
	    cmocka_unit_test(test_sandbox_kills_who_receives_more_than_bytes),
	    cmocka_unit_test(test_sandbox_kills_who_unshares),
	    cmocka_unit_test(test_sandbox_kills_who_makes_an_io_uring),
	    cmocka_unit_test(test_sandbox_kills_who_uses_another_abi),
	    cmocka_unit_test(test_sandbox_is_seen_from_outside),
	};

	return cmocka_run_group_tests(tests, env_open, env_close);
}
