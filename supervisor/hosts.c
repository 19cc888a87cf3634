/* hosts.c - see hosts.h */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/presence.h"
#include "supervisor/hosts.h"
#include "supervisor/hosts_tell.h"
#include "supervisor/peers.h"
#include "supervisor/presence.h"
#include "supervisor/supervisor.h"

#define BEATS 3        /* in an expiry */
#define STALL_MS 1000  /* a tick that comes so late */
#define NO_EXPIRY (-1) /* as PTTL says */
#define NO_KEY (-2)

/* Another host. */
struct host {
	char node[PEERS_NODE_LEN + 1];
	uint64_t number; /* never used again: for answers of Redis */
	struct member_source members;
	uint64_t heard_ms;
	bool stopped;  /* it said so */
	bool scanning; /* its hash is being read */
	unsigned pages;
};

struct hosts {
	struct presence *p;
	struct host *host[HOSTS_MAX];
	unsigned nhosts;
	uint64_t last_number;
	struct hosts_tell tell;
	uint64_t ticked_ms;
	struct hosts_counts counts;
	struct log_limit limit;
};

static struct peers *
peers_of(const struct hosts *h)
{
	return h->p->s->peers;
}

static uint32_t
expiry_ms(const struct hosts *h)
{
	return h->p->s->settings->presence_expiry_ms;
}

/* ---- what others have ---- */

static struct host *
host_find(const struct hosts *h, const char *node)
{
	for (unsigned i = 0; i < h->nhosts; i++)
		if (strcmp(h->host[i]->node, node) == 0)
			return h->host[i];
	return NULL;
}

static struct host *
host_take(struct hosts *h, const char *node)
{
	struct host *host = host_find(h, node);

	if (host != NULL || h->nhosts == HOSTS_MAX)
		return host;
	host = calloc(1, sizeof(*host));
	if (host == NULL)
		return NULL;
	memcpy(host->node, node, PEERS_NODE_LEN);
	host->number = ++h->last_number;
	member_source_init(&host->members, false);
	h->host[h->nhosts++] = host;
	presence_watch(h->p);
	return host;
}

static void
host_drop(struct hosts *h, unsigned i)
{
	struct host *host = h->host[i];

	h->host[i] = h->host[--h->nhosts];
	members_source_gone(&h->p->members, &host->members);
	free(host);
}

static void
bad(struct hosts *h, size_t len)
{
	h->counts.malformed++;
	(void)log_limited(&h->limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "%zu bytes on " PEERS_PRESENCE " are nothing that a host of ours says",
	    len);
}

static void
take(struct hosts *h, struct host *host, struct slice field, const json_t *value)
{
	struct presence_member m;
	struct member_said said;
	int r;

	if (presence_parse(field, value, &m) < 0) {
		bad(h, field.len);
		return;
	}
	said = (struct member_said){
	    .channel = m.channel,
	    .client = m.client,
	    .shown = m.shown,
	    .away = m.away,
	    .user = m.user,
	    .info = m.info,
	};
	r = members_set(&h->p->members, &host->members, &said, supervisor_now_ms());
	if (r < 0)
		(void)log_limited(&h->limit, supervisor_now_ms(), LOG_ERROR, r,
		    "too many members of channels: one more is not shown");
}

static void scan(struct hosts *h, struct host *host, const char *cursor);

static struct host *
host_numbered(const struct hosts *h, uint64_t number)
{
	for (unsigned i = 0; i < h->nhosts; i++)
		if (h->host[i]->number == number)
			return h->host[i];
	return NULL;
}

static void
take_page(struct hosts *h, struct host *host, const redisReply *page)
{
	for (size_t i = 0; i + 1 < page->elements; i += 2) {
		const redisReply *field = page->element[i];
		const redisReply *value = page->element[i + 1];
		json_t *v;

		if (field->str == NULL || value->str == NULL)
			continue;
		v = json_loadb(value->str, value->len, 0, NULL);
		take(h, host, (struct slice){field->str, field->len}, v);
		json_decref(v);
	}
}

static void
on_page(void *owner, uint64_t tag, const redisReply *r)
{
	struct hosts *h = owner;
	struct host *host = host_numbered(h, tag);
	const redisReply *page;
	const char *cursor;

	if (host == NULL)
		return;
	host->scanning = false; /* what is amiss shows with the next beat */
	page = hosts_scanned(r, &cursor);
	if (page == NULL)
		return;
	take_page(h, host, page);
	if (strcmp(cursor, "0") == 0 || ++host->pages > HOSTS_PAGES_MAX)
		members_named_all(&h->p->members, &host->members, supervisor_now_ms());
	else
		scan(h, host, cursor);
}

static void
scan(struct hosts *h, struct host *host, const char *cursor)
{
	host->scanning =
	    hosts_scan(peers_of(h), host->node, cursor, on_page, h, host->number) == 0;
}

static void
scan_begin(struct hosts *h, struct host *host)
{
	if (host->scanning || host->stopped)
		return;
	h->counts.scans++;
	host->pages = 0;
	members_name_all(&host->members);
	scan(h, host, "0");
}

/* ---- those that were here before us ---- */

static void
forget_node(struct hosts *h, const char *node)
{
	const char *argv[3] = {"SREM", HOSTS_SET, node};
	size_t lens[3] = {4, strlen(HOSTS_SET), strlen(node)};

	/* Whoever lives adds itself again. */
	(void)!peers_command(peers_of(h), 3, argv, lens, NULL, NULL, 0);
}

/* How long the hash of a host lives: so long ago did it give its last sign of life. */
static void
on_ttl(void *owner, uint64_t number, const redisReply *r)
{
	struct hosts *h = owner;
	char node[PEERS_NODE_LEN + 1];
	uint64_t expiry = expiry_ms(h), left;
	struct host *host;

	if (r == NULL || r->type != REDIS_REPLY_INTEGER)
		return;
	(void)snprintf(node, sizeof(node), "%016" PRIx64, number);
	if (r->integer == NO_KEY) {
		forget_node(h, node);
		return;
	}
	if (host_find(h, node) != NULL)
		return; /* we have heard it by now */
	host = host_take(h, node);
	if (host == NULL) {
		bad(h, strlen(node));
		return;
	}
	/* It has no end if the host died before it could give it one. */
	left = r->integer == NO_EXPIRY ? expiry : (uint64_t)r->integer;
	if (r->integer == NO_EXPIRY)
		hosts_tell_expire(&h->tell, node);
	host->heard_ms = supervisor_now_ms() - (left < expiry ? expiry - left : 0);
	scan_begin(h, host);
}

static void
ask_ttl(struct hosts *h, const char *node, uint64_t number)
{
	char key[HOSTS_KEY_MAX];
	const char *argv[2] = {"PTTL", key};
	size_t lens[2] = {4, hosts_key(node, key)};

	(void)!peers_command(peers_of(h), 2, argv, lens, on_ttl, h, number);
}

static void
on_set(void *owner, uint64_t tag, const redisReply *r)
{
	struct hosts *h = owner;

	if (r == NULL || r->type != REDIS_REPLY_ARRAY)
		return;
	for (size_t i = 0; i < r->elements && i < HOSTS_MAX; i++) {
		const redisReply *node = r->element[i];
		uint64_t number;

		if (node->str == NULL ||
		    !presence_parse_id((struct slice){node->str, node->len}, &number))
			bad(h, node->len);
		else if (strcmp(node->str, peers_node(peers_of(h))) != 0 &&
			 host_find(h, node->str) == NULL)
			ask_ttl(h, node->str, number);
	}
}

/* Those that live answer our hello; those that died a moment ago do not, and are shown
 * until their expiry, as everywhere else. */
static void
ask_set(struct hosts *h)
{
	const char *argv[2] = {"SMEMBERS", HOSTS_SET};
	size_t lens[2] = {8, strlen(HOSTS_SET)};

	(void)!peers_command(peers_of(h), 2, argv, lens, on_set, h, 0);
}

/* ---- what they say ---- */

static void
take_told(struct hosts *h, struct host *host, const struct presence_told *told)
{
	const json_t *item;
	const char *name;
	json_t *value;
	size_t i;

	json_object_foreach((json_t *)told->set, name, value)
	    take(h, host, (struct slice){name, strlen(name)}, value);
	json_array_foreach(told->del, i, item)
	{
		struct slice field = {
		    json_string_value(item), json_string_length(item)};
		struct slice channel;
		uint64_t client;

		if (field.p != NULL &&
		    presence_parse_field(field, &channel, &client) == 0)
			members_drop(&h->p->members, &host->members, channel, client);
		else
			bad(h, field.len);
	}
}

static void
hear_host(struct hosts *h, const struct presence_told *told)
{
	struct host *host = host_take(h, told->node);

	if (host == NULL) {
		bad(h, strlen(told->node));
		return;
	}
	host->heard_ms = supervisor_now_ms();
	take_told(h, host, told);
	if (told->bye) {
		host->stopped = true;
		members_source_leaves(&h->p->members, &host->members, host->heard_ms);
	} else if (!told->busy && (!told->counted || told->n != host->members.n ||
				      told->sum != host->members.sum)) {
		scan_begin(h, host);
	}
	if (told->hello && !h->tell.stopping && peers_up(peers_of(h)))
		hosts_tell_beat(&h->tell, NULL);
}

void
hosts_hear(struct hosts *h, const char *text, size_t len)
{
	struct presence_told told;

	if (h == NULL)
		return;
	if (presence_told_parse(text, len, &told) < 0) {
		bad(h, len);
		return;
	}
	if (strcmp(told.node, peers_node(peers_of(h))) != 0)
		hear_host(h, &told);
	presence_told_done(&told);
}

/* ---- life ---- */

void
hosts_up(struct hosts *h)
{
	if (h == NULL || h->tell.stopping)
		return;
	h->tell.rebuild = true;
	hosts_tell_flush(&h->tell);
	/* What they said meanwhile we have not heard: how they count now shows it. */
	for (unsigned i = 0; i < h->nhosts; i++)
		h->host[i]->heard_ms = supervisor_now_ms();
	ask_set(h);
	hosts_tell_beat(&h->tell, "hello");
	h->ticked_ms = supervisor_now_ms();
	presence_watch(h->p);
}

void
hosts_changed(struct hosts *h, struct slice channel, uint64_t client)
{
	if (h != NULL)
		hosts_tell_changed(&h->tell, channel, client);
}

void
hosts_flush(struct hosts *h)
{
	if (h != NULL)
		hosts_tell_flush(&h->tell);
}

void
hosts_bye(struct hosts *h)
{
	if (h != NULL)
		hosts_tell_bye(&h->tell);
}

void
hosts_look(const struct hosts *h, struct hosts_counts *ret)
{
	*ret = h != NULL ? h->counts : (struct hosts_counts){0};
	ret->hosts = h != NULL ? h->nhosts : 0;
}

static void
drop_silent(struct hosts *h, uint64_t now_ms)
{
	for (unsigned i = h->nhosts; i-- > 0;) {
		struct host *host = h->host[i];

		if (host->stopped && host->members.n == 0) {
			host_drop(h, i);
		} else if (now_ms - host->heard_ms >= expiry_ms(h)) {
			log_warning(0,
			    "host %s was not heard for %u ms: its %u members of "
			    "channels are gone",
			    host->node, expiry_ms(h), host->members.n);
			h->counts.silent++;
			host_drop(h, i);
		}
	}
}

bool
hosts_tick(struct hosts *h)
{
	uint64_t now_ms = supervisor_now_ms(), late_ms;

	if (h == NULL || h->tell.stopping)
		return false;
	late_ms = now_ms - h->ticked_ms;
	h->ticked_ms = now_ms;
	if (!peers_up(peers_of(h)))
		return true; /* nobody could be heard */
	/* We stood still, and what they said meanwhile waits to be read. */
	for (unsigned i = 0; late_ms > STALL_MS && i < h->nhosts; i++)
		h->host[i]->heard_ms = now_ms;
	if (now_ms - h->tell.beat_ms >= expiry_ms(h) / BEATS)
		hosts_tell_live(&h->tell);
	drop_silent(h, now_ms);
	return true;
}

int
hosts_new(struct presence *p, struct hosts **ret)
{
	struct hosts *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return -ENOMEM;
	h->p = p;
	hosts_tell_init(&h->tell, p);
	*ret = h;
	return 0;
}

void
hosts_free(struct hosts *h)
{
	if (h == NULL)
		return;
	while (h->nhosts > 0)
		host_drop(h, h->nhosts - 1);
	hosts_tell_done(&h->tell);
	free(h);
}
