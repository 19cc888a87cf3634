/*
 * presence.h - who is in the channels whose rule has presence: told to those who are
 * there, and to whoever asks.
 *
 *   members.c   who that is
 *   hosts.c     what the hosts that share a Redis tell each other of it
 *
 * Workers say who comes and goes (proto/uplink.h); each host tells its own subscribers,
 * by records of the ring. An answer goes the same way, so answers may take a share of
 * the ring each second and no more: past it, who asks is refused.
 */
#ifndef WSCAST_SUPERVISOR_PRESENCE_H
#define WSCAST_SUPERVISOR_PRESENCE_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/journal.h"
#include "supervisor/fifo.h"
#include "supervisor/members.h"

struct hosts;
struct settings;
struct supervisor;
struct uplink;

#define PRESENCE_PAGE_MAX 1000          /* members of one answer */
#define PRESENCE_PAGE_BYTES (96u << 10) /* of them as JSON, about */

struct presence {
	struct supervisor *s;
	struct members members;
	struct member_source *workers; /* [s->nworkers] */
	struct hosts *hosts;           /* NULL: we are alone */
	struct fifo pushes;            /* that wait for room in the ring */
	uint64_t joins, leaves;        /* that were told */
	uint64_t lost;                 /* pushes that were not, as too many waited */
	uint64_t answers_refused;      /* beyond the share of the ring */
	uint64_t budget, budget_ms;    /* bytes of answers; when it was reckoned */
	struct log_limit limit;
	ev_timer timer; /* runs while somebody is away, or other hosts are known */
};

int presence_new(struct supervisor *s, struct presence **ret)
    __attribute__((warn_unused_result));
void presence_free(struct presence *p);
/* Other settings hold: only read now. */
void presence_reload(struct presence *p, const struct settings *settings);

/* A worker's JOIN, LEAVE, MEMBERS_BEGIN, MEMBERS_END or PRESENCE. Returns 0, or
 * -ENOBUFS when it is to come again once there is room in the ring. */
int presence_uplink(struct presence *p, unsigned worker, const struct uplink *u)
    __attribute__((warn_unused_result));
/* The worker is gone, with all its connections. */
void presence_worker_gone(struct presence *p, unsigned worker);

/* There is room in the ring again. */
void presence_resume(struct presence *p);
/* The hosts' links are up / one of them said something / tell them what is new, once a
 * turn / we stop. */
void presence_hosts_up(struct presence *p);
void presence_hear(struct presence *p, const char *text, size_t len);
void presence_flush(struct presence *p);
void presence_bye(struct presence *p);

/* A page of those in a channel, as JSON in memory of its own; NULL: no memory. limit 0:
 * PRESENCE_PAGE_MAX. */
char *presence_page(struct presence *p, struct slice channel, uint64_t after,
    size_t limit, size_t *ret_len);

/* For hosts.c: the timer is needed. */
void presence_watch(struct presence *p);

#endif
