/*
 * wsbench_pub.c - sleeps until a message is due, or (saturation) until a generator says
 * that it has its last copy of one. It never spins: the cores belong to the others.
 *
 * A message is dated when it is put into the buffer that is written next; how far the
 * schedule is behind is reported apart from that.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "tools/wsbench_check.h"
#include "tools/wsbench_net.h"
#include "tools/wsbench_pub.h"
#include "tools/wsbench_via.h"

#define CONNS_MAX 512
/* A message of which no copy came for so long is not waited for any more: it is no part
 * of the fanout's times. Saturation does not wait even while copies still come. */
#define GIVE_UP_NS 10000000000u
#define GIVE_UP_SATURATED_NS 3000000000u
#define PROBE_NS 50000000u /* between two rounds of probing */
#define BACKLOG (4u << 20) /* bytes not taken: publish no more */
#define UNANSWERED 4096u   /* messages, likewise */
#define WAKE_TOKEN UINT32_MAX

struct pub {
	const struct options *o;
	struct shared *s;
	struct pub_shared *mine;
	const struct via *via;
	struct via_conn conns[CONNS_MAX];
	bool wants_out[CONNS_MAX];
	unsigned nconns;
	int epoll_fd;
	uint32_t *seqs;   /* [channel]: of the last message */
	uint32_t next;    /* message's number, from 1 */
	uint32_t oldest;  /* the first that may not be complete */
	uint32_t on_turn; /* channel */
	uint32_t step, phase;
	uint64_t random;
	double due_ns;           /* of the next message or burst */
	uint64_t probe_ns;       /* when to probe again */
	uint64_t probe_received; /* copies that had come when that was set */
	char *payload;
};

static uint32_t
next_random(struct pub *p)
{
	p->random ^= p->random << 13;
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return (uint32_t)(p->random >> 32);
}

static bool
saturates(const struct pub *p)
{
	return p->o->in_flight > 0;
}

/* -- one message ---------------------------------------------------------------- */

static size_t
pick_size(struct pub *p)
{
	const struct size_range *r = &p->o->size;

	return r->low +
	       (r->high > r->low ? next_random(p) % (r->high - r->low + 1) : 0);
}

static uint32_t
pick_channel(struct pub *p)
{
	if (p->o->random_channels)
		return next_random(p) % p->o->channels;
	p->on_turn = p->on_turn + 1 < p->o->channels ? p->on_turn + 1 : 0;
	return p->on_turn;
}

static void
put(struct pub *p, unsigned conn, const char *name, size_t len)
{
	if (p->via->put(p->o, &p->conns[conn], name, p->payload, len) < 0)
		p->conns[conn].failed = true;
}

static void
note_sent(struct pub *p, const struct facts *f, size_t len, bool measured)
{
	struct sent *sent = &p->mine->sent[f->msg % MARKS];

	*sent = (struct sent){
	    .at_ns = f->time_ns,
	    .msg = f->msg,
	    .channel = f->channel,
	    .expected = shared_sure(p->s, p->o, f->channel),
	    .measured = measured,
	};
	OWN_ADD(p->mine->published, 1u);
	if (!measured)
		return;
	if (OWN_GET(p->mine->measured) == 0)
		OWN_SET(p->mine->begin_ns, f->time_ns);
	OWN_SET(p->mine->end_ns, f->time_ns);
	OWN_ADD(p->mine->measured, 1u);
	OWN_ADD(p->mine->measured_bytes, len);
}

static void
publish(struct pub *p, uint32_t channel)
{
	char name[OPTIONS_NAME_MAX + 12];
	size_t len = pick_size(p);
	unsigned conn = p->via->to_all ? 0 : channel % p->nconns;
	bool measured = p->phase == PHASE_MEASURE;
	struct facts f = {
	    .msg = p->next++,
	    .seq = ++p->seqs[channel],
	    .channel = channel,
	    .run = p->o->run,
	    .publisher = (uint8_t)conn,
	};

	if (measured && OWN_GET(p->mine->measured_from) == UINT32_MAX)
		OWN_SET(p->mine->measured_from, f.msg);
	OWN_SET(p->s->last_seq[channel], f.seq);
	(void)options_channel_name(p->o, channel, name);
	f.time_ns = net_now_ns();
	check_write(&f, len, p->payload);
	note_sent(p, &f, len, measured);
	if (!p->via->to_all) {
		put(p, conn, name, len);
		return;
	}
	for (unsigned i = 0; i < p->nconns; i++)
		put(p, i, name, len);
}

/* -- what has arrived ----------------------------------------------------------- */

/* Whether all receivers of a message have it; *ret_last_ns: when the last one did. */
static bool
is_complete(const struct pub *p, const struct sent *sent, uint64_t *ret_last_ns)
{
	uint64_t last_ns = 0, at_ns;
	uint32_t count = 0, n;

	for (unsigned g = 0; g < p->o->processes; g++) {
		const struct mark *m = &p->s->gens[g].marks[sent->msg % MARKS];

		if (OWN_GET(m->msg) != sent->msg)
			continue;
		n = atomic_load_explicit(&m->count, memory_order_acquire); /* M1 */
		at_ns = OWN_GET(m->last_ns);
		count += n;
		if (n > 0 && at_ns > last_ns)
			last_ns = at_ns;
	}
	*ret_last_ns = last_ns;
	return count >= sent->expected;
}

/* Is it done, or given up? */
static bool
settle_message(struct pub *p, struct sent *sent, uint64_t now_ns)
{
	uint64_t last_ns, came_ns;
	bool complete;

	if (sent->done)
		return true;
	complete = is_complete(p, sent, &last_ns);
	came_ns = last_ns > sent->at_ns ? last_ns : sent->at_ns;
	if (complete) {
		if (sent->measured && sent->expected > 0)
			hist_add(&p->mine->fanout, last_ns - sent->at_ns, 1);
	} else if ((saturates(p) && now_ns - sent->at_ns > GIVE_UP_SATURATED_NS) ||
		   (now_ns > came_ns && now_ns - came_ns > GIVE_UP_NS) ||
		   p->next - sent->msg > MARKS - 4096) {
		if (sent->measured)
			OWN_ADD(p->mine->incomplete, 1u);
	} else {
		return false;
	}
	sent->done = true;
	return true;
}

/* Move on over all messages that are done. Returns how many are under way; only
 * saturation looks behind the first that is not, for others that may be. */
static unsigned
harvest(struct pub *p)
{
	uint64_t now_ns = net_now_ns();
	unsigned under_way = 0;

	while (p->oldest < p->next &&
	       settle_message(p, &p->mine->sent[p->oldest % MARKS], now_ns))
		p->oldest++;
	if (!saturates(p))
		return p->next - p->oldest;
	for (uint32_t msg = p->oldest; msg < p->next; msg++)
		under_way += !settle_message(p, &p->mine->sent[msg % MARKS], now_ns);
	return under_way;
}

/* -- when to publish ------------------------------------------------------------ */

/* Messages that nobody has answered for yet. */
static uint64_t
unanswered(const struct pub *p)
{
	uint64_t answered = 0;

	for (unsigned i = 0; i < p->nconns; i++)
		answered += p->conns[i].acked + p->conns[i].errors;
	if (p->via->to_all && p->nconns > 0)
		answered /= p->nconns;
	return OWN_GET(p->mine->published) - answered;
}

/* The server (or Redis) is behind: more would only wait in a buffer, with its date on
 * it. */
static bool
backlogged(const struct pub *p)
{
	if (unanswered(p) >= UNANSWERED)
		return true;
	for (unsigned i = 0; i < p->nconns; i++)
		if (p->conns[i].out.len - p->conns[i].sent + p->conns[i].later.len >
		    BACKLOG)
			return true;
	return false;
}

static void
flush(struct pub *p)
{
	struct epoll_event e = {0};
	struct via_conn *c;
	bool wants;

	for (unsigned i = 0; i < p->nconns; i++) {
		c = &p->conns[i];
		via_flush(p->via, p->o, c);
		wants = c->sent < c->out.len;
		if (wants != p->wants_out[i] && !c->failed) {
			e.events = EPOLLIN | (wants ? EPOLLOUT : 0u);
			e.data.u32 = i;
			(void)epoll_ctl(p->epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
			p->wants_out[i] = wants;
		}
	}
}

/* Publish what is due by the clock. Returns ns until the next is. */
static double
publish_due(struct pub *p)
{
	double now_ns = (double)net_now_ns();
	double step_ns = 1e9 / p->o->rate * p->o->burst;

	while (p->due_ns <= now_ns && !backlogged(p)) {
		if (now_ns - p->due_ns > (double)OWN_GET(p->mine->late_ns))
			OWN_SET(p->mine->late_ns, (uint64_t)(now_ns - p->due_ns));
		for (unsigned i = 0; i < p->o->burst; i++)
			publish(p, pick_channel(p));
		p->due_ns += step_ns;
		/* Seconds behind: no use in catching up with all of it. */
		if (now_ns - p->due_ns > 2e9)
			p->due_ns = now_ns;
	}
	return p->due_ns - (double)net_now_ns();
}

/* Keep in_flight messages under way. */
static double
publish_more(struct pub *p)
{
	unsigned under_way;

	/* Said before looking, so that a generator that finishes one meanwhile rings.
	 */
	atomic_store_explicit(&p->mine->waiting, 1, memory_order_seq_cst);
	under_way = harvest(p);
	while (under_way < p->o->in_flight && !backlogged(p)) {
		publish(p, pick_channel(p));
		under_way++;
	}
	return 20e6; /* a ring may be missed, when clients come and go */
}

static uint64_t
received_by_all(const struct pub *p)
{
	uint64_t received = 0;

	for (unsigned g = 0; g < p->o->processes; g++)
		received += OWN_GET(p->s->gens[g].received);
	return received;
}

/* Whether copies of the last round are still coming: with many clients one round may
 * take seconds, and another on top of it would teach nothing new. */
static bool
probes_under_way(struct pub *p, uint64_t now_ns)
{
	uint64_t received;

	if (now_ns < p->probe_ns || unanswered(p) > 0)
		return true;
	received = received_by_all(p);
	if (received == p->probe_received)
		return false;
	p->probe_received = received;
	p->probe_ns = now_ns + PROBE_NS;
	return true;
}

/* A message to each channel that has receivers who have shown nothing yet. */
static double
probe(struct pub *p)
{
	uint64_t now_ns = net_now_ns();
	uint32_t n = p->o->channels, unsure = 0, c = 0;

	(void)harvest(p);
	if (probes_under_way(p, now_ns))
		return PROBE_NS / 10.;
	/* From where the last round was cut off. */
	for (uint32_t i = 0; i < n; i++) {
		c = (p->on_turn + i) % n;
		if (shared_unsure(p->s, p->o, c) == 0)
			continue;
		unsure++;
		if (backlogged(p))
			break;
		publish(p, c);
	}
	p->on_turn = c;
	if (unsure == 0)
		atomic_store_explicit(&p->mine->step, p->step, memory_order_release);
	p->probe_ns = now_ns + PROBE_NS;
	return PROBE_NS;
}

/* Wait for what is under way. */
static double
quiet(struct pub *p)
{
	OWN_SET(p->mine->waiting, 0);
	(void)harvest(p);
	if (p->oldest < p->next || unanswered(p) > 0)
		return 1e6;
	atomic_store_explicit(&p->mine->step, p->step, memory_order_release); /* S1 */
	return 1e9;
}

static void
follow_phase(struct pub *p)
{
	uint32_t step = atomic_load_explicit(&p->s->step, memory_order_acquire);

	if (step == p->step)
		return;
	p->step = step;
	p->phase = OWN_GET(p->s->phase);
	p->due_ns = (double)net_now_ns();
	/* What a settling channel did not answer is no message of the next phase. */
	if (p->phase == PHASE_WARMUP)
		p->oldest = p->next;
}

/* Do what the phase asks for. Returns ns until there is more to do. */
static double
work(struct pub *p)
{
	double wait_ns = 1e9;

	follow_phase(p);
	switch (p->phase) {
	case PHASE_SETTLE:
		wait_ns = probe(p);
		break;
	case PHASE_WARMUP:
	case PHASE_MEASURE:
		if (saturates(p)) {
			wait_ns = publish_more(p);
		} else if (p->o->rate > 0) {
			wait_ns = publish_due(p);
			(void)harvest(p);
		}
		break;
	case PHASE_QUIET:
		wait_ns = quiet(p);
		break;
	default:
		break;
	}
	flush(p);
	return wait_ns < 0 ? 0 : wait_ns;
}

/* -- the loop ------------------------------------------------------------------- */

static void
count_answers(struct pub *p)
{
	uint64_t acked = 0, errors = 0;

	for (unsigned i = 0; i < p->nconns; i++) {
		acked += p->conns[i].acked;
		errors += p->conns[i].errors;
		if (p->conns[i].failed)
			OWN_SET(p->mine->failed, 1u);
	}
	OWN_SET(p->mine->acked,
	    p->via->to_all && p->nconns > 0 ? acked / p->nconns : acked);
	OWN_SET(p->mine->errors, errors);
}

static void
on_event(struct pub *p, const struct epoll_event *e)
{
	struct via_conn *c;
	eventfd_t rung;

	if (e->data.u32 == WAKE_TOKEN) {
		(void)eventfd_read(p->s->pub_fd, &rung);
		return;
	}
	c = &p->conns[e->data.u32];
	if (!c->failed && (e->events & ~(unsigned)EPOLLOUT) != 0)
		via_read(p->via, p->o, c);
	if (c->failed)
		(void)epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
}

static void
run_loop(struct pub *p)
{
	struct epoll_event events[64];
	struct timespec wait;
	double wait_ns;
	int n;

	while (OWN_GET(p->s->phase) != PHASE_EXIT) {
		wait_ns = work(p);
		wait.tv_sec = (time_t)(wait_ns / 1e9);
		wait.tv_nsec = (long)(wait_ns - (double)wait.tv_sec * 1e9);
		n = epoll_pwait2(p->epoll_fd, events, 64, &wait, NULL);
		for (int i = 0; i < n; i++)
			on_event(p, &events[i]);
		count_answers(p);
	}
}

static int
open_conns(struct pub *p)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = WAKE_TOKEN};
	int r;

	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll_fd < 0 ||
	    epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->s->pub_fd, &e) < 0)
		return -errno;
	for (unsigned i = 0; i < p->nconns; i++) {
		p->conns[i].fd = -1;
		r = p->via->open(p->o, i, &p->conns[i]);
		if (r < 0)
			return r;
		e.data.u32 = i;
		if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->conns[i].fd, &e) < 0)
			return -errno;
	}
	return 0;
}

static int
pub_init(struct pub *p)
{
	p->nconns = via_connections(p->via, p->o);
	p->next = p->oldest = 1; /* 0 is the empty mark's */
	p->seqs = calloc(p->o->channels, sizeof(*p->seqs));
	p->payload = malloc(p->o->size.high);
	if (p->seqs == NULL || p->payload == NULL)
		return -ENOMEM;
	if (getrandom(&p->random, sizeof(p->random), 0) != sizeof(p->random))
		return -EIO;
	p->random |= 1;
	return open_conns(p);
}

int
pub_main(const struct options *o, struct shared *s)
{
	static struct pub p;
	int r;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_NAME, "wsbench-pub");
	p.o = o;
	p.s = s;
	p.mine = &s->pub;
	p.via = via_find(o->publish);
	r = pub_init(&p);
	if (r < 0) {
		fprintf(stderr, "wsbench: publisher: %s\n", strerror(-r));
		OWN_SET(s->pub.failed, 1u);
		return 1;
	}
	run_loop(&p);
	for (unsigned i = 0; i < p.nconns; i++)
		via_close(&p.conns[i]);
	return 0;
}
