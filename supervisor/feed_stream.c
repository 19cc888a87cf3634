/*
 * feed_stream.c - Redis streams; see feed.h.
 *
 * Two links: one reads, with one XREAD at a time that waits for a second at most; the
 * other adds what clients publish. The feed is up while both are.
 *
 * Nothing is lost while a link is down, or while we are: reading goes on behind the
 * last entry that was read. So a channel counts as delivered from the moment that the
 * place in each stream is known, whether the link stands or not. Only what was
 * trimmed before it was read is lost (stream_position.h), and that is a gap of all
 * channels, since nobody can say whose it was.
 *
 * Not every entry enters the ring: only those of channels that the registry knows,
 * which are those with subscribers and those that the ring still has records of, and
 * those that have a cache. A client that asks for more is told that it cannot be had:
 * its channel's offsets begin anew. After a start all channels are taken for a while,
 * so that clients that come back find what passed meanwhile.
 *
 * Source   Redis: XREAD, XADD, XINFO STREAM
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "shm/directory.h"
#include "supervisor/feed_state.h"
#include "supervisor/idempotency.h"
#include "supervisor/redis_commands.h"
#include "supervisor/redis_error.h"
#include "supervisor/stream_places.h"
#include "supervisor/supervisor.h"

#define BLOCK_MAX_MS 1000u
#define COUNT_MIN 16
#define COUNT_MAX 1024
#define REPLY_SMALL (256u << 10) /* bytes of one XREAD: ask for more entries */
#define REPLY_LARGE (4u << 20)   /* ask for fewer */
/* One entry's field: what Redis itself allows (proto-max-bulk-len). With less, an entry
 * that is too long could not even be passed over. */
#define FIELD_MAX (513u << 20)
#define CHECK_MS 1000     /* how often to ask whether anything was trimmed */
#define TAKE_ALL_MS 60000 /* after the start */

/* Of one entry; all borrowed from the reply. */
struct entry {
	const redisReply *channel, *data, *id, *key;
};

struct stream_feed {
	struct feed feed;
	struct feed_state state;
	struct redis_target *target;
	struct redis_link *reader;
	struct redis_commands commands;

	struct stream_places places;
	char maxlen[16], block_ms[16];

	unsigned infos; /* answers of XINFO that are still to come */
	unsigned count; /* of the next XREAD */
	bool begun;     /* each place is known: it was, once */
	bool reading;   /* the places were checked since the link came */
	bool read_any;  /* since the last check */
	uint64_t check_ms, started_ms;

	struct idempotency *ids;
	uint64_t malformed, repeated, passed_over;
	struct log_limit malformed_limit, lost_limit;
};

/* ---- asking ---- */

static int
ask_infos(struct stream_feed *s)
{
	const char *argv[3] = {"XINFO", "STREAM"};
	size_t lens[3] = {5, 6};
	int r = 0;

	s->check_ms = supervisor_now_ms();
	s->read_any = false;
	for (unsigned i = 0; i < s->places.n && r == 0; i++) {
		argv[2] = s->places.stream[i].key;
		lens[2] = strlen(argv[2]);
		r = redis_link_command(s->reader, 3, argv, lens);
	}
	s->infos = s->places.n;
	return r;
}

static int
ask_entries(struct stream_feed *s)
{
	const char *argv[6 + 2 * SETTINGS_STREAMS_MAX] = {
	    "XREAD", "COUNT", NULL, "BLOCK", s->block_ms, "STREAMS"};
	size_t lens[6 + 2 * SETTINGS_STREAMS_MAX];
	char ids[SETTINGS_STREAMS_MAX][STREAM_ID_TEXT_MAX], count[16];
	unsigned n = 6 + 2 * s->places.n;

	(void)snprintf(count, sizeof(count), "%u", s->count);
	argv[2] = count;
	for (unsigned i = 0; i < s->places.n; i++) {
		(void)stream_id_print(&s->places.stream[i].position.last, ids[i]);
		argv[6 + i] = s->places.stream[i].key;
		argv[6 + s->places.n + i] = ids[i];
	}
	for (unsigned i = 0; i < n; i++)
		lens[i] = strlen(argv[i]);
	return redis_link_command(s->reader, (int)n, argv, lens);
}

/* The one request that is under way at a time. */
static void
ask(struct stream_feed *s)
{
	bool check = !s->reading ||
		     (s->read_any && supervisor_now_ms() - s->check_ms >= CHECK_MS);
	int r = check ? ask_infos(s) : ask_entries(s);

	if (r < 0)
		redis_link_lose(s->reader, "out of memory");
}

/* ---- up and down ---- */

static void
link_up(struct stream_feed *s)
{
	if (s->reading && redis_link_up(s->reader) && redis_commands_up(&s->commands))
		feed_state_up(&s->state);
}

static void
on_reader_up(void *owner)
{
	ask(owner);
}

static void
on_reader_down(void *owner, const char *why)
{
	struct stream_feed *s = owner;

	s->reading = false;
	s->infos = 0;
	s->count = COUNT_MIN;
	feed_state_down(&s->state, why);
}

static void
on_commands_up(void *owner)
{
	link_up(owner);
}

static void
on_commands_down(void *owner, const char *why)
{
	struct stream_feed *s = owner;

	feed_state_down(&s->state, why);
}

/* ---- what was trimmed ---- */

static void
say_lost(struct stream_feed *s, const struct stream *stream, enum stream_loss loss)
{
	(void)log_limited(&s->lost_limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "feed: stream %s %s: clients are told that they may have missed "
	    "something",
	    stream->key,
	    loss == STREAM_LOST ? "was trimmed before all of it was read"
				: "is not what it was: it was made anew, or set back");
}

static void
refuse_info(struct stream_feed *s, const struct stream *stream, const redisReply *r)
{
	char quoted[160], why[FEED_WHY_MAX];

	(void)snprintf(why, sizeof(why), "stream %.60s: %s", stream->key,
	    r->type == REDIS_REPLY_ERROR ? redis_error_text(r, quoted, sizeof(quoted))
					 : "its description is not understood");
	redis_link_lose(s->reader, why);
}

/* All places are known and checked. */
static void
begin_reading(struct stream_feed *s)
{
	struct registry *reg = s->feed.env.registry;
	uint32_t cursor = 0, channel;
	bool came = !s->reading;

	s->reading = true;
	stream_places_changed(&s->places);
	if (!s->begun) {
		s->begun = true;
		while (registry_next_wanted(reg, &cursor, &channel))
			registry_confirmed(reg, channel, 0);
	}
	if (came)
		link_up(s);
}

static void
on_info(struct stream_feed *s, const redisReply *r)
{
	struct stream *stream = &s->places.stream[s->places.n - s->infos];
	struct stream_info info = {.has_added = true};
	enum stream_loss loss;
	/* A stream that nobody added to yet is an empty one. */
	bool none = r->type == REDIS_REPLY_ERROR && strstr(r->str, "no such key");

	if (!none && !stream_info_parse(r, &info)) {
		refuse_info(s, stream, r);
		return;
	}
	loss = stream_position_check(&stream->position, &info);
	if (loss != STREAM_WHOLE) {
		registry_gap_all(s->feed.env.registry);
		say_lost(s, stream, loss);
	}
	if (--s->infos > 0)
		return;
	begin_reading(s);
	ask(s);
}

/* ---- entries ---- */

static bool
field_is(const redisReply *name, const char *word, size_t len)
{
	return name->len == len && memcmp(name->str, word, len) == 0;
}

/* Returns false when it is none that can be published. Unknown fields are others'. */
static bool
entry_parse(const redisReply *fields, struct entry *ret)
{
	*ret = (struct entry){.channel = NULL};
	for (size_t i = 0; i + 1 < fields->elements; i += 2) {
		const redisReply *name = fields->element[i];
		const redisReply *value = fields->element[i + 1];

		if (name->str == NULL || value->str == NULL)
			return false;
		if (field_is(name, "channel", 7))
			ret->channel = value;
		else if (field_is(name, "data", 4))
			ret->data = value;
		else if (field_is(name, "id", 2))
			ret->id = value;
		else if (field_is(name, "key", 3))
			ret->key = value;
	}
	return ret->channel != NULL && ret->data != NULL &&
	       name_ok(ret->channel->str, ret->channel->len);
}

static void
count_malformed(
    struct stream_feed *s, const struct stream *stream, const redisReply *id)
{
	char quoted[64];

	s->malformed++;
	(void)log_limited(&s->malformed_limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "feed: entry %s of stream %s is passed over: it needs a field "
	    "channel with a channel's name, and a field data",
	    log_quote(id->str, id->len, quoted, sizeof(quoted)), stream->key);
}

/* The channel's index, UINT32_MAX when nobody is interested. */
static uint32_t
channel_of(struct stream_feed *s, const redisReply *name)
{
	const struct feed_env *env = &s->feed.env;
	uint32_t channel = registry_find(env->registry, name->str, name->len);

	if (channel != UINT32_MAX)
		return channel;
	if ((supervisor_now_ms() - s->started_ms >= TAKE_ALL_MS &&
		!settings_rule(env->settings, name->str, name->len)->cache) ||
	    registry_take(env->registry, name->str, name->len, &channel) < 0)
		return UINT32_MAX;
	return channel;
}

static bool
is_repeated(const struct stream_feed *s, const struct entry *e)
{
	return e->id != NULL && idempotency_has(s->ids, e->channel->str,
				    e->channel->len, e->id->str, e->id->len);
}

/* Returns false when there is no room for it now. */
static bool
entry_publish(struct stream_feed *s, const struct entry *e)
{
	uint32_t channel = channel_of(s, e->channel);
	struct slice key = {NULL, 0};
	int r;

	if (channel == UINT32_MAX) {
		s->passed_over++;
		return true;
	}
	if (e->key != NULL)
		key = (struct slice){e->key->str, e->key->len};
	r = feed_message(&s->feed, channel, key, e->data->str, e->data->len);
	if (r == 0 && e->id != NULL)
		idempotency_add(
		    s->ids, e->channel->str, e->channel->len, e->id->str, e->id->len);
	return r != -ENOBUFS;
}

/* One [ID, [FIELD, VALUE, ...]]. Returns false when there is no room for it now. */
static bool
on_entry(struct stream_feed *s, struct stream *stream, const redisReply *r)
{
	struct stream_id id;
	struct entry e;

	if (r->elements < 2 || r->element[0]->str == NULL ||
	    !stream_id_parse(r->element[0]->str, r->element[0]->len, &id))
		return true;
	/* A reply that there was no room for comes again from its beginning. */
	if (stream_id_compare(&id, &stream->position.last) <= 0)
		return true;
	if (!entry_parse(r->element[1], &e))
		count_malformed(s, stream, r->element[0]);
	else if (is_repeated(s, &e))
		s->repeated++;
	else if (!entry_publish(s, &e))
		return false;
	stream_position_advance(&stream->position, &id);
	s->read_any = true;
	return true;
}

static size_t
entry_bytes(const redisReply *r)
{
	size_t len = 0;

	if (r->elements < 2)
		return 0;
	for (size_t i = 0; i < r->element[1]->elements; i++)
		len += r->element[1]->element[i]->len;
	return len;
}

/* Many small entries at once, and few that are long: a reply is whole in memory. */
static void
adapt_count(struct stream_feed *s, size_t bytes, size_t n)
{
	if (bytes > REPLY_LARGE && s->count > 1)
		s->count /= 2;
	else if (n == s->count && bytes < REPLY_SMALL && s->count < COUNT_MAX)
		s->count *= 2;
}

/* One [KEY, [ENTRY, ...]]. Returns false when there was no room for all. */
static bool
on_stream_entries(struct stream_feed *s, const redisReply *r)
{
	struct stream *stream;
	size_t bytes = 0;

	if (r->elements < 2 || r->element[0]->str == NULL)
		return true;
	stream = stream_places_find(&s->places, r->element[0]->str);
	if (stream == NULL)
		return true;
	for (size_t i = 0; i < r->element[1]->elements; i++) {
		const redisReply *entry = r->element[1]->element[i];

		bytes += entry_bytes(entry);
		if (!on_entry(s, stream, entry))
			return false;
	}
	adapt_count(s, bytes, r->element[1]->elements);
	return true;
}

static bool
on_reader_reply(void *owner, const redisReply *r)
{
	struct stream_feed *s = owner;
	char quoted[160], why[FEED_WHY_MAX];

	if (s->infos > 0) {
		on_info(s, r);
		return true;
	}
	if (r->type == REDIS_REPLY_ERROR) {
		(void)snprintf(why, sizeof(why), "XREAD: %s",
		    redis_error_text(r, quoted, sizeof(quoted)));
		redis_link_lose(s->reader, why);
		return true;
	}
	for (size_t i = 0; i < r->elements; i++)
		if (!on_stream_entries(s, r->element[i]))
			return false;
	if (r->elements > 0)
		stream_places_changed(&s->places);
	ask(s);
	return true;
}

/* ---- the feed ---- */

static void
on_stream_want(struct feed *f, uint32_t channel)
{
	struct stream_feed *s = container_of(f, struct stream_feed, feed);

	if (s->begun)
		registry_confirmed(f->env.registry, channel, 0);
}

static void
on_stream_drop(struct feed *f, uint32_t channel)
{
}

static int
on_stream_publish(
    struct feed *f, const struct feed_publish *m, const struct receipt *receipt)
{
	struct stream_feed *s = container_of(f, struct stream_feed, feed);
	const char *argv[12] = {"XADD", s->places.stream[0].key};
	size_t lens[12];
	int n = 2;

	if (!s->state.up)
		return -ENOTCONN;
	if (m->data.len > ring_frame_max(f->env.publisher->ring) - CHANNEL_NAME_MAX)
		return -EMSGSIZE; /* Redis would take it, and we then could not */
	if (s->maxlen[0] != '\0') {
		argv[n++] = "MAXLEN";
		argv[n++] = "~";
		argv[n++] = s->maxlen;
	}
	argv[n++] = "*";
	argv[n++] = "channel";
	for (int i = 0; i < n; i++)
		lens[i] = strlen(argv[i]);
	argv[n] = m->channel.p;
	lens[n++] = m->channel.len;
	if (m->key.len > 0) {
		argv[n] = "key";
		lens[n++] = 3;
		argv[n] = m->key.p;
		lens[n++] = m->key.len;
	}
	argv[n] = "data";
	lens[n++] = 4;
	argv[n] = m->data.p;
	lens[n++] = m->data.len;
	return redis_commands_put(&s->commands, n, argv, lens, receipt);
}

static void
on_stream_flush(struct feed *f)
{
	struct stream_feed *s = container_of(f, struct stream_feed, feed);

	redis_link_flush(s->reader);
	redis_commands_flush(&s->commands);
}

static void
on_stream_resume(struct feed *f)
{
	struct stream_feed *s = container_of(f, struct stream_feed, feed);

	redis_link_resume(s->reader);
}

static void
on_stream_status(const struct feed *f, struct feed_status *ret)
{
	const struct stream_feed *s = container_of(f, struct stream_feed, feed);

	feed_state_look(&s->state, redis_link_lag_ms(s->commands.link), ret);
	redis_commands_look(&s->commands, ret);
	ret->malformed = s->malformed;
	ret->repeated = s->repeated;
	ret->passed_over = s->passed_over;
}

static void
on_stream_free(struct feed *f)
{
	struct stream_feed *s = container_of(f, struct stream_feed, feed);

	redis_link_free(s->reader);
	redis_commands_done(&s->commands);
	redis_target_free(s->target);
	if (s->begun)
		stream_places_keep(&s->places); /* what was read is in the ring */
	stream_places_done(&s->places);
	idempotency_free(s->ids);
	free(s);
}

static const struct feed_ops stream_ops = {
    .want = on_stream_want,
    .drop = on_stream_drop,
    .publish = on_stream_publish,
    .flush = on_stream_flush,
    .resume = on_stream_resume,
    .status = on_stream_status,
    .free = on_stream_free,
    .complete = true,
};

static int
links_new(struct stream_feed *s)
{
	/* All are in one slot: check_streams() of the settings. */
	const struct redis_wish wish = {.kind = WISH_SLOT,
	    .slot =
		redis_slot(s->places.stream[0].key, strlen(s->places.stream[0].key))};
	struct redis_link_config reader = {
	    .loop = s->feed.env.loop,
	    .target = s->target,
	    .wish = wish,
	    .reply_max = FIELD_MAX,
	    .on_up = on_reader_up,
	    .on_down = on_reader_down,
	    .on_reply = on_reader_reply,
	    .probe_ms = s->feed.env.settings->probe_interval_ms,
	    .owner = s,
	};
	int r = redis_link_new(&reader, &s->reader);

	return r < 0 ? r
		     : redis_commands_init(&s->commands, &s->feed.env, s->target, &wish,
			   on_commands_up, on_commands_down, NULL, s);
}

static void
numbers_set(struct stream_feed *s, const struct settings *settings)
{
	/* The link's probe waits behind the XREAD. */
	(void)snprintf(s->block_ms, sizeof(s->block_ms), "%u",
	    settings->probe_interval_ms / 2 < BLOCK_MAX_MS
		? settings->probe_interval_ms / 2
		: BLOCK_MAX_MS);
	if (settings->stream_maxlen > 0)
		(void)snprintf(
		    s->maxlen, sizeof(s->maxlen), "%u", settings->stream_maxlen);
}

static int
parts_new(struct stream_feed *s)
{
	const struct feed_env *env = &s->feed.env;
	int r = stream_places_init(&s->places, env->loop, env->settings);

	if (r == 0)
		r = idempotency_new(&s->ids);
	if (r == 0)
		r = redis_target_new(env->loop, env->settings, &s->target);
	if (r < 0)
		return r;
	numbers_set(s, env->settings);
	feed_state_init(&s->state, env, "stream", redis_target_where(s->target));
	return links_new(s);
}

int
feed_stream_new(const struct feed_env *env, struct feed **ret_feed)
{
	struct stream_feed *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return -ENOMEM;
	s->feed.ops = &stream_ops;
	s->feed.env = *env;
	s->count = COUNT_MIN;
	s->started_ms = supervisor_now_ms();
	r = parts_new(s);
	if (r < 0) {
		on_stream_free(&s->feed);
		return r;
	}
	*ret_feed = &s->feed;
	return 0;
}
