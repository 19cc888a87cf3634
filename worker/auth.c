/* auth.c - see auth.h */
#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/auth.h"
#include "proto/journal.h"
#include "shm/arena.h"
#include "shm/directory.h"
#include "worker/auth.h"
#include "worker/channels.h"
#include "worker/client.h"
#include "worker/expel.h"
#include "worker/expiry.h"
#include "worker/identity.h"
#include "worker/out.h"
#include "worker/requests.h"
#include "worker/session.h"

#define PROTOCOL "bearer."
#define SCHEME "Bearer "

/* Subscriptions looked at in one turn after a reload, and how many one counts that is
 * ended: some milliseconds with a hundred rules. */
#define LOOKS 1024
#define LOOKS_ENDED 8
#define ALL_SEEN UINT32_MAX

struct auth {
	struct keyring *keys; /* NULL: auth.mode is none */
	uint32_t next;        /* slot that the new rules are held against next */
};

/* ---- keys ---- */

static int
load_keys(const struct worker *w, struct keyring **ret_keys)
{
	char why[KEYRING_WHY_MAX] = "";
	const char *key = "mode";
	int r = auth_load_keys(w->settings, ret_keys, &key, why);

	/* The supervisor has read the same before. */
	if (r < 0)
		log_error(r == -EINVAL ? 0 : r, "cannot read the keys: auth.%s: %s",
		    key, why);
	return r;
}

int
auth_new(const struct worker *w, struct auth **ret)
{
	struct auth *a = calloc(1, sizeof(*a));
	int r;

	if (a == NULL)
		return -ENOMEM;
	a->next = ALL_SEEN;
	/* Also without keys: a reload may bring some, when files are out of reach.
	 * jansson would look for its seed in /dev/urandom. */
	r = OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) ? 0 : -EIO;
	json_object_seed(randombytes_random());
	if (r == 0)
		r = load_keys(w, &a->keys);
	if (r < 0) {
		free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void
auth_free(struct auth *a)
{
	if (a == NULL)
		return;
	keyring_free(a->keys);
	free(a);
}

void
auth_reload(struct worker *w)
{
	struct keyring *keys;

	auth_review(w);
	if (load_keys(w, &keys) < 0)
		return;
	keyring_free(w->auth->keys);
	w->auth->keys = keys;
}

/* ---- where a token stands ---- */

/* The n-th subprotocol that carries a token; absent: there are not so many. */
static struct slice
bearer_protocol(const struct http_request *q, unsigned n)
{
	const size_t len = strlen(PROTOCOL);
	struct http_list list;
	struct slice item;

	http_list_begin(&list, q, "Sec-WebSocket-Protocol");
	while (http_list_next(&list, &item))
		if (item.len > len && memcmp(item.p, PROTOCOL, len) == 0 && n-- == 0)
			return item;
	return (struct slice){NULL, 0};
}

struct slice
auth_protocol(const struct http_request *q)
{
	return bearer_protocol(q, 0);
}

/* The values of ?token=, the last decoded into buf (HTTP_LINE_MAX bytes); an empty one
 * is none: pages write it so when nobody has logged in. Returns how many there are. */
static unsigned
query_tokens(const struct http_request *q, char *buf, struct slice *ret_token)
{
	struct http_query query;
	struct slice name, value;
	ptrdiff_t len;
	unsigned n = 0;

	http_query_begin(&query, q);
	while (http_query_next(&query, &name, &value)) {
		if (value.len == 0 || !http_name_is(name, "token"))
			continue;
		len = http_decode(value, true, buf, HTTP_LINE_MAX);
		/* What cannot be decoded is a token, too, and a wrong one. */
		*ret_token = (struct slice){buf, len > 0 ? (size_t)len : 0};
		n++;
	}
	return n;
}

/* Other schemes of Authorization are for others: a proxy may have asked for them. */
static struct slice
header_token(const struct http_request *q)
{
	const size_t len = strlen(SCHEME);
	struct slice value = q->authorization;

	if (value.len < len || strncasecmp(value.p, SCHEME, len) != 0)
		return (struct slice){NULL, 0};
	while (value.len > 0 && value.p[0] != ' ')
		value = (struct slice){value.p + 1, value.len - 1};
	while (value.len > 0 && value.p[0] == ' ')
		value = (struct slice){value.p + 1, value.len - 1};
	return value;
}

/* Returns how many there are. buf: HTTP_LINE_MAX bytes. */
static unsigned
find_token(const struct http_request *q, char *buf, struct slice *ret_token)
{
	struct slice header = header_token(q);
	struct slice protocol = {NULL, 0};
	unsigned n = query_tokens(q, buf, ret_token);

	if (header.p != NULL) {
		*ret_token = header;
		n++;
	}
	for (unsigned i = 0; (protocol = bearer_protocol(q, i)).p != NULL; i++) {
		*ret_token = (struct slice){
		    protocol.p + strlen(PROTOCOL), protocol.len - strlen(PROTOCOL)};
		n++;
	}
	return n;
}

/* ---- what it gives ---- */

/* When a connection with this token ends. One that was let in by the leeway has that.
 */
static int64_t
ends_at(const struct worker *w, const struct token *t, int64_t now_s)
{
	if (t->expires_s == 0 || t->expires_s > now_s)
		return t->expires_s;
	return t->expires_s + w->settings->auth_leeway_ms / 1000;
}

static int
set_identity(struct worker *w, uint32_t slot, const struct token *t, int64_t now_s)
{
	int r = identity_set(w, slot, t, ends_at(w, t, now_s));

	if (r == 0)
		expiry_begin(w, slot);
	return r;
}

static struct slice
claim(const char *text, size_t len)
{
	return (struct slice){len > 0 ? text : NULL, len};
}

/* Returns NULL, or why the token does not hold. */
static const char *
check(struct worker *w, struct slice token, int64_t now_s, struct token *ret_token)
{
	struct token_policy policy = auth_policy(w->settings);
	struct token t;
	enum token_result r =
	    token_check(w->auth->keys, &policy, token.p, token.len, now_s, &t);
	const char *why = r == TOKEN_OK ? NULL : token_result_text(r);

	if (why == NULL && expel_revoked(w, claim(t.text, t.subject_len),
			       claim(t.text + t.subject_len + 1, t.jti_len)) != 0) {
		token_done(&t);
		page_add(w->page, PAGE_refused_revoked, 1);
		why = "the token or its subject was revoked";
	}
	page_add(w->page, why == NULL ? PAGE_tokens : PAGE_tokens_refused, 1);
	if (why == NULL)
		*ret_token = t;
	return why;
}

static bool
fault(struct http_fault *f, unsigned status, const char *message)
{
	*f = (struct http_fault){.status = status, .message = message};
	return false;
}

static bool
admit_token(struct worker *w, uint32_t slot, struct slice token, struct http_fault *f)
{
	int64_t now_s = time(NULL);
	struct token t;
	const char *why = check(w, token, now_s, &t);
	int r;

	if (why != NULL) {
		(void)fault(f, 401, why);
		f->bad_token = true;
		return false;
	}
	r = set_identity(w, slot, &t, now_s);
	token_done(&t);
	return r == 0 || fault(f, 503, "no room for one more client now");
}

bool
auth_admit(struct worker *w, uint32_t slot, const struct http_request *q,
    struct http_fault *ret_fault)
{
	char buf[HTTP_LINE_MAX];
	struct slice token;
	unsigned n;

	if (w->auth->keys == NULL)
		return true;
	n = find_token(q, buf, &token);
	/* RFC 6750 §2: which of them to believe would be a guess. */
	if (n > 1)
		return fault(ret_fault, 400,
		    "send one token: in Authorization, in the "
		    "query, or as a subprotocol");
	if (n == 1)
		return admit_token(w, slot, token, ret_fault);
	if (w->settings->auth_mode == AUTH_REQUIRED) {
		page_add(w->page, PAGE_tokens_missing, 1);
		return fault(ret_fault, 401,
		    "a token is needed: send Authorization: Bearer, ?token=, or the "
		    "subprotocol bearer.TOKEN");
	}
	return true;
}

/* Whether a connection may become whom the token says: anybody, unless it is somebody
 * already. */
static bool
is_same(const struct worker *w, const struct slot *s, const struct token *t)
{
	struct slice subject = identity_subject(w, s);

	return identity_of(w, s) == NULL ||
	       (subject.len == t->subject_len &&
		   (subject.len == 0 || memcmp(subject.p, t->text, subject.len) == 0));
}

enum auth_result
auth_renew(struct worker *w, uint32_t slot, struct slice token, const char **ret_why)
{
	int64_t now_s = time(NULL);
	struct token t;
	int r = -EPERM;

	if (w->auth->keys == NULL)
		return AUTH_OFF;
	*ret_why = check(w, token, now_s, &t);
	if (*ret_why != NULL)
		return AUTH_REFUSED;
	if (is_same(w, worker_slot(w, slot), &t))
		r = set_identity(w, slot, &t, now_s);
	token_done(&t);
	if (r == -EPERM) {
		*ret_why = "the token is another subject's: open a new connection";
		return AUTH_REFUSED;
	}
	return r == 0 ? AUTH_DONE : AUTH_NO_ROOM;
}

/* ---- what follows ---- */

/* End a subscription, or one that waits, whose request is refused then. A
 * subscription's end is told first: a successor that finds it told and not done does
 * both again, and does not find it done and never told. */
static void
unsubscribe(struct worker *w, uint32_t slot, uint32_t channel)
{
	const struct slot *s = worker_slot(w, slot);
	bool waits = slot_sub(w, s, channel) == NULL;
	char name[CHANNEL_NAME_MAX]; /* the channel may go with its last subscriber */
	size_t len;
	const char *its = channels_name(w, channel, &len);

	memcpy(name, its, len);
	if (!waits)
		session_unsubscribed(w, slot, name, len, -EACCES);
	if (slot_state(s) != SLOT_OPEN)
		return;
	if (requests_unsubscribe(w, slot, name, len) < 0)
		client_end(w, slot, CLIENT_END_LIMIT, 1013, "try again later");
	else if (waits)
		session_unsubscribed(w, slot, name, len, -EACCES);
}

/* Why the slot may not wait for this any more, or 0. */
static int
wait_fault(struct worker *w, uint32_t slot, const struct wait *wait)
{
	const char *name;
	size_t len;

	if (wait_is_asked(wait))
		return 0; /* it is on its way */
	name = channels_name(w, wait->channel, &len);
	if (!identity_may_subscribe(w, slot, name, len))
		return -EACCES;
	if (wait->kind == WAIT_HISTORY &&
	    !settings_rule(w->settings, name, len)->history)
		return -ENODATA;
	return 0;
}

/* End what waits and may not. Returns how many were ended. */
static unsigned
enforce_waits(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	arena_ref ref = s->wait;
	unsigned n = 0;

	while (slot_state(s) == SLOT_OPEN && ref != 0) {
		const struct wait *wait = arena_at(w->arena, ref);
		int r = wait_fault(w, slot, wait);

		ref = wait->next;
		if (r == 0)
			continue;
		if (wait->kind == WAIT_HISTORY)
			requests_refuse_history(w, slot, wait->channel, r);
		else
			unsubscribe(w, slot, wait->channel);
		ref = s->wait; /* others for the channel went with it */
		n++;
	}
	return n;
}

unsigned
auth_enforce(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	unsigned n = 0;

	/* From the end: those before stay where they are. */
	for (unsigned i = s->nsubs; slot_state(s) == SLOT_OPEN && i-- > 0;) {
		uint32_t channel = slot_subs(w, s)[i].channel;
		size_t len;
		const char *name = channels_name(w, channel, &len);

		if (!identity_may_subscribe(w, slot, name, len)) {
			unsubscribe(w, slot, channel);
			n++;
		}
	}
	return n + enforce_waits(w, slot);
}

void
auth_review(struct worker *w)
{
	w->auth->next = 0;
}

/* End what the settings do not allow the connection. Returns how much that was. */
static unsigned
review(struct worker *w, uint32_t slot)
{
	uint32_t corked = out_cork(w, slot);
	unsigned n = 1;

	if (w->settings->auth_mode == AUTH_REQUIRED &&
	    identity_of(w, worker_slot(w, slot)) == NULL) {
		page_add(w->page, PAGE_tokens_missing, 1);
		session_dismiss(
		    w, slot, CLIENT_END_SERVER, 4401, "a token is needed now");
	} else {
		n = auth_enforce(w, slot);
	}
	out_uncork(w, slot, corked);
	return n;
}

bool
auth_turn(struct worker *w)
{
	struct auth *a = w->auth;
	uint32_t used = table_slots_used(&w->table);

	if (a->next == ALL_SEEN)
		return false;
	for (unsigned looks = 0; a->next < used && looks < LOOKS; a->next++) {
		const struct slot *s = worker_slot(w, a->next);

		looks++;
		if (slot_state(s) != SLOT_OPEN)
			continue;
		looks += s->nsubs;
		looks += LOOKS_ENDED * review(w, a->next);
	}
	if (a->next >= used)
		a->next = ALL_SEEN;
	return a->next != ALL_SEEN;
}

static bool
is_subscribed(struct worker *w, uint32_t slot, const char *name, size_t len)
{
	uint32_t channel = namemap_get(&w->channels->names, name, len);

	return channel != NAMEMAP_NONE &&
	       slot_sub(w, worker_slot(w, slot), channel) != NULL;
}

void
auth_subscribe(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	const char *name;

	for (unsigned n = 0;
	     slot_state(s) == SLOT_OPEN && (name = identity_channel(w, s, n)) != NULL;
	     n++) {
		size_t len = strlen(name);
		int r = -EACCES;

		if (is_subscribed(w, slot, name, len))
			continue;
		if (identity_may_subscribe(w, slot, name, len))
			r = requests_subscribe(
			    w, slot, name, len, NULL, REQUEST_TOKEN, 1);
		if (r < 0)
			session_unsubscribed(w, slot, name, len, r);
	}
}
