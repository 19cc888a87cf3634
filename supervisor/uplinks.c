/* uplinks.c - what workers ask for: interest, and clients' messages; see workers.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "proto/journal.h"
#include "proto/uplink.h"
#include "supervisor/ctlsock.h"
#include "supervisor/keeper_link.h"
#include "supervisor/presence.h"

#define BATCH 256 /* messages taken in one turn */

/* What a worker may not do: it ends, with its connections. Its successor must find
 * nothing of it, so the ring is emptied first. */
static void
punish(struct keeper_link *k)
{
	log_error(0,
	    "worker %u wrote what no worker writes: it is killed, and started anew",
	    k->index);
	uplink_stop(k);
	upstream_reset(k->up);
	keeper_kill_all(k);
}

static int
publish(struct keeper_link *k, const struct uplink *u)
{
	struct supervisor *s = k->all->s;
	struct receipt receipt = {
	    .kind = RECEIPT_WORKER,
	    .worker = k->index,
	    .slot = u->slot,
	    .cookie = u->cookie,
	};
	const struct feed_publish m = {
	    .channel = {u->channel, u->channel_len},
	    .key = {u->key, u->key_len},
	    .data = {u->data, u->data_len},
	};
	int r = feed_publish(s->feed, &m, &receipt);

	if (r == -ENOBUFS)
		return r;
	if (r < 0)
		s->feed->env.on_done(s, &receipt, r);
	return 0;
}

/* Returns 0; -ENOBUFS when it must wait; -EBADMSG. */
static int
take(struct keeper_link *k, uint32_t type, const void *buf, size_t len)
{
	struct registry *reg = k->all->s->registry;
	struct uplink u;
	int r = uplink_parse(type, buf, len, &u);

	if (r < 0)
		return r;
	switch (type) {
	case UPLINK_SYNC_BEGIN:
		registry_sync_begin(reg, k->index);
		return 0;
	case UPLINK_SYNC_END:
		registry_sync_end(reg, k->index);
		return 0;
	case UPLINK_WANT:
		registry_want(
		    reg, k->index, u.channel, u.channel_len, u.token, u.directory);
		return 0;
	case UPLINK_DROP:
		registry_leave(reg, k->index, u.channel, u.channel_len);
		return 0;
	case UPLINK_PUBLISH:
		return publish(k, &u);
	case UPLINK_EXPELLED:
		ctlsock_expelled(k->all->s->ctlsock, k->index, u.token, u.cookie);
		return 0;
	default: /* what uplink_parse() lets through is no other's */
		return presence_uplink(k->all->s->presence, k->index, &u);
	}
}

/*
 * The next message. The worker could change it while it is looked at, so what is
 * checked is a copy.
 *
 * Returns 1 when one was taken, 0 when there is none, or as take().
 */
static int
next(struct keeper_link *k)
{
	struct workers *w = k->all;
	const void *buf;
	uint32_t type;
	size_t len;
	int r = upstream_next(k->up, &type, &buf, &len);

	if (r <= 0)
		return r;
	if (len > w->copy_len)
		return -EBADMSG; /* longer than any that upstream_max() allows */
	memcpy(w->copy, buf, len);
	r = take(k, type, w->copy, len);
	if (r < 0)
		return r;
	upstream_consume(k->up);
	return 1;
}

static void
drain(struct keeper_link *k)
{
	upstream_wake(k->up);
	for (int i = 0; i < BATCH; i++) {
		int r;

		if (k->all->s->publisher.blocked) {
			k->waits_for_room = true;
			return;
		}
		r = next(k);
		if (r == -ENOBUFS) {
			k->waits_for_room = true;
			return;
		}
		if (r < 0) {
			punish(k);
			return;
		}
		if (r == 0 && upstream_sleep(k->up))
			return;
	}
	/* More waits, and the worker takes us to be awake: ring for ourselves. */
	(void)eventfd_write(k->doorbell_fd, 1);
}

static void
on_doorbell(struct ev_loop *loop, ev_io *io, int revents)
{
	struct keeper_link *k = container_of(io, struct keeper_link, doorbell_io);
	eventfd_t rung;

	(void)eventfd_read(k->doorbell_fd, &rung);
	if (!k->waits_for_room)
		drain(k);
}

void
uplink_start(struct keeper_link *k)
{
	k->waits_for_room = false;
	ev_io_init(&k->doorbell_io, on_doorbell, k->doorbell_fd, EV_READ);
	ev_io_start(k->all->s->loop, &k->doorbell_io);
	/* The upstream ring begins with us awake: go to sleep in order. */
	(void)eventfd_write(k->doorbell_fd, 1);
}

void
uplink_stop(struct keeper_link *k)
{
	k->waits_for_room = false;
	if (k->doorbell_fd >= 0)
		ev_io_stop(k->all->s->loop, &k->doorbell_io);
}

void
uplink_resume(struct keeper_link *k)
{
	if (!k->waits_for_room)
		return;
	k->waits_for_room = false;
	drain(k);
}
