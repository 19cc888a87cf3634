/*
 * wsbench_wire.h - the client's side of the WebSocket protocol, as little as a load
 * generator needs: the upgrade, masked frames out, frames in. No socket, no clock.
 *
 * Source   RFC 6455 §1.3, §4.1, §5.2, §5.3
 */
#ifndef WSCAST_TOOLS_WSBENCH_WIRE_H
#define WSCAST_TOOLS_WSBENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_KEY_LEN 24    /* base64 of 16 bytes */
#define WIRE_ACCEPT_LEN 28 /* base64 of a SHA-1 */
#define WIRE_HEAD_MAX 14   /* a masked frame's head */

/* A Sec-WebSocket-Key from 16 random bytes. */
void wire_key(const uint8_t random[16], char ret_key[WIRE_KEY_LEN + 1]);

/* The Sec-WebSocket-Accept that answers a key of WIRE_KEY_LEN bytes. Returns 0 or
 * -ENOSYS: libcrypto has no SHA-1. */
int wire_accept(const char *key, char ret_accept[WIRE_ACCEPT_LEN + 1])
    __attribute__((warn_unused_result));

/*
 * Look at what the server has answered to the upgrade so far.
 *
 * accept   what it must say, or NULL: the handshake is not checked.
 *
 * Returns the length of the whole head when it is a good 101; 0 when more is needed;
 * -EPROTO when it is no HTTP or the accept is wrong; or minus the status (-200 to
 * -599) when the upgrade was refused.
 */
int wire_answer(const char *buf, size_t len, const char *accept)
    __attribute__((warn_unused_result));

/* One frame taken from the front of a buffer. */
struct wire_frame {
	uint8_t opcode;
	bool fin;
	const uint8_t *data; /* into the buffer */
	size_t len;
};

/*
 * Returns the bytes that the frame takes, head included; 0 when it is not whole, with
 * the bytes it will take in *ret_need (0: not known yet); -EPROTO for a masked frame or
 * reserved bits. Called for each delivery, hence here.
 */
static inline long
wire_frame(const uint8_t *buf, size_t have, struct wire_frame *ret, size_t *ret_need)
{
	size_t head = 2, len;

	*ret_need = 0;
	if (have < 2)
		return 0;
	if ((buf[0] & 0x70) != 0 || (buf[1] & 0x80) != 0)
		return -71; /* EPROTO */
	len = buf[1];
	if (len == 126) {
		head = 4;
		if (have < head)
			return 0;
		len = (size_t)buf[2] << 8 | buf[3];
	} else if (len == 127) {
		head = 10;
		if (have < head)
			return 0;
		len = 0;
		for (int i = 2; i < 10; i++)
			len = len << 8 | buf[i];
		if (len >> 40)
			return -71; /* EPROTO: no buffer of ours will hold it */
	}
	if (have - head < len) {
		*ret_need = head + len;
		return 0;
	}
	ret->opcode = buf[0] & 0x0f;
	ret->fin = (buf[0] & 0x80) != 0;
	ret->data = buf + head;
	ret->len = len;
	return (long)(head + len);
}

/* Write a final, masked frame; `out` has WIRE_HEAD_MAX + len bytes. Returns what was
 * written. mask: any 32 bits. */
size_t wire_masked(
    uint8_t opcode, const void *data, size_t len, uint32_t mask, uint8_t *out);

#endif
