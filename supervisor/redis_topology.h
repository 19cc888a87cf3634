/*
 * redis_topology.h - what sentinels and nodes of a cluster say of their servers.
 *
 * Source   Redis: SENTINEL MASTER, CLUSTER SLOTS
 */
#ifndef WSCAST_SUPERVISOR_REDIS_TOPOLOGY_H
#define WSCAST_SUPERVISOR_REDIS_TOPOLOGY_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/redis_url.h"

#define REDIS_NODES_MAX 255

struct redis_master {
	struct redis_address address;
	uint64_t epoch; /* rises with each failover: who says a lower one is behind */
};

/* The answer to SENTINEL MASTER NAME. Returns false when it is none. */
bool redis_master_parse(const redisReply *reply, struct redis_master *ret_master);

struct redis_cluster {
	struct redis_address node[REDIS_NODES_MAX]; /* masters */
	unsigned nnodes;
	uint8_t owner[REDIS_SLOTS]; /* 1 + index of the node; 0: none */
};

/* The answer to CLUSTER SLOTS. asked: who gave it, and means himself where he names no
 * host. Returns false when it is none, or names no node. */
bool redis_cluster_parse(const redisReply *reply, const struct redis_address *asked,
    struct redis_cluster *ret_cluster);

/* Whether an error says that this server is not, or not now, the one for it. */
bool redis_is_elsewhere(const redisReply *error);

/* Whether both say the same. */
bool redis_cluster_is(const struct redis_cluster *a, const struct redis_cluster *b);
bool redis_address_is(const struct redis_address *a, const struct redis_address *b);

#endif
