/* handshake.c - see handshake.h */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/deflate.h"
#include "proto/dialect.h"
#include "proto/http.h"
#include "proto/http_reply.h"
#include "proto/origin.h"
#include "proto/v1.h"
#include "shm/directory.h"
#include "worker/auth.h"
#include "worker/client.h"
#include "worker/fanout.h"
#include "worker/farewell.h"
#include "worker/handshake.h"
#include "worker/identity.h"
#include "worker/limits.h"
#include "worker/out.h"
#include "worker/peek.h"
#include "worker/proxied.h"
#include "worker/reader.h"
#include "worker/requests.h"
#include "worker/session.h"
#include "worker/tls_opening.h"

#define DRAIN_RETRY_S 5
#define RATE_RETRY_S 1

/* The channels that a request names: in its path, then in its query. */
struct named {
	const struct http_request *request;
	bool path_done;
	struct http_query query;
};

/* ---- what is asked ---- */

static void
named_begin(struct named *n, const struct http_request *q)
{
	n->request = q;
	n->path_done = false;
	http_query_begin(&n->query, q);
}

/* Returns 1 with a name, 0 at the end, -EINVAL when it can be no channel's name.
 * name: CHANNEL_NAME_MAX + 1 bytes. */
static int
named_next(struct named *n, char *name, size_t *ret_len)
{
	static const char prefix[] = "/ws/";
	const size_t prefix_len = sizeof(prefix) - 1;
	struct slice key, value = {NULL, 0};
	struct slice path = n->request->path;
	bool in_path =
	    path.len >= prefix_len && memcmp(path.p, prefix, prefix_len) == 0;
	ptrdiff_t len;

	if (!n->path_done && in_path) {
		value = (struct slice){path.p + prefix_len, path.len - prefix_len};
	} else {
		while (value.p == NULL) {
			if (!http_query_next(&n->query, &key, &value))
				return 0;
			if (!http_name_is(key, "channel"))
				value.p = NULL;
		}
		in_path = false;
	}
	n->path_done = true;
	len = http_decode(value, !in_path, name, CHANNEL_NAME_MAX + 1);
	if (len < 0 || !name_ok(name, (size_t)len))
		return -EINVAL;
	*ret_len = (size_t)len;
	return 1;
}

static bool
offers_v1(const struct http_request *q)
{
	struct http_list list;
	struct slice item;

	http_list_begin(&list, q, "Sec-WebSocket-Protocol");
	while (http_list_next(&list, &item))
		if (slice_is(item, V1_PROTOCOL))
			return true;
	return false;
}

static bool
fault(struct http_fault *f, unsigned status, const char *message)
{
	*f = (struct http_fault){.status = status, .message = message};
	return false;
}

/* The channels that the token names, for a protocol that cannot say later that one is
 * not to be had. Returns how many. */
static unsigned
own_channels(struct worker *w, uint32_t slot, bool v1, bool *ret_publish, bool *ret_ok)
{
	const struct slot *s = worker_slot(w, slot);
	const char *name;
	unsigned n = 0;

	*ret_ok = true;
	for (; (name = identity_channel(w, s, n)) != NULL; n++) {
		size_t len = strlen(name);

		*ret_publish = identity_may_publish(w, slot, name, len);
		if (!v1 && !identity_may_subscribe(w, slot, name, len))
			*ret_ok = false;
	}
	return n;
}

/* Look at all channels. *ret_publish: there is one, and anyone may publish to it. */
static bool
check_channels(struct worker *w, uint32_t slot, const struct http_request *q, bool v1,
    bool *ret_publish, struct http_fault *f)
{
	char name[CHANNEL_NAME_MAX + 1];
	struct named named;
	unsigned n;
	size_t len;
	bool ok;
	int r;

	*ret_publish = false;
	n = own_channels(w, slot, v1, ret_publish, &ok);
	if (!ok)
		return fault(
		    f, 403, "subscribing to a channel of the token is not allowed");
	named_begin(&named, q);
	while ((r = named_next(&named, name, &len)) > 0) {
		if (!session_may_subscribe(w, slot, name, len))
			return fault(f, 403, "subscribing to it is not allowed");
		*ret_publish = n == 0 && identity_may_publish(w, slot, name, len);
		if (++n > w->settings->channels_per_connection) {
			page_add(w->page, PAGE_limited_channels, 1);
			return fault(f, 400, "too many channels for one connection");
		}
	}
	if (r < 0)
		return fault(f, 400,
		    "a channel's name is 1 to 200 bytes of UTF-8 without control "
		    "characters, the first no '!'");
	if (n == 0 && !v1)
		return fault(f, 400,
		    "name a channel (/ws/CHANNEL), or offer the subprotocol wscast.v1");
	if (n != 1)
		*ret_publish = false;
	return true;
}

static bool
check_upgrade(struct worker *w, const struct slot *s, const struct http_request *q,
    struct http_fault *f)
{
	if (!http_is_handshake(q, f))
		return false;
	/* First: whoever tries tokens or origins is slowed down, too. */
	if (!limits_knock(w, s)) {
		page_add(w->page, PAGE_limited_knocks, 1);
		(void)fault(f, 429, "too many handshakes from this address");
		f->retry_s = RATE_RETRY_S;
		return false;
	}
	if (!origin_ok(w->settings->origins, q->origin, q->host))
		return fault(f, 403, "pages of this origin may not connect");
	if (farewell_refuses(w)) {
		(void)fault(f, 503, "draining");
		f->retry_s = DRAIN_RETRY_S;
		return false;
	}
	/* Last: what is refused anyway takes nobody's turn. TLS took it before. */
	if (!(s->flags & SLOT_TLS) && !limits_handshake(w)) {
		page_add(w->page, PAGE_limited_handshakes, 1);
		(void)fault(f, 429, "too many handshakes at once");
		f->retry_s = RATE_RETRY_S;
		return false;
	}
	return true;
}

/* response: DEFLATE_RESPONSE_MAX bytes. *ret_extensions: what to answer, if any. */
static bool
check_extensions(struct worker *w, const struct http_request *q, char *response,
    const char **ret_extensions, struct http_fault *f)
{
	switch (deflate_negotiate(q, response)) {
	case DEFLATE_BROKEN:
		return fault(f, 400,
		    "Sec-WebSocket-Extensions must be as RFC 6455, section 9.1, says");
	case DEFLATE_AGREED:
		if (w->settings->compression)
			*ret_extensions = response;
		break;
	case DEFLATE_NONE:
		break;
	}
	return true;
}

/* ---- answering ---- */

/* Whether an answer was queued already, perhaps by a predecessor. */
static bool
is_answered(const struct slot *s)
{
	return s->out != 0 || slot_tx(s) != s->tx_accept;
}

/* Take the request out of the kernel's buffer: it is dealt with. */
static void
consume(struct worker *w, uint32_t slot, size_t len)
{
	struct slot *s = worker_slot(w, slot);

	if (slot_state(s) == SLOT_FREE)
		return;
	peek_consume(w, slot, len);
	s->flags &= (uint8_t)~SLOT_REQUEST;
}

/* Answer a request that opens no WebSocket: reply (len bytes), then the end. */
static void
reply_and_hang_up(
    struct worker *w, uint32_t slot, const void *reply, size_t len, size_t request_len)
{
	struct slot *s = worker_slot(w, slot);

	s->flags |= SLOT_REQUEST | SLOT_HANGUP;
	if (!is_answered(s) && out_private(w, slot, reply, len) < 0)
		client_close(w, slot, CLIENT_END_LIMIT);
	if (slot_state(s) == SLOT_FREE)
		return;
	slot_set_state(s, SLOT_CLOSING);
	consume(w, slot, request_len);
}

static void
refuse(struct worker *w, uint32_t slot, const struct http_request *q,
    const struct http_fault *f, size_t request_len)
{
	char reply[HTTP_REPLY_MAX];
	size_t len = http_error_reply(f, reply);

	if (q->method == HTTP_HEAD) /* RFC 9110 §9.3.2: no body, whatever is said */
		len = (size_t)((char *)memmem(reply, len, "\r\n\r\n", 4) + 4 - reply);
	page_add(w->page, PAGE_refused, 1);
	reply_and_hang_up(w, slot, reply, len, request_len);
}

static void
reply_json(struct worker *w, uint32_t slot, const struct http_request *q,
    unsigned status, const char *json)
{
	char reply[HTTP_REPLY_MAX + 256];
	ptrdiff_t len = http_text_reply(status, "application/json", json, strlen(json),
	    q->method == HTTP_HEAD, reply, sizeof(reply));

	if (len < 0)
		client_close(w, slot, CLIENT_END_SERVER);
	else
		reply_and_hang_up(w, slot, reply, (size_t)len, q->len);
}

/* ---- the requests ---- */

static void
subscribe_all(struct worker *w, uint32_t slot, const struct http_request *q)
{
	char name[CHANNEL_NAME_MAX + 1];
	struct named named;
	size_t len;

	named_begin(&named, q);
	while (slot_state(worker_slot(w, slot)) == SLOT_OPEN &&
	       named_next(&named, name, &len) > 0)
		if (requests_subscribe(w, slot, name, len, NULL, NULL, 0) < 0)
			client_end(w, slot, CLIENT_END_LIMIT, 1013, "cannot subscribe");
}

/* Queue the upgrade's answer, and what the protocol says first, as one: there is no
 * moment at which a successor finds the one without the other. Its place is before all
 * records that a subscription may go back to. Returns 0 or -errno. */
static int
queue_upgrade(struct worker *w, uint32_t slot, const struct http_request *q,
    enum slot_proto proto, const char *extensions)
{
	char reply[HTTP_UPGRADE_MAX + SESSION_HELLO_MAX];
	/* A browser goes on only when one of what it offered is chosen: where that is
	 * the token alone, it has to be the token. RFC 6455 §4.1 */
	struct slice protocol = proto == PROTO_V1
				    ? (struct slice){V1_PROTOCOL, strlen(V1_PROTOCOL)}
				    : auth_protocol(q);
	ptrdiff_t len = http_upgrade_reply(q, protocol, extensions, reply);
	int r;

	if (len < 0)
		return (int)len;
	len += (ptrdiff_t)session_hello(w, slot, (uint8_t *)reply + len);
	w->place = fanout_floor(w);
	r = out_private(w, slot, reply, (size_t)len);
	w->place = 0;
	return r;
}

/*
 * Open the WebSocket. Each step leaves what a successor goes on from: it finds the
 * request still in the kernel, comes here again, and leaves out what is done.
 *
 *   answer queued -> SLOT_OPEN -> subscribed -> answer sent -> request consumed
 *   -> flag cleared
 *
 * Whoever has the answer is known to the supervisor before anything that is done next.
 *
 * extensions  what to answer, or NULL.
 */
static void
open_socket(struct worker *w, uint32_t slot, const struct http_request *q,
    enum slot_proto proto, bool may_publish, const char *extensions)
{
	struct slot *s = worker_slot(w, slot);
	enum dialect plain = proto == PROTO_V1 ? DIALECT_V1 : DIALECT_RAW;
	uint32_t corked = out_cork(w, slot);

	s->proto = (uint8_t)proto;
	/* What was answered holds, whatever would be answered now. */
	if (!is_answered(s))
		s->dialect = extensions != NULL ? dialect_deflated(plain) : plain;
	if (proto == PROTO_RAW && may_publish)
		s->flags |= SLOT_TEXT_PUBLISH;
	s->flags |= SLOT_REQUEST;
	if (!is_answered(s) && queue_upgrade(w, slot, q, proto, extensions) < 0)
		client_close(w, slot, CLIENT_END_LIMIT);
	if (slot_state(s) == SLOT_HANDSHAKE) {
		client_opened(w, slot);
		slot_set_state(s, SLOT_OPEN);
	}
	if (proto != PROTO_ECHO) {
		subscribe_all(w, slot, q);
		auth_subscribe(w, slot);
	}
	out_uncork(w, slot, corked);
	consume(w, slot, q->len);
}

/* Whose connection it is, where a proxy says so. Returns whether that address may have
 * one more. */
static bool
note_address(struct worker *w, struct slot *s, const struct http_request *q,
    struct http_fault *f)
{
	int family = s->family;
	uint8_t addr[16];
	bool ok;

	memcpy(addr, s->addr, sizeof(addr));
	http_client_address(q, w->settings->trusted_proxies, &family, addr);
	if (family == s->family && memcmp(addr, s->addr, sizeof(addr)) == 0)
		return true;
	limits_leave(w, s);
	memcpy(s->addr, addr, sizeof(addr));
	s->family = (uint8_t)family;
	ok = limits_enter(w, s);
	if (!ok) {
		page_add(w->page, PAGE_limited_address, 1);
		(void)fault(f, 429, "too many connections from this address");
		f->retry_s = HANDSHAKE_FULL_RETRY_S;
	}
	return ok;
}

static void
serve_socket(struct worker *w, uint32_t slot, const struct http_request *q)
{
	struct slot *s = worker_slot(w, slot);
	bool v1 = offers_v1(q), may_publish;
	enum slot_proto proto = v1 ? PROTO_V1 : PROTO_RAW;
	char response[DEFLATE_RESPONSE_MAX];
	const char *extensions = NULL;
	struct http_fault f;

	if (slot_state(s) != SLOT_HANDSHAKE || is_answered(s)) {
		/* A predecessor has let it in: the settings that held then hold. */
		if (!check_channels(w, slot, q, v1, &may_publish, &f))
			may_publish = false;
		open_socket(w, slot, q, proto, may_publish, NULL);
		return;
	}
	if (!note_address(w, s, q, &f) || !check_upgrade(w, s, q, &f) ||
	    !auth_admit(w, slot, q, &f) ||
	    !check_channels(w, slot, q, v1, &may_publish, &f) ||
	    !check_extensions(w, q, response, &extensions, &f))
		refuse(w, slot, q, &f, q->len);
	else
		open_socket(w, slot, q, proto, may_publish, extensions);
}

static void
serve_echo(struct worker *w, uint32_t slot, const struct http_request *q)
{
	struct slot *s = worker_slot(w, slot);
	bool fresh = slot_state(s) == SLOT_HANDSHAKE && !is_answered(s);
	char response[DEFLATE_RESPONSE_MAX];
	const char *extensions = NULL;
	struct http_fault f;

	if (fresh && (!note_address(w, s, q, &f) || !check_upgrade(w, s, q, &f) ||
			 !auth_admit(w, slot, q, &f) ||
			 !check_extensions(w, q, response, &extensions, &f)))
		refuse(w, slot, q, &f, q->len);
	else
		open_socket(w, slot, q, PROTO_ECHO, false, extensions);
}

static void
serve_ready(struct worker *w, uint32_t slot, const struct http_request *q)
{
	if (ring_feed_down(w->ring) != 0)
		reply_json(
		    w, slot, q, 503, "{\"ready\":false,\"reason\":\"feed_down\"}\n");
	else if (farewell_refuses(w))
		reply_json(
		    w, slot, q, 503, "{\"ready\":false,\"reason\":\"draining\"}\n");
	else
		reply_json(w, slot, q, 200, "{\"ready\":true}\n");
}

int
handshake_prepare(void)
{
	const struct slice key = {"dGhlIHNhbXBsZSBub25jZQ==", 24}; /* RFC 6455 §1.3 */
	char accept[HTTP_ACCEPT_LEN + 1];

	/* libcrypto reads its own settings file at its first use. */
	return http_accept_key(key, accept) < 0 ? -EIO : 0;
}

static void
serve_demo(struct worker *w, uint32_t slot, const struct http_request *q)
{
	const struct settings_file *page = settings_file(w->settings, "server.demo");
	struct http_fault f = {.status = 404, .message = "nothing is here"};
	char *reply;
	size_t len;

	if (page == NULL) {
		refuse(w, slot, q, &f, q->len);
		return;
	}
	reply = malloc(HTTP_REPLY_MAX + page->len);
	if (reply == NULL) {
		client_close(w, slot, CLIENT_END_LIMIT);
		return;
	}
	len = http_reply_head(200, "text/html; charset=utf-8", page->len, reply);
	if (q->method != HTTP_HEAD) {
		memcpy(reply + len, page->data, page->len);
		len += page->len;
	}
	reply_and_hang_up(w, slot, reply, len, q->len);
	free(reply);
}

static void
serve_request(struct worker *w, uint32_t slot, const struct http_request *q)
{
	struct http_fault f = {.status = 404, .message = "nothing is here"};

	if (slice_is(q->path, "/ws") ||
	    (q->path.len >= 4 && memcmp(q->path.p, "/ws/", 4) == 0))
		serve_socket(w, slot, q);
	else if (w->settings->echo && slice_is(q->path, "/echo"))
		serve_echo(w, slot, q);
	else if (slice_is(q->path, "/health"))
		reply_json(w, slot, q, 200, "{\"status\":\"ok\"}\n");
	else if (slice_is(q->path, "/ready"))
		serve_ready(w, slot, q);
	else if (slice_is(q->path, "/"))
		serve_demo(w, slot, q);
	else
		refuse(w, slot, q, &f, q->len);
}

/* ---- reading ---- */

static void
on_whole(struct worker *w, uint32_t slot, const struct http_request *q)
{
	struct slot *s = worker_slot(w, slot);

	if (slot_state(s) == SLOT_CLOSING) /* answered by a predecessor, and unread */
		consume(w, slot, q->len);
	else
		serve_request(w, slot, q);
}

static void
look(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	bool resumed = slot_state(s) != SLOT_HANDSHAKE;
	size_t n = peek(w, slot);
	struct http_request q;
	struct http_fault f;

	if (n == 0)
		return;
	switch (http_parse(
	    (const char *)readers_buffer(w), n, HTTP_GET | HTTP_HEAD, &q, &f)) {
	case HTTP_WHOLE:
		on_whole(w, slot, &q);
		break;
	case HTTP_MORE:
		/* It was whole once, so these are frames: the request was consumed. */
		if (resumed)
			s->flags &= (uint8_t)~SLOT_REQUEST;
		else
			peek_wait(w, slot, n);
		break;
	case HTTP_BAD:
		if (resumed)
			s->flags &= (uint8_t)~SLOT_REQUEST;
		else
			refuse(w, slot, &q, &f, n);
		break;
	}
}

void
handshake_refuse(struct worker *w, uint32_t slot, const struct http_fault *f)
{
	const struct http_request nothing = {.method = HTTP_GET};

	refuse(w, slot, &nothing, f, 0);
}

void
handshake_readable(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);

	s->marks |= SLOT_SERVING;
	atomic_signal_fence(memory_order_seq_cst); /* a successor sees program order */
	if ((!(s->marks & SLOT_PROXY) || proxied_take(w, slot)) &&
	    (!tls_is_due(w, s) || tls_take(w, slot)))
		look(w, slot);
	atomic_signal_fence(memory_order_seq_cst);
	s->marks &= (uint8_t) ~(SLOT_SERVING | SLOT_SUSPECT);
}
