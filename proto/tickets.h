/*
 * tickets.h - the keys with which session tickets are sealed.
 *
 *   | newest | the one before | ... |    TICKET_KEYS keys, of zeros where none is yet
 *
 * Tickets are sealed with the newest, and opened with any: so a ticket outlives a
 * change of keys, and a key that was stolen opens nothing that is older than
 * TICKET_KEYS changes.
 *
 * Source   RFC 5077 §4, §5.5
 */
#ifndef WSCAST_PROTO_TICKETS_H
#define WSCAST_PROTO_TICKETS_H

#include <stdint.h>

#define TICKET_KEYS 3
#define TICKET_LIFETIME_S 7200 /* how long a client may come again with one */
#define TICKET_ROTATE_S                                                                \
	(4 * 60 * 60) /* more than that, or some would be for nothing                  \
		       */

struct ticket_key {
	uint8_t name[16]; /* in clear at the ticket's beginning; zeros: no key */
	uint8_t cipher[32];
	uint8_t mac[32];
};

struct tickets {
	struct ticket_key key[TICKET_KEYS];
};

#endif
