/* commands.c - what wsctl may ask; see ctlsock.h and proto/control.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/journal.h"
#include "proto/settings.h"
#include "shm/directory.h"
#include "supervisor/ctl_client.h"
#include "supervisor/metrics.h"
#include "supervisor/report.h"
#include "supervisor/supervisor.h"

#define CLIENTS_LIMIT 100
#define CHANNELS_LIMIT 1000
#define HISTORY_LIMIT 10
#define HISTORY_MAX 1000         /* messages of one answer */
#define HISTORY_BYTES (4u << 20) /* likewise, but for a longer one */
#define RESTART_MAX_MS 30000     /* for one worker */
#define RELOAD_MAX_MS 10000      /* for all of them */

/* ---- looking ---- */

static void
run_status(struct ctl_client *c)
{
	say_ok(c, report_status(c->sock->s));
}

static void
run_metrics(struct ctl_client *c)
{
	size_t len = 0;
	char *text = metrics_text(c->sock->s, &len);
	json_t *ok = text == NULL ? NULL : json_pack("{s:s#}", "text", text, (int)len);

	free(text);
	say_ok(c, ok);
}

static void
run_version(struct ctl_client *c)
{
	say_ok(c, report_version());
}

static void
run_workers(struct ctl_client *c)
{
	say_ok(c, report_workers(c->sock->s));
}

/* A list is sent as it is made: one line, whose pieces come turn by turn. */
static void
list_begin(struct ctl_client *c, enum report_kind kind, const char *name, size_t len,
    size_t limit)
{
	static const char *const heads[] = {
	    "{\"ok\":{\"clients\":[", "{\"ok\":{\"channels\":["};

	if (report_list_begin(c->sock->s, kind, name, len, limit, &c->list) < 0) {
		say_error(c, CONTROL_INTERNAL, "out of memory");
		return;
	}
	c->comma = false;
	c->waits = CTL_WAITS_LIST;
	client_put(c, heads[kind], strlen(heads[kind]));
}

static void
list_end(struct ctl_client *c)
{
	char tail[48];
	int len = snprintf(tail, sizeof(tail), "],\"total\":%llu}}\n",
	    (unsigned long long)c->list.total);

	report_list_done(&c->list);
	command_finish(c);
	client_put(c, tail, (size_t)len);
}

static void
list_turn(struct ctl_client *c)
{
	bool over;
	json_t *slice = report_list_next(c->sock->s, &c->list, &over);
	json_t *object;
	size_t i;

	if (slice == NULL)
		client_put(c, NULL, 0); /* no memory: it is let go */
	json_array_foreach(slice, i, object)
	{
		char *text = json_dumps(object, JSON_COMPACT);

		if (c->comma)
			client_put(c, ",", 1);
		client_put(c, text, text != NULL ? strlen(text) : 0);
		c->comma = true;
		free(text);
	}
	json_decref(slice);
	if (over)
		list_end(c);
}

static void
run_clients(struct ctl_client *c)
{
	const json_t *channel = json_object_get(c->request, "channel");
	const json_t *user = json_object_get(c->request, "user");
	const char *name = NULL, *text = NULL;
	size_t len = 0, user_len = 0;
	uint64_t limit;

	if (!command_count(c, "limit", CLIENTS_LIMIT, &limit))
		return;
	if (channel != NULL) {
		name = command_name(c, channel, "channel", &len);
		if (name == NULL)
			return;
	}
	if (user != NULL) {
		text = command_text(c, "user", &user_len);
		if (text == NULL)
			return;
	}
	list_begin(c, REPORT_CLIENTS, name, len, limit);
	if (text != NULL && c->waits == CTL_WAITS_LIST) {
		memcpy(c->list.user, text, user_len);
		c->list.user_len = user_len;
	}
}

static void
run_client(struct ctl_client *c)
{
	bool found;
	json_t *ok;
	uint64_t id;

	if (!command_client(c, &id))
		return;
	ok = report_client(c->sock->s, id, &found);
	if (found)
		say_ok(c, ok);
	else
		say_error(c, CONTROL_NOT_FOUND, "no client has the id %llx",
		    (unsigned long long)id);
}

static void
run_channels(struct ctl_client *c)
{
	const json_t *glob = json_object_get(c->request, "glob");
	uint64_t limit;

	if (!command_count(c, "limit", CHANNELS_LIMIT, &limit))
		return;
	if (glob != NULL &&
	    (!json_is_string(glob) || json_string_length(glob) > CHANNEL_NAME_MAX)) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "\"glob\" must be a pattern such as news:*, of at most %d bytes",
		    CHANNEL_NAME_MAX);
		return;
	}
	list_begin(c, REPORT_CHANNELS, json_string_value(glob),
	    json_string_length(glob), limit);
}

/* ---- publish ---- */

static void
say_publish_error(struct ctl_client *c, int err)
{
	struct feed_status feed;

	feed_look(c->sock->s->feed, &feed);
	switch (-err) {
	case ENOTCONN:
		say_error(c, CONTROL_FEED_DOWN, "the feed is down: %s", feed.why);
		break;
	case EMSGSIZE:
		say_error(c, CONTROL_BAD_REQUEST,
		    "the message is too long: at most %zu bytes with its frame (an "
		    "eighth of ring.size)",
		    ring_frame_max(c->sock->s->ring));
		break;
	case EACCES:
		say_error(c, CONTROL_FORBIDDEN,
		    "Redis forbids our user to publish to this channel");
		break;
	case ENOSPC:
		say_error(c, CONTROL_INTERNAL, "too many channels");
		break;
	case EPROTONOSUPPORT:
		say_error(c, CONTROL_BAD_REQUEST,
		    "Redis' pub/sub carries no key: leave it out, or set feed.source "
		    "to stream");
		break;
	default:
		say_error(c, CONTROL_INTERNAL, "not published: %s", strerror(-err));
	}
}

void
command_published(struct ctl_client *c, int err)
{
	const struct supervisor *s = c->sock->s;
	const json_t *channel = json_object_get(c->request, "channel");
	json_t *ok = json_object();
	uint32_t idx;

	if (err < 0) {
		json_decref(ok);
		say_publish_error(c, err);
		return;
	}
	/* With Redis between, only it knows which offset the message will have. */
	idx = registry_find(
	    s->registry, json_string_value(channel), json_string_length(channel));
	if (s->feed->ops->at_once && idx != UINT32_MAX)
		(void)json_object_set_new(ok, "offset",
		    json_integer(
			(json_int_t)directory_offset(ring_directory(s->ring), idx)));
	say_ok(c, ok);
}

static void
run_publish(struct ctl_client *c)
{
	struct receipt receipt = {.kind = RECEIPT_CONTROL, .client = c->number};
	const json_t *key = json_object_get(c->request, "key");
	struct feed_publish m = {.key = {NULL, 0}};
	void *data;
	int r;

	if (!command_may_change(c))
		return;
	m.channel.p = command_name(
	    c, json_object_get(c->request, "channel"), "channel", &m.channel.len);
	if (m.channel.p == NULL)
		return;
	if (key != NULL) {
		m.key = (struct slice){json_string_value(key), json_string_length(key)};
		if (m.key.len == 0 || m.key.len > MESSAGE_KEY_MAX) {
			say_error(c, CONTROL_BAD_REQUEST,
			    "\"key\" must be a string of 1 to 200 bytes");
			return;
		}
	}
	r = control_payload(c->request, &data, &m.data.len);
	if (r < 0) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "the message must be a string as \"data\", or \"base64\", not "
		    "both");
		return;
	}
	c->waits = CTL_WAITS_PUBLISH; /* the answer may come before this returns */
	m.data.p = data;
	r = feed_publish(c->sock->s->feed, &m, &receipt);
	free(data);
	if (r == -ENOBUFS)
		c->waits = CTL_WAITS_ROOM;
	else if (r < 0)
		say_publish_error(c, r);
}

/* ---- history ---- */

/* A message of the ring as a tail's line; we write the ring, so it is still there. */
static char *
past_line(const struct supervisor *s, uint64_t number, const char *name, size_t len,
    size_t *ret_len)
{
	const struct ring_desc *desc = ring_at(s->ring, number);
	struct message m = {
	    .channel = name,
	    .channel_len = len,
	    .offset = desc->offset,
	    .kind = desc->data_kind,
	};
	const void *frame;
	enum opcode op;

	if (ring_frames(s->ring, DIALECT_RAW, number, number + 1, &frame) == 0)
		return NULL;
	m.data_len = frame_payload(frame, &op, &m.data);
	return control_message(&m, desc->time_ns, ret_len);
}

/* The lines of the newest messages, as many as `limit` and HISTORY_BYTES allow:
 * lines[0] is the newest. Returns how many. */
static size_t
past_lines(const struct supervisor *s, uint32_t channel, size_t limit, char **lines,
    size_t *lens)
{
	uint64_t number = directory_newest(ring_directory(s->ring), channel);
	size_t len, n = 0, bytes = 0;
	const char *name = registry_name(s->registry, channel, &len);

	while (number != 0 && number >= ring_oldest(s->ring) && n < limit) {
		uint32_t prev = ring_at(s->ring, number)->prev;

		lines[n] = past_line(s, number, name, len, &lens[n]);
		if (lines[n] == NULL)
			break;
		bytes += lens[n];
		if (n > 0 && bytes > HISTORY_BYTES) {
			free(lines[n]);
			break;
		}
		n++;
		number = prev != 0 ? number - prev : 0;
	}
	return n;
}

static void
run_history(struct ctl_client *c)
{
	const struct supervisor *s = c->sock->s;
	char *lines[HISTORY_MAX];
	size_t lens[HISTORY_MAX], n = 0, len;
	const char *name;
	uint32_t channel;
	uint64_t limit;

	if (!command_count(c, "limit", HISTORY_LIMIT, &limit))
		return;
	name = command_name(c, json_object_get(c->request, "channel"), "channel", &len);
	if (name == NULL)
		return;
	channel = registry_find(s->registry, name, len);
	if (limit == 0 || limit > HISTORY_MAX)
		limit = HISTORY_MAX;
	if (channel != UINT32_MAX)
		n = past_lines(s, channel, limit, lines, lens);
	say_ok(c, json_pack("{s:I, s:s, s:I}", "messages", (json_int_t)n, "epoch",
		      ring_epoch(s->ring), "offset",
		      channel == UINT32_MAX ? (json_int_t)0
					    : (json_int_t)directory_offset(
						  ring_directory(s->ring), channel)));
	while (n > 0) {
		n--;
		client_reply(c, lines[n], lens[n]);
	}
}

/* ---- tail ---- */

static void
end_tails(struct ctl_client *c)
{
	while (c->ntails > 0)
		registry_untail(c->sock->s->registry, c->tails[--c->ntails]);
}

static bool
tails_live(const struct ctl_client *c)
{
	for (unsigned i = 0; i < c->ntails; i++)
		if (!registry_live(c->sock->s->registry, c->tails[i]))
			return false;
	return true;
}

void
command_live(struct ctl_client *c, uint32_t channel, int err)
{
	bool ours = false;

	for (unsigned i = 0; i < c->ntails; i++)
		ours = ours || c->tails[i] == channel;
	if (!ours || c->waits != CTL_WAITS_TAIL)
		return;
	if (err < 0) {
		end_tails(c);
		say_error(c, err == -EACCES ? CONTROL_FORBIDDEN : CONTROL_INTERNAL,
		    "the feed refuses the channel: %s", strerror(-err));
	} else if (tails_live(c)) {
		say_ok(c, json_object());
	}
}

static bool
tail_has(const struct ctl_client *c, uint32_t channel)
{
	for (unsigned i = 0; i < c->ntails; i++)
		if (c->tails[i] == channel)
			return true;
	return false;
}

/* Returns false when answered. */
static bool
tail_one(struct ctl_client *c, const json_t *value)
{
	struct registry *reg = c->sock->s->registry;
	size_t len;
	const char *name = command_name(c, value, "channels", &len);
	uint32_t channel;

	if (name == NULL) {
		end_tails(c);
		return false;
	}
	channel = registry_find(reg, name, len);
	if (channel != UINT32_MAX && tail_has(c, channel))
		return true;
	if (registry_tail(reg, name, len, &channel) < 0) {
		end_tails(c);
		say_error(c, CONTROL_INTERNAL, "too many channels");
		return false;
	}
	c->tails[c->ntails++] = channel;
	return true;
}

static void
run_tail(struct ctl_client *c)
{
	const json_t *list = json_object_get(c->request, "channels");
	struct feed_status feed;

	if (json_array_size(list) == 0 ||
	    json_array_size(list) + c->ntails > CTL_TAILS_MAX) {
		say_error(c, CONTROL_BAD_REQUEST,
		    "\"channels\" must be a list of 1 to %d channels", CTL_TAILS_MAX);
		return;
	}
	for (size_t i = 0; i < json_array_size(list); i++)
		if (!tail_one(c, json_array_get(list, i)))
			return;
	feed_look(c->sock->s->feed, &feed);
	/* While the feed is down nothing becomes live: what comes later is shown. */
	if (!feed.connected || tails_live(c))
		say_ok(c, json_object());
	else
		c->waits = CTL_WAITS_TAIL;
}

/* ---- restart ---- */

/* Begin with worker c->next. Returns false when answered. */
static bool
restart_one(struct ctl_client *c)
{
	struct worker_look look;

	workers_look(c->sock->s->workers, c->next, &look);
	if (workers_restart(c->sock->s->workers, c->next) < 0) {
		say_error(c, CONTROL_INTERNAL,
		    "worker %u is away: it is being started anew", c->next);
		return false;
	}
	c->healthy_before = look.healthy_count;
	c->adopted_before = page_get(look.page, PAGE_adopted);
	c->deadline_ms = supervisor_now_ms() + RESTART_MAX_MS;
	return true;
}

static void
run_restart(struct ctl_client *c)
{
	if (!command_may_change(c) || !command_workers(c, &c->next, &c->end))
		return;
	json_decref(c->restarted);
	c->restarted = json_array();
	c->waits = CTL_WAITS_RESTART;
	if (restart_one(c))
		log_notice("restart of %s asked for on the control socket",
		    c->end - c->next == c->sock->s->nworkers ? "all workers"
							     : "a worker");
}

static void
restart_turn(struct ctl_client *c)
{
	struct worker_look look;

	workers_look(c->sock->s->workers, c->next, &look);
	if (look.healthy_count == c->healthy_before || !look.healthy) {
		if (supervisor_now_ms() > c->deadline_ms)
			say_error(c, CONTROL_INTERNAL,
			    "worker %u did not come back in %d s; see the log", c->next,
			    RESTART_MAX_MS / 1000);
		return;
	}
	(void)json_array_append_new(c->restarted,
	    json_pack("{s:i, s:i, s:I}", "index", (int)c->next, "pid", (int)look.pid,
		"adopted",
		(json_int_t)(page_get(look.page, PAGE_adopted) - c->adopted_before)));
	c->next++;
	if (c->next < c->end) {
		(void)restart_one(c);
		return;
	}
	say_ok(c, json_pack("{s:o}", "workers", c->restarted));
	c->restarted = NULL;
}

/* ---- reload ---- */

static json_t *
names_json(const struct settings_names *l)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < l->n; i++)
		(void)json_array_append_new(list, json_string(l->name[i]));
	if (l->more > 0)
		(void)json_array_append_new(list, json_sprintf("and %u more", l->more));
	return list;
}

static void
say_faults(struct ctl_client *c, const struct faults *faults)
{
	size_t len = 0;
	char *line = control_faults(faults->line, faults->n, &len);

	command_finish(c);
	client_reply(c, line, len);
}

static void
run_reload(struct ctl_client *c)
{
	struct supervisor *s = c->sock->s;
	struct settings_changes changes;
	struct faults faults;

	if (!command_may_change(c))
		return;
	if (supervisor_reload(s, &changes, &faults) < 0) {
		say_faults(c, &faults);
	} else {
		json_decref(c->reloaded);
		c->generation = workers_settings(s->workers);
		c->reloaded = json_pack("{s:I, s:o, s:o}", "generation",
		    (json_int_t)c->generation, "changed", names_json(&changes.live),
		    "restart", names_json(&changes.restart));
		c->deadline_ms = supervisor_now_ms() + RELOAD_MAX_MS;
		c->waits = CTL_WAITS_RELOAD;
	}
	settings_changes_done(&changes);
	faults_done(&faults);
}

/* A worker that is away takes the newest when it comes. */
static void
reload_turn(struct ctl_client *c)
{
	const struct supervisor *s = c->sock->s;

	for (unsigned i = 0; i < s->nworkers; i++) {
		struct worker_look look;

		workers_look(s->workers, i, &look);
		if (look.state != KEEPER_RUNNING ||
		    page_settings(look.page) >= c->generation)
			continue;
		if (supervisor_now_ms() > c->deadline_ms)
			say_error(c, CONTROL_INTERNAL,
			    "the settings hold, but worker %u has not taken them in %d "
			    "s; see the log",
			    i, RELOAD_MAX_MS / 1000);
		return;
	}
	say_ok(c, c->reloaded);
	c->reloaded = NULL;
}

/* ---- all ---- */

static const struct {
	const char *name;
	void (*run)(struct ctl_client *c);
} commands[] = {
    {"status", run_status},
    {"version", run_version},
    {"maps", command_maps},
    {"metrics", run_metrics},
    {"workers", run_workers},
    {"clients", run_clients},
    {"client", run_client},
    {"channels", run_channels},
    {"publish", run_publish},
    {"history", run_history},
    {"tail", run_tail},
    {"restart", run_restart},
    {"reload", run_reload},
    {"config", command_config},
    {"log-level", command_log_level},
    {"drain", command_drain},
    {"undrain", command_undrain},
    {"kick", command_kick},
    {"revoke", command_revoke},
    {"presence", command_presence},
};

static void
say_unknown(struct ctl_client *c, const char *cmd)
{
	char names[400] = "";
	size_t len = 0;

	for (size_t i = 0;
	     i < sizeof(commands) / sizeof(commands[0]) && len < sizeof(names); i++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s",
		    i > 0 ? ", " : "", commands[i].name);
	say_error(c, CONTROL_BAD_REQUEST,
	    "unknown command \"%.40s\": this version has %s", cmd, names);
}

void
command_run(struct ctl_client *c)
{
	const char *cmd = json_string_value(json_object_get(c->request, "cmd"));

	c->waits = CTL_WAITS_NOT;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, cmd) == 0) {
			commands[i].run(c);
			return;
		}
	say_unknown(c, cmd);
}

void
command_turn(struct ctl_client *c)
{
	if (c->waits == CTL_WAITS_RESTART)
		restart_turn(c);
	else if (c->waits == CTL_WAITS_RELOAD)
		reload_turn(c);
	else if (c->waits == CTL_WAITS_EXPEL && supervisor_now_ms() > c->deadline_ms)
		command_expel_ends(c);
	else if (c->waits == CTL_WAITS_LIST && !c->gone)
		list_turn(c);
}

void
command_end(struct ctl_client *c)
{
	end_tails(c);
	report_list_done(&c->list);
	command_finish(c);
	json_decref(c->restarted);
	c->restarted = NULL;
	json_decref(c->reloaded);
	c->reloaded = NULL;
}
