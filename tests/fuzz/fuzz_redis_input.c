/*
 * fuzz_redis_input.c - what a Redis server may send to a subscriber: first byte the
 * size of the pieces in which it comes, then the bytes. Read by us and hiredis, and by
 * hiredis alone, the replies must be the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/redis_input.h"
#include "tests/fuzz/target.h"

#define REPLY_MAX 65536
#define PIECES_MAX 4096 /* bytes: more find nothing new */

/* The order of the bytes of all replies so far. */
static uint64_t
mix(uint64_t hash, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static uint64_t
mix_reply(uint64_t hash, const redisReply *r)
{
	hash = mix(hash, &r->type, sizeof(r->type));
	if (r->type == REDIS_REPLY_INTEGER)
		return mix(hash, &r->integer, sizeof(r->integer));
	if (r->str != NULL) {
		must(r->str[r->len] == '\0');
		return mix(hash, r->str, r->len + 1);
	}
	for (size_t i = 0; r->type != REDIS_REPLY_NIL && i < r->elements; i++)
		hash = mix_reply(hash, r->element[i]);
	return hash;
}

struct side {
	struct redis_input *in;
	uint64_t hash[PIECES_MAX]; /* behind each reply */
	size_t n;
	enum redis_input_result end;
};

static void
side_read(struct side *s, const char *bytes, size_t len, size_t piece)
{
	const redisReply *reply;

	s->end = INPUT_NONE;
	while (len > 0 && s->end == INPUT_NONE) {
		size_t room, n = len < piece ? len : piece;
		char *to = redis_input_room(s->in, &room);

		must(to != NULL && room >= n);
		memcpy(to, bytes, n);
		redis_input_add(s->in, n);
		bytes += n;
		len -= n;
		while ((s->end = redis_input_next(s->in, &reply)) == INPUT_REPLY) {
			s->hash[s->n] =
			    mix_reply(s->n > 0 ? s->hash[s->n - 1] : 1, reply);
			s->n++;
		}
	}
	redis_input_free(s->in);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct side ours, theirs;
	char *bytes;

	if (len < 2 || len > PIECES_MAX)
		return 0;
	bytes = malloc(len - 1);
	must(bytes != NULL);
	memcpy(bytes, data + 1, len - 1);
#if HIREDIS_MAJOR < 1
	/* It knows no pushes. */
	for (size_t i = 0; i < len - 1; i++)
		if (bytes[i] == '>')
			bytes[i] = '*';
#endif
	ours = (struct side){.in = redis_input_new(true, REPLY_MAX)};
	theirs = (struct side){.in = redis_input_new(false, REPLY_MAX)};
	must(ours.in != NULL && theirs.in != NULL);
	side_read(&ours, bytes, len - 1, (size_t)data[0] + 1);
	side_read(&theirs, bytes, len - 1, len);
	/* We are stricter: about what ends a line, and about lengths. */
	must(ours.n <= theirs.n);
	must(ours.n == theirs.n || ours.end != INPUT_NONE);
	must(ours.n == 0 || ours.hash[ours.n - 1] == theirs.hash[ours.n - 1]);
	free(bytes);
	return 0;
}
