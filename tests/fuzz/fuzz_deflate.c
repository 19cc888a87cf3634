/*
 * fuzz_deflate.c - offers of permessage-deflate, messages to inflate, and messages
 * deflated and back. The first byte of an input says which.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/deflate.h"
#include "proto/frame.h"
#include "tests/fuzz/target.h"

#define LIMIT 5000
#define PLAIN_MAX 8000

static struct inflater *inflater;
static struct deflater *deflater;

/* Each line of text is one of the header's. */
static void
offers(const char *text, size_t len)
{
	struct http_request r = {.nheaders = 0};
	char response[DEFLATE_RESPONSE_MAX];

	for (const char *end = text + len; r.nheaders < HTTP_HEADERS_MAX;) {
		const char *eol = memchr(text, '\n', (size_t)(end - text));
		struct http_header *h = &r.header[r.nheaders++];

		h->name = (struct slice){"Sec-WebSocket-Extensions", 24};
		h->value = (struct slice){text, (size_t)((eol ? eol : end) - text)};
		if (eol == NULL)
			break;
		text = eol + 1;
	}
	memset(response, 'x', sizeof(response));
	if (deflate_negotiate(&r, response) == DEFLATE_AGREED)
		must(strnlen(response, sizeof(response)) < sizeof(response) &&
		     strncmp(response, "permessage-deflate; ", 20) == 0);
}

/* What inflates is within its limit, and does so again, as it is with no byte less. */
static void
inflate_twice(const uint8_t *data, size_t len)
{
	const uint8_t *message = NULL;
	uint8_t first[LIMIT];
	size_t n = 0, first_len;

	if (inflater_message(inflater, data, len, LIMIT, &message, &n) !=
	    INFLATED_WHOLE)
		return;
	must(n <= LIMIT);
	memcpy(first, message, n);
	first_len = n;
	must(inflater_message(inflater, data, len, n, &message, &n) == INFLATED_WHOLE);
	must(n == first_len && memcmp(first, message, n) == 0);
	if (n > 0)
		must(inflater_message(inflater, data, len, n - 1, &message, &n) ==
		     INFLATED_TOO_LONG);
}

static void
there_and_back(const uint8_t *data, size_t len, size_t max)
{
	uint8_t plain[FRAME_HEAD_MAX + PLAIN_MAX], *out = malloc(max + 1);
	const void *payload;
	const uint8_t *message;
	enum opcode op;
	size_t n, head, message_len;

	must(out != NULL);
	if (len > PLAIN_MAX)
		len = PLAIN_MAX;
	head = frame_head(OPCODE_BINARY, len, plain);
	memcpy(plain + head, data, len);
	n = deflater_frame(deflater, plain, max, out);
	must(n <= max);
	if (n > 0) {
		size_t payload_len = frame_payload(out, &op, &payload);

		must(op == OPCODE_BINARY && (out[0] & FRAME_RSV1));
		must((const uint8_t *)payload + payload_len == out + n);
		must(inflater_message(inflater, payload, payload_len, len, &message,
			 &message_len) == INFLATED_WHOLE);
		must(message_len == len && memcmp(message, data, len) == 0);
	}
	free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (inflater == NULL)
		must(inflater_new(&inflater) == 0 && deflater_new(3, &deflater) == 0);
	if (len < 2)
		return 0;
	if (data[0] == 'o')
		offers((const char *)data + 1, len - 1);
	else if (data[0] == 'd')
		there_and_back(data + 2, len - 2, 32 * (size_t)data[1]);
	else
		inflate_twice(data + 1, len - 1);
	return 0;
}
