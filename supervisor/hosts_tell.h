/*
 * hosts_tell.h - what this host tells the others of its members: in a hash of its own,
 * and by messages. The form is that of hosts.h.
 */
#ifndef WSCAST_SUPERVISOR_HOSTS_TELL_H
#define WSCAST_SUPERVISOR_HOSTS_TELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"
#include "supervisor/fifo.h"
#include "supervisor/peers.h"

#define HOSTS_KEY PEERS_KEY "presence:" /* and a node: its hash */
#define HOSTS_KEY_MAX (sizeof(HOSTS_KEY) + PEERS_NODE_LEN)
#define HOSTS_PAGES_MAX 100000      /* no hash that we would take has more */
#define HOSTS_SET PEERS_KEY "hosts" /* the nodes that have one */

struct presence;

struct hosts_tell {
	struct presence *p;
	struct fifo untold; /* fields, malloc'd */
	bool rebuild;       /* all of ours is told anew */
	bool stale;         /* the hash may have members that are gone */
	bool sweeping;      /* it is being read for such */
	bool stopping;
	uint64_t beat_ms;
};

void hosts_tell_init(struct hosts_tell *t, struct presence *p);
void hosts_tell_done(struct hosts_tell *t);

/* The key of a node's hash: HOSTS_KEY_MAX bytes. Returns its length. */
size_t hosts_key(const char *node, char *key);
/* HSCAN it. Returns as peers_command() does. */
int hosts_scan(struct peers *peers, const char *node, const char *cursor,
    peers_reply *on_reply, void *owner, uint64_t tag)
    __attribute__((warn_unused_result));
/* The fields and values that it gave, and the next cursor, "0": there is no more. NULL:
 * it gave none. */
const redisReply *hosts_scanned(const redisReply *reply, const char **ret_cursor);

/* A member of ours came, changed or went. */
void hosts_tell_changed(struct hosts_tell *t, struct slice channel, uint64_t client);
/* All that is new, once a turn. */
void hosts_tell_flush(struct hosts_tell *t);
/* That we are here, and how many we have; why: "hello", "bye" or NULL. */
void hosts_tell_beat(struct hosts_tell *t, const char *why);
/* Some times in presence.expiry: so, and our hash lives on for as long again. What
 * Redis did not take before is told again. */
void hosts_tell_live(struct hosts_tell *t);
/* A hash that has no end dies in presence.expiry, unless its host lives. */
void hosts_tell_expire(struct hosts_tell *t, const char *node);
/* We stop: no more is told. */
void hosts_tell_bye(struct hosts_tell *t);

#endif
