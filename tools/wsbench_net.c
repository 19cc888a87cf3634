#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tools/wsbench_net.h"

#define CONNECT_SECONDS 5

/* HOST:PORT or [V6]:PORT of len bytes. */
static int
resolve(const char *text, size_t len, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct addrinfo hints = {
	    .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	char host[256], *port;

	if (len == 0 || len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	port = strrchr(host, ':');
	if (port == NULL || port == host)
		return -EINVAL;
	*port++ = '\0';
	if (host[0] == '[' && port[-2] == ']') {
		port[-2] = '\0';
		memmove(host, host + 1, strlen(host));
	}
	if (getaddrinfo(host, port, &hints, &found) != 0)
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, found->ai_addr, found->ai_addrlen);
	*ret_len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int
net_url(const char *url, struct sockaddr_storage *ret_addr, socklen_t *ret_len,
    char *ret_host, size_t host_size, char *ret_path, size_t path_size)
{
	const char *host, *path, *port;
	char with_port[300];
	bool tls = strncmp(url, "wss://", 6) == 0;
	size_t len;

	if (!tls && strncmp(url, "ws://", 5) != 0)
		return -EINVAL;
	host = url + (tls ? 6 : 5);
	port = tls ? ":443" : ":80";
	len = strcspn(host, "/?");
	path = host[len] != '\0' ? host + len : "/";
	if (len == 0 || len >= host_size || len + 4 > sizeof(with_port) ||
	    strlen(path) >= path_size || *path != '/')
		return -EINVAL;
	memcpy(ret_host, host, len);
	ret_host[len] = '\0';
	memcpy(ret_path, path, strlen(path) + 1);
	if (strrchr(ret_host, ':') > strrchr(ret_host, ']'))
		port = "";
	snprintf(with_port, sizeof(with_port), "%s%s", ret_host, port);
	return resolve(with_port, strlen(with_port), ret_addr, ret_len);
}

int
net_address(const char *where, struct sockaddr_storage *ret_addr, socklen_t *ret_len)
{
	struct sockaddr_un *un = (struct sockaddr_un *)ret_addr;
	const char *scheme = strstr(where, "://");

	if (scheme != NULL)
		where = scheme + 3;
	if (where[0] != '/')
		return resolve(where, strcspn(where, "/"), ret_addr, ret_len);
	if (strlen(where) >= sizeof(un->sun_path))
		return -EINVAL;
	memset(ret_addr, 0, sizeof(*ret_addr));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, where, strlen(where) + 1);
	*ret_len = sizeof(*un);
	return 0;
}

void
net_add_port(struct sockaddr_storage *addr, unsigned add)
{
	in_port_t *port = addr->ss_family == AF_INET
			      ? &((struct sockaddr_in *)addr)->sin_port
			      : &((struct sockaddr_in6 *)addr)->sin6_port;

	if (addr->ss_family == AF_INET || addr->ss_family == AF_INET6)
		*port = htons((uint16_t)(ntohs(*port) + add));
}

int
net_connect(const struct sockaddr_storage *addr, socklen_t len, int *ret_fd)
{
	struct timeval wait = {.tv_sec = CONNECT_SECONDS};
	int r, on = 1, fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (addr->ss_family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (const struct sockaddr *)addr, len) < 0) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int
port_is_free(unsigned port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons((uint16_t)port)};
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return 0;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	r = bind(fd, (struct sockaddr *)&in, sizeof(in));
	(void)close(fd);
	return r == 0;
}

unsigned
net_free_port(unsigned follow)
{
	/* Below the range from which the kernel takes clients' ports. */
	unsigned base = 10000 + (unsigned)(net_now_ns() / 1000 % 15000), i;

	for (int tries = 0; tries < 100; tries++, base += follow + 1) {
		for (i = 0; i <= follow && port_is_free(base + i); i++)
			continue;
		if (i > follow)
			return base;
	}
	return 0;
}

uint64_t
net_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
