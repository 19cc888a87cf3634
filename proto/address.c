#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "proto/address.h"

#define PORT_DIGITS_MAX 5

static bool
port_parse(const char *text, size_t len, in_port_t *ret_port)
{
	uint32_t port = 0;

	if (len == 0 || len > PORT_DIGITS_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		port = port * 10 + (uint32_t)(text[i] - '0');
	}
	if (port == 0 || port > UINT16_MAX)
		return false;
	*ret_port = htons((uint16_t)port);
	return true;
}

/* inet_pton() of text that is not NUL-terminated. */
static bool
pton(int family, const char *text, size_t len, void *ret_addr)
{
	char buf[INET6_ADDRSTRLEN];

	if (len >= sizeof(buf) || memchr(text, '\0', len) != NULL)
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';
	return inet_pton(family, buf, ret_addr) == 1;
}

static bool
is_word(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(text, word, len) == 0;
}

static bool
host4_parse(const char *text, size_t len, struct in_addr *ret_addr)
{
	if (is_word(text, len, "*"))
		ret_addr->s_addr = htonl(INADDR_ANY);
	else if (is_word(text, len, "localhost"))
		ret_addr->s_addr = htonl(INADDR_LOOPBACK);
	else
		return pton(AF_INET, text, len, ret_addr);
	return true;
}

int
address_parse(const char *text, size_t len, struct sockaddr_storage *ret_addr,
    socklen_t *ret_len, const char **ret_why)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr_in in4 = {.sin_family = AF_INET};
	const char *colon = memrchr(text, ':', len);
	size_t host_len = colon ? (size_t)(colon - text) : 0;
	in_port_t port;
	bool v6;

	if (colon == NULL || !port_parse(colon + 1, len - host_len - 1, &port)) {
		*ret_why = "write ADDRESS:PORT with a port of 1 to 65535";
		return -EINVAL;
	}
	v6 = host_len >= 2 && text[0] == '[' && text[host_len - 1] == ']';
	if (v6 ? !pton(AF_INET6, text + 1, host_len - 2, &in6.sin6_addr)
	       : !host4_parse(text, host_len, &in4.sin_addr)) {
		*ret_why = "write the address in figures, like 127.0.0.1:8080, "
			   "[::1]:8080 or *:8080";
		return -EINVAL;
	}
	in4.sin_port = in6.sin6_port = port;
	memset(ret_addr, 0, sizeof(*ret_addr));
	*ret_len = v6 ? sizeof(in6) : sizeof(in4);
	memcpy(ret_addr, v6 ? (const void *)&in6 : &in4, *ret_len);
	return 0;
}

/* Whether a and b agree in their first bits. */
static bool
same_bits(const unsigned char *a, const unsigned char *b, unsigned bits)
{
	unsigned char mask = (unsigned char)(0xff00 >> (bits % 8));

	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return bits % 8 == 0 || ((a[bits / 8] ^ b[bits / 8]) & mask) == 0;
}

/* BITS behind the slash; without one, all. */
static bool
bits_parse(const char *text, size_t len, unsigned max, unsigned *ret_bits)
{
	unsigned bits = 0;

	if (len == 0 || len > 3)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		bits = bits * 10 + (unsigned)(text[i] - '0');
	}
	*ret_bits = bits;
	return bits <= max;
}

static bool
outside_clear(const struct network *n, unsigned max)
{
	for (unsigned i = n->bits; i < max; i++) {
		if (n->addr[i / 8] >> (7 - i % 8) & 1)
			return false;
	}
	return true;
}

int
network_parse(const char *text, size_t len, struct network *ret_network)
{
	const char *slash = memchr(text, '/', len);
	size_t host_len = slash ? (size_t)(slash - text) : len;
	struct network n = {.family = AF_INET};
	unsigned max = 32;

	if (is_word(text, len, "unix:")) {
		*ret_network = (struct network){.family = AF_UNIX};
		return 0;
	}
	if (memchr(text, ':', host_len) != NULL) {
		n.family = AF_INET6;
		max = 128;
	}
	if (!pton(n.family, text, host_len, n.addr))
		return -EINVAL;
	n.bits = max;
	if (slash && !bits_parse(slash + 1, len - host_len - 1, max, &n.bits))
		return -EINVAL;
	if (!outside_clear(&n, max))
		return -EINVAL;
	*ret_network = n;
	return 0;
}

bool
network_has(const struct network *n, int family, const unsigned char *addr)
{
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (family == AF_INET6 && n->family == AF_INET &&
	    memcmp(addr, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		addr += sizeof(mapped);
	}
	return family == n->family && same_bits(addr, n->addr, n->bits);
}

bool
network_list_has(const char *list, int family, const unsigned char *addr)
{
	struct network n;
	const char *word;
	size_t len;

	while ((len = list_next(&list, &word)) > 0) {
		if (network_parse(word, len, &n) == 0 && network_has(&n, family, addr))
			return true;
	}
	return false;
}

size_t
list_next(const char **p, const char **ret_word)
{
	static const char separators[] = " \t,";
	const char *s = *p + strspn(*p, separators);
	size_t len = strcspn(s, separators);

	*ret_word = s;
	*p = s + len;
	return len;
}
