/*
 * fuzz_uplink.c - what a worker may have written in bad faith: first byte the type,
 * then the message.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/settings.h"
#include "proto/uplink.h"
#include "tests/fuzz/target.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct uplink u;
	char *out;

	if (len == 0 || uplink_parse(data[0], data + 1, len - 1, &u) < 0)
		return 0;
	must(u.channel_len == 0 || name_ok(u.channel, u.channel_len));
	/* All of it was understood: written again, it is the same. */
	must(uplink_len(&u) == len - 1);
	out = malloc(len);
	must(out != NULL);
	uplink_put(&u, out);
	must(memcmp(out, data + 1, len - 1) == 0);
	free(out);
	return 0;
}
