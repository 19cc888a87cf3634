/*
 * session_echo.c - /echo (server.echo): each message goes back as it came, fragments
 * joined. For conformance suites: it has no channels, and no limits of its own but
 * that it is not read from while an answer waits.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/client.h"
#include "worker/session.h"

void
session_echo_message(
    struct worker *w, uint32_t slot, enum opcode op, const uint8_t *buf, size_t len)
{
	uint8_t *frame = malloc(FRAME_HEAD_MAX + len);
	size_t head;

	if (frame == NULL) {
		client_end(w, slot, CLIENT_END_LIMIT, 1013, "out of memory");
		return;
	}
	head = frame_head(op, len, frame);
	if (len > 0)
		memcpy(frame + head, buf, len);
	session_send(w, slot, frame, head + len);
	free(frame);
}
