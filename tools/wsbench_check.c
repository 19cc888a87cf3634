#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsbench_check.h"

#define PATTERN_PLACES 4093 /* prime, so that neighbours differ wherever they begin */

/* Letters that no protocol escapes, in an order that deflate finds hard and that is the
 * same in every process. */
static const char *
pattern(void)
{
	static const char letters[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	static char *text;
	uint64_t x = 0x2545f4914f6cdd1d;

	if (text != NULL)
		return text;
	text = malloc(CHECK_SIZE_MAX + PATTERN_PLACES);
	if (text == NULL)
		abort(); /* a megabyte, at the start */
	for (size_t i = 0; i < CHECK_SIZE_MAX + PATTERN_PLACES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		text[i] = letters[x >> 32 & 63];
	}
	return text;
}

static void
put_hex(char *out, uint64_t value, int digits)
{
	static const char hex[] = "0123456789abcdef";

	for (int i = digits - 1; i >= 0; i--, value >>= 4)
		out[i] = hex[value & 15];
}

static int
get_hex(const char *in, int digits, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (int i = 0; i < digits; i++) {
		char c = in[i];

		if (c >= '0' && c <= '9')
			value = value << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (uint64_t)(c - 'a' + 10);
		else
			return -EBADMSG;
	}
	*ret_value = value;
	return 0;
}

void
check_write(const struct facts *f, size_t len, char *out)
{
	char *tail = out + len - CHECK_TAIL_LEN;

	assert(len >= CHECK_SIZE_MIN && len <= CHECK_SIZE_MAX);
	memcpy(out, "[\"", 2);
	memcpy(out + 2, pattern() + f->msg % PATTERN_PLACES, len - CHECK_SIZE_MIN);
	put_hex(tail, f->time_ns, 16);
	put_hex(tail + 16, f->msg, 8);
	put_hex(tail + 24, f->seq, 8);
	put_hex(tail + 32, f->channel, 6);
	put_hex(tail + 38, f->publisher, 2);
	put_hex(tail + 40, f->run, 8);
	memcpy(tail + 48, "\"]", 2);
}

int
check_read(const char *payload, size_t len, struct facts *ret_facts)
{
	const char *tail = payload + len - CHECK_TAIL_LEN;
	uint64_t time, msg, seq, channel, publisher, run;

	if (len < CHECK_SIZE_MIN || len > CHECK_SIZE_MAX ||
	    memcmp(payload, "[\"", 2) != 0 || memcmp(tail + 48, "\"]", 2) != 0 ||
	    get_hex(tail, 16, &time) < 0 || get_hex(tail + 16, 8, &msg) < 0 ||
	    get_hex(tail + 24, 8, &seq) < 0 || get_hex(tail + 32, 6, &channel) < 0 ||
	    get_hex(tail + 38, 2, &publisher) < 0 || get_hex(tail + 40, 8, &run) < 0)
		return -EBADMSG;
	if (memcmp(payload + 2, pattern() + msg % PATTERN_PLACES,
		len - CHECK_SIZE_MIN) != 0)
		return -EBADMSG;
	*ret_facts = (struct facts){
	    .time_ns = time,
	    .msg = (uint32_t)msg,
	    .seq = (uint32_t)seq,
	    .channel = (uint32_t)channel,
	    .run = (uint32_t)run,
	    .publisher = (uint8_t)publisher,
	};
	return 0;
}

int
check_keep(struct known *k, const char *bytes, size_t len)
{
	char *grown;

	if (len > k->capacity) {
		grown = realloc(k->bytes, len);
		if (grown == NULL)
			return -ENOMEM;
		k->bytes = grown;
		k->capacity = len;
	}
	memcpy(k->bytes, bytes, len);
	k->len = len;
	return 0;
}
