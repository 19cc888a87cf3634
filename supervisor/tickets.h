/*
 * tickets.h - the host's keys for TLS session tickets: drawn here, renewed every few
 * hours, and given to the workers with the settings.
 *
 * They are in no file, so a restart of the supervisor makes all tickets void: whoever
 * comes with one is let in by a whole handshake.
 */
#ifndef WSCAST_SUPERVISOR_TICKETS_H
#define WSCAST_SUPERVISOR_TICKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/tickets.h"

#define TICKETS_PART "tls.tickets" /* what the workers find them by: struct tickets */

struct ticket_keys {
	struct tickets tickets;
	uint64_t drawn_ms; /* when the newest was */
};

void ticket_keys_init(struct ticket_keys *k, uint64_t now_ms);

/* Draw a new one when it is time. Returns whether it was. */
bool ticket_keys_turn(struct ticket_keys *k, uint64_t now_ms);

#endif
