/* expel_tell.c - see expel_tell.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "proto/revocation.h"
#include "supervisor/expel.h"
#include "supervisor/expel_tell.h"
#include "supervisor/supervisor.h"

#define UNTOLD_MAX 16384 /* 5 MB */
#define RETRY_MS 5000

struct untold {
	TAILQ_ENTRY(untold) of_list;
	bool ours; /* we are to tell the hosts that are there */
	bool told; /* they know it */
	uint64_t until_ms;
	struct revocation rev;
};

void
expel_tell_init(struct expel_tell *t)
{
	*t = (struct expel_tell){0};
	TAILQ_INIT(&t->asked);
	TAILQ_INIT(&t->later);
}

/* It is in no list any more. */
static void
forget(struct expel_tell *t, struct untold *u)
{
	t->n--;
	free(u);
}

void
expel_tell_done(struct expel_tell *t)
{
	uint64_t now_ms = supervisor_real_ms();
	unsigned lost = 0;
	struct untold *u, *next;

	TAILQ_CONCAT(&t->later, &t->asked, of_list);
	for (u = TAILQ_FIRST(&t->later); u != NULL; u = next) {
		next = TAILQ_NEXT(u, of_list);
		lost += u->until_ms > now_ms;
		forget(t, u);
	}
	if (lost > 0)
		log_warning(0,
		    "%u revocations were not kept by Redis: a host that starts from "
		    "now on does not know of them; revoke again",
		    lost);
}

/* ---- one try ---- */

static int
publish(struct supervisor *s, const struct untold *u)
{
	struct revocation ours = u->rev;
	uint64_t now_ms = supervisor_real_ms();
	char *message;
	int r = -ENOMEM;

	ours.for_ms = u->until_ms > now_ms ? u->until_ms - now_ms : 0;
	(void)snprintf(ours.node, sizeof(ours.node), "%s", peers_node(s->peers));
	message = revocation_told(&ours);
	if (message != NULL)
		r = peers_tell(s->peers, PEERS_REVOKE, message, strlen(message));
	free(message);
	return r;
}

static int
keep(struct supervisor *s, const struct untold *u, peers_reply *on_reply)
{
	char *member = revocation_kept(&u->rev);
	char score[24];
	const char *argv[4] = {"ZADD", EXPEL_TELL_KEY, score, member};
	size_t lens[4] = {4, strlen(EXPEL_TELL_KEY)};
	int r = -ENOMEM;

	lens[2] = (size_t)snprintf(
	    score, sizeof(score), "%llu", (unsigned long long)u->until_ms);
	if (member != NULL) {
		lens[3] = strlen(member);
		r = peers_command(
		    s->peers, 4, argv, lens, on_reply, s, (uint64_t)(uintptr_t)u);
	}
	free(member);
	return r;
}

static void
say_not_kept(struct supervisor *s, const char *follows)
{
	(void)log_limited(&s->expel_limit, supervisor_now_ms(), LOG_WARNING, 0,
	    "Redis did not keep a revocation: a host that starts now may not know of "
	    "it; %s",
	    follows);
}

/* tag: which it was. */
static void
on_kept(void *owner, uint64_t tag, const redisReply *r)
{
	struct supervisor *s = owner;
	struct expel_tell *t = &s->expel_tell;
	struct untold *u = (struct untold *)(uintptr_t)tag;

	TAILQ_REMOVE(&t->asked, u, of_list);
	if (r != NULL && r->type != REDIS_REPLY_ERROR) {
		forget(t, u);
		return;
	}
	/* With the link went what was told over it just before, perhaps. */
	u->told = u->told && (r != NULL || !u->ours);
	TAILQ_INSERT_TAIL(&t->later, u, of_list);
	say_not_kept(s, "it is tried again");
}

/* Move it to those that wait for an answer, or for the next try. */
static void
try(struct supervisor *s, struct untold *u)
{
	struct expel_tell *t = &s->expel_tell;

	u->told = u->told || publish(s, u) == 0;
	if (u->told && keep(s, u, on_kept) == 0)
		TAILQ_INSERT_TAIL(&t->asked, u, of_list);
	else
		TAILQ_INSERT_TAIL(&t->later, u, of_list);
}

/* ---- those that are new ---- */

static void
on_kept_once(void *owner, uint64_t tag, const redisReply *r)
{
	struct supervisor *s = owner;

	if (r != NULL && r->type != REDIS_REPLY_ERROR)
		return;
	s->expelled.not_kept++;
	say_not_kept(s, "too many wait to be tried again: revoke it again later");
}

/* There is no room to remember it until Redis has it. */
static int
try_once(struct supervisor *s, const struct untold *u)
{
	int r = u->ours ? publish(s, u) : 0;

	if (keep(s, u, on_kept_once) < 0)
		on_kept_once(s, 0, NULL);
	return r;
}

/* Until when it holds here: one for less takes nothing from one for longer. */
static uint64_t
longest(const struct supervisor *s, const struct revocation *rev, uint64_t until_ms)
{
	struct revoked_id id;
	uint64_t until = 0;

	if (expel_id(s, rev, &id))
		until = revoked_until(ring_revoked(s->ring), &id);
	return until > until_ms ? until : until_ms;
}

static int
pass_on(
    struct supervisor *s, const struct revocation *rev, uint64_t until_ms, bool ours)
{
	struct expel_tell *t = &s->expel_tell;
	struct untold u = {.ours = ours,
	    .told = !ours,
	    .until_ms = longest(s, rev, until_ms),
	    .rev = *rev};
	struct untold *kept;

	if (u.until_ms <= supervisor_real_ms())
		return ours ? publish(s, &u) : 0;
	kept = t->n < UNTOLD_MAX ? malloc(sizeof(*kept)) : NULL;
	if (kept == NULL)
		return try_once(s, &u);
	*kept = u;
	t->n++;
	try(s, kept);
	return kept->told ? 0 : -ENOTCONN;
}

int
expel_tell(struct supervisor *s, const struct revocation *rev, uint64_t until_ms)
{
	return pass_on(s, rev, until_ms, true);
}

void
expel_keep(struct supervisor *s, const struct revocation *rev, uint64_t until_ms)
{
	(void)!pass_on(s, rev, until_ms, false);
}

/* ---- again ---- */

void
expel_tell_again(struct supervisor *s)
{
	struct expel_tell *t = &s->expel_tell;
	struct untold_list waiting = TAILQ_HEAD_INITIALIZER(waiting);
	uint64_t now_ms = supervisor_real_ms();
	struct untold *u, *next;

	t->tried_ms = supervisor_now_ms();
	TAILQ_CONCAT(&waiting, &t->later, of_list);
	for (u = TAILQ_FIRST(&waiting); u != NULL; u = next) {
		next = TAILQ_NEXT(u, of_list);
		if (u->until_ms > now_ms)
			try(s, u);
		else
			forget(t, u);
	}
}

void
expel_tell_tick(struct supervisor *s)
{
	const struct expel_tell *t = &s->expel_tell;

	if (!TAILQ_EMPTY(&t->later) && peers_up(s->peers) &&
	    supervisor_now_ms() - t->tried_ms >= RETRY_MS)
		expel_tell_again(s);
}
