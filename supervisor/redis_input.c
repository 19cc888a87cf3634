/* redis_input.c - see redis_input.h */
#include <stdlib.h>
#include <string.h>

#include "proto/resp.h"
#include "supervisor/redis_input.h"

#define BUFFER_SIZE (64u << 10) /* and so the bytes of one turn */
#define BUFFER_KEEP (1u << 20)  /* of one that grew for a long message */
#define PIECE_MAX 4096          /* bytes that hiredis gets at a time */
#define ELEMENTS_MAX (1u << 20) /* of an array in a reply: as many as of a command */

struct redis_input {
	size_t reply_max;
	bool subscriber;

	char *buf; /* [start, end) is to be read */
	size_t cap, start, end;
	size_t need; /* bytes that the reply at start has at least */

	redisReader *reader;
	bool begun;        /* hiredis has the begin of a reply */
	redisReply *given; /* hiredis' last reply */

	redisReply flat, part[RESP_PARTS_MAX]; /* ours */
	redisReply *parts[RESP_PARTS_MAX];
};

/* hiredis makes room for as many elements as an array says that it has, before the
 * first of them has come. */
#if HIREDIS_MAJOR >= 1
static redisReader *
reader_new(void)
{
	redisReader *reader = redisReaderCreate();

	if (reader != NULL)
		reader->maxelements = ELEMENTS_MAX;
	return reader;
}
#else
static redisReplyObjectFunctions hiredis_functions;

static void *
on_create_array(const redisReadTask *task, int elements)
{
	return elements < 0 || (unsigned)elements > ELEMENTS_MAX
		   ? NULL
		   : hiredis_functions.createArray(task, elements);
}

static redisReader *
reader_new(void)
{
	static redisReplyObjectFunctions functions;
	redisReader *reader = redisReaderCreate();

	if (reader == NULL)
		return NULL;
	hiredis_functions = functions = *reader->fn;
	functions.createArray = on_create_array;
	reader->fn = &functions;
	return reader;
}
#endif

struct redis_input *
redis_input_new(bool subscriber, size_t reply_max)
{
	struct redis_input *in = calloc(1, sizeof(*in));

	if (in == NULL)
		return NULL;
	in->subscriber = subscriber;
	in->reply_max = reply_max;
	for (int i = 0; i < RESP_PARTS_MAX; i++)
		in->parts[i] = &in->part[i];
	in->flat.element = in->parts;
	in->reader = reader_new();
	if (in->reader == NULL) {
		redis_input_free(in);
		return NULL;
	}
	return in;
}

static void
forget_given(struct redis_input *in)
{
	if (in->given != NULL)
		freeReplyObject(in->given);
	in->given = NULL;
}

void
redis_input_free(struct redis_input *in)
{
	if (in == NULL)
		return;
	forget_given(in);
	if (in->reader != NULL)
		redisReaderFree(in->reader);
	free(in->buf);
	free(in);
}

/* ---- receiving ---- */

static bool
resize(struct redis_input *in, size_t cap)
{
	char *buf = realloc(in->buf, cap);

	if (buf == NULL)
		return false;
	in->buf = buf;
	in->cap = cap;
	return true;
}

char *
redis_input_room(struct redis_input *in, size_t *ret_len)
{
	size_t len = in->end - in->start, cap = BUFFER_SIZE;

	if (in->need > BUFFER_SIZE / 2)
		cap += (in->need / BUFFER_SIZE + 1) * BUFFER_SIZE;
	if (in->start > 0 && len > 0)
		memmove(in->buf, in->buf + in->start, len);
	in->start = 0;
	in->end = len;
	if ((in->cap < cap || (in->cap > BUFFER_KEEP && in->need == 0)) &&
	    !resize(in, cap))
		return NULL;
	*ret_len = in->cap - in->end;
	return in->buf + in->end;
}

void
redis_input_add(struct redis_input *in, size_t len)
{
	in->end += len;
}

/* ---- what a subscriber gets ---- */

static void
flat_set(struct redis_input *in, const struct resp_flat *f)
{
	in->flat.type = REDIS_REPLY_ARRAY;
#ifdef REDIS_REPLY_PUSH
	if (f->push)
		in->flat.type = REDIS_REPLY_PUSH;
#endif
	in->flat.elements = f->nparts;
	for (unsigned i = 0; i < f->nparts; i++) {
		redisReply *part = &in->part[i];

		part->type = REDIS_REPLY_INTEGER;
		part->integer = f->part[i].number;
		part->str = NULL;
		part->len = f->part[i].len;
		if (f->part[i].str == NULL)
			continue;
		/* As hiredis gives them: with a NUL, here in place of the \r. */
		part->type = REDIS_REPLY_STRING;
		part->str = in->buf + (f->part[i].str - in->buf);
		part->str[part->len] = '\0';
	}
}

static enum resp_result
next_flat(struct redis_input *in)
{
	struct resp_flat flat;
	size_t len = in->end - in->start;
	enum resp_result r;

	if (len == 0 || len < in->need)
		return RESP_CUT;
	r = resp_flat(in->buf + in->start, len, &flat, &in->need);
	if (r == RESP_CUT)
		return r;
	if (r == RESP_WHOLE) {
		flat_set(in, &flat);
		in->start += in->need;
	}
	in->need = 0;
	return r;
}

/* ---- hiredis ---- */

/* How much hiredis gets of what is there. With each kilobyte that it has parsed it
 * moves all that it still holds to the front, so that is little. And of a subscriber it
 * gets no more than a line: what is behind the reply is ours. */
static size_t
piece(const struct redis_input *in)
{
	size_t len = in->end - in->start;
	const char *from = in->buf + in->start, *lf;

	if (len > PIECE_MAX)
		len = PIECE_MAX;
	lf = in->subscriber ? memchr(from, '\n', len) : NULL;
	return lf != NULL ? (size_t)(lf + 1 - from) : len;
}

static enum redis_input_result
next_any(struct redis_input *in)
{
	void *reply = NULL;
	size_t n;

	for (;;) {
		if (redisReaderGetReply(in->reader, &reply) != REDIS_OK)
			return in->reader->err == REDIS_ERR_OOM ? INPUT_NO_MEMORY
								: INPUT_BROKEN;
		if (reply != NULL)
			break;
		n = piece(in);
		if (n == 0)
			return in->reader->len - in->reader->pos > in->reply_max
				   ? INPUT_TOO_LONG
				   : INPUT_NONE;
		if (redisReaderFeed(in->reader, in->buf + in->start, n) != REDIS_OK)
			return INPUT_NO_MEMORY;
		in->start += n;
		in->begun = true;
	}
	in->given = reply;
	in->begun = false;
	/* It did not end with its line. */
	if (in->subscriber && in->reader->pos != in->reader->len)
		return INPUT_BROKEN;
	return INPUT_REPLY;
}

enum redis_input_result
redis_input_next(struct redis_input *in, const redisReply **ret_reply)
{
	enum redis_input_result r;

	forget_given(in);
	switch (in->subscriber && !in->begun ? next_flat(in) : RESP_OTHER) {
	case RESP_WHOLE:
		*ret_reply = &in->flat;
		return INPUT_REPLY;
	case RESP_CUT:
		return in->need > in->reply_max ? INPUT_TOO_LONG : INPUT_NONE;
	case RESP_OTHER:
		break;
	}
	r = next_any(in);
	*ret_reply = in->given;
	return r;
}
