/*
 * redis_url.h - where Redis is, as one URL.
 *
 *   redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]      port 6379, database 0
 *   unix://[[USER]:PASSWORD@]/PATH[?db=N]
 *
 * User and password may be percent-encoded. A user without a password is refused: Redis
 * has no such login.
 *
 * Source   the `redis` and `unix` schemes as redis-cli -u and redis-py read them
 */
#ifndef WSCAST_PROTO_REDIS_URL_H
#define WSCAST_PROTO_REDIS_URL_H

#include <stddef.h>
#include <stdint.h>

#define REDIS_URL_MAX 180 /* bytes of the whole */
#define REDIS_DB_MAX 1000000

struct redis_url {
	char host[REDIS_URL_MAX]; /* a name or an address; "" for a unix socket */
	uint16_t port;
	char path[108]; /* of the unix socket, or "" */
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

/* HOST:PORT or the socket's path, for people: no password. Returns out. */
const char *redis_url_where(const struct redis_url *url, char *out, size_t size);

#endif
