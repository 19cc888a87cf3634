/* proxy.c - see proxy.h */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/proxy.h"
#include "proto/slice.h"

/* ---- version 1 ---- */

#define V1_WORDS 4 /* behind the protocol: two addresses, two ports */

/* The next word, which one blank ends, or the line's end. */
static struct slice
next_word(const char **p, const char *end)
{
	const char *blank = memchr(*p, ' ', (size_t)(end - *p));
	struct slice word = {*p, (size_t)((blank != NULL ? blank : end) - *p)};

	*p = blank != NULL ? blank + 1 : end;
	return word;
}

/* Decimal, 0 to 65535, no leading zero. */
static bool
parse_port(struct slice word, uint16_t *ret_port)
{
	uint32_t port = 0;

	if (word.len == 0 || word.len > 5 || (word.len > 1 && word.p[0] == '0'))
		return false;
	for (size_t i = 0; i < word.len; i++) {
		if (word.p[i] < '0' || word.p[i] > '9')
			return false;
		port = port * 10 + (uint32_t)(word.p[i] - '0');
	}
	*ret_port = (uint16_t)port;
	return port <= UINT16_MAX;
}

static bool
parse_address(int family, struct slice word, uint8_t addr[16])
{
	char text[INET6_ADDRSTRLEN];

	if (word.len >= sizeof(text) || memchr(word.p, '\0', word.len) != NULL)
		return false;
	memcpy(text, word.p, word.len);
	text[word.len] = '\0';
	return inet_pton(family, text, addr) == 1;
}

/* The line without its CRLF. */
static bool
parse_line(const char *line, size_t len, struct proxy_header *h)
{
	const char *p = line + strlen("PROXY "), *end = line + len;
	struct slice protocol = next_word(&p, end), word[V1_WORDS];
	uint8_t proxys_addr[16];
	uint16_t proxys_port;

	/* §2.1: whatever follows UNKNOWN up to the CRLF is not to be looked at. */
	if (slice_is(protocol, "UNKNOWN"))
		return true;
	if (slice_is(protocol, "TCP4"))
		h->family = AF_INET;
	else if (slice_is(protocol, "TCP6"))
		h->family = AF_INET6;
	else
		return false;
	for (int i = 0; i < V1_WORDS; i++) {
		if (p == end)
			return false;
		word[i] = next_word(&p, end);
	}
	/* A blank behind the last word would be one more, and empty. */
	return p == end && end[-1] != ' ' &&
	       parse_address(h->family, word[0], h->addr) &&
	       parse_address(h->family, word[1], proxys_addr) &&
	       parse_port(word[2], &h->port) && parse_port(word[3], &proxys_port);
}

static enum proxy_result
parse_v1(const char *buf, size_t len, struct proxy_header *h)
{
	size_t max = len < PROXY_V1_MAX ? len : PROXY_V1_MAX;
	const char *cr = memchr(buf, '\r', max);
	size_t line;

	if (cr == NULL)
		return memchr(buf, '\n', max) != NULL || len >= PROXY_V1_MAX
			   ? PROXY_BAD
			   : PROXY_MORE;
	line = (size_t)(cr - buf);
	if (line + 2 > PROXY_V1_MAX || memchr(buf, '\n', line) != NULL)
		return PROXY_BAD;
	if (line + 1 == len)
		return PROXY_MORE;
	h->len = line + 2;
	return cr[1] == '\n' && parse_line(buf, line, h) ? PROXY_WHOLE : PROXY_BAD;
}

/* ---- version 2 ---- */

#define V2_HEAD 16
#define TLV_HEAD 3
#define TLV_CRC32C 0x03
#define CRC32C_POLYNOMIAL 0x82f63b78u /* Castagnoli's, reflected */

enum v2_command { V2_LOCAL = 0, V2_PROXY = 1 };

/* What a family's addresses take: both, and the ports. */
static const size_t v2_addresses[] = {0, 12, 36, 216};

/* Bit by bit: some hundred bytes, once in a connection. */
static uint32_t
crc32c(uint32_t crc, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		crc ^= buf[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
	}
	return crc;
}

/* Whether the checksum at buf + at is that of the header, its own bytes taken as 0. */
static bool
checksum_ok(const uint8_t *buf, size_t len, size_t at)
{
	static const uint8_t zeros[4];
	uint32_t want = (uint32_t)buf[at] << 24 | (uint32_t)buf[at + 1] << 16 |
			(uint32_t)buf[at + 2] << 8 | buf[at + 3];
	uint32_t crc = crc32c(UINT32_MAX, buf, at);

	crc = crc32c(crc, zeros, sizeof(zeros));
	crc = crc32c(crc, buf + at + 4, len - at - 4);
	return ~crc == want;
}

/* The TLVs from buf + at to the header's end. */
static bool
tlvs_ok(const uint8_t *buf, size_t len, size_t at)
{
	while (at < len) {
		size_t value;

		if (len - at < TLV_HEAD)
			return false;
		value = (size_t)buf[at + 1] << 8 | buf[at + 2];
		if (value > len - at - TLV_HEAD)
			return false;
		if (buf[at] == TLV_CRC32C &&
		    (value != 4 || !checksum_ok(buf, len, at + TLV_HEAD)))
			return false;
		at += TLV_HEAD + value;
	}
	return true;
}

static void
take_addresses(const uint8_t *at, struct proxy_header *h)
{
	size_t each = h->family == AF_INET ? 4 : 16;

	memcpy(h->addr, at, each);
	h->port = (uint16_t)(at[2 * each] << 8 | at[2 * each + 1]);
}

/* buf: the whole header. */
static bool
parse_block(const uint8_t *buf, struct proxy_header *h)
{
	unsigned command = buf[12] & 0xf, family = buf[13] >> 4, type = buf[13] & 0xf;
	size_t addresses;

	/* §2.2: what is not assigned is to be refused. */
	if (command > V2_PROXY || family > 3 || type > 2)
		return false;
	/* §2.2: of LOCAL the block is to be discarded, the family included, and
	 * without a family there is nothing in it that could be read. */
	if (command == V2_LOCAL || family == 0)
		return true;
	addresses = v2_addresses[family];
	if (h->len < V2_HEAD + addresses || !tlvs_ok(buf, h->len, V2_HEAD + addresses))
		return false;
	/* An address that our clients cannot have is passed over, like HAProxy does. */
	if (type != 1 || family == 3)
		return true;
	h->family = family == 1 ? AF_INET : AF_INET6;
	take_addresses(buf + V2_HEAD, h);
	return true;
}

static enum proxy_result
parse_v2(const uint8_t *buf, size_t len, struct proxy_header *h)
{
	/* What can be told from the first bytes is not waited for. */
	if (len > 12 && buf[12] >> 4 != 2)
		return PROXY_BAD;
	if (len < V2_HEAD)
		return PROXY_MORE;
	h->len = V2_HEAD + ((size_t)buf[14] << 8 | buf[15]);
	if (h->len > PROXY_MAX)
		return PROXY_BAD;
	if (len < h->len)
		return PROXY_MORE;
	return parse_block(buf, h) ? PROXY_WHOLE : PROXY_BAD;
}

/* ---- both ---- */

static bool
begins(const uint8_t *buf, size_t len, const void *signature, size_t signature_len)
{
	return memcmp(buf, signature, len < signature_len ? len : signature_len) == 0;
}

enum proxy_result
proxy_parse(const uint8_t *buf, size_t len, struct proxy_header *ret_header)
{
	static const char v1[] = "PROXY ", v2[] = "\r\n\r\n\0\r\nQUIT\n";
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct proxy_header h = {.family = AF_UNSPEC};
	enum proxy_result r = PROXY_BAD;

	if (len == 0)
		return PROXY_MORE;
	if (begins(buf, len, v2, sizeof(v2) - 1))
		r = parse_v2(buf, len, &h);
	else if (begins(buf, len, v1, sizeof(v1) - 1))
		r = parse_v1((const char *)buf, len, &h);
	if (r != PROXY_WHOLE)
		return r;
	if (h.family == AF_INET6 && memcmp(h.addr, mapped, sizeof(mapped)) == 0) {
		memmove(h.addr, h.addr + sizeof(mapped), 4);
		h.family = AF_INET;
	}
	*ret_header = h;
	return PROXY_WHOLE;
}
