/*
 * redis_url.h - where Redis is, as one URL.
 *
 *   redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]      port 6379, database 0
 *   rediss://...                                    the same over TLS
 *   unix://[[USER]:PASSWORD@]/PATH[?db=N]
 *   redis-sentinel://[...@]HOST[:PORT][,...]/MASTER[/DB]   sentinels: port 26379
 *   redis-cluster://[...@]HOST[:PORT][,...]         some of its nodes
 *   rediss-sentinel://, rediss-cluster://           over TLS, the sentinels too
 *
 * User and password may be percent-encoded, and are those of Redis, not of sentinels. A
 * user without a password has it in a file.
 *
 * Source   the `redis` and `unix` schemes as redis-cli -u and redis-py read them
 */
#ifndef WSCAST_PROTO_REDIS_URL_H
#define WSCAST_PROTO_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDIS_URL_MAX 180 /* bytes of the whole */
#define REDIS_DB_MAX 1000000

#define REDIS_ADDRESSES_MAX 8

enum redis_form { REDIS_SERVER, REDIS_SENTINEL, REDIS_CLUSTER };

struct redis_address {
	char host[REDIS_URL_MAX]; /* a name or an address; "" for a unix socket */
	uint16_t port;
	char path[108]; /* of the unix socket, or "" */
};

struct redis_url {
	enum redis_form form;
	bool tls;
	/* The server; or sentinels, or nodes, to begin with. At least one. */
	struct redis_address address[REDIS_ADDRESSES_MAX];
	unsigned naddresses;
	char master[REDIS_URL_MAX]; /* SENTINEL: its name */
	uint32_t db;
	char user[REDIS_URL_MAX];     /* "" = the default user */
	char password[REDIS_URL_MAX]; /* "" = none */
};

/* Returns 0, or -EINVAL with *ret_why a constant that says what would be right (and
 * never shows the password). */
int redis_url_parse(const char *text, struct redis_url *ret_url, const char **ret_why)
    __attribute__((warn_unused_result));

/* The URL with *** for its password, also when it is otherwise broken: for logs and
 * for people. Returns out, of size bytes; what does not fit is cut. */
const char *redis_url_mask(const char *text, char *out, size_t size);

/* HOST:PORT or the socket's path, for people. Returns out. */
const char *redis_address_text(
    const struct redis_address *address, char *out, size_t size);

/* The slot of a cluster in which a key or a sharded channel lies. Of a name with {...}
 * in it, only what is inside decides.
 *
 * Source   redis.io, "Redis cluster specification": hash tags; CRC16 (XMODEM) */
#define REDIS_SLOTS 16384
uint16_t redis_slot(const char *name, size_t len);

#endif
