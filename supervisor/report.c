/* report.c - see report.h */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/dialect.h"
#include "proto/glob.h"
#include "proto/utf8.h"
#include "shm/directory.h"
#include "shm/revoked.h"
#include "supervisor/drain.h"
#include "supervisor/peers.h"
#include "supervisor/report.h"
#include "supervisor/supervisor.h"

#define SUBS_MAX UINT16_MAX

static json_t *
integer(uint64_t n)
{
	return json_integer((json_int_t)(n & INT64_MAX));
}

/* ---- workers ---- */

static const char *
state_name(const struct worker_look *look, uint32_t page_state)
{
	static const char *const names[] = {
	    "starting", "adopting", "serving", "draining", "stopping"};

	switch (look->state) {
	case KEEPER_AWAY:
	case KEEPER_GONE:
		return "away";
	case KEEPER_BACKOFF:
		return "backoff";
	case KEEPER_RUNNING:
		break;
	}
	/* The page still says what a serving process that died said last. */
	if (!look->healthy && page_state == WORKER_SERVING)
		return "starting";
	return page_state < sizeof(names) / sizeof(names[0]) ? names[page_state] : "?";
}

static json_t *
worker_object(const struct supervisor *s, unsigned index, bool all)
{
	struct worker_look look;
	struct page_now now;
	uint64_t now_ms = supervisor_now_ms();
	json_t *o;

	workers_look(s->workers, index, &look);
	page_look(look.page, &now);
	o = json_pack("{s:i, s:i, s:i, s:i, s:s, s:s, s:b, s:o, s:o, s:o, s:o}",
	    "index", (int)index, "keeper_pid", (int)look.keeper, "pid", (int)look.pid,
	    "cpu", (int)now.cpu, "state", state_name(&look, now.state), "send",
	    page_sending(look.page) == SENDING_URING ? "uring" : "send", "sandbox",
	    (int)page_sandboxed(look.page), "restarts", integer(look.restarts), "stuck",
	    integer(look.stuck), "settings", integer(page_settings(look.page)),
	    "heartbeat_ms",
	    integer(
		now.beat_ms != 0 && now.beat_ms < now_ms ? now_ms - now.beat_ms : 0));
	for (int c = 0; o != NULL && c < PAGE_COUNTER_COUNT; c++) {
		bool brief = c == PAGE_connections || c == PAGE_adopted ||
			     c == PAGE_sent || c == PAGE_lapped ||
			     c == PAGE_closed_slow;

		if (all || brief)
			(void)json_object_set_new(o,
			    page_counter_name((enum page_counter)c),
			    integer(page_get(look.page, (enum page_counter)c)));
	}
	return o;
}

static json_t *
worker_list(const struct supervisor *s, bool all)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->nworkers; i++)
		(void)json_array_append_new(list, worker_object(s, i, all));
	return list;
}

json_t *
report_workers(const struct supervisor *s)
{
	return json_pack("{s:o}", "workers", worker_list(s, true));
}

json_t *
report_drain(const struct supervisor *s)
{
	struct drain_look d;

	drain_look(s, &d);
	if (d.workers == 0)
		return json_null();
	return json_pack("{s:i, s:o, s:o, s:f, s:f}", "workers", (int)d.workers,
	    "connections", integer(d.connections), "began_with", integer(d.began_with),
	    "over_s", (double)d.over_ms / 1000., "left_s", (double)d.left_ms / 1000.);
}

json_t *
report_version(void)
{
	return json_pack("{s:s, s:s, s:s}", "version", WSCAST_VERSION, "commit",
	    WSCAST_COMMIT, "supervisor", WSCAST_SUPERVISOR);
}

/* ---- status ---- */

static uint64_t
sum(const struct supervisor *s, enum page_counter c)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < s->nworkers; i++)
		total += page_get(workers_pages(s->workers)[i], c);
	return total;
}

static json_t *
feed_object(const struct supervisor *s)
{
	struct feed_status feed;
	uint64_t now_ms = supervisor_real_ms();
	json_t *o;

	feed_look(s->feed, &feed);
	o = json_pack("{s:s, s:b, s:f, s:i, s:o, s:f, s:s, s:o}", "source", feed.source,
	    "connected", (int)feed.connected, "down_s",
	    feed.down_since_ms == 0 || feed.down_since_ms > now_ms
		? 0.
		: (double)(now_ms - feed.down_since_ms) / 1000.,
	    "lag_ms", (int)feed.lag_ms, "reconnects", integer(feed.reconnects),
	    "down_seconds_total", (double)feed.down_ms / 1000., "breaker", feed.breaker,
	    "breaker_opened", integer(feed.breaker_opened));
	if (s->settings->source == FEED_STREAM)
		(void)json_object_set_new(o, "entries",
		    json_pack("{s:o, s:o, s:o}", "malformed", integer(feed.malformed),
			"repeated", integer(feed.repeated), "passed_over",
			integer(feed.passed_over)));
	if (!feed.connected)
		(void)json_object_set_new(o, "error", json_string(feed.why));
	return o;
}

json_t *
report_status(const struct supervisor *s)
{
	char node[256] = "";
	uint64_t head = ring_head(s->ring);

	(void)gethostname(node, sizeof(node) - 1);
	return json_pack(
	    "{s:s, s:i, s:o, s:s, s:s, s:b, s:b, s:o, s:o, s:{s:o, s:o}, s:o, s:o, s:o,"
	    " s:{s:o, s:o, s:o, s:o}, s:o, s:{s:b, s:o, s:o, s:o},"
	    " s:o, s:o, s:o, s:o, s:o, s:o, s:b}",
	    "version", WSCAST_VERSION, "pid", (int)getpid(), "uptime_s",
	    integer((supervisor_now_ms() - s->started_ms) / 1000), "node",
	    utf8_valid(node, strlen(node)) ? node : "?", "epoch", ring_epoch(s->ring),
	    "ready", (int)supervisor_ready(s), "draining", (int)ring_draining(s->ring),
	    "drain", report_drain(s), "connections", integer(sum(s, PAGE_connections)),
	    "tls", "connections", integer(sum(s, PAGE_tls_connections)), "kernel",
	    integer(sum(s, PAGE_ktls_connections)), "subscriptions",
	    integer(sum(s, PAGE_subscriptions)), "channels",
	    integer(registry_count(s->registry)), "feed", feed_object(s), "ring",
	    "size", integer(ring_frames_size(s->ring)), "head", integer(head), "retain",
	    integer(ring_retain(s->ring, head)), "blocked",
	    integer(s->publisher.blocked_times), "workers", worker_list(s, false),
	    "compression", "enabled", (int)(s->publisher.deflater != NULL), "deflated",
	    integer(s->publisher.deflated), "saved_bytes",
	    integer(s->publisher.deflate_saved), "left_plain",
	    integer(s->publisher.deflate_tried), "messages_in",
	    integer(s->publisher.messages), "bytes_in",
	    integer(s->publisher.message_bytes), "too_long",
	    integer(s->publisher.too_long), "messages_out", integer(sum(s, PAGE_sent)),
	    "bytes_out", integer(sum(s, PAGE_sent_bytes)), "revocations",
	    integer(revoked_live(ring_revoked(s->ring))), "peers_up",
	    (int)peers_up(s->peers));
}

/* ---- clients ---- */

/* A slot as it was a moment ago, and whose it is. */
struct found {
	const struct worker_look *look;
	unsigned worker;
	struct slot slot;
};

static json_t *
address_text(const struct slot *s)
{
	char host[INET6_ADDRSTRLEN] = "", text[80];

	if (s->family == AF_INET6 && inet_ntop(AF_INET6, s->addr, host, sizeof(host)))
		(void)snprintf(text, sizeof(text), "[%s]:%u", host, s->port);
	else if (s->family == AF_INET &&
		 inet_ntop(AF_INET, s->addr, host, sizeof(host)))
		(void)snprintf(text, sizeof(text), "%s:%u", host, s->port);
	else
		return json_string("unix");
	return json_string(text);
}

static const char *
proto_name(const struct slot *s)
{
	return s->proto == PROTO_V1     ? "wscast.v1"
	       : s->proto == PROTO_RAW  ? "raw"
	       : s->proto == PROTO_ECHO ? "echo"
					: "http";
}

static const char *
slot_state_name(uint8_t state)
{
	return state == SLOT_OPEN      ? "open"
	       : state == SLOT_CLOSING ? "closing"
				       : "handshake";
}

/* How many records behind it is. */
static uint64_t
lag_of(const struct supervisor *s, const struct found *f)
{
	uint64_t head = ring_head(s->ring), cursor;

	if (!(f->slot.flags & SLOT_LAGGING))
		return 0;
	cursor = slot_cursor(&f->slot, head);
	return cursor < head ? head - cursor : 0;
}

/* Subscriptions of a slot: copied one by one, since the worker may change them. */
static bool
sub_at(const struct found *f, unsigned i, struct sub *ret)
{
	const struct slot *s = &f->slot;
	const struct sub *array;

	if (s->subs_log == 0 || s->subs == 0) {
		*ret = s->sub0;
		return i == 0;
	}
	array = table_arena_peek(
	    f->look->table, s->subs, ((size_t)i + 1) * sizeof(struct sub));
	if (array == NULL)
		return false;
	*ret = array[i];
	return true;
}

/* A worker's channel's name, copied. Returns its length, 0 when there is none. */
static size_t
channel_name(const struct worker_look *look, uint32_t idx, char *name)
{
	struct channel c;
	const char *in_arena;

	if (idx >= look->nchannels)
		return 0;
	memcpy(&c, &look->table->channels[idx], sizeof(c));
	if (c.state == CHANNEL_FREE || c.name_len > CHANNEL_NAME_MAX)
		return 0;
	in_arena = table_arena_peek(look->table, c.name, c.name_len);
	if (in_arena == NULL)
		return 0;
	memcpy(name, in_arena, c.name_len);
	return utf8_valid(name, c.name_len) ? c.name_len : 0;
}

static json_t *
channel_list(const struct found *f)
{
	json_t *list = json_array();
	char name[CHANNEL_NAME_MAX];
	struct sub sub;

	for (unsigned i = 0; i < f->slot.nsubs && sub_at(f, i, &sub); i++) {
		size_t len = channel_name(f->look, sub.channel, name);

		if (len > 0)
			(void)json_array_append_new(list, json_stringn(name, len));
	}
	return list;
}

/* Whose connection it is, copied. Returns the name's length, 0 when nobody is known. */
static size_t
user_of(const struct found *f, char *user)
{
	const struct identity *in_arena =
	    table_arena_peek(f->look->table, f->slot.identity, sizeof(*in_arena));
	uint16_t len;

	if (in_arena == NULL)
		return 0;
	memcpy(&len, &in_arena->subject_len, sizeof(len));
	if (len > REVOKED_TEXT_MAX ||
	    table_arena_peek(f->look->table, f->slot.identity,
		offsetof(struct identity, text) + len) == NULL)
		return 0;
	memcpy(user, in_arena->text, len);
	return utf8_valid(user, len) ? len : 0;
}

static json_t *
user_json(const struct found *f)
{
	char user[REVOKED_TEXT_MAX];
	size_t len = user_of(f, user);

	return len == 0 ? NULL : json_stringn(user, len);
}

static json_t *
client_object(const struct supervisor *s, const struct found *f, bool names)
{
	char id[20];

	(void)snprintf(id, sizeof(id), "%016" PRIx64, f->slot.client);
	return json_pack("{s:s, s:i, s:o, s:o*, s:b, s:b, s:s, s:b, s:s, s:o, s:o, s:o,"
			 " s:o, s:o, s:o}",
	    "client", id, "worker", (int)f->worker, "address", address_text(&f->slot),
	    "user", user_json(f), "tls", (int)((f->slot.flags & SLOT_TLS) != 0), "ktls",
	    (int)((f->slot.marks & SLOT_KTLS) != 0), "protocol", proto_name(&f->slot),
	    "deflate", (int)dialect_is_deflated(f->slot.dialect), "state",
	    slot_state_name(f->slot.state), "opened", integer(f->slot.opened_s),
	    "channels", names ? channel_list(f) : json_integer(f->slot.nsubs), "sent",
	    integer(f->slot.sent), "received", integer(f->slot.received), "lag",
	    integer(lag_of(s, f)), "queued", integer(f->slot.out_bytes));
}

/* The index of a channel in a worker's table, or UINT32_MAX. */
static uint32_t
channel_find(const struct worker_look *look, const char *name, size_t len)
{
	uint32_t used = table_channels_used(look->table);
	char other[CHANNEL_NAME_MAX];

	for (uint32_t i = 0; i < used && i < look->nchannels; i++)
		if (channel_name(look, i, other) == len &&
		    memcmp(name, other, len) == 0)
			return i;
	return UINT32_MAX;
}

static bool
subscribed(const struct found *f, uint32_t channel)
{
	struct sub sub;

	for (unsigned i = 0; i < f->slot.nsubs && sub_at(f, i, &sub); i++)
		if (sub.channel == channel)
			return true;
	return false;
}

/* The next used slot from *at on. */
static bool
next_slot(struct found *f, uint32_t *at)
{
	uint32_t used = table_slots_used(f->look->table);

	if (used > f->look->nslots)
		used = f->look->nslots;
	while (*at < used) {
		const struct slot *s = &f->look->table->slots[(*at)++];

		if (slot_state(s) == SLOT_FREE)
			continue;
		memcpy(&f->slot, s, sizeof(f->slot));
		return true;
	}
	return false;
}

json_t *
report_client(const struct supervisor *s, uint64_t id, bool *ret_found)
{
	*ret_found = false;
	for (unsigned w = 0; w < s->nworkers; w++) {
		struct worker_look look;
		struct found f = {.look = &look, .worker = w};
		uint32_t at = 0;

		workers_look(s->workers, w, &look);
		while (look.table != NULL && next_slot(&f, &at)) {
			if (f.slot.client != id)
				continue;
			*ret_found = true;
			return json_pack("{s:o}", "client", client_object(s, &f, true));
		}
	}
	return NULL;
}

/* ---- channels ---- */

static json_t *
channel_object(const struct supervisor *s, uint32_t idx, uint32_t subscribers)
{
	size_t len;
	const char *name = registry_name(s->registry, idx, &len);

	return json_pack("{s:o, s:o, s:i, s:i, s:i, s:b}", "channel",
	    json_stringn(name, len), "offset",
	    integer(directory_offset(ring_directory(s->ring), idx)), "subscribers",
	    (int)subscribers, "workers", (int)registry_workers(s->registry, idx),
	    "tails", (int)registry_tails(s->registry, idx), "live",
	    (int)registry_live(s->registry, idx));
}

/* ---- lists, in slices ---- */

int
report_list_begin(const struct supervisor *s, enum report_kind kind, const char *name,
    size_t len, size_t limit, struct report_list *ret_list)
{
	struct report_list l = {.kind = kind,
	    .limit = limit == 0 || limit > REPORT_MAX ? REPORT_MAX : limit,
	    .named = name != NULL,
	    .name_len = len};

	if (name != NULL)
		memcpy(l.name, name, len);
	if (kind == REPORT_CHANNELS) {
		l.ncounts = registry_len(s->registry);
		l.counts = calloc((size_t)l.ncounts + 1, sizeof(*l.counts));
		if (l.counts == NULL)
			return -ENOMEM;
	}
	*ret_list = l;
	return 0;
}

void
report_list_done(struct report_list *l)
{
	free(l->counts);
	l->counts = NULL;
}

/* The next worker's turn. */
static void
next_worker(struct report_list *l)
{
	l->worker++;
	l->at = 0;
	l->found = false;
}

static bool
is_user(const struct found *f, const char *user, size_t len)
{
	char its[REVOKED_TEXT_MAX];

	return user_of(f, its) == len && memcmp(its, user, len) == 0;
}

/* Whether the next slot of this list's worker is to be shown; it is looked at. */
static bool
client_here(struct report_list *l, struct found *f)
{
	if (f->look->table != NULL && l->named && !l->found) {
		l->only = channel_find(f->look, l->name, l->name_len);
		l->found = true;
	}
	if (f->look->table == NULL || (l->named && l->only == UINT32_MAX) ||
	    !next_slot(f, &l->at)) {
		next_worker(l);
		return false;
	}
	return (!l->named || subscribed(f, l->only)) &&
	       (l->user_len == 0 || is_user(f, l->user, l->user_len));
}

static void
list_client(const struct supervisor *s, struct report_list *l, json_t *list)
{
	struct worker_look look;
	struct found f = {.look = &look, .worker = l->worker};

	workers_look(s->workers, l->worker, &look);
	if (client_here(l, &f) && l->total++ < l->limit)
		(void)json_array_append_new(list, client_object(s, &f, false));
}

/* Subscribers by directory index, summed over the workers' tables: their own hint. */
static void
count_subscribers(const struct supervisor *s, struct report_list *l)
{
	struct worker_look look;
	struct channel c;

	workers_look(s->workers, l->worker, &look);
	if (look.table == NULL || l->at >= look.nchannels ||
	    l->at >= table_channels_used(look.table)) {
		next_worker(l);
		return;
	}
	memcpy(&c, &look.table->channels[l->at++], sizeof(c));
	if (c.state == CHANNEL_LIVE && c.directory < l->ncounts)
		l->counts[c.directory] += c.nsubs;
}

static void
list_channel(const struct supervisor *s, struct report_list *l, json_t *list)
{
	uint32_t idx = l->at++;
	size_t len;
	const char *name;

	if (!registry_used(s->registry, idx))
		return;
	name = registry_name(s->registry, idx, &len);
	if (l->named && !glob_match(l->name, name, len))
		return;
	if (l->total++ < l->limit)
		(void)json_array_append_new(
		    list, channel_object(s, idx, l->counts[idx]));
}

json_t *
report_list_next(const struct supervisor *s, struct report_list *l, bool *ret_over)
{
	json_t *list = json_array();
	bool over = false;

	for (int i = 0; i < REPORT_SLICE && !over; i++) {
		if (l->kind == REPORT_CLIENTS && l->worker < s->nworkers)
			list_client(s, l, list);
		else if (l->kind == REPORT_CHANNELS && l->worker < s->nworkers)
			count_subscribers(s, l);
		else if (l->kind == REPORT_CHANNELS && l->at < l->ncounts)
			list_channel(s, l, list);
		else
			over = true;
	}
	*ret_over = over;
	return list;
}
