/*
 * publish_body.h - what is posted to /publish: one message, or a list of them.
 *
 *   {"channel":"news","data":ANY JSON}
 *   [{"channel":"news","base64":"…"}, …]      bytes that are no JSON
 *   {"channel":"news","key":"…","data":…}     of a key
 *
 * Source   wscastd(8). Data is published as it stands there, without the white space
 *          between tokens, as wscast.v1's publish does.
 */
#ifndef WSCAST_PROTO_PUBLISH_BODY_H
#define WSCAST_PROTO_PUBLISH_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/slice.h"

#define PUBLISH_WHY_MAX 160

struct publish_body {
	char *p, *end; /* of a list: what is left */
	bool list;
	bool done;
};

/* All within the body. */
struct publish_item {
	struct slice channel; /* name_ok() */
	struct slice key;     /* absent: none */
	struct slice data;
};

/* Begin with a body of len bytes, which is changed while it is read, and keeps what the
 * items name. Returns 0, or -EBADMSG with why (PUBLISH_WHY_MAX bytes) filled. */
int publish_body_begin(struct publish_body *b, char *text, size_t len, char *why)
    __attribute__((warn_unused_result));

/* The next message. Returns 1; 0 when there is none left; -EBADMSG with why filled. */
int publish_body_next(struct publish_body *b, struct publish_item *ret_item, char *why)
    __attribute__((warn_unused_result));

#endif
