/* stream_position.c - see stream_position.h */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "supervisor/stream_position.h"

/* Digits up to `end`. */
static bool
number(const char *s, const char *end, uint64_t *ret_n)
{
	uint64_t n = 0;

	if (s == end || end - s > 20)
		return false;
	for (; s < end; s++) {
		unsigned digit = (unsigned)(*s - '0');

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*ret_n = n;
	return true;
}

bool
stream_id_parse(const char *s, size_t len, struct stream_id *ret_id)
{
	const char *dash = memchr(s, '-', len);
	struct stream_id id;

	if (dash == NULL || !number(s, dash, &id.ms) ||
	    !number(dash + 1, s + len, &id.seq))
		return false;
	*ret_id = id;
	return true;
}

int
stream_id_compare(const struct stream_id *a, const struct stream_id *b)
{
	if (a->ms != b->ms)
		return a->ms < b->ms ? -1 : 1;
	return a->seq == b->seq ? 0 : a->seq < b->seq ? -1 : 1;
}

size_t
stream_id_print(const struct stream_id *id, char out[STREAM_ID_TEXT_MAX])
{
	return (size_t)snprintf(
	    out, STREAM_ID_TEXT_MAX, "%" PRIu64 "-%" PRIu64, id->ms, id->seq);
}

/* The value behind a name in a flat list of both, or NULL. */
static const redisReply *
value_of(const redisReply *r, const char *name)
{
	for (size_t i = 0; i + 1 < r->elements; i += 2)
		if (r->element[i]->str != NULL && strcmp(r->element[i]->str, name) == 0)
			return r->element[i + 1];
	return NULL;
}

static bool
count_of(const redisReply *r, const char *name, uint64_t *ret_n)
{
	const redisReply *value = value_of(r, name);

	if (value == NULL || value->type != REDIS_REPLY_INTEGER || value->integer < 0)
		return false;
	*ret_n = (uint64_t)value->integer;
	return true;
}

bool
stream_info_parse(const redisReply *reply, struct stream_info *ret_info)
{
	struct stream_info info = {.length = 0};
	const redisReply *last, *first;

	if (reply->type != REDIS_REPLY_ARRAY ||
	    !count_of(reply, "length", &info.length))
		return false;
	last = value_of(reply, "last-generated-id");
	if (last == NULL || last->str == NULL ||
	    !stream_id_parse(last->str, last->len, &info.last))
		return false;
	info.has_added = count_of(reply, "entries-added", &info.added);
	first = value_of(reply, "first-entry");
	if (info.length > 0 &&
	    (first == NULL || first->elements < 1 || first->element[0]->str == NULL ||
		!stream_id_parse(
		    first->element[0]->str, first->element[0]->len, &info.first)))
		return false;
	*ret_info = info;
	return true;
}

/* Nothing at or before our place is left in the stream but what we have: all that it
 * holds, still_there entries, is behind it, and the rest that was added since is gone.
 * Where nobody counted: `otherwise`. */
static enum stream_loss
compare_counts(struct stream_position *p, const struct stream_info *info,
    uint64_t still_there, enum stream_loss otherwise)
{
	bool counted = p->counts;
	uint64_t ours = p->added;

	/* A counter may have been set by hand (XSETID): then nobody counts. */
	p->counts = info->has_added && info->added >= still_there;
	p->added = p->counts ? info->added - still_there : 0;
	if (!counted || !p->counts)
		return otherwise;
	return p->added == ours  ? STREAM_WHOLE
	       : p->added > ours ? STREAM_LOST
				 : STREAM_OTHER;
}

enum stream_loss
stream_position_check(struct stream_position *p, const struct stream_info *info)
{
	int ahead = stream_id_compare(&info->last, &p->last);

	if (!p->known || ahead < 0) {
		enum stream_loss loss = p->known ? STREAM_OTHER : STREAM_WHOLE;

		*p = (struct stream_position){.last = info->last,
		    .known = true,
		    .added = info->added,
		    .counts = info->has_added};
		return loss;
	}
	if (ahead == 0)
		return compare_counts(p, info, 0, STREAM_WHOLE);
	if (info->length == 0 || stream_id_compare(&info->first, &p->last) > 0)
		return compare_counts(p, info, info->length, STREAM_LOST);
	return STREAM_WHOLE; /* told when what is left has been read */
}

void
stream_position_advance(struct stream_position *p, const struct stream_id *id)
{
	p->last = *id;
	p->added++;
}
