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
#include "supervisor/state_file.h"
#include "supervisor/stream_position.h"
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
#define SAVE_S 1.0        /* how often the places are written down */
#define TAKE_ALL_MS 60000 /* after the start */
#define STATE_HEAD "wscast-stream 1\n"

struct stream {
	char *key; /* in stream_feed.keys */
	struct stream_position position;
};

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

	char *keys; /* feed.stream, cut into words */
	struct stream streams[SETTINGS_STREAMS_MAX];
	unsigned nstreams;
	char maxlen[16], block_ms[16];

	unsigned infos; /* answers of XINFO that are still to come */
	unsigned count; /* of the next XREAD */
	bool begun;     /* each place is known: it was, once */
	bool reading;   /* the places were checked since the link came */
	bool read_any;  /* since the last check */
	uint64_t check_ms, started_ms;

	struct idempotency *ids;
	struct state_file file;
	ev_timer save;
	uint64_t malformed, repeated, passed_over;
	struct log_limit malformed_limit, long_limit, save_limit, lost_limit;
};

/* ---- places, kept over a restart ---- */

static struct stream *
stream_find(struct stream_feed *s, const char *key)
{
	for (unsigned i = 0; i < s->nstreams; i++)
		if (strcmp(s->streams[i].key, key) == 0)
			return &s->streams[i];
	return NULL;
}

/* KEY ID ADDED, or KEY ID - where Redis does not count. */
static bool
place_parse(struct stream_feed *s, char *line)
{
	struct stream_position place = {.known = true};
	char *rest = line, *key = strsep(&rest, " "), *id = strsep(&rest, " "), *end;
	struct stream *stream;

	if (rest == NULL || !stream_id_parse(id, strlen(id), &place.last))
		return false;
	if (strcmp(rest, "-") != 0) {
		errno = 0;
		place.added = strtoull(rest, &end, 10);
		if (end == rest || *end != '\0' || errno != 0)
			return false;
		place.counts = true;
	}
	stream = stream_find(s, key);
	if (stream != NULL)
		stream->position = place;
	return true;
}

static void
places_load(struct stream_feed *s)
{
	char *text, *rest, *line;
	bool good;
	int r = state_file_read(&s->file, &text);

	if (r < 0) {
		if (r != -ENOENT)
			log_warning(r,
			    "feed: cannot read %s: reading begins at the end",
			    s->file.path);
		return;
	}
	good = strncmp(text, STATE_HEAD, strlen(STATE_HEAD)) == 0;
	rest = text + (good ? strlen(STATE_HEAD) : 0);
	while (good && *rest != '\0' && (line = strsep(&rest, "\n")) != NULL)
		good = place_parse(s, line) && rest != NULL;
	if (!good)
		log_warning(0,
		    "feed: %s is none of ours, or damaged: what it does not "
		    "say is read from its end on",
		    s->file.path);
	free(text);
}

/* malloc'd, or NULL. */
static char *
places_text(const struct stream_feed *s)
{
	char *text = NULL, id[STREAM_ID_TEXT_MAX];
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	(void)fputs(STATE_HEAD, out);
	for (unsigned i = 0; i < s->nstreams; i++) {
		const struct stream_position *p = &s->streams[i].position;

		if (!p->known)
			continue;
		(void)stream_id_print(&p->last, id);
		(void)fprintf(out, "%s %s ", s->streams[i].key, id);
		(void)(p->counts ? fprintf(out, "%" PRIu64 "\n", p->added)
				 : fprintf(out, "-\n"));
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static void
on_places_written(void *owner, int err)
{
	struct stream_feed *s = owner;
	unsigned long missed;

	if (err < 0 && log_allowed(&s->save_limit, supervisor_now_ms(), &missed))
		log_warning(err,
		    "feed: cannot write %s: a restart will not know how "
		    "far the stream was read",
		    s->file.path);
}

static void
on_save(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct stream_feed *s = container_of(t, struct stream_feed, save);
	char *text = places_text(s);
	int r = text != NULL ? state_file_write(&s->file, text) : -ENOMEM;

	ev_timer_stop(loop, t);
	if (r == -EBUSY) /* the disk is slow: later */
		ev_timer_again(loop, t);
	else if (r < 0)
		on_places_written(s, r);
	free(text);
}

static void
places_changed(struct stream_feed *s)
{
	if (!ev_is_active(&s->save))
		ev_timer_again(s->feed.env.loop, &s->save);
}

/* ---- asking ---- */

static int
ask_infos(struct stream_feed *s)
{
	const char *argv[3] = {"XINFO", "STREAM"};
	size_t lens[3] = {5, 6};
	int r = 0;

	s->check_ms = supervisor_now_ms();
	s->read_any = false;
	for (unsigned i = 0; i < s->nstreams && r == 0; i++) {
		argv[2] = s->streams[i].key;
		lens[2] = strlen(argv[2]);
		r = redis_link_command(s->reader, 3, argv, lens);
	}
	s->infos = s->nstreams;
	return r;
}

static int
ask_entries(struct stream_feed *s)
{
	const char *argv[6 + 2 * SETTINGS_STREAMS_MAX] = {
	    "XREAD", "COUNT", NULL, "BLOCK", s->block_ms, "STREAMS"};
	size_t lens[6 + 2 * SETTINGS_STREAMS_MAX];
	char ids[SETTINGS_STREAMS_MAX][STREAM_ID_TEXT_MAX], count[16];
	unsigned n = 6 + 2 * s->nstreams;

	(void)snprintf(count, sizeof(count), "%u", s->count);
	argv[2] = count;
	for (unsigned i = 0; i < s->nstreams; i++) {
		(void)stream_id_print(&s->streams[i].position.last, ids[i]);
		argv[6 + i] = s->streams[i].key;
		argv[6 + s->nstreams + i] = ids[i];
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
	unsigned long missed;

	if (log_allowed(&s->lost_limit, supervisor_now_ms(), &missed))
		log_warning(0,
		    "feed: stream %s %s: clients are told that they may have missed "
		    "something",
		    stream->key,
		    loss == STREAM_LOST
			? "was trimmed before all of it was read"
			: "is not what it was: it was made anew, or set back");
}

static void
refuse_info(struct stream_feed *s, const struct stream *stream, const redisReply *r)
{
	char quoted[160], why[FEED_WHY_MAX];

	(void)snprintf(why, sizeof(why), "stream %.60s: %s", stream->key,
	    r->type == REDIS_REPLY_ERROR
		? log_quote(r->str, r->len, quoted, sizeof(quoted))
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
	places_changed(s);
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
	struct stream *stream = &s->streams[s->nstreams - s->infos];
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
	unsigned long missed;
	char quoted[64];

	s->malformed++;
	if (log_allowed(&s->malformed_limit, supervisor_now_ms(), &missed))
		log_warning(0,
		    "feed: entry %s of stream %s is passed over: it needs a field "
		    "channel with a channel's name, and a field data (%lu more since "
		    "the "
		    "last such line)",
		    log_quote(id->str, id->len, quoted, sizeof(quoted)), stream->key,
		    missed);
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
	const struct feed_env *env = &s->feed.env;
	uint32_t channel = channel_of(s, e->channel);
	unsigned long missed;
	int r;

	if (channel == UINT32_MAX) {
		s->passed_over++;
		return true;
	}
	r = publisher_message(env->publisher, channel, e->data->str, e->data->len);
	if (r == -EMSGSIZE) {
		registry_gap(env->registry, channel);
		if (log_allowed(&s->long_limit, supervisor_now_ms(), &missed))
			log_warning(0,
			    "feed: a message of %zu bytes is too long for the ring and "
			    "is lost (%lu more since the last such line); raise "
			    "ring.size to send such",
			    e->data->len, missed);
	}
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
	stream = stream_find(s, r->element[0]->str);
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
		    log_quote(r->str, r->len, quoted, sizeof(quoted)));
		redis_link_lose(s->reader, why);
		return true;
	}
	for (size_t i = 0; i < r->elements; i++)
		if (!on_stream_entries(s, r->element[i]))
			return false;
	if (r->elements > 0)
		places_changed(s);
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
on_stream_publish(struct feed *f, const char *name, size_t name_len, const void *data,
    size_t len, const struct receipt *receipt)
{
	struct stream_feed *s = container_of(f, struct stream_feed, feed);
	const char *argv[10] = {"XADD", s->streams[0].key};
	size_t lens[10];
	int n = 2;

	if (!s->state.up)
		return -ENOTCONN;
	if (len > ring_frame_max(f->env.publisher->ring) - CHANNEL_NAME_MAX)
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
	argv[n] = name;
	lens[n++] = name_len;
	argv[n] = "data";
	lens[n++] = 4;
	argv[n] = data;
	lens[n++] = len;
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

/* The last word about the places: what was read is in the ring. */
static void
places_keep(struct stream_feed *s)
{
	char *text = places_text(s);
	int r = text != NULL ? state_file_write_now(&s->file, text) : -ENOMEM;

	on_places_written(s, r);
	free(text);
}

static void
on_stream_free(struct feed *f)
{
	struct stream_feed *s = container_of(f, struct stream_feed, feed);

	redis_link_free(s->reader);
	redis_commands_done(&s->commands);
	redis_target_free(s->target);
	if (s->begun)
		places_keep(s);
	ev_timer_stop(f->env.loop, &s->save);
	state_file_done(&s->file);
	idempotency_free(s->ids);
	free(s->keys);
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
	    .slot = redis_slot(s->streams[0].key, strlen(s->streams[0].key))};
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

static int
keys_set(struct stream_feed *s, const struct settings *settings)
{
	char *rest, *key;

	s->keys = strdup(settings->stream);
	if (s->keys == NULL)
		return -ENOMEM;
	rest = s->keys;
	while ((key = strsep(&rest, " ")) != NULL)
		s->streams[s->nstreams++].key = key;
	/* The link's probe waits behind the XREAD. */
	(void)snprintf(s->block_ms, sizeof(s->block_ms), "%u",
	    settings->probe_interval_ms / 2 < BLOCK_MAX_MS
		? settings->probe_interval_ms / 2
		: BLOCK_MAX_MS);
	if (settings->stream_maxlen > 0)
		(void)snprintf(
		    s->maxlen, sizeof(s->maxlen), "%u", settings->stream_maxlen);
	return 0;
}

static int
parts_new(struct stream_feed *s)
{
	const struct feed_env *env = &s->feed.env;
	int r = keys_set(s, env->settings);

	if (r == 0)
		r = idempotency_new(&s->ids);
	if (r == 0)
		r = redis_target_new(env->loop, env->settings, &s->target);
	if (r == 0)
		r = state_file_init(&s->file, env->loop, env->settings->state_directory,
		    "stream", on_places_written, s);
	if (r < 0)
		return r;
	places_load(s);
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
	s->file.child_fd = -1;
	ev_timer_init(&s->save, on_save, 0., SAVE_S);
	r = parts_new(s);
	if (r < 0) {
		on_stream_free(&s->feed);
		return r;
	}
	*ret_feed = &s->feed;
	return 0;
}
