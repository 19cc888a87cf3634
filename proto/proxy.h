/*
 * proxy.h - the PROXY protocol: what a proxy says, before the first byte of its client,
 * about whose connection it is.
 *
 *   v1   PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n
 *
 *   v2    0                          12    13    14   16
 *        +--------------------------+-----+-----+----+-----------+------------+
 *        | \r\n\r\n\0\r\nQUIT\n     | 2|c | f|t | len| addresses | TLVs       |
 *        +--------------------------+-----+-----+----+-----------+------------+
 *        c: 0 LOCAL, 1 PROXY; f: 0 none, 1 IPv4, 2 IPv6, 3 unix; t: 1 stream, 2
 * datagram
 *
 * Source   HAProxy's proxy-protocol.txt, §2.1, §2.2
 */
#ifndef WSCAST_PROTO_PROXY_H
#define WSCAST_PROTO_PROXY_H

#include <stddef.h>
#include <stdint.h>

#define PROXY_V1_MAX 107 /* bytes of a v1 line, its CRLF included: §2.1 */
#define PROXY_MAX 4096   /* ... of a header here: room for a client's certificate */

struct proxy_header {
	size_t len; /* bytes of the header: the client's own begin there */
	/* AF_INET or AF_INET6; AF_UNSPEC: the connection is the proxy's own (a health
	 * check), or its client's address is none that is known here. An IPv4 address
	 * mapped into IPv6 is given as IPv4. */
	int family;
	uint8_t addr[16]; /* of the client; 4 bytes for IPv4 */
	uint16_t port;    /* host order */
};

enum proxy_result {
	PROXY_MORE,  /* right so far, and not whole */
	PROXY_WHOLE, /* ret_header is set */
	PROXY_BAD,   /* no header, a broken one, or one that is too long */
};

/*
 * Parse what a connection begins with.
 *
 * buf  all bytes so far, from the first; those behind the header are not looked at.
 *
 * Nothing is taken of a header that is not whole. A checksum (PP2_TYPE_CRC32C) must be
 * right where there is one; all other TLVs are passed over.
 */
enum proxy_result proxy_parse(const uint8_t *buf, size_t len,
    struct proxy_header *ret_header) __attribute__((warn_unused_result));

#endif
