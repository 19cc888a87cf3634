/* test_listeners.c - what the sockets of clients inherit from the supervisor's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "supervisor/listeners.h"

struct fixture {
	struct settings *settings;
	struct listeners listeners;
	int client, accepted;
};

static int
setup(void **state)
{
	static const char *const overrides[] = {
	    "server.listen=127.0.0.1:1", "limits.send_buffer=40000"};
	static struct fixture f;
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	struct faults faults = {0};

	assert_int_equal(settings_load(NULL, overrides, 2, &f.settings, &faults), 0);
	/* Any that is free, which no file can ask for. */
	((struct sockaddr_in *)&f.settings->listen[0].addr)->sin_port = 0;
	assert_int_equal(listeners_open(f.settings, 1, &f.listeners), 0);
	assert_int_equal(
	    getsockname(listeners_fd(&f.listeners, 0, 0), (struct sockaddr *)&sa, &len),
	    0);
	f.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(f.client >= 0);
	assert_int_equal(connect(f.client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(close(f->client), 0);
	assert_int_equal(close(f->accepted), 0);
	listeners_close(&f->listeners);
	settings_free(f->settings);
	return 0;
}

static void
accept_one(struct fixture *f)
{
	f->accepted = accept(listeners_fd(&f->listeners, 0, 0), NULL, NULL);
	assert_true(f->accepted >= 0);
}

static int
option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void
test_listeners_accepted_inherits_nodelay(void **state)
{
	struct fixture *f = *state;

	accept_one(f);
	assert_int_equal(option(f->accepted, IPPROTO_TCP, TCP_NODELAY), 1);
}

static void
test_listeners_accepted_inherits_send_buffer(void **state)
{
	struct fixture *f = *state;

	accept_one(f);
	/* socket(7): the kernel doubles what it is given. */
	assert_int_equal(option(f->accepted, SOL_SOCKET, SO_SNDBUF), 2 * 40000);
}

/* What worker/client.c takes for granted once it has asked one. */
static void
test_listeners_accepted_has_one_count(void **state)
{
	struct fixture *f = *state;
	struct tcp_info info;
	socklen_t len = sizeof(info);

	assert_int_equal(send(f->client, "early", 5, 0), 5);
	assert_int_equal(shutdown(f->client, SHUT_WR), 0);
	accept_one(f);
	memset(&info, 0, sizeof(info));
	assert_int_equal(
	    getsockopt(f->accepted, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	assert_int_equal(info.tcpi_bytes_acked, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_listeners_accepted_inherits_nodelay),
	    T(test_listeners_accepted_inherits_send_buffer),
	    T(test_listeners_accepted_has_one_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
