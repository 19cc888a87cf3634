/*
 * report.h - what wsctl is shown: status, and the rest as in proto/control.h. All of it
 * is a copy; what workers wrote is bounded first.
 */
#ifndef WSCAST_SUPERVISOR_REPORT_H
#define WSCAST_SUPERVISOR_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/directory.h"
#include "shm/revoked.h"

struct supervisor;

#define REPORT_MAX 100000 /* clients or channels in one reply; the rest is counted */

/* Each returns a new reference, or NULL without memory. */
json_t *report_status(const struct supervisor *s);
json_t *report_version(void);
json_t *report_workers(const struct supervisor *s);
json_t *report_drain(const struct supervisor *s); /* null: none */

/* One client by its id; *ret_found tells whether it is there. */
json_t *report_client(const struct supervisor *s, uint64_t id, bool *ret_found);
/*
 * A list of all clients, or channels: looked through a slice at a time, since there may
 * be a million. What comes and goes meanwhile may be in it or not.
 */
#define REPORT_SLICE 1024
enum report_kind { REPORT_CLIENTS, REPORT_CHANNELS };

struct report_list {
	enum report_kind kind;
	size_t limit;
	uint64_t total; /* of those that match */
	bool named;
	char
	    name[CHANNEL_NAME_MAX + 1]; /* CLIENTS: of this channel. CHANNELS: a glob */
	size_t name_len;
	char user[REVOKED_TEXT_MAX]; /* CLIENTS: of this user; user_len 0: of any */
	size_t user_len;
	unsigned worker; /* being looked through */
	uint32_t at;     /* the next of its slots, or channels */
	bool found;      /* `only` is its index of the channel */
	uint32_t only;
	uint32_t *counts; /* CHANNELS: subscribers of each */
	uint32_t ncounts;
};

/* name: NULL, or of at most CHANNEL_NAME_MAX bytes; copied. limit 0: REPORT_MAX.
 * Returns 0 or -ENOMEM; then report_list_done(). Who wants one user's clients alone
 * puts the user there before the first slice. */
int report_list_begin(const struct supervisor *s, enum report_kind kind,
    const char *name, size_t len, size_t limit, struct report_list *ret_list)
    __attribute__((warn_unused_result));
void report_list_done(struct report_list *l);
/* The objects of the next slice, an array that may be empty; NULL: no memory. */
json_t *report_list_next(
    const struct supervisor *s, struct report_list *l, bool *ret_over);

#endif
