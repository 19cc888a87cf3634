/*
 * session.h - what a client's message means, and how it is answered, by protocol.
 */
#ifndef WSCAST_WORKER_SESSION_H
#define WSCAST_WORKER_SESSION_H

#include "proto/frame.h"
#include "proto/slice.h"
#include "worker/client.h"
#include "worker/worker.h"

/* One whole message; buf is valid during the call only. */
void session_message(
    struct worker *w, uint32_t slot, enum opcode op, const uint8_t *buf, size_t len);

/* The frames that come right behind the handshake's answer (v1: hello), so that both
 * are queued as one. out has SESSION_HELLO_MAX bytes. Returns how many. */
#define SESSION_HELLO_MAX 2048
size_t session_hello(struct worker *w, uint32_t slot, uint8_t *out);

/* End a connection that is one of many: where the protocol has a word for it, clients
 * are told to come back each at its own time. */
void session_dismiss(struct worker *w, uint32_t slot, enum client_end why,
    uint16_t code, const char *reason);

/* ---- answers to what waits (called by requests.c) ---- */

struct sub_result {
	const char *channel; /* len bytes */
	size_t len;
	uint64_t offset; /* of the newest message before the subscription's first */
	bool asked_since;
	bool recovered;
	bool missed_known;
	uint64_t missed;
};

/* A subscription holds from here on. id: the request's id as JSON, id_len 0 = none. */
void session_subscribed(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct sub_result *res);
/* ... or was refused: -errno of the supervisor; -ECANCELED: it was ended before, and
 * whoever ended it tells why. */
void session_refused(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const char *channel, size_t len, int err);
/* A subscription has ended without the client's asking: the rules no longer allow it,
 * or the feed's own do not (-EACCES). Or one that its token asks for cannot be made. */
void session_unsubscribed(
    struct worker *w, uint32_t slot, const char *channel, size_t len, int err);
/* The token ends soon. Told where the protocol has words for it. */
void session_expires(struct worker *w, uint32_t slot, uint32_t in_s);
/* The feed took a publish (0), or not (-errno; -ENOTCONN: the feed is down). */
void session_published(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, int err);

/* The last messages of a channel, oldest first: payloads of DIALECT_V1's frames.
 * offset: of its newest. */
void session_history(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct slice *messages, size_t nmessages, uint64_t offset);

/* Who is in a channel: a page of proto/presence.h. */
void session_presence(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, struct slice page);

/* Messages of a channel cannot be had any more: offsets from to to, UINT64_MAX when
 * the last of them is not known. Told where the protocol has words for it. */
void session_gap(struct worker *w, uint32_t slot, const char *channel, size_t len,
    uint64_t from, uint64_t to);

/* ---- by protocol (called by session.c) ---- */

void session_raw_message(
    struct worker *w, uint32_t slot, enum opcode op, const uint8_t *buf, size_t len);
void session_raw_refused(struct worker *w, uint32_t slot, int err);
void session_raw_published(struct worker *w, uint32_t slot, int err);

void session_echo_message(
    struct worker *w, uint32_t slot, enum opcode op, const uint8_t *buf, size_t len);

size_t session_v1_hello(struct worker *w, uint32_t slot, uint8_t *out);
void session_v1_bye(struct worker *w, uint32_t slot, uint16_t code, uint32_t retry_ms);
void session_v1_message(
    struct worker *w, uint32_t slot, const uint8_t *buf, size_t len);
/* The message comes too soon: say so, and do nothing of what it asks. */
void session_v1_too_fast(
    struct worker *w, uint32_t slot, const uint8_t *buf, size_t len);
void session_v1_subscribed(struct worker *w, uint32_t slot, const char *id,
    size_t id_len, const struct sub_result *res);
void session_v1_error(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, int err);
void session_v1_history(struct worker *w, uint32_t slot, const char *id, size_t id_len,
    const struct slice *messages, size_t nmessages, uint64_t offset);
void session_v1_presence(
    struct worker *w, uint32_t slot, const char *id, size_t id_len, struct slice page);
void session_v1_ok(struct worker *w, uint32_t slot, const char *id, size_t id_len);
void session_v1_unsubscribed(
    struct worker *w, uint32_t slot, const char *channel, size_t len, int err);
void session_v1_expires(struct worker *w, uint32_t slot, uint32_t in_s);
void session_v1_gap(struct worker *w, uint32_t slot, const char *channel, size_t len,
    uint64_t from, uint64_t to);

/* Whether a connection may subscribe to a channel, which it asks for: a refusal is
 * counted for the rule. */
bool session_may_subscribe(
    struct worker *w, uint32_t slot, const char *name, size_t len);

/* Whether a connection may publish to a channel: a message of len bytes, now. Returns
 * 0, -EACCES, -EMSGSIZE, -ENOBUFS, or -EAGAIN when it comes too soon; -ECANCELED when
 * that has ended the connection. */
int session_may_publish(struct worker *w, uint32_t slot, const char *name,
    size_t name_len, size_t len) __attribute__((warn_unused_result));

/* A client did what it may not do again and again: returns whether it is to be told so.
 * If not, it was closed with 4429. */
bool session_warn(struct worker *w, uint32_t slot) __attribute__((warn_unused_result));

/* Queue a frame; a client that lets too many wait is closed. */
void session_send(struct worker *w, uint32_t slot, const uint8_t *frame, size_t len);

#endif
