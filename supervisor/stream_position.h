/*
 * stream_position.h - how far a Redis stream was read, and whether what comes next is
 * all that came next.
 *
 * A stream counts the entries that were ever added to it (entries-added, Redis 7). So
 * whoever counts what he reads can tell, as soon as nothing older than his place is
 * left in the stream, how many were trimmed before he read them. An older Redis tells
 * less: there, something may be lost as soon as the stream begins behind our place.
 *
 * Source   Redis: XADD, XREAD, XINFO STREAM
 */
#ifndef WSCAST_SUPERVISOR_STREAM_POSITION_H
#define WSCAST_SUPERVISOR_STREAM_POSITION_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream_id {
	uint64_t ms, seq;
};

#define STREAM_ID_TEXT_MAX 42 /* "18446744073709551615-18446744073709551615" + NUL */

/* MS-SEQ. Returns false when it is none. */
bool stream_id_parse(const char *s, size_t len, struct stream_id *ret_id);
/* < 0, 0, > 0 as a is before, at or behind b. */
int stream_id_compare(const struct stream_id *a, const struct stream_id *b);
/* Returns its length. */
size_t stream_id_print(const struct stream_id *id, char out[STREAM_ID_TEXT_MAX]);

/* What XINFO STREAM says of a stream; all zero is one that does not exist. */
struct stream_info {
	struct stream_id last;  /* the last that was ever given out */
	struct stream_id first; /* of the oldest entry; with length 0 none */
	uint64_t length, added;
	bool has_added; /* the server counts */
};
/* Returns false when the reply is none of XINFO STREAM's. */
bool stream_info_parse(const redisReply *reply, struct stream_info *ret_info);

/* All zero: nowhere yet. */
struct stream_position {
	struct stream_id last; /* the last entry read */
	uint64_t added;        /* how many had been added with it */
	bool known, counts;    /* last and added hold */
};

enum stream_loss {
	STREAM_WHOLE, /* nothing is missing, as far as can be told */
	STREAM_LOST,  /* entries went before they were read */
	STREAM_OTHER, /* it is not the stream that was read: it begins anew, or an
		       * older state of it came back */
};

/* Compare with what the stream says now, and go on from there: a position that was
 * nowhere is behind its last entry then. */
enum stream_loss stream_position_check(
    struct stream_position *p, const struct stream_info *info);
/* An entry was read. */
void stream_position_advance(struct stream_position *p, const struct stream_id *id);

#endif
