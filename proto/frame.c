#include <string.h>

#include "proto/frame.h"
#include "proto/utf8.h"

#define FIN 0x80
#define LEN16 126 /* in the second byte: the length is in the next 2 bytes */
#define LEN64 127 /* ... in the next 8 */

size_t
frame_head_len(size_t payload_len)
{
	if (payload_len < LEN16)
		return 2;
	return payload_len <= UINT16_MAX ? 4 : 10;
}

size_t
frame_head(enum opcode op, size_t payload_len, uint8_t *out)
{
	uint64_t len = payload_len;

	out[0] = (uint8_t)(FIN | op);
	if (len < LEN16) {
		out[1] = (uint8_t)len;
		return 2;
	}
	if (len <= UINT16_MAX) {
		out[1] = LEN16;
		out[2] = (uint8_t)(len >> 8);
		out[3] = (uint8_t)len;
		return 4;
	}
	out[1] = LEN64;
	for (int i = 0; i < 8; i++)
		out[2 + i] = (uint8_t)(len >> (56 - 8 * i));
	return 10;
}

size_t
frame_close(uint16_t code, const char *reason, uint8_t *out)
{
	size_t len = utf8_cut(reason, strlen(reason), FRAME_CONTROL_MAX - 2);
	size_t head = frame_head(OPCODE_CLOSE, len + 2, out);

	out[head] = (uint8_t)(code >> 8);
	out[head + 1] = (uint8_t)code;
	memcpy(out + head + 2, reason, len);
	return head + 2 + len;
}

/* 1004 to 1006 and 1015 never go over the wire. 1012 to 1014 are IANA's; what else is
 * below 3000 belongs to nobody yet. */
int
frame_close_code_ok(uint16_t code)
{
	if (code >= 3000)
		return code <= 4999;
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

size_t
frame_payload(const void *frame, enum opcode *ret_op, const void **ret_payload)
{
	const uint8_t *p = frame;
	uint64_t len = p[1] & 0x7f;
	int nbytes = len == LEN64 ? 8 : len == LEN16 ? 2 : 0;

	if (nbytes > 0)
		len = 0;
	for (int i = 0; i < nbytes; i++)
		len = len << 8 | p[2 + i];
	*ret_op = (enum opcode)(p[0] & 0x0f);
	*ret_payload = p + 2 + nbytes;
	return (size_t)len;
}
