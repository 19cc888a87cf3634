#include <errno.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include "tools/wsbench_wire.h"

void
wire_key(const uint8_t random[16], char ret_key[WIRE_KEY_LEN + 1])
{
	(void)EVP_EncodeBlock((unsigned char *)ret_key, random, 16);
}

int
wire_accept(const char *key, char ret_accept[WIRE_ACCEPT_LEN + 1])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	/* Fetched and made once: OpenSSL 3 looks for the algorithm by name else, which
	 * costs more than the hash. A process of wsbench is single-threaded. */
	static EVP_MD *sha1;
	static EVP_MD_CTX *ctx;
	char text[WIRE_KEY_LEN + sizeof(guid)];
	unsigned char hash[20];

	if (sha1 == NULL)
		sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
	if (ctx == NULL)
		ctx = EVP_MD_CTX_new();
	memcpy(text, key, WIRE_KEY_LEN);
	memcpy(text + WIRE_KEY_LEN, guid, sizeof(guid) - 1);
	if (sha1 == NULL || ctx == NULL || !EVP_DigestInit_ex2(ctx, sha1, NULL) ||
	    !EVP_DigestUpdate(ctx, text, WIRE_KEY_LEN + sizeof(guid) - 1) ||
	    !EVP_DigestFinal_ex(ctx, hash, NULL))
		return -ENOSYS;
	(void)EVP_EncodeBlock((unsigned char *)ret_accept, hash, sizeof(hash));
	return 0;
}

/* The value of a header of a whole head, or NULL. */
static const char *
find_header(const char *head, size_t len, const char *name)
{
	size_t name_len = strlen(name);
	const char *line = head, *end = head + len, *eol;

	while ((eol = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		if ((size_t)(eol - line) > name_len && line[name_len] == ':' &&
		    strncasecmp(line, name, name_len) == 0) {
			line += name_len + 1;
			while (*line == ' ' || *line == '\t')
				line++;
			return line;
		}
		line = eol + 1;
	}
	return NULL;
}

int
wire_answer(const char *buf, size_t len, const char *accept)
{
	const char *end = memmem(buf, len, "\r\n\r\n", 4), *value;
	int status;

	if (len >= 12 && (memcmp(buf, "HTTP/1.", 7) != 0 || buf[8] != ' ' ||
			     buf[9] < '1' || buf[9] > '5' || buf[10] < '0' ||
			     buf[10] > '9' || buf[11] < '0' || buf[11] > '9'))
		return -EPROTO;
	if (end == NULL)
		return 0;
	if (len < 12)
		return -EPROTO;
	status = (buf[9] - '0') * 100 + (buf[10] - '0') * 10 + (buf[11] - '0');
	if (status < 200 && status != 101)
		return -EPROTO;
	if (status != 101)
		return -status;
	len = (size_t)(end - buf) + 4;
	value = find_header(buf, len, "Sec-WebSocket-Accept");
	if (accept != NULL && (value == NULL || buf + len - value < WIRE_ACCEPT_LEN ||
				  memcmp(value, accept, WIRE_ACCEPT_LEN) != 0))
		return -EPROTO;
	return (int)len;
}

size_t
wire_masked(uint8_t opcode, const void *data, size_t len, uint32_t mask, uint8_t *out)
{
	const uint8_t *in = data;
	uint8_t key[4];
	size_t n = 0;

	memcpy(key, &mask, sizeof(key));
	out[n++] = (uint8_t)(0x80 | opcode);
	if (len < 126) {
		out[n++] = (uint8_t)(0x80 | len);
	} else if (len < 65536) {
		out[n++] = 0x80 | 126;
		out[n++] = (uint8_t)(len >> 8);
		out[n++] = (uint8_t)len;
	} else {
		out[n++] = 0x80 | 127;
		for (int i = 7; i >= 0; i--)
			out[n++] = (uint8_t)((uint64_t)len >> (8 * i));
	}
	memcpy(out + n, key, 4);
	n += 4;
	for (size_t i = 0; i < len; i++)
		out[n + i] = in[i] ^ key[i % 4];
	return n + len;
}
