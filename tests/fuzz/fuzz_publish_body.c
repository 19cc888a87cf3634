/*
 * fuzz_publish_body.c - what is posted to /publish.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/publish_body.h"
#include "proto/settings.h"
#include "tests/fuzz/target.h"

/* A fault is said in one short line. */
static void
must_say(int r, const char *why)
{
	must(r == -EBADMSG && why[0] != '\0' &&
	     memchr(why, '\0', PUBLISH_WHY_MAX) != NULL);
}

/* What an item names lies within the body, and each item behind the one before it. */
static void
must_lie(const struct publish_item *item, const char *text, size_t len)
{
	const struct slice named[] = {item->channel, item->data, item->key};

	for (int i = 0; i < (item->key.p != NULL ? 3 : 2); i++)
		must(named[i].p >= text && named[i].len <= len &&
		     named[i].p + named[i].len <= text + len);
	must(name_ok(item->channel.p, item->channel.len));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char why[PUBLISH_WHY_MAX] = "";
	struct publish_body body;
	struct publish_item item;
	size_t nitems = 0;
	char *text = malloc(len > 0 ? len : 1); /* not a byte behind it may be read */
	int r;

	must(text != NULL);
	memcpy(text, data, len);
	r = publish_body_begin(&body, text, len, why);
	if (r == 0)
		while ((r = publish_body_next(&body, &item, why)) == 1) {
			must_lie(&item, text, len);
			must(++nitems <= len);
		}
	if (r < 0)
		must_say(r, why);
	free(text);
	return 0;
}
