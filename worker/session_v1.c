/*
 * session_v1.c - wscast.v1: what a client asks is done, and answered.
 *
 * Source   wscast(7); proto/v1.h has its bytes
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/v1.h"
#include "worker/auth.h"
#include "worker/identity.h"
#include "worker/presence.h"
#include "worker/requests.h"
#include "worker/session.h"

_Static_assert(SESSION_HELLO_MAX >= V1_FRAME_MAX, "a hello is a frame");

static void
send_frame(struct worker *w, uint32_t slot, const char *frame, size_t len)
{
	session_send(w, slot, (const uint8_t *)frame, len);
}

static void
send_error(struct worker *w, uint32_t slot, struct slice id, enum v1_code code,
    const char *message)
{
	char frame[V1_FRAME_MAX];

	page_add(w->page, PAGE_errors_sent, 1);
	send_frame(w, slot, frame, v1_error(id, code, message, frame));
}

/* ---- what we say ---- */

/* How an error of ours is told. */
static const struct {
	int err;
	enum v1_code code;
	const char *message;
} errors[] = {
    {EACCES, V1_FORBIDDEN, "the channel's rule does not allow it"},
    {EPERM, V1_FORBIDDEN, "the channel's rule does not allow it"},
    {EMSGSIZE, V1_TOO_LARGE, "the message is too large"},
    {EAGAIN, V1_RATE_LIMITED, "too many messages"},
    {EMFILE, V1_LIMIT, "too many channels on this connection"},
    {ENOBUFS, V1_LIMIT, "the server has no room for it now"},
    {ENOSPC, V1_LIMIT, "the server has no room for it now"},
    {ENOMEM, V1_LIMIT, "the server has no room for it now"},
    {ENOTCONN, V1_FEED_DOWN, "the feed is down"},
    {ENOENT, V1_NOT_FOUND, "not subscribed"},
    {EOPNOTSUPP, V1_FORBIDDEN, "the channel's rule has no presence"},
    {EPROTONOSUPPORT, V1_BAD_REQUEST, "the server's source carries no \"key\""},
    {EBUSY, V1_RATE_LIMITED, "too many ask who is there: ask again later"},
    {ENODATA, V1_FORBIDDEN, "the channel's rule keeps no history"},
};

static enum v1_code
code_of(int err, const char **ret_message)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		if (errors[i].err == -err) {
			*ret_message = errors[i].message;
			return errors[i].code;
		}
	}
	*ret_message = "it could not be done";
	return V1_INTERNAL;
}

void
session_v1_error(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, int err)
{
	const char *message;
	enum v1_code code = code_of(err, &message);

	if (id_len > 0)
		send_error(w, slot, (struct slice){id, id_len}, code, message);
}

void
session_v1_ok(struct worker *w, uint32_t slot, const char *id, size_t id_len)
{
	char frame[V1_FRAME_MAX];

	if (id_len > 0)
		send_frame(w, slot, frame, v1_ok((struct slice){id, id_len}, frame));
}

size_t
session_v1_hello(struct worker *w, uint32_t slot, uint8_t *out)
{
	char client[17];

	(void)snprintf(
	    client, sizeof(client), "%016" PRIx64, worker_slot(w, slot)->client);
	return v1_hello(client, ring_epoch(w->ring),
	    (w->settings->ping_interval_ms + 999) / 1000, (char *)out);
}

void
session_v1_bye(struct worker *w, uint32_t slot, uint16_t code, uint32_t retry_ms)
{
	char frame[V1_FRAME_MAX];

	send_frame(w, slot, frame, v1_bye(code, retry_ms, frame));
}

void
session_v1_subscribed(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct sub_result *res)
{
	struct v1_subscribed s = {
	    .channel = {res->channel, res->len},
	    .epoch = ring_epoch(w->ring),
	    .offset = res->offset,
	    .asked_since = res->asked_since,
	    .recovered = res->recovered,
	    .missed_known = res->missed_known,
	    .missed = res->missed,
	};
	char frame[V1_FRAME_MAX];

	if (id_len == 1 && id[0] == REQUEST_TOKEN[0])
		send_frame(w, slot, frame, v1_push_subscribed(&s, frame));
	else
		send_frame(w, slot, frame,
		    v1_subscribed((struct slice){id, id_len}, &s, frame));
}

void
session_v1_unsubscribed(
    struct worker *w, uint32_t slot, const char *channel, size_t len, int err)
{
	const char *message;
	enum v1_code code = code_of(err, &message);
	char frame[V1_FRAME_MAX];

	/* By a rule, or by the feed's own. */
	if (err == -EACCES)
		message = "it may not be heard any more";
	send_frame(w, slot, frame,
	    v1_unsubscribed((struct slice){channel, len}, code, message, frame));
}

void
session_v1_expires(struct worker *w, uint32_t slot, uint32_t in_s)
{
	char frame[V1_FRAME_MAX];

	send_frame(w, slot, frame, v1_expires_in(in_s, frame));
}

void
session_v1_history(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct slice *messages, size_t nmessages, uint64_t offset)
{
	size_t len;
	char *frame = v1_history((struct slice){id, id_len}, messages, nmessages,
	    ring_epoch(w->ring), offset, &len);

	if (frame == NULL)
		session_v1_error(w, slot, id, id_len, -ENOMEM);
	else
		send_frame(w, slot, frame, len);
	free(frame);
}

void
session_v1_presence(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, struct slice page)
{
	size_t len;
	char *frame = v1_presence((struct slice){id, id_len}, page, &len);

	if (frame == NULL)
		session_v1_error(w, slot, id, id_len, -ENOMEM);
	else
		send_frame(w, slot, frame, len);
	free(frame);
}

void
session_v1_gap(struct worker *w, uint32_t slot, const char *channel, size_t len,
    uint64_t from, uint64_t to)
{
	char frame[V1_FRAME_MAX];

	send_frame(
	    w, slot, frame, v1_gap((struct slice){channel, len}, from, to, frame));
}

/* ---- what they ask ---- */

/* Done at once, or refused at once. */
static void
answer(struct worker *w, uint32_t slot, const struct v1_command *c, int err)
{
	if (err < 0)
		session_v1_error(w, slot, c->id.p, c->id.len, err);
	else
		session_v1_ok(w, slot, c->id.p, c->id.len);
}

static void
not_available(
    struct worker *w, uint32_t slot, const struct v1_command *c, const char *message)
{
	if (c->id.len > 0)
		send_error(w, slot, c->id, V1_BAD_REQUEST, message);
}

static void
do_subscribe(struct worker *w, uint32_t slot, const struct v1_command *c)
{
	struct since since = {c->epoch, strlen(c->epoch), c->offset};
	int r = -EACCES;

	if (session_may_subscribe(w, slot, c->channel, c->channel_len))
		r = requests_subscribe(w, slot, c->channel, c->channel_len,
		    c->has_since ? &since : NULL, c->id.p, c->id.len);
	if (r < 0)
		answer(w, slot, c, r);
}

static void
do_history(struct worker *w, uint32_t slot, const struct v1_command *c)
{
	int r = -EACCES;

	if (session_may_subscribe(w, slot, c->channel, c->channel_len))
		r = -ENODATA;
	if (r == -ENODATA &&
	    settings_rule(w->settings, c->channel, c->channel_len)->history)
		r = requests_history(w, slot, c->channel, c->channel_len,
		    c->limit != 0 ? c->limit : V1_HISTORY_DEFAULT, c->before, c->id.p,
		    c->id.len);
	if (r < 0)
		answer(w, slot, c, r);
}

static void
do_publish(struct worker *w, uint32_t slot, const struct v1_command *c)
{
	int r = session_may_publish(w, slot, c->channel, c->channel_len, c->data.len);

	if (r == 0)
		r = requests_publish(w, slot, c->channel, c->channel_len,
		    (struct slice){c->key, c->key_len}, c->data.p, c->data.len, c->id.p,
		    c->id.len);
	if (r < 0 && r != -ECANCELED)
		answer(w, slot, c, r);
}

static void
do_presence(struct worker *w, uint32_t slot, const struct v1_command *c)
{
	int r;

	if (c->id.len == 0)
		return; /* nobody wants to know */
	r = presence_ask(w, slot, c->channel, c->channel_len, c->after, c->limit,
	    c->id.p, c->id.len);
	if (r < 0)
		answer(w, slot, c, r);
}

static void
tell_renewed(struct worker *w, uint32_t slot, struct slice id)
{
	char frame[V1_FRAME_MAX];

	if (id.len > 0)
		send_frame(w, slot, frame,
		    v1_auth(
			id, identity_of(w, worker_slot(w, slot))->expires_s, frame));
}

/* Whoever tries tokens is answered, and closed when that does not end. */
static void
do_auth(struct worker *w, uint32_t slot, const struct v1_command *c)
{
	const char *why = "";

	switch (auth_renew(w, slot, c->token, &why)) {
	case AUTH_DONE:
		tell_renewed(w, slot, c->id);
		(void)auth_enforce(w, slot);
		presence_renew(w, slot);
		auth_subscribe(w, slot);
		break;
	case AUTH_OFF:
		not_available(w, slot, c, "this server takes no tokens");
		break;
	case AUTH_REFUSED:
		if (session_warn(w, slot) && c->id.len > 0)
			send_error(w, slot, c->id, V1_UNAUTHORIZED, why);
		break;
	case AUTH_NO_ROOM:
		answer(w, slot, c, -ENOBUFS);
		break;
	}
}

static void
execute(struct worker *w, uint32_t slot, const struct v1_command *c)
{
	switch (c->kind) {
	case V1_SUBSCRIBE:
		do_subscribe(w, slot, c);
		break;
	case V1_UNSUBSCRIBE:
		answer(w, slot, c,
		    requests_unsubscribe(w, slot, c->channel, c->channel_len));
		break;
	case V1_PUBLISH:
		do_publish(w, slot, c);
		break;
	case V1_PING:
		answer(w, slot, c, 0);
		break;
	case V1_HISTORY:
		do_history(w, slot, c);
		break;
	case V1_PRESENCE:
		do_presence(w, slot, c);
		break;
	case V1_AUTH:
		do_auth(w, slot, c);
		break;
	}
}

void
session_v1_message(struct worker *w, uint32_t slot, const uint8_t *buf, size_t len)
{
	struct v1_command c;
	char why[V1_WHY_MAX];
	int r = v1_parse((const char *)buf, len, &c, why);

	if (r == 0) {
		execute(w, slot, &c);
		v1_command_done(&c);
	} else if (r == -EBADMSG) {
		/* Also when its id is not known: who sends such needs to hear of it. */
		send_error(w, slot, c.id, V1_BAD_REQUEST, why);
	} else {
		session_v1_error(w, slot, c.id.p, c.id.len, r);
	}
}

void
session_v1_too_fast(struct worker *w, uint32_t slot, const uint8_t *buf, size_t len)
{
	struct v1_command c;
	char why[V1_WHY_MAX];
	bool parsed = v1_parse((const char *)buf, len, &c, why) == 0;

	/* As ever, only what has an id is answered. */
	session_v1_error(w, slot, c.id.p, c.id.len, -EAGAIN);
	if (parsed)
		v1_command_done(&c);
}
