/* sandbox.c - see sandbox.h */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/sandbox.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/*
 * Allowed whatever the arguments. From Linux 5.11 on the kernel keeps a bitmap of such
 * calls and runs no filter for them: so all that is done for each message stands here.
 * sendto() and sendmsg() could name an address, but there is no unconnected socket that
 * they could use it with.
 */
static const int allowed[] = {
    /* the event loop; libev makes its epoll anew when a descriptor confuses it */
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(eventfd2), /* also the descriptor in reserve, for EMFILE */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    /* clients */
    SCMP_SYS(accept4),
    SCMP_SYS(getpeername),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(io_uring_enter), /* of the ring that is restricted to sends */
    /* eventfds, libev's pipe, the log */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(writev), /* glibc's last words */
    /* malloc; mmap and mprotect below */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(getrandom),
    /* clocks, where the vDSO has none */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    /* signals: of the loop's, raise() and abort() */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Socket options: the kernel's code for the others is large, and none of our needs. */
struct option {
	int level, name;
};
static const struct option options_set[] = {
    {SOL_SOCKET, SO_RCVLOWAT}, /* the handshake is peeked at */
    {SOL_SOCKET, SO_SNDBUF},   /* of a unix socket, which inherits none; a reload */
};
static const struct option options_get[] = {
    {IPPROTO_TCP, TCP_INFO}, /* what came before the first byte of ours */
};
/* Keys for the kernel's TLS. What it counts is asked for before the sandbox. */
static const struct option options_ktls[] = {
    {IPPROTO_TCP, TCP_ULP},
    {SOL_TLS, TLS_TX},
    {SOL_TLS, TLS_RX},
};

/* The kernel takes an int from the low half, whatever the other holds. */
static struct scmp_arg_cmp
int_is(unsigned arg, int value)
{
	return SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)value);
}

static struct scmp_arg_cmp
bits_are(unsigned arg, uint64_t mask, uint64_t value)
{
	return SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, mask, value);
}

static int
allow(scmp_filter_ctx ctx, int call, unsigned n, const struct scmp_arg_cmp *args)
{
	return seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, call, n, args);
}

static int
allow_options(
    scmp_filter_ctx ctx, int call, const struct option *options, size_t noptions)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < noptions; i++) {
		const struct scmp_arg_cmp args[] = {
		    int_is(1, options[i].level), int_is(2, options[i].name)};

		r = allow(ctx, call, COUNT(args), args);
	}
	return r;
}

/* Memory of no file, and never executable: what is mapped was mapped at the start. */
static int
allow_memory(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp map[] = {
	    bits_are(2, PROT_EXEC, 0), bits_are(3, MAP_ANONYMOUS, MAP_ANONYMOUS)};
	const struct scmp_arg_cmp protect[] = {bits_are(2, PROT_EXEC, 0)};
	int r = allow(ctx, SCMP_SYS(mmap), COUNT(map), map);

	return r < 0 ? r : allow(ctx, SCMP_SYS(mprotect), COUNT(protect), protect);
}

/*
 * Descriptors are shared with the keeper and each successor, and flags of an open file
 * with everyone who has it: they may be looked at. What is closed is the client's, or
 * libev's.
 */
static int
allow_descriptors(scmp_filter_ctx ctx, int first_fd)
{
	static const int looks[] = {F_GETFD, F_GETFL};
	const struct scmp_arg_cmp closes[] = {
	    SCMP_CMP(0, SCMP_CMP_GE, (uint64_t)first_fd, 0)};
	int r = allow(ctx, SCMP_SYS(close), COUNT(closes), closes);

	for (size_t i = 0; r == 0 && i < COUNT(looks); i++) {
		const struct scmp_arg_cmp args[] = {int_is(1, looks[i])};

		r = allow(ctx, SCMP_SYS(fcntl), COUNT(args), args);
	}
	return r;
}

/* recvmsg(2) tells the type of a record. */
static int
allow_ktls(scmp_filter_ctx ctx)
{
	int r =
	    allow_options(ctx, SCMP_SYS(setsockopt), options_ktls, COUNT(options_ktls));

	return r < 0 ? r : allow(ctx, SCMP_SYS(recvmsg), 0, NULL);
}

/* raise(): of us, the keeper's child, and nobody else. */
static int
allow_raise(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp args[] = {int_is(0, getpid())};

	return allow(ctx, SCMP_SYS(tgkill), COUNT(args), args);
}

static int
add_rules(scmp_filter_ctx ctx, int first_fd, bool ktls)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < COUNT(allowed); i++)
		r = allow(ctx, allowed[i], 0, NULL);
	if (r == 0)
		r = allow_options(
		    ctx, SCMP_SYS(setsockopt), options_set, COUNT(options_set));
	if (r == 0)
		r = allow_options(
		    ctx, SCMP_SYS(getsockopt), options_get, COUNT(options_get));
	if (r == 0 && ktls)
		r = allow_ktls(ctx);
	if (r == 0)
		r = allow_memory(ctx);
	if (r == 0)
		r = allow_descriptors(ctx, first_fd);
	return r == 0 ? allow_raise(ctx) : r;
}

static int
set_attributes(scmp_filter_ctx ctx)
{
	/* Calls by another ABI's entry are judged like unknown ones. */
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 1);
	/* For speed alone, so it may fail with an older libseccomp. Kernels before 5.16
	 * slow filtered processes down against Spectre-like reads across a boundary
	 * within the process (SSBD): there is none, nobody's code is interpreted here.
	 */
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree */
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_API_SYSRAWRC, 1); /* errno as it is */
	return r;
}

static bool
is_available(void)
{
#ifdef SANITIZED
	return false;
#else
	const uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
#endif
}

int
sandbox_enter(int first_fd, bool ktls)
{
	scmp_filter_ctx ctx;
	int r;

	if (!is_available())
		return -EOPNOTSUPP;
	ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (ctx == NULL)
		return -ENOMEM;
	r = set_attributes(ctx);
	if (r == 0)
		r = add_rules(ctx, first_fd, ktls);
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}
