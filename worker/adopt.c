#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "proto/dialect.h"
#include "proto/journal.h"
#include "worker/adopt.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/identity.h"
#include "worker/out.h"
#include "worker/rates.h"
#include "worker/side.h"
#include "worker/tls.h"
#include "worker/tls_kernel.h"

#define SUBS_LOG_MAX 16 /* what nsubs can count */
#define BLOCKS_MAX                                                                     \
	100000 /* private frames or waits in one list: a longer one is a loop */

/* TCP states of include/net/tcp_states.h, as TCP_INFO gives them: those in which our
 * FIN is in the stream. */
static bool
fin_sent(const struct tcp_info *info)
{
	enum { FIN_WAIT1 = 4, FIN_WAIT2 = 5, LAST_ACK = 9, CLOSING = 11 };

	return info->tcpi_state == FIN_WAIT1 || info->tcpi_state == FIN_WAIT2 ||
	       info->tcpi_state == LAST_ACK || info->tcpi_state == CLOSING;
}

/*
 * How many bytes the kernel ever took from us on this socket, modulo 2^32: those that
 * the peer acknowledged and those still in the send queue. An acknowledgement between
 * the two questions would count twice or not at all, so ask until the first answer
 * stands. A FIN counts as a byte, and is none of ours. Returns 0 or -errno.
 */
static int
bytes_taken(const struct slot *s, uint32_t *ret_taken)
{
	struct tcp_info info;
	uint64_t acked;
	int queued, fd = s->fd;

	if (s->marks & SLOT_KTLS)
		return tls_kernel_taken(s, ret_taken);
	/* Nobody counted, so it is what we noted; unless that was yet to come. */
	if (s->marks & SLOT_UNCOUNTED) {
		*ret_taken = slot_tx(s) + s->part;
		return s->marks & SLOT_SENDING ? -ECONNABORTED : 0;
	}
	do {
		socklen_t len = sizeof(info);

		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			return -errno;
		acked = info.tcpi_bytes_acked;
		if (ioctl(fd, SIOCOUTQ, &queued) < 0)
			return -errno;
		len = sizeof(info);
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
			return -errno;
	} while (info.tcpi_bytes_acked != acked);
	*ret_taken = (uint32_t)(acked + (uint64_t)queued) - fin_sent(&info);
	return 0;
}

/* ---- the arena ---- */

/* Whether a block that is as long as arena_len() says holds what it says it does. */
static bool
out_ok(void *block, size_t len)
{
	const struct out *o = block;

	return len >= sizeof(*o) && o->len <= len - sizeof(*o);
}

static bool
wait_ok(void *block, size_t len)
{
	struct wait *w = block;

	if (len < sizeof(*w) || w->id_len > len - sizeof(*w))
		return false;
	w->since_epoch[sizeof(w->since_epoch) - 1] = '\0';
	return true;
}

/* Mark a list of blocks whose first word refers to the next. What cannot be marked, or
 * is not what it should be, ends the list. Returns 0 or -EINVAL. */
static int
mark_list(struct worker *w, arena_ref *at, bool (*ok)(void *block, size_t len))
{
	for (int n = 0; *at != 0; n++) {
		if (n == BLOCKS_MAX || arena_mark(w->arena, *at) < 0 ||
		    !ok(arena_at(w->arena, *at), arena_len(w->arena, *at))) {
			*at = 0;
			return -EINVAL;
		}
		at = arena_at(w->arena, *at);
	}
	return 0;
}

static int
mark_subs(struct worker *w, struct slot *s)
{
	if (s->subs_log == 0)
		return s->nsubs <= 1 ? 0 : -EINVAL;
	if (s->subs_log > SUBS_LOG_MAX || s->nsubs > slot_subs_cap(s) ||
	    arena_mark(w->arena, s->subs) < 0 ||
	    arena_len(w->arena, s->subs) < slot_subs_cap(s) * sizeof(struct sub))
		return -EINVAL;
	return 0;
}

/* Mark all that a slot refers to, and cut what it refers to wrongly. */
static int
mark_slot(struct worker *w, struct slot *s)
{
	int r = mark_subs(w, s);

	if (s->dialect >= DIALECT_COUNT) {
		s->dialect = DIALECT_RAW;
		s->nsubs = 0;
		r = -EINVAL;
	}
	if (r < 0) {
		s->nsubs = 0;
		s->subs_log = 0;
	}
	if (mark_list(w, &s->out, out_ok) < 0)
		r = -EINVAL;
	if (mark_list(w, &s->wait, wait_ok) < 0)
		r = -EINVAL;
	if (identity_mark(w, s) < 0)
		r = -EINVAL;
	if (rates_mark(w, s) < 0)
		r = -EINVAL;
	return r;
}

/* ---- the position ---- */

/* Where a connection is in its stream, while its predecessor's last send is retraced.
 */
struct trace {
	uint64_t cursor;
	uint32_t tx;
	uint32_t left; /* bytes that the kernel took behind tx */
	bool first;    /* no record's frame was stepped over */
};

/* Private frames that were sent whole, and whose end `pos` knows. */
static void
forget_sent(struct worker *w, struct slot *s, uint32_t tx)
{
	while (s->out != 0) {
		const struct out *o = arena_at(w->arena, s->out);

		if (!o->begun || (int32_t)(tx - (o->tx_begin + o->len)) < 0)
			return;
		out_unlink(w, s);
	}
}

/* Whether the next thing in the stream is the first private frame. */
static bool
private_next(const struct worker *w, const struct slot *s, const struct trace *t)
{
	const struct out *o;

	if (s->out == 0)
		return false;
	o = arena_at(w->arena, s->out);
	return o->begun || (int32_t)(o->at - (uint32_t)t->cursor) <= 0;
}

/* Step over one whole private frame, or stop inside it. */
static bool
retrace_private(struct worker *w, struct slot *s, struct trace *t)
{
	struct out *o = arena_at(w->arena, s->out);

	o->tx_begin = t->tx;
	o->begun = 1;
	if (t->left < o->len)
		return false;
	t->left -= o->len;
	t->tx += o->len;
	out_unlink(w, s);
	return true;
}

/* Step over the next record's frame, or stop inside it. Returns 1, 0, or -EPROTO when
 * the ring has nothing that these bytes could be. */
static int
retrace_record(struct worker *w, struct slot *s, struct trace *t)
{
	uint64_t end = ring_head(w->ring);
	struct out_walk at = {.number = t->cursor};
	const void *frame;
	size_t len;
	bool found;

	if (s->out != 0) {
		const struct out *o = arena_at(w->arena, s->out);

		end = t->cursor + (o->at - (uint32_t)t->cursor);
	}
	/* The first that a lagging one was sent is the record at `pos`:
	 * flush_records(). */
	found = out_next(w, s, end, (s->flags & SLOT_LAGGING) && !t->first, &at);
	if (!found && s->out == 0)
		return -EPROTO;
	t->cursor = at.number;
	if (!found)
		return 1; /* a private frame has its place here */
	len = side_frame(w, s->dialect, at.number, at.channel, &frame);
	if (len == 0)
		return -EPROTO;
	if (t->left < len)
		return 0;
	t->left -= (uint32_t)len;
	t->tx += (uint32_t)len;
	t->cursor = at.number + 1;
	t->first = false;
	return 1;
}

/*
 * Retrace what the kernel took behind `pos`: whole frames are passed over, and `part`
 * becomes what was sent of the one after. Returns 0 or -errno.
 */
static int
retrace(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	struct trace t = {
	    .cursor = out_cursor(w, slot), .tx = slot_tx(s), .first = true};
	uint32_t taken = 0;
	int r = bytes_taken(s, &taken);

	if (r < 0)
		return r;
	forget_sent(w, s, t.tx);
	t.left = taken - t.tx;
	for (r = 1; t.left > 0 && r > 0;)
		r = private_next(w, s, &t) ? retrace_private(w, s, &t)
					   : retrace_record(w, s, &t);
	if (r < 0)
		return r;
	slot_set_pos(s, (uint32_t)t.cursor, t.tx);
	s->part = t.left;
	return 0;
}

/* ---- slots ---- */

static void
count_private(struct worker *w, struct slot *s)
{
	s->out_bytes = 0;
	for (arena_ref ref = s->out; ref != 0;) {
		const struct out *o = arena_at(w->arena, ref);

		s->out_bytes += o->len;
		ref = o->next;
	}
}

/* Set a connection going again. */
static void
resume(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	bool was_lagging = s->flags & SLOT_LAGGING;
	bool reading = s->flags & SLOT_READING;
	bool fatal = (s->marks & SLOT_SERVING) && (s->marks & SLOT_SUSPECT);

	s->flags &= (uint8_t)~SLOT_READING;
	if (s->marks & SLOT_SERVING)
		s->marks = (uint8_t)((s->marks & ~SLOT_SERVING) | SLOT_SUSPECT);
	if (client_resume(w, slot) < 0) {
		client_close(w, slot, CLIENT_END_SERVER);
		return;
	}
	page_add(w->page, PAGE_adopted, 1);
	count_private(w, s);
	if (was_lagging) {
		page_add(w->page, PAGE_lagging, 1);
		out_renew(w, slot);
		fanout_lagging(w, slot);
		client_want_write(w, slot, true);
	} else if (s->part > 0 || s->out != 0) {
		out_set_lagging(w, slot);
	}
	/* What it sent was consumed, and not all of it was done. What came before its
	 * first frame was not: but two processes died of it, or chance met it twice. */
	if (fatal)
		client_close(w, slot, CLIENT_END_CRASH);
	else if (reading)
		client_end(w, slot, CLIENT_END_CRASH, 1012, "restarted");
}

/* Its SSL object has gone with the predecessor: nothing that could be sent would be
 * understood. */
static void
lose_tls(struct worker *w, uint32_t slot)
{
	if (slot_state(worker_slot(w, slot)) != SLOT_CLOSING)
		page_add(w->page, PAGE_tls_lost, 1);
	worker_slot(w, slot)->flags &= (uint8_t) ~(SLOT_TLS | SLOT_LAGGING);
	worker_slot(w, slot)->marks &= (uint8_t)~SLOT_KTLS;
	if (client_resume(w, slot) == 0)
		client_close(w, slot, CLIENT_END_SERVER);
}

static void
adopt_slot(struct worker *w, uint32_t slot, bool whole)
{
	int r = whole ? channels_adopt_slot(w, slot) : -EINVAL;

	if ((worker_slot(w, slot)->flags & SLOT_TLS) && !tls_adopt(w, slot)) {
		lose_tls(w, slot);
		return;
	}
	if (r == 0)
		r = retrace(w, slot);
	if (r == 0) {
		resume(w, slot);
		return;
	}
	(void)log_limited(&w->trouble_log, (uint64_t)w->tick * TICK_MS, LOG_WARNING, r,
	    "worker %u: cannot go on with a connection, closing it", w->index);
	if (client_resume(w, slot) == 0)
		client_close(w, slot, CLIENT_END_CRASH);
}

/* A slot with a descriptor that can be no client's is nobody's: to close it would take
 * what others have under that number. */
static bool
is_taken(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	if (slot_state(s) == SLOT_FREE)
		return false;
	if (s->fd >= w->first_fd && slot_state(s) <= SLOT_CLOSING)
		return true;
	(void)log_limited(&w->trouble_log, (uint64_t)w->tick * TICK_MS, LOG_WARNING, 0,
	    "worker %u: slot %u holds no connection, forgetting it", w->index, slot);
	slot_set_state(s, SLOT_FREE);
	return false;
}

int
adopt_all(struct worker *w)
{
	uint32_t used = table_slots_used(&w->table);
	uint8_t *whole = calloc(1, used + 1);
	int r;

	if (whole == NULL)
		return -ENOMEM;
	/* All marks come before the first allocation. */
	page_set(w->page, PAGE_lagging, 0);
	r = channels_adopt(w);
	for (uint32_t i = 0; r == 0 && i < used; i++)
		if (is_taken(w, i))
			whole[i] = mark_slot(w, worker_slot(w, i)) == 0;
	for (uint32_t i = 0; r == 0 && i < used; i++)
		if (slot_state(worker_slot(w, i)) != SLOT_FREE)
			adopt_slot(w, i, whole[i]);
	if (r == 0)
		channels_adopted(w);
	free(whole);
	return r;
}
