/*
 * address.h - addresses and networks as settings write them.
 *
 *   127.0.0.1:8080   [::1]:8080   *:8080 (every IPv4 address)   localhost:8080
 *   10.0.0.0/8   fd00::/8   192.0.2.7   unix: (whoever comes by a unix socket)
 *
 * Names are not looked up: what a server listens on must not depend on DNS.
 */
#ifndef WSCAST_PROTO_ADDRESS_H
#define WSCAST_PROTO_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * Parse HOST:PORT, port 1 to 65535.
 *
 * text  len bytes.
 *
 * Returns 0, or -EINVAL with *ret_why a constant that says what would be right.
 */
int address_parse(const char *text, size_t len, struct sockaddr_storage *ret_addr,
    socklen_t *ret_len, const char **ret_why) __attribute__((warn_unused_result));

/* An address, or ADDRESS/BITS, of IPv4 or IPv6; or of AF_UNIX, which has no addresses.
 */
struct network {
	int family;
	unsigned bits;
	unsigned char addr[16];
};

/* Returns 0 or -EINVAL, also when bits are set that lie outside the network. */
int network_parse(const char *text, size_t len, struct network *ret_network)
    __attribute__((warn_unused_result));

/* Whether an address (AF_INET: 4 bytes, AF_INET6: 16, AF_UNIX: none) lies in the
 * network. An IPv4 address mapped into IPv6 counts as IPv4. */
bool network_has(const struct network *n, int family, const unsigned char *addr);

/* The same for a list of valid networks, separated by blanks or commas. */
bool network_list_has(const char *list, int family, const unsigned char *addr);

/* Walk a list separated by blanks or commas: the next word from *p on. Returns its
 * length, 0 at the end; *p is then behind it. */
size_t list_next(const char **p, const char **ret_word);

#endif
