/*
 * revocation.h - who is not to come in any more, as hosts and backends tell each other
 * through Redis.
 *
 *   told   {"user":"alice","for":3600}  or  {"jti":"…","for":3600}
 *          for: seconds, 3600 when it is missing; hosts add "node":"THEIR NODE"
 *   kept   {"user":"alice"}  or  {"jti":"…"}, a member of a sorted set whose score is
 *          the end, in milliseconds since 1970
 */
#ifndef WSCAST_PROTO_REVOCATION_H
#define WSCAST_PROTO_REVOCATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REVOCATION_NAME_MAX 200    /* bytes of a subject or jti */
#define REVOCATION_FOR_MS 3600000u /* when nobody says for how long */
#define REVOCATION_FOR_MS_MAX (366ull * 24 * 3600 * 1000)
#define REVOCATION_NODE_MAX 32

struct revocation {
	bool is_user; /* or else a token's jti */
	uint16_t len;
	char name[REVOCATION_NAME_MAX];
	uint64_t for_ms;
	/* Of the host that says so; "": a backend. */
	char node[REVOCATION_NODE_MAX + 1];
};

/* What was told, or kept; it may be anything. Returns 0 or -EBADMSG. */
int revocation_parse(const char *text, size_t len, struct revocation *ret)
    __attribute__((warn_unused_result));

/* As it is told / kept: a string for the caller to free(); NULL: no memory, or the name
 * is no UTF-8. */
char *revocation_told(const struct revocation *r);
char *revocation_kept(const struct revocation *r);

#endif
