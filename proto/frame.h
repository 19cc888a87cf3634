/*
 * frame.h - WebSocket frames as a server sends them: unmasked, never fragmented.
 *
 *    0               1               2 …
 *   |F RRR opcode   |0 len7          | 16 or 64 bits of length, then the payload
 *
 * Source   RFC 6455 §5.2, §5.5, §7.4
 */
#ifndef WSCAST_PROTO_FRAME_H
#define WSCAST_PROTO_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum opcode {
	OPCODE_CONTINUATION = 0x0,
	OPCODE_TEXT = 0x1,
	OPCODE_BINARY = 0x2,
	OPCODE_CLOSE = 0x8,
	OPCODE_PING = 0x9,
	OPCODE_PONG = 0xa,
};

#define FRAME_RSV1 0x40 /* in the first byte: deflated (RFC 7692 §6) */
#define FRAME_HEAD_MAX 10
#define FRAME_CONTROL_MAX 125 /* payload bytes of a control frame */

size_t frame_head_len(size_t payload_len);

/* Write the head of a final frame; returns its length (2, 4 or 10). */
size_t frame_head(enum opcode op, size_t payload_len, uint8_t *out);

/* Write a whole Close frame: code, and as much of the reason (UTF-8) as fits without
 * cutting a character. out has FRAME_HEAD_MAX + FRAME_CONTROL_MAX bytes. */
size_t frame_close(uint16_t code, const char *reason, uint8_t *out);

/* Whether an endpoint may send this close code (RFC 6455 §7.4). */
int frame_close_code_ok(uint16_t code);

/* Take apart one of our own frames. Returns the payload's length; *ret_payload
 * points into frame. */
size_t frame_payload(const void *frame, enum opcode *ret_op, const void **ret_payload);

#endif
