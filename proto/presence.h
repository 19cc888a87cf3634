/*
 * presence.h - who is in a channel: as clients are told, and as hosts tell each other.
 *
 *   clients  {"join":{"channel":"c","client":"ID","user":"u","info":JSON}}, or "leave"
 *   a page   {"clients":[{"client":"ID","user":"u","info":JSON},…],"total":N,"next":N}
 *            total: members now; next: where the next page begins, if there is one
 *   hosts    a hash for each host, with a field for each member,
 *            CLIENT CHANNEL (16 digits, then the name) → ["SHOWN",AWAY,"user","info"]
 *            where info is JSON as a string; and messages of what changed in it:
 *
 *   {"node":"NODE","n":N,"sum":"SUM","set":{FIELD:VALUE,…},"del":[FIELD,…]}
 *            NODE, SUM: 16 digits; and "busy", "hello", "bye", which may be true
 *
 * "user" and "info" are left out where there is none.
 */
#ifndef WSCAST_PROTO_PRESENCE_H
#define WSCAST_PROTO_PRESENCE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/slice.h"

#define PRESENCE_USER_MAX 200
#define PRESENCE_INFO_MAX 1024
#define PRESENCE_CHANNEL_MAX 200
#define PRESENCE_CLIENT_LEN 16
#define PRESENCE_FIELD_MAX (PRESENCE_CLIENT_LEN + PRESENCE_CHANNEL_MAX)
/* Each byte of a text may become \u00XX. */
#define PRESENCE_MEMBER_MAX (64 + 6 * PRESENCE_USER_MAX + PRESENCE_INFO_MAX)
#define PRESENCE_FRAME_MAX (64 + 6 * PRESENCE_CHANNEL_MAX + PRESENCE_MEMBER_MAX)

struct presence_member {
	uint64_t client;
	uint64_t shown; /* the id that clients are told */
	bool away;      /* it has gone, and may come again */
	struct slice channel, user;
	struct slice info; /* JSON, or absent */
};

/* {"client":…}: at most PRESENCE_MEMBER_MAX bytes. Returns how many. */
size_t presence_put_member(const struct presence_member *m, char *out);

/* A whole frame of at most PRESENCE_FRAME_MAX bytes. */
size_t presence_push(const struct presence_member *m, bool join, uint8_t *out);

/* The field of a member, at most PRESENCE_FIELD_MAX bytes / its value; NULL: no memory.
 */
size_t presence_field(struct slice channel, uint64_t client, char *out);
json_t *presence_value(const struct presence_member *m);

/* Take them apart; slices point into them. Each may hold anything. Return 0 or
 * -EBADMSG. */
int presence_parse_field(struct slice field, struct slice *ret_channel,
    uint64_t *ret_client) __attribute__((warn_unused_result));
int presence_parse(struct slice field, const json_t *value,
    struct presence_member *ret_member) __attribute__((warn_unused_result));

/* A message of another host. */
struct presence_told {
	json_t *root;
	const char *node; /* 16 digits, in root as all the rest */
	bool counted;     /* n and sum are there */
	uint64_t n, sum;
	bool busy, hello, bye;
	const json_t *set, *del; /* an object of fields / an array; or NULL */
};

/* It may hold anything; set and del, too. Returns 0 with *ret_told for the caller to
 * presence_told_done(); or -EBADMSG. */
int presence_told_parse(const char *text, size_t len, struct presence_told *ret_told)
    __attribute__((warn_unused_result));
void presence_told_done(struct presence_told *told);

/* 16 hexadecimal digits. */
bool presence_parse_id(struct slice text, uint64_t *ret_id);

#endif
