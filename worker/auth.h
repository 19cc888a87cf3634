/*
 * auth.h - tokens that clients show: found in a request, checked, and made the
 * connection's identity.
 */
#ifndef WSCAST_WORKER_AUTH_H
#define WSCAST_WORKER_AUTH_H

#include "proto/http.h"
#include "worker/worker.h"

struct auth;

/* Before the sandbox: read the keys, and let libcrypto read its own settings. */
int auth_new(const struct worker *w, struct auth **ret)
    __attribute__((warn_unused_result));
void auth_free(struct auth *a);

/* The settings are new ones. When their keys cannot be read the old ones hold on. */
void auth_reload(struct worker *w);

/* The subprotocol that carries a token, whole ("bearer." TOKEN); absent: none does. */
struct slice auth_protocol(const struct http_request *q);

/*
 * Let a request in: its token (Authorization, ?token= or a subprotocol) becomes the
 * slot's identity.
 *
 * Returns whether it may go on; if not, ret_fault says why not.
 */
bool auth_admit(struct worker *w, uint32_t slot, const struct http_request *q,
    struct http_fault *ret_fault) __attribute__((warn_unused_result));

enum auth_result {
	AUTH_DONE,
	AUTH_OFF,     /* auth.mode is none */
	AUTH_REFUSED, /* *ret_why says why */
	AUTH_NO_ROOM,
};

/*
 * The client of an open connection shows a token: its claims become the connection's.
 * Whoever has a subject keeps it. To be followed by auth_enforce() and
 * auth_subscribe().
 *
 * ret_why  a sentence for the client.
 */
enum auth_result auth_renew(struct worker *w, uint32_t slot, struct slice token,
    const char **ret_why) __attribute__((warn_unused_result));

/* End the subscriptions, and the requests that wait, that the rules do not allow (any
 * more); session_unsubscribed() and session_refused() tell of each. Returns how many.
 */
unsigned auth_enforce(struct worker *w, uint32_t slot);

/* The rules may be others than those by which connections subscribed (a reload, a
 * predecessor that died within one): auth_turn() does a slice of auth_enforce() for all
 * of them, and returns whether there is more to do. */
void auth_review(struct worker *w);
bool auth_turn(struct worker *w);

/* Subscribe the connection to the channels that its token names. */
void auth_subscribe(struct worker *w, uint32_t slot);

#endif
