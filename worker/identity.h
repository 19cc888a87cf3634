/*
 * identity.h - whose connection it is, and which channels it may hear and speak on.
 *
 * What a token said (proto/token.h) is kept with the connection, in the table's arena:
 * it stays when the serving process dies. The token itself is kept nowhere.
 */
#ifndef WSCAST_WORKER_IDENTITY_H
#define WSCAST_WORKER_IDENTITY_H

#include "proto/slice.h"
#include "proto/token.h"
#include "worker/worker.h"

/* What is known of a connection; NULL: it showed no token. Valid until its identity is
 * set or dropped. */
const struct identity *identity_of(const struct worker *w, const struct slot *s);

/* Claims of it; absent when it has no identity, or its token no such claim. */
struct slice identity_subject(const struct worker *w, const struct slot *s);
struct slice identity_jti(const struct worker *w, const struct slot *s);
struct slice identity_info(const struct worker *w, const struct slot *s); /* JSON */

/*
 * Make a token's claims the connection's, in place of those it had.
 *
 * ends_s  CLOCK_REALTIME at which the connection ends; 0: it does not.
 *
 * Returns 0 or -ENOBUFS: then nothing has changed.
 */
int identity_set(struct worker *w, uint32_t slot, const struct token *t, int64_t ends_s)
    __attribute__((warn_unused_result));
void identity_drop(struct worker *w, uint32_t slot); /* nobody is fine */

/* Adoption: mark it as in use. Returns 0, or -EINVAL when it is damaged: then the slot
 * has none. */
int identity_mark(struct worker *w, struct slot *s) __attribute__((warn_unused_result));

/* The rule for a channel as this connection sees it: {sub} is its own subject. Never
 * NULL. */
const struct rule *identity_rule(
    const struct worker *w, const struct slot *s, const char *name, size_t len);

/* Whether the channel's rule lets this connection subscribe / publish. */
bool identity_may_subscribe(
    struct worker *w, uint32_t slot, const char *name, size_t len);
bool identity_may_publish(
    struct worker *w, uint32_t slot, const char *name, size_t len);

/* The channels that the token subscribes at once: item 0 and on. Returns NULL behind
 * the last. */
const char *identity_channel(const struct worker *w, const struct slot *s, unsigned n);

#endif
