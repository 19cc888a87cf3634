/*
 * test_ktls.c - the kernel's TLS: what it took, as a successor finds it out. Two ends
 * of one connection, each with the other's keys; where the kernel has no TLS all is
 * skipped (tests/vm/run has one that does).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/ktls.h"
#include "worker/tls_kernel.h"

#define ROUNDS 3000
#define STREAM (3u << 20)
#define PIECE_MAX 40000 /* three records */

/* Any byte of the stream, so that a wrong one is seen wherever it is. */
static uint8_t stream[STREAM + PIECE_MAX];

/* ours: a connection as a worker has it. theirs: the client's socket. */
struct pair {
	struct slot slot;
	struct tls_kernel kernel;
	int theirs;
	size_t sent, got; /* of the stream */
};

static void
connect_both(int *ret_ours, int *ret_theirs)
{
	struct sockaddr_in sin = {
	    .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;
	socklen_t len = sizeof(sin);

	assert_int_equal(bind(listener, (struct sockaddr *)&sin, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
	*ret_theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* So that it soon takes no more. */
	(void)setsockopt(*ret_theirs, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	assert_int_equal(connect(*ret_theirs, (struct sockaddr *)&sin, len), 0);
	*ret_ours = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(*ret_ours >= 0);
	(void)setsockopt(*ret_ours, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	(void)close(listener);
}

/* The client's side of the same keys. */
static struct tls_keys
mirrored(const struct tls_keys *keys)
{
	struct tls_keys m = *keys;

	m.of[TLS_OURS] = keys->of[TLS_CLIENTS];
	m.of[TLS_CLIENTS] = keys->of[TLS_OURS];
	return m;
}

static struct tls_keys
some_keys(uint16_t version, enum tls_aead aead)
{
	struct tls_keys keys = {.version = version, .aead = aead};

	for (int i = 0; i < TLS_SIDES; i++) {
		memset(keys.of[i].key, 'k' + i, sizeof(keys.of[i].key));
		memset(keys.of[i].iv, 'v' + i, sizeof(keys.of[i].iv));
		keys.of[i].record =
		    (uint64_t)i + UINT16_MAX - 5; /* 16 bits are noted */
	}
	return keys;
}

/* A connection that has settled. Skips the test where the kernel cannot. */
static void
pair_open(struct pair *p, uint16_t version, enum tls_aead aead)
{
	struct tls_keys keys = some_keys(version, aead), theirs = mirrored(&keys);

	if (!ktls_is_available())
		skip();
	memset(p, 0, sizeof(*p));
	connect_both(&p->slot.fd, &p->theirs);
	assert_int_equal(ktls_begin(p->slot.fd, &keys), 0);
	assert_int_equal(ktls_begin(p->theirs, &theirs), 0);
	slot_set_pos(&p->slot, 0, 1000); /* as if there had been a handshake */
	p->slot.flags = SLOT_TLS;
	p->kernel.has_keys = true;
	p->kernel.records = (uint16_t)keys.of[TLS_OURS].record;
	tls_kernel_settle(&p->kernel, &p->slot);
}

static void
pair_close(struct pair *p)
{
	(void)close(p->slot.fd);
	(void)close(p->theirs);
}

static uint32_t
taken(const struct pair *p)
{
	uint32_t n = 0;

	assert_int_equal(tls_kernel_taken(&p->slot, &n), 0);
	return n;
}

/* Read what there is, at most max bytes, and compare it. */
static void
take(struct pair *p, size_t max)
{
	static uint8_t buf[PIECE_MAX];
	ssize_t n = ktls_recv(p->theirs, buf, max);

	if (n == -EAGAIN)
		return;
	assert_true(n > 0);
	assert_memory_equal(buf, stream + p->got, (size_t)n);
	p->got += (size_t)n;
}

/* As out.c sends: what was taken moves tx and part only afterwards. Whenever a process
 * dies in between, its slot is as `before`. */
static void
give(struct pair *p, size_t len, bool commit)
{
	size_t first = len / 3;
	const struct iovec iov[] = {
	    {stream + p->sent, first}, {stream + p->sent + first, len - first}};
	uint32_t before = 1000 + (uint32_t)p->sent;
	ssize_t n;

	assert_int_equal(taken(p), before);
	n = tls_kernel_send(&p->kernel, &p->slot, iov, 2);
	assert_true(n > 0 || n == -EAGAIN);
	n = n > 0 ? n : 0;
	assert_int_equal(taken(p), before + (uint32_t)n);
	p->sent += (size_t)n;
	if (commit) {
		p->slot.part += (uint32_t)n;
		assert_int_equal(taken(p), before + (uint32_t)n);
		return;
	}
	/* A successor: it retraces, and goes on from what the kernel says. */
	slot_set_pos(&p->slot, 0, taken(p));
	p->slot.part = 0;
	p->kernel = (struct tls_kernel){.records = 0};
	assert_int_equal(tls_kernel_adopt(&p->kernel, &p->slot), 0);
}

static void
all_is_exact(uint16_t version, enum tls_aead aead)
{
	struct pair p;
	size_t blocked = 0;

	pair_open(&p, version, aead);
	for (int i = 0; i < ROUNDS && p.sent < STREAM; i++) {
		static const size_t edges[] = {
		    1, KTLS_RECORD - 1, KTLS_RECORD, KTLS_RECORD + 1, 2 * KTLS_RECORD};
		size_t len =
		    i % 7 < 5 ? edges[i % 7] : 1 + (size_t)random() % PIECE_MAX;
		size_t before = p.sent;

		give(&p, len, random() % 2);
		blocked += p.sent < before + len;
		if (random() % 2)
			take(&p, 1 + (size_t)random() % PIECE_MAX);
	}
	assert_true(blocked > 0); /* also where some of it was not taken */
	while (p.got < p.sent) {
		struct pollfd pfd = {.fd = p.theirs, .events = POLLIN};

		assert_int_equal(poll(&pfd, 1, 20000), 1);
		take(&p, PIECE_MAX);
	}
	pair_close(&p);
}

static void
test_tls_kernel_tells_what_was_taken(void **state)
{
	for (int aead = 0; aead < TLS_AEADS; aead++) {
		all_is_exact(TLS1_2_VERSION, (enum tls_aead)aead);
		all_is_exact(TLS1_3_VERSION, (enum tls_aead)aead);
	}
}

/* Two records more than were noted are none of ours. */
static void
test_tls_kernel_taken_of_another_sender_is_refused(void **state)
{
	const struct iovec iov = {stream, 100};
	uint32_t n;
	struct pair p;

	pair_open(&p, TLS1_3_VERSION, TLS_AES_128_GCM);
	for (int i = 0; i < 2; i++)
		assert_int_equal(ktls_send(p.slot.fd, KTLS_DATA, &iov, 1), 100);
	assert_int_equal(tls_kernel_taken(&p.slot, &n), -ECONNABORTED);
	pair_close(&p);
}

static void
test_tls_kernel_end_is_no_part_of_the_stream(void **state)
{
	uint8_t buf[10];
	struct pair p;

	pair_open(&p, TLS1_3_VERSION, TLS_AES_128_GCM);
	give(&p, 10, true);
	tls_kernel_end(&p.kernel, &p.slot, false);
	assert_int_equal(taken(&p), 1010);
	tls_kernel_end(&p.kernel, &p.slot, false); /* once */
	assert_int_equal(taken(&p), 1010);
	take(&p, 10);
	assert_int_equal(ktls_recv(p.theirs, buf, sizeof(buf)), 0);
	assert_int_equal(ktls_recv(p.theirs, buf, sizeof(buf)), -EAGAIN);
	pair_close(&p);
}

static void
test_tls_kernel_end_of_a_broken_one_is_an_error(void **state)
{
	uint8_t buf[10];
	struct pair p;

	pair_open(&p, TLS1_3_VERSION, TLS_AES_128_GCM);
	tls_kernel_end(&p.kernel, &p.slot, true);
	assert_int_equal(ktls_recv(p.theirs, buf, sizeof(buf)), -EPROTO);
	pair_close(&p);
}

/* What a client sends beside data: keys, handshakes, and records that are not its. */
static void
test_ktls_recv_refuses_what_is_no_data(void **state)
{
	static const uint8_t types[] = {20, 22, 24, 255};
	const struct iovec iov = {stream, 5};
	uint8_t buf[100];
	struct pair p;

	for (size_t i = 0; i < sizeof(types); i++) {
		pair_open(&p, TLS1_3_VERSION, TLS_AES_128_GCM);
		assert_int_equal(ktls_send(p.theirs, types[i], &iov, 1), 5);
		assert_int_equal(ktls_recv(p.slot.fd, buf, sizeof(buf)), -EPROTO);
		pair_close(&p);
	}
}

static void
test_ktls_recv_refuses_a_broken_record(void **state)
{
	static const uint8_t record[] = {23, 3, 3, 0, 17, [21] = 0};
	uint8_t buf[100];
	const struct tls_keys keys = some_keys(TLS1_3_VERSION, TLS_AES_128_GCM);
	struct pair p;

	if (!ktls_is_available())
		skip();
	connect_both(&p.slot.fd, &p.theirs);
	assert_int_equal(ktls_begin(p.slot.fd, &keys), 0);
	assert_int_equal(send(p.theirs, record, sizeof(record), 0), sizeof(record));
	assert_int_equal(ktls_recv(p.slot.fd, buf, sizeof(buf)), -EPROTO);
	pair_close(&p);
}

/* Told at most once of a part that is there, and then of the whole: edge.c counts on
 * it, or whoever sends half of a record would keep a worker awake, or wait for ever. */
static void
test_ktls_edge_tells_of_whole_records_alone(void **state)
{
	static const uint8_t record[] = {23, 3, 3, 0, 17, [21] = 0};
	const struct tls_keys keys = some_keys(TLS1_3_VERSION, TLS_AES_128_GCM);
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
	int epfd = epoll_create1(EPOLL_CLOEXEC), on = 1;
	uint8_t buf[100];
	struct pair p;

	if (!ktls_is_available())
		skip();
	connect_both(&p.slot.fd, &p.theirs);
	/* Each byte is there when send() returns. */
	(void)setsockopt(p.theirs, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	assert_int_equal(ktls_begin(p.slot.fd, &keys), 0);
	assert_int_equal(send(p.theirs, record, 1, 0), 1);
	assert_int_equal(ktls_recv(p.slot.fd, buf, sizeof(buf)), -EAGAIN);
	assert_int_equal(epoll_ctl(epfd, EPOLL_CTL_ADD, p.slot.fd, &e), 0);
	(void)epoll_wait(epfd, &e, 1, 0);
	for (size_t i = 1; i < sizeof(record); i++) {
		assert_int_equal(ktls_recv(p.slot.fd, buf, sizeof(buf)), -EAGAIN);
		assert_int_equal(epoll_wait(epfd, &e, 1, 0), 0);
		assert_int_equal(send(p.theirs, record + i, 1, 0), 1);
	}
	assert_int_equal(epoll_wait(epfd, &e, 1, 20000), 1);
	assert_int_equal(ktls_recv(p.slot.fd, buf, sizeof(buf)), -EPROTO);
	(void)close(epfd);
	pair_close(&p);
}

/* Nothing has changed: OpenSSL can go on. */
static void
test_ktls_begin_of_no_tcp_is_refused(void **state)
{
	const struct tls_keys keys = some_keys(TLS1_3_VERSION, TLS_AES_128_GCM);
	char byte = 0;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(ktls_begin(fds[0], &keys), -EOPNOTSUPP);
	assert_int_equal(send(fds[0], "x", 1, 0), 1);
	assert_int_equal(recv(fds[1], &byte, 1, 0), 1);
	assert_int_equal(byte, 'x');
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static int
setup(void **state)
{
	for (size_t i = 0; i < sizeof(stream); i++)
		stream[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tls_kernel_tells_what_was_taken),
	    cmocka_unit_test(test_tls_kernel_taken_of_another_sender_is_refused),
	    cmocka_unit_test(test_tls_kernel_end_is_no_part_of_the_stream),
	    cmocka_unit_test(test_tls_kernel_end_of_a_broken_one_is_an_error),
	    cmocka_unit_test(test_ktls_recv_refuses_what_is_no_data),
	    cmocka_unit_test(test_ktls_recv_refuses_a_broken_record),
	    cmocka_unit_test(test_ktls_edge_tells_of_whole_records_alone),
	    cmocka_unit_test(test_ktls_begin_of_no_tcp_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
