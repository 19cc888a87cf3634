/* redis_topology.c - see redis_topology.h */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/redis_topology.h"

bool
redis_address_is(const struct redis_address *a, const struct redis_address *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0 &&
	       strcmp(a->path, b->path) == 0;
}

/* What another server says is looked up and connected to: only what a URL may hold. */
static bool
host_set(struct redis_address *a, const char *host, size_t len)
{
	static const char chars[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "0123456789.-_:";

	if (len == 0 || len >= sizeof(a->host) || strspn(host, chars) != len)
		return false;
	memcpy(a->host, host, len + 1);
	return true;
}

static const char *
value_of(const redisReply *r, const char *name)
{
	for (size_t i = 0; i + 1 < r->elements; i += 2)
		if (r->element[i]->str != NULL && strcmp(r->element[i]->str, name) == 0)
			return r->element[i + 1]->str;
	return NULL;
}

bool
redis_master_parse(const redisReply *reply, struct redis_master *ret_master)
{
	struct redis_master m = {.epoch = 0};
	const char *host, *port, *epoch;
	unsigned long n;

	if (reply->type != REDIS_REPLY_ARRAY)
		return false;
	host = value_of(reply, "ip");
	port = value_of(reply, "port");
	epoch = value_of(reply, "config-epoch");
	if (host == NULL || port == NULL || !host_set(&m.address, host, strlen(host)))
		return false;
	n = strtoul(port, NULL, 10);
	if (n == 0 || n > UINT16_MAX)
		return false;
	m.address.port = (uint16_t)n;
	m.epoch = epoch != NULL ? strtoull(epoch, NULL, 10) : 0;
	*ret_master = m;
	return true;
}

/* [HOST, PORT, ...]: its place among the nodes, from 1; 0 when it is none. */
static unsigned
node_of(struct redis_cluster *c, const redisReply *r, const struct redis_address *asked)
{
	struct redis_address a = {.port = 0};

	if (r->elements < 2 || r->element[1]->type != REDIS_REPLY_INTEGER ||
	    r->element[1]->integer < 1 || r->element[1]->integer > UINT16_MAX)
		return 0;
	a.port = (uint16_t)r->element[1]->integer;
	if (r->element[0]->str == NULL || r->element[0]->len == 0)
		memcpy(a.host, asked->host, sizeof(a.host));
	else if (!host_set(&a, r->element[0]->str, r->element[0]->len))
		return 0;
	for (unsigned i = 0; i < c->nnodes; i++)
		if (redis_address_is(&c->node[i], &a))
			return i + 1;
	if (c->nnodes == REDIS_NODES_MAX)
		return 0;
	c->node[c->nnodes++] = a;
	return c->nnodes;
}

bool
redis_cluster_parse(const redisReply *reply, const struct redis_address *asked,
    struct redis_cluster *ret_cluster)
{
	struct redis_cluster *c = ret_cluster;

	memset(c, 0, sizeof(*c));
	if (reply->type != REDIS_REPLY_ARRAY)
		return false;
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *range = reply->element[i];
		long long from, to;
		unsigned node;

		if (range->elements < 3 ||
		    range->element[0]->type != REDIS_REPLY_INTEGER ||
		    range->element[1]->type != REDIS_REPLY_INTEGER)
			return false;
		from = range->element[0]->integer;
		to = range->element[1]->integer;
		node = node_of(c, range->element[2], asked);
		if (from < 0 || to < from || to >= REDIS_SLOTS)
			return false;
		memset(c->owner + from, (int)node, (size_t)(to - from + 1));
	}
	return c->nnodes > 0;
}

bool
redis_cluster_is(const struct redis_cluster *a, const struct redis_cluster *b)
{
	if (a->nnodes != b->nnodes || memcmp(a->owner, b->owner, sizeof(a->owner)) != 0)
		return false;
	for (unsigned i = 0; i < a->nnodes; i++)
		if (!redis_address_is(&a->node[i], &b->node[i]))
			return false;
	return true;
}

bool
redis_is_elsewhere(const redisReply *error)
{
	static const char *const words[] = {"READONLY", "MOVED", "ASK", "TRYAGAIN",
	    "CLUSTERDOWN", "MASTERDOWN", "LOADING"};
	size_t len = strcspn(error->str, " ");

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i]) == len && memcmp(error->str, words[i], len) == 0)
			return true;
	return false;
}
