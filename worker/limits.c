/* limits.c - see limits.h */
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "proto/address.h"
#include "proto/journal.h"
#include "shm/launch.h"
#include "shm/map.h"
#include "worker/limits.h"

#define FDS_KEPT 32   /* the loop, io_uring, pidfds: a dozen, and more to come */
#define FDS_MIN 8     /* connections, whatever the limit of descriptors */
#define ARENA_KEPT 16 /* 1/16 of it is for those who are here already */

/* One address: named by a keyed hash, which nobody can aim at. */
struct host {
	uint64_t hash; /* 0 = none */
	uint32_t n;
};

/* How often an address has come of late. Those of one set, which the hash names, are
 * looked through; one without events (hash 0) is full of nothing. */
#define KNOCK_SETS 4096
#define KNOCK_WAYS 8
struct knock {
	uint64_t hash;
	uint32_t at;
};

struct limits {
	struct knock (*knocks)[KNOCK_WAYS]; /* [KNOCK_SETS], touched when used */
	uint32_t knock_cost, knock_burst;
	struct host *hosts; /* open addressing, at most half full; NULL: no limit */
	uint32_t mask;
	uint32_t per_host;
	uint32_t handshake_cost, handshake_burst, handshake_at;
	uint8_t key[crypto_shorthash_KEYBYTES];
};

/* ---- rates ---- */

/* Whether the bucket, of this room, takes one more event. */
static bool
take(uint32_t tick, uint32_t *at, uint64_t cost, uint64_t room)
{
	uint32_t now = tick * TICK_MS * (LIMITS_SECOND / 1000);
	int32_t ahead = (int32_t)(*at - now);

	if (room > INT32_MAX / 2)
		room = INT32_MAX / 2;
	/* The tick is coarse: what is due within one may come at any time of it. */
	room += TICK_MS * (LIMITS_SECOND / 1000);
	/* Idle for longer than the word can tell, it may look full: what could not have
	 * come about by events counts as empty. */
	if (ahead < 0 || (uint64_t)ahead > room + cost)
		ahead = 0;
	if ((uint64_t)ahead + cost > room)
		return false;
	*at = now + (uint32_t)ahead + (uint32_t)cost;
	return true;
}

bool
limits_rate(uint32_t tick, uint32_t *at, uint32_t cost, uint32_t burst)
{
	return take(tick, at, cost, (uint64_t)cost * burst);
}

bool
limits_bytes(uint32_t tick, uint32_t *at, uint32_t rate, uint32_t burst, size_t len)
{
	uint64_t room = (uint64_t)burst * LIMITS_SECOND / rate;
	uint64_t cost = ((uint64_t)len * LIMITS_SECOND + rate / 2) / rate;

	if (room > INT32_MAX / 2)
		room = INT32_MAX / 2;
	/* What never fits would never pass: it takes all there is. */
	return take(tick, at, cost < room ? cost : room, room);
}

bool
limits_rate_empty(uint32_t tick, uint32_t at)
{
	return (int32_t)(at - tick * TICK_MS * (LIMITS_SECOND / 1000)) <= 0;
}

bool
limits_handshake(const struct worker *w)
{
	struct limits *l = w->limits;

	return l->handshake_cost == 0 || limits_rate(w->tick, &l->handshake_at,
					     l->handshake_cost, l->handshake_burst);
}

/* ---- room ---- */

uint32_t
limits_share(uint32_t limit, unsigned nworkers)
{
	uint64_t even = ((uint64_t)limit + nworkers - 1) / nworkers, root = 0, share;

	while (root * root < even)
		root++;
	share = even + 3 * root;
	return nworkers == 1 || share > limit ? limit : (uint32_t)share;
}

uint32_t
limits_descriptors(unsigned nlisteners)
{
	uint32_t kept = LAUNCH_LISTENERS + nlisteners + FDS_KEPT;
	struct rlimit nofile;

	if (getrlimit(RLIMIT_NOFILE, &nofile) < 0 || nofile.rlim_cur > UINT32_MAX)
		return UINT32_MAX;
	return nofile.rlim_cur > kept + FDS_MIN ? (uint32_t)nofile.rlim_cur - kept
						: FDS_MIN;
}

bool
limits_memory(const struct worker *w)
{
	uint64_t len = w->table.header->arena_len;

	return arena_used(w->arena) < len - len / ARENA_KEPT;
}

/* ---- addresses ---- */

static uint64_t
host_hash(const struct limits *l, const struct slot *s)
{
	size_t len = s->family == AF_INET ? 4 : 8;
	uint8_t name[1 + 8];
	uint64_t hash;

	name[0] = s->family;
	memcpy(name + 1, s->addr, len);
	(void)crypto_shorthash((unsigned char *)&hash, name, 1 + len, l->key);
	return hash != 0 ? hash : 1;
}

static bool
is_counted(const struct worker *w, const struct slot *s)
{
	/* Until its PROXY header has come, it is known by its proxy alone. */
	if ((s->marks & (SLOT_PROXY | SLOT_PROXIED)) == SLOT_PROXY ||
	    (s->family != AF_INET && s->family != AF_INET6))
		return false;
	return !network_list_has(w->settings->trusted_proxies, s->family, s->addr);
}

/* Where the host is, or would be. */
static uint32_t
host_find(const struct limits *l, uint64_t hash)
{
	uint32_t i = (uint32_t)hash & l->mask;

	while (l->hosts[i].hash != 0 && l->hosts[i].hash != hash)
		i = (i + 1) & l->mask;
	return i;
}

/* Take an entry out, and move those behind it up that could not be found any more. */
static void
host_remove(struct limits *l, uint32_t i)
{
	uint32_t j = i;

	for (;;) {
		j = (j + 1) & l->mask;
		if (l->hosts[j].hash == 0)
			break;
		/* It may not pass the place that its hash names. */
		if (((j - (uint32_t)l->hosts[j].hash) & l->mask) >=
		    ((j - i) & l->mask)) {
			l->hosts[i] = l->hosts[j];
			i = j;
		}
	}
	l->hosts[i] = (struct host){0};
}

bool
limits_enter(const struct worker *w, const struct slot *s)
{
	struct limits *l = w->limits;
	struct host *host;
	uint64_t hash;

	if (l->hosts == NULL || !is_counted(w, s))
		return true;
	hash = host_hash(l, s);
	host = &l->hosts[host_find(l, hash)];
	host->hash = hash;
	host->n++;
	return host->n <= l->per_host;
}

void
limits_leave(const struct worker *w, const struct slot *s)
{
	struct limits *l = w->limits;
	uint32_t i;

	if (l->hosts == NULL || !is_counted(w, s))
		return;
	i = host_find(l, host_hash(l, s));
	if (l->hosts[i].n > 1)
		l->hosts[i].n--;
	else if (l->hosts[i].n == 1)
		host_remove(l, i);
}

/* The address' own, or that of the set which is emptiest, made its own. */
static struct knock *
knock_find(const struct limits *l, uint64_t hash, uint32_t now)
{
	struct knock *set = l->knocks[hash % KNOCK_SETS], *emptiest = set;

	for (unsigned i = 0; i < KNOCK_WAYS; i++) {
		if (set[i].hash == hash)
			return &set[i];
		if ((int32_t)(set[i].at - now) < (int32_t)(emptiest->at - now))
			emptiest = &set[i];
	}
	*emptiest = (struct knock){.hash = hash, .at = now};
	return emptiest;
}

bool
limits_knock(const struct worker *w, const struct slot *s)
{
	const struct limits *l = w->limits;
	uint32_t now = w->tick * TICK_MS * (LIMITS_SECOND / 1000);
	struct knock *k;

	if (l->knock_cost == 0 || !is_counted(w, s))
		return true;
	k = knock_find(l, host_hash(l, s), now);
	return limits_rate(w->tick, &k->at, l->knock_cost, l->knock_burst);
}

/* ---- all of them ---- */

static int
hosts_make(struct limits *l, uint32_t nslots)
{
	uint32_t n = 64;

	/* Each slot can be of another host, and one that is about to be refused. */
	while (n < 2 * (uint64_t)(nslots + 1) && n < 1u << 31)
		n *= 2;
	l->mask = n - 1;
	return map_private(n * sizeof(*l->hosts), (void **)&l->hosts);
}

/* What one of n workers allows of a rate of the host; a cost of 0 is any rate. */
static void
rate_share(uint32_t rate, unsigned nworkers, uint32_t *ret_cost, uint32_t *ret_burst)
{
	*ret_cost =
	    rate == 0 ? 0 : (uint32_t)((uint64_t)LIMITS_SECOND * nworkers / rate);
	*ret_burst = limits_share(rate, nworkers);
}

static void
hosts_drop(struct limits *l)
{
	map_close(l->hosts, ((size_t)l->mask + 1) * sizeof(*l->hosts));
	l->hosts = NULL;
}

/* Take over what the settings say of rates and numbers. */
static void
set_limits(const struct worker *w, struct limits *l)
{
	const struct settings *set = w->settings;

	l->per_host = limits_share(set->max_connections_per_ip, w->nworkers);
	rate_share(set->max_handshakes_per_second, w->nworkers, &l->handshake_cost,
	    &l->handshake_burst);
	rate_share(set->max_handshakes_per_second_per_ip, w->nworkers, &l->knock_cost,
	    &l->knock_burst);
}

int
limits_new(const struct worker *w, struct limits **ret)
{
	struct limits *l = calloc(1, sizeof(*l));
	int r;

	if (l == NULL)
		return -ENOMEM;
	crypto_shorthash_keygen(l->key);
	set_limits(w, l);
	r = map_private(KNOCK_SETS * sizeof(*l->knocks), (void **)&l->knocks);
	if (r == 0 && w->settings->max_connections_per_ip != 0)
		r = hosts_make(l, w->table.header->nslots);
	if (r < 0) {
		limits_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

/* Who is here stays, however many there are of an address. */
static void
count_again(struct worker *w)
{
	uint32_t used = table_slots_used(&w->table);

	for (uint32_t i = 0; i < used; i++)
		if (slot_state(worker_slot(w, i)) != SLOT_FREE)
			(void)limits_enter(w, worker_slot(w, i));
}

void
limits_reload(struct worker *w, const struct settings *old)
{
	const struct settings *set = w->settings;
	struct limits *l = w->limits;
	int r = 0;

	set_limits(w, l);
	if ((set->max_connections_per_ip == 0) == (l->hosts == NULL) &&
	    strcmp(set->trusted_proxies, old->trusted_proxies) == 0)
		return; /* the counts go on to hold */
	hosts_drop(l);
	if (set->max_connections_per_ip != 0)
		r = hosts_make(l, w->table.header->nslots);
	if (r < 0)
		log_error(r, "cannot count connections by address: "
			     "max_connections_per_ip is not heeded");
	count_again(w);
}

void
limits_free(struct limits *l)
{
	if (l == NULL)
		return;
	map_close(l->knocks, KNOCK_SETS * sizeof(*l->knocks));
	hosts_drop(l);
	free(l);
}
