/*
 * peers.h - what the hosts that share a Redis tell each other beside the messages: on
 * channels of their own, and in keys that outlive a host.
 *
 *   PREFIX!revoke        who is not to come in any more (expel.c)
 *   PREFIX!presence      who came and went (hosts.c)
 *   PREFIX{!}revoked     a sorted set: those who are not, until when
 *   PREFIX{!}hosts       a set: the nodes that have members
 *   PREFIX{!}presence:…  a hash for each node: its members
 *
 * All keys lie in one slot of a cluster, and so at one of its nodes.
 *
 * Over two links of its own, since it is needed with every source, and a listing of
 * many members must not stand before what clients publish. Names that begin with '!'
 * are no channel's (name_ok()), so no client gets at any of it.
 */
#ifndef WSCAST_SUPERVISOR_PEERS_H
#define WSCAST_SUPERVISOR_PEERS_H

#include <ev.h>
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/settings.h"
#include "proto/slice.h"

#define PEERS_NODE_LEN 16
#define PEERS_KEY "{!}" /* each key begins so, behind the prefix */
/* What all hosts hear. */
#define PEERS_REVOKE "!revoke"
#define PEERS_PRESENCE "!presence"

struct peers;

struct peers_events {
	/* Both links are up, and other hosts are heard from here on. */
	void (*on_up)(void *owner);
	/* name: without the prefix, with its '!'. Our own messages come back, too. */
	void (*on_message)(void *owner, struct slice name, struct slice data);
};

/* Without Redis (source = embedded) *ret_peers is NULL, which all others take, and is
 * never up. settings, events: borrowed. Returns 0, -EINVAL (logged) or -ENOMEM. */
int peers_new(struct ev_loop *loop, const struct settings *settings,
    const struct peers_events *events, void *owner, struct peers **ret_peers)
    __attribute__((warn_unused_result));
void peers_free(struct peers *p);

bool peers_up(const struct peers *p);
uint64_t peers_refused(const struct peers *p); /* commands, by Redis */
/* The name of this life of this host, PEERS_NODE_LEN characters: "" without peers. */
const char *peers_node(const struct peers *p);

/* The answer to a command; NULL: the link was lost, and Redis may have done it. */
typedef void peers_reply(void *owner, uint64_t tag, const redisReply *reply);

/*
 * Queue a command. Its first argument, a key or channel, is given the prefix.
 *
 * on_reply  may be NULL: an error is logged.
 *
 * Returns 0, -ENOTCONN, -ENOBUFS when too much waits already, or -ENOMEM.
 */
int peers_command(struct peers *p, int argc, const char *const *argv,
    const size_t *argvlen, peers_reply *on_reply, void *owner, uint64_t tag)
    __attribute__((warn_unused_result));
/* Whether so much waits that bulk work is to wait as well. */
bool peers_busy(const struct peers *p);
/* PUBLISH. Returns as peers_command() does. */
int peers_tell(struct peers *p, const char *name, const void *data, size_t len)
    __attribute__((warn_unused_result));

/* Once a turn of the loop: send what was collected. */
void peers_flush(struct peers *p);

#endif
