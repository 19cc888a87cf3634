/*
 * wsbench_judge.c - the first copy of a message in a process is taken apart
 * (wsbench_check.h), the others are compared with it, and each is held against what
 * its client had last.
 */
#include <string.h>
#include <sys/eventfd.h>

#include "tools/wsbench_clients.h"

void
judge_count(struct gen *g, struct client *c, bool add)
{
	const struct order *orders = client_orders(g, c);
	uint32_t channel;

	if (c->slow || c->counted == add)
		return;
	c->counted = add;
	for (unsigned k = 0; k < g->o->subscriptions; k++) {
		channel = options_channel(g->o, g->first + client_index(g, c), k);
		if (orders[k].seen != 0)
			OWN_ADD(g->sure[channel], add ? 1 : -1);
		else
			OWN_ADD(g->unsure[channel], add ? 1 : -1);
	}
}

static void
make_sure(struct gen *g, struct client *c, uint32_t channel)
{
	if (!c->counted)
		return;
	OWN_ADD(g->unsure[channel], -1);
	OWN_ADD(g->sure[channel], 1u);
}

static int
find_subscription(const struct gen *g, const struct client *c, uint32_t channel)
{
	const struct options *o = g->o;
	uint64_t at;

	if (o->channels == 1)
		return channel == 0 ? 0 : -1;
	at = options_channel(o, g->first + client_index(g, c), 0);
	for (unsigned k = 0; k < o->subscriptions; k++) {
		if (at == channel)
			return (int)k;
		at += o->stride;
		if (at >= o->channels)
			at -= o->channels;
	}
	return -1;
}

/* Not the next one of its channel. Returns false when it is a copy too many. */
static bool
out_of_turn(struct gen *g, struct client *c, struct order *o, const struct facts *f)
{
	uint32_t missing = 0;
	bool loose = o->seen == 0;

	if (loose)
		make_sure(g, c, f->channel);
	if (loose && o->next != 0 && f->seq >= o->next) {
		/* Back from being away: what it skipped was nobody's loss. */
		OWN_ADD(g->mine->away, f->seq - o->next);
		o->next = f->seq;
	}
	switch (order_arrived(o, f->seq, &missing)) {
	case ORDER_IN_TURN:
		break;
	case ORDER_GAP:
		OWN_ADD(g->mine->lost, missing);
		break;
	case ORDER_LATE:
		OWN_ADD(g->mine->reordered, 1u);
		OWN_ADD(g->mine->lost, -(uint64_t)1);
		break;
	case ORDER_REPEATED:
		if (loose)
			o->seen = 1; /* it is subscribed, whatever it was sent */
		OWN_ADD(g->mine->repeated, 1u);
		return false;
	}
	return true;
}

/* Note one more copy; tell the publisher when it was my last, if it waits for that. */
static void
mark_message(struct gen *g, const struct facts *f, uint64_t now_ns)
{
	struct mark *m = &g->mine->marks[f->msg % MARKS];
	uint32_t count = 0;

	if (OWN_GET(m->msg) == f->msg) {
		count = OWN_GET(m->count);
	} else {
		atomic_store_explicit(&m->count, 0, memory_order_release);
		atomic_store_explicit(&m->msg, f->msg, memory_order_release);
	}
	OWN_SET(m->last_ns, now_ns);
	atomic_store_explicit(&m->count, ++count, memory_order_release); /* M1 */
	if (count == OWN_GET(g->sure[f->channel]) && OWN_GET(g->s->pub.waiting))
		(void)eventfd_write(g->s->pub_fd, 1);
}

static void
deliver(struct gen *g, struct client *c, const struct known *k, uint64_t now_ns)
{
	struct gen_shared *mine = g->mine;
	int sub = find_subscription(g, c, k->facts.channel);
	struct order *o;

	if (sub < 0) {
		OWN_ADD(mine->foreign, 1u);
		return;
	}
	OWN_ADD(mine->received, 1u);
	OWN_ADD(mine->received_bytes, k->len);
	if (c->slow) {
		OWN_ADD(mine->slow_received, 1u);
		return;
	}
	o = client_orders(g, c) + sub;
	o->offset = k->offset;
	if (o->next == k->facts.seq && o->seen != 0) {
		o->next++;
		o->seen = o->seen << 1 | 1;
	} else if (!out_of_turn(g, c, o, &k->facts)) {
		return;
	}
	if (k->facts.time_ns < c->due_ns) {
		/* Published before it came back: its delay is not the server's. */
		OWN_ADD(mine->recovered, 1u);
		return;
	}
	if (k->measured) {
		OWN_ADD(mine->measured, 1u);
		OWN_SET(mine->last_measured_ns, now_ns);
		hist_add(&mine->latency, now_ns - k->facts.time_ns, 1);
	}
	mark_message(g, &k->facts, now_ns);
}

static void
on_subscribed(struct gen *g, struct client *c, const struct proto_message *m)
{
	struct order *o = client_orders(g, c) + m->sub;
	bool resumed = o->next != 0 && o->seen == 0;

	if (resumed && m->recovered) {
		OWN_ADD(g->mine->resumed, 1u);
		/* From here on, all that it missed must come. */
		o->seen = 1;
	} else if (resumed) {
		OWN_ADD(g->mine->told, m->missed);
	}
	if (m->offset > o->offset && !resumed)
		o->offset = m->offset;
	if (c->pending > 0 && --c->pending == 0) {
		OWN_ADD(g->mine->ready, 1u);
		judge_count(g, c, true);
	}
}

static void
on_gap(struct gen *g, struct client *c, const struct proto_message *m)
{
	struct order *o = client_orders(g, c) + m->sub;

	OWN_ADD(g->mine->told, m->missed);
	if (o->seen == 0 || !c->counted)
		return;
	/* The next one may be any. */
	OWN_ADD(
	    g->sure[options_channel(g->o, g->first + client_index(g, c), m->sub)], -1);
	OWN_ADD(g->unsure[options_channel(g->o, g->first + client_index(g, c), m->sub)],
	    1u);
	o->seen = 0;
}

/* A payload that this process had not seen: take it apart, and keep it. */
static void
first_copy(struct gen *g, struct client *c, const char *data, size_t len,
    const struct proto_message *m, uint64_t now_ns)
{
	struct known fresh = {.offset = m->offset, .len = len}, *k;
	uint32_t from = OWN_GET(g->s->pub.measured_from);

	if (check_read(m->payload, m->payload_len, &fresh.facts) < 0) {
		OWN_ADD(g->mine->altered, 1u);
		return;
	}
	if (fresh.facts.run != g->o->run || fresh.facts.channel >= g->o->channels) {
		OWN_ADD(g->mine->foreign, 1u);
		return;
	}
	fresh.measured = from != UINT32_MAX && fresh.facts.msg >= from;
	if (len >= CHECK_FACTS_LEN + 2 + g->proto->tail) {
		k = &g->known[check_slot(data + len - g->proto->tail - CHECK_TAIL_LEN)];
		if (check_keep(k, data, len) == 0) {
			k->facts = fresh.facts;
			k->offset = fresh.offset;
			k->measured = fresh.measured;
		}
	}
	deliver(g, c, &fresh, now_ns);
}

bool
judge_data(
    struct gen *g, struct client *c, const char *data, size_t len, uint64_t now_ns)
{
	size_t behind = g->proto->tail + CHECK_TAIL_LEN;
	struct proto_message m = {0};
	struct proto_conn pc;
	const struct known *k;

	if (len >= behind) {
		k = &g->known[check_slot(data + len - behind)];
		if (k->len == len && memcmp(k->bytes, data, len) == 0) {
			deliver(g, c, k, now_ns);
			return true;
		}
	}
	pc = client_proto(g, c);
	switch (g->proto->message(&pc, data, len, &m)) {
	case PROTO_NOTHING:
		break;
	case PROTO_PAYLOAD:
		first_copy(g, c, data, len, &m, now_ns);
		break;
	case PROTO_SUBSCRIBED:
		on_subscribed(g, c, &m);
		break;
	case PROTO_GAP:
		on_gap(g, c, &m);
		break;
	case PROTO_REFUSED:
		OWN_ADD(g->mine->refusals, 1u);
		break;
	case PROTO_ANSWER:
		conn_send(g, c, 1, m.answer, strlen(m.answer));
		break;
	case PROTO_BAD:
		conn_broken(g, c);
		return false;
	}
	return true;
}

void
judge_missing(struct gen *g)
{
	const struct order *o;
	uint32_t channel, last;

	for (uint32_t i = 0; i < g->n; i++) {
		if (g->clients[i].state != STATE_OPEN || !g->clients[i].counted)
			continue;
		for (unsigned k = 0; k < g->o->subscriptions; k++) {
			o = client_orders(g, &g->clients[i]) + k;
			channel = options_channel(g->o, g->first + i, k);
			last = OWN_GET(g->s->last_seq[channel]);
			if (o->seen != 0 && last >= o->next)
				OWN_ADD(g->mine->lost, last + 1 - o->next);
			else if (o->next == 0 && last > 0)
				OWN_ADD(g->mine->silent, 1u);
		}
	}
}
