/*
 * control.h - what wsctl and the supervisor say to each other: one JSON object a
 * line, each way.
 *
 *   wsctl       {"cmd":"publish","channel":"news","data":"hello"}
 *   supervisor  {"ok":{…}}  or  {"error":{"code":"forbidden","message":"…"}}
 *
 * A connection may send many requests; they are answered in order. After a `tail`
 * that was answered {"ok":{}} comes a line for each message,
 *
 *   {"channel":"news","offset":7,"time":1700000000.123456,"data":…}
 *
 * with "text" (UTF-8 that is no JSON) or "base64" (anything else) in place of
 * "data", and {"missed":N} for N messages that were not kept for a slow reader.
 *
 * Requests, and what is in their "ok" (wsctl(1) has `status`). What is not known is
 * left out.
 *
 *   {"cmd":"status"}
 *   {"cmd":"maps","first":0}            read-only descriptors of the shared maps come
 *                           with the answer's first byte: the ring's when first is 0,
 *                           then the pages' of "pages" workers from "first" on.
 *                           {"version":"1.0.0","pid":1,"started_ms":CLOCK_MONOTONIC,
 *                           "source":"pubsub","workers":N,"first":0,"pages":N}
 *                           For a client that waits for no other answer.
 *   {"cmd":"version"}       {"version":"1.0.0","commit":"abc"}
 *   {"cmd":"workers"}       {"workers":[…]} as in status, with all counters of page.h
 *   {"cmd":"clients","channel":"c","user":"u","limit":100}  each may be absent; limit 0
 *                           = all   {"clients":[{"client":"ID","worker":0,
 *                           "address":"1.2.3.4:5","user":"u","tls":false,
 *                           "protocol":"wscast.v1|raw|http","state":"handshake|open|
 *                           closing","opened":UNIX_SECONDS,"channels":N,"sent":N,
 *                           "received":N,"lag":MESSAGES,"queued":BYTES}],"total":N}
 *   {"cmd":"client","client":"ID"}      {"client":{…as above, but "channels":["c",…]}}
 *   {"cmd":"channels","glob":"g*","limit":N}      both may be absent
 *                           {"channels":[{"channel":"c","offset":N,"subscribers":N,
 *                           "workers":N,"tails":N,"live":true}],"total":N}
 *   {"cmd":"publish","channel":"c","data":"text"}  or "base64"       {"offset":N}
 *   {"cmd":"history","channel":"c","limit":10}    {"messages":N,"epoch":"k3f…",
 *                           "offset":N}, and N lines as a tail's, oldest first
 *   {"cmd":"tail","channels":["c",…]}
 *   {"cmd":"restart","worker":0}        {"workers":[{"index":0,"pid":1,"adopted":N}]}
 *   {"cmd":"config","key":"ring.size"}            key may be absent    {"text":"…"}
 *   {"cmd":"log-level","level":"debug"}           {"level":"debug"}
 *   {"cmd":"drain","over":SECONDS,"worker":0}     both may be absent
 *                           {"drain":{"workers":N,"connections":N,"began_with":N,
 *                           "over_s":N,"left_s":N}}, as in status
 *   {"cmd":"undrain","worker":0}        {"drain":null}, or what still is
 *   {"cmd":"kick","client":"ID"}        or "user" or "channel", of this host
 *                           {"closed":N,"told":true}
 *   {"cmd":"revoke","user":"u","for":SECONDS}     or "jti"; 3600 when absent
 *                           {"closed":N,"told":false}: told: other hosts were, if any
 *
 *   {"cmd":"presence","channel":"c","limit":N,"after":N}   1000 and 0 when absent
 *                           {"clients":[{"client":"ID","user":"u","info":JSON}],
 *                           "total":N,"next":N}: next, to be the next request's
 *                           "after", is there when there are more
 *
 * Lines are split and made here; who reads and writes the socket is not our concern.
 */
#ifndef WSCAST_PROTO_CONTROL_H
#define WSCAST_PROTO_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/dialect.h"

#define CONTROL_LINE_MAX (2u << 20)    /* bytes of a request, without its newline */
#define CONTROL_REPLY_MAX (128u << 20) /* bytes of a reply or message, likewise */
#define CONTROL_DEPTH_MAX 8            /* arrays and objects within each other */
#define CONTROL_VALUES_MAX 4096        /* members and elements of a request */
#define CONTROL_PAGES_MAX 200 /* in one answer to `maps`: the kernel's limit is 253 */
#define CONTROL_DEFAULT_SOCKET "/run/wscast/control.sock"

/* ---- bytes to lines ---- */

struct control_line {
	char *buf; /* NULL when nothing waits */
	size_t size;
	size_t start, len; /* what waits: buf[start] to buf[start + len] */
	size_t scanned;    /* of len: seen to hold no newline */
	size_t max;        /* longest line, without its newline */
};

/* max: CONTROL_LINE_MAX or CONTROL_REPLY_MAX. Allocates nothing. */
void control_line_init(struct control_line *l, size_t max);
void control_line_done(struct control_line *l);

/*
 * Where to read into. Call control_line_next() until it has no more, first: what it
 * returned is invalid after this.
 *
 * ret_len  bytes of room, at least 1.
 *
 * Returns NULL with errno ENOMEM, or EMSGSIZE when the line is too long.
 */
void *control_line_room(struct control_line *l, size_t *ret_len);
void control_line_fed(struct control_line *l, size_t len); /* so much came */

/*
 * Take the next whole line.
 *
 * ret_line  without newline, NUL-terminated in its place; the buffer's, until the
 *           next control_line_room().
 *
 * Returns 1; 0 when none is whole; -EMSGSIZE when one is longer than max: the
 * connection cannot go on.
 */
int control_line_next(struct control_line *l, char **ret_line, size_t *ret_len)
    __attribute__((warn_unused_result));

/* ---- requests ---- */

/*
 * Parse a request: an object with a string "cmd", its depth and number of values
 * bounded before anything is allocated. No string in it holds a NUL.
 *
 * ret_request  the caller's to json_decref().
 * why          room for the reason, as text for the peer.
 *
 * Returns 0, or -EBADMSG with why filled.
 */
int control_request_parse(const char *line, size_t len, json_t **ret_request, char *why,
    size_t why_size) __attribute__((warn_unused_result));

/*
 * The payload of a `publish`: member "data" (a string) or "base64".
 *
 * ret_data  malloc'd, ret_len bytes, never NULL.
 *
 * Returns 0, -EINVAL when it has neither, or both, or broken base64; -ENOMEM.
 */
int control_payload(const json_t *request, void **ret_data, size_t *ret_len)
    __attribute__((warn_unused_result));
/* The other way: put the payload into a request. Returns 0 or -ENOMEM. */
int control_put_payload(json_t *request, const void *data, size_t len)
    __attribute__((warn_unused_result));

/* ---- lines to send: malloc'd, newline included, NULL when there is no memory ---- */

enum control_code {
	CONTROL_BAD_REQUEST,
	CONTROL_FORBIDDEN,
	CONTROL_NOT_FOUND,
	CONTROL_FEED_DOWN,
	CONTROL_INTERNAL,
};
const char *control_code_name(enum control_code code); /* "bad_request", … */

/* object: taken over; NULL (no memory) is passed on. For requests. */
char *control_line_of(json_t *object, size_t *ret_len);
/* {"ok":ok}; ok: taken over; NULL (no memory) is passed on. */
char *control_ok(json_t *ok, size_t *ret_len);
/* {"error":{…}}; broken UTF-8 in the text becomes '?'. */
char *control_error(enum control_code code, size_t *ret_len, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* {"error":{…,"faults":["FILE:LINE: …", …]}}: settings that were not taken. Broken
 * UTF-8 in a line is replaced in its place. */
char *control_faults(char *const *line, unsigned n, size_t *ret_len);

/* A tail's line for one message. A JSON payload goes in as it is, but for newlines
 * between its tokens, which become spaces. time_ns: CLOCK_REALTIME. */
char *control_message(const struct message *m, uint64_t time_ns, size_t *ret_len);

/* ---- a tail's line taken apart ---- */

struct control_event {
	uint64_t missed; /* not 0: messages were missed, and nothing below is set */
	char *channel;   /* UTF-8, NUL-terminated, no NUL inside */
	uint64_t offset;
	double time; /* seconds since the epoch */
	enum data_kind kind;
	void *data; /* as it was published, but for newlines between JSON tokens */
	size_t data_len;
};

/* Returns 0, -EBADMSG or -ENOMEM. */
int control_event_parse(const char *line, size_t len, struct control_event *ret_event)
    __attribute__((warn_unused_result));
void control_event_done(struct control_event *e);

#endif
