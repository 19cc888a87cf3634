/*
 * uplink.h - what a worker asks of the supervisor, in its upstream ring. The
 * answers come as records of the main ring, in order with the messages.
 *
 * All of it is untrusted: uplink_parse() checks each bound.
 */
#ifndef WSCAST_PROTO_UPLINK_H
#define WSCAST_PROTO_UPLINK_H

#include <stddef.h>
#include <stdint.h>

enum uplink_type {
	/* A new serving process names all its channels again: WANTs follow, and what
	 * was not among them by UPLINK_SYNC_END is dropped. */
	UPLINK_SYNC_BEGIN = 1,
	UPLINK_SYNC_END = 2,
	/* A channel has its first subscriber here. Answered by RING_SUBSCRIBED or
	 * RING_REFUSED with arg = token; by nothing when `directory` is right. */
	UPLINK_WANT = 3,
	UPLINK_DROP = 4, /* ... has lost its last */
	UPLINK_PUBLISH =
	    5, /* answered by RING_ACK: offset = cookie, arg = 0 or errno */
	UPLINK_EXPELLED = 6, /* RING_EXPEL number `token` closed `cookie` connections */
	/* In a channel whose rule has presence: a connection subscribed, or its token
	 * became another; it is there no longer. */
	UPLINK_JOIN = 7,
	UPLINK_LEAVE = 8,
	/* All members are named again: what had no JOIN between is there no longer. */
	UPLINK_MEMBERS_BEGIN = 9,
	UPLINK_MEMBERS_END = 10,
	UPLINK_PRESENCE = 11, /* who is there? Answered by RING_ANSWER or RING_ACK */
};

#define UPLINK_USER_MAX 200
#define UPLINK_INFO_MAX 1024

#define UPLINK_NO_DIRECTORY UINT32_MAX

struct uplink {
	uint32_t type;      /* enum uplink_type */
	uint32_t slot;      /* PUBLISH, PRESENCE: who asks; echoed in RING_ACK's channel
			     * field */
	uint32_t cookie;    /* PUBLISH, EXPELLED, PRESENCE; JOIN: how many bytes of data
			     * are the user's name, the rest is JSON */
	uint32_t directory; /* WANT: what the worker believes, or UPLINK_NO_DIRECTORY;
			     * PRESENCE: how many at most */
	uint64_t token; /* WANT, EXPELLED; JOIN, LEAVE: the client's id; PRESENCE: those
			 * behind this place */
	const char *channel;
	size_t channel_len; /* where there is one: 1 to 200 */
	const char *key;    /* PUBLISH: up to MESSAGE_KEY_MAX bytes, 0 = none */
	size_t key_len;
	const void *data; /* PUBLISH, JOIN */
	size_t data_len;
};

size_t uplink_len(const struct uplink *u);
/* Write uplink_len() bytes; the type goes beside them, in the upstream ring. */
void uplink_put(const struct uplink *u, void *out);
/* Returns 0 or -EBADMSG; channel, key and data point into buf. A name is checked as
 * name_ok() does. */
int uplink_parse(uint32_t type, const void *buf, size_t len, struct uplink *ret)
    __attribute__((warn_unused_result));

#endif
