/*
 * hosts.h - presence on several hosts that share a Redis (peers.h).
 *
 * Each host keeps all members of all, and answers from that. It has one hash in Redis,
 * PREFIX{!}presence:NODE, with a field for each of its members, and publishes what
 * changes in it on PREFIX!presence, batch by batch (proto/presence.h, hosts_tell.h).
 *
 * "n" and "sum" say what it has with that. Three times in presence.expiry it says so
 * also when nothing changed, and renews the hash's expiry with one command. Whoever
 * counts otherwise, since it lost a message or came later, reads the hash. A host that
 * is silent for presence.expiry is gone, with its members. The set PREFIX{!}hosts has
 * the nodes of all: a host that starts reads what those have that cannot answer any
 * more, and how long it holds.
 *
 *   "busy":true    there is more: do not count yet
 *   "hello":true   the host has come: the others say what they have
 *   "bye":true     the host stops: its members may come again elsewhere
 */
#ifndef WSCAST_SUPERVISOR_HOSTS_H
#define WSCAST_SUPERVISOR_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

struct hosts;
struct presence;

struct hosts_counts {
	unsigned hosts;     /* other ones that are known now */
	uint64_t silent;    /* dropped for that */
	uint64_t malformed; /* messages, and members in them, that were none */
	uint64_t scans;     /* of a host's hash, as we counted otherwise */
};

#define HOSTS_MAX 1024

/* p: borrowed. All others take NULL: then we are alone. */
int hosts_new(struct presence *p, struct hosts **ret)
    __attribute__((warn_unused_result));
void hosts_free(struct hosts *h); /* and drop what others have */

/* The peers' links are up: all is told, and asked, anew. */
void hosts_up(struct hosts *h);
/* What came on !presence; it may be anything. */
void hosts_hear(struct hosts *h, const char *text, size_t len);
/* A member of ours came, changed or went. */
void hosts_changed(struct hosts *h, struct slice channel, uint64_t client);
/* Once a turn: tell it. */
void hosts_flush(struct hosts *h);
void hosts_bye(struct hosts *h);
void hosts_look(const struct hosts *h, struct hosts_counts *ret);
/* A few times a second. Returns whether it is to be called again. */
bool hosts_tick(struct hosts *h);

#endif
