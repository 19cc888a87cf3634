/*
 * wsbench_net.h - addresses and sockets for those who run at the start, and may block.
 */
#ifndef WSCAST_TOOLS_WSBENCH_NET_H
#define WSCAST_TOOLS_WSBENCH_NET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Take a ws:// or wss:// URL apart and resolve its host. path is "/" at least. Returns
 * 0 or -EINVAL. */
int net_url(const char *url, struct sockaddr_storage *ret_addr, socklen_t *ret_len,
    char *ret_host, size_t host_size, char *ret_path, size_t path_size)
    __attribute__((warn_unused_result));

/* "HOST:PORT", "[V6]:PORT", or the path of a unix socket; a scheme before it and a
 * path behind the port are passed over. Returns 0 or -EINVAL. */
int net_address(const char *where, struct sockaddr_storage *ret_addr,
    socklen_t *ret_len) __attribute__((warn_unused_result));

/* The same address, `add` ports higher. Unix sockets stay as they are. */
void net_add_port(struct sockaddr_storage *addr, unsigned add);

/* Connect, waiting at most 5 s. Returns 0 or -errno; the socket blocks, and is the
 * caller's to close. */
int net_connect(const struct sockaddr_storage *addr, socklen_t len, int *ret_fd)
    __attribute__((warn_unused_result));

/* A TCP port of 127.0.0.1 that is free, with `follow` more behind it. 0: none. */
unsigned net_free_port(unsigned follow);

/* CLOCK_MONOTONIC. */
uint64_t net_now_ns(void);

#endif
