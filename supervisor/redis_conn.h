/*
 * redis_conn.h - one connection to one address of a Redis server: made, over TLS where
 * that is asked for, greeted (AUTH, HELLO, SELECT, ROLE), and lost once. Whoever wants
 * another opens it again (redis_link.c does). Never blocks.
 *
 * Source   the Redis protocol, RESP2 and RESP3, by hiredis' reader and formatter
 */
#ifndef WSCAST_SUPERVISOR_REDIS_CONN_H
#define WSCAST_SUPERVISOR_REDIS_CONN_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/redis_url.h"
#include "supervisor/outbuf.h"
#include "supervisor/redis_input.h"
#include "supervisor/resolver.h"

/* How to come in: the same at each server of a set. All borrowed; "" = none. */
struct redis_login {
	const char *user, *password;
	const char *password_file; /* read at each connect, in place of `password` */
	uint32_t db;
	bool tls;
	const char *ca, *certificate, *key; /* files, read at each connect */
};

struct redis_conn_config {
	struct ev_loop *loop;
	const struct redis_login *login; /* borrowed */
	bool subscriber; /* RESP3 where the reader knows it; messages all day */
	/* SENTINEL: a server that says that it is no master is refused; CLUSTER: a node
	 * that says that the cluster is not served is. */
	enum redis_form form;
	double timeout_s; /* to resolve, connect and greet */
	size_t reply_max; /* bytes of one reply's string; a longer one ends it */

	/* It can be used from here on. */
	void (*on_up)(void *owner);
	/* It was lost, or could not be made, and is closed. why: one line of ASCII. */
	void (*on_down)(void *owner, const char *why);
	/* A reply behind the greeting; the connection's own. Returns false when
	 * there is no room for it: reading stops, and redis_conn_resume() brings it
	 * again. */
	bool (*on_reply)(void *owner, const redisReply *reply);
	void *owner;
};

enum redis_conn_state {
	CONN_CLOSED,
	CONN_RESOLVING,
	CONN_CONNECTING,
	CONN_TLS,
	CONN_GREETING,
	CONN_UP
};

#define REDIS_GREETINGS_MAX 6

struct redis_tls;

struct redis_conn {
	struct redis_conn_config cfg;
	enum redis_conn_state state;
	struct redis_address address;
	struct resolver resolver;
	struct resolved resolved;
	unsigned next; /* of the resolved addresses */

	int fd;
	struct redis_tls *tls;
	struct redis_input *input;
	const redisReply *waiting; /* a reply that there was no room for; in input */
	bool giving;               /* one is in the hands of on_reply() */
	struct outbuf out;
	bool paused;   /* not reading: on_reply() had no room */
	bool heard;    /* something came; for the owner to clear */
	uint64_t life; /* rises when it is closed */

	const char *greeting[REDIS_GREETINGS_MAX]; /* commands */
	unsigned ngreetings, greeted;
	ev_io read_io, write_io;
	ev_timer deadline;
};

/* cfg: copied. */
void redis_conn_init(struct redis_conn *c, const struct redis_conn_config *cfg);
/* One of on_up() and on_down() follows, perhaps before this returns. address: copied.
 * Only while it is closed. */
void redis_conn_open(struct redis_conn *c, const struct redis_address *address);
void redis_conn_close(struct redis_conn *c); /* without a word */

bool redis_conn_up(const struct redis_conn *c);
/* Queue a command; redis_conn_flush() sends. Returns 0 or -ENOMEM. */
int redis_conn_command(struct redis_conn *c, int argc, const char *const *argv,
    const size_t *argvlen) __attribute__((warn_unused_result));
size_t redis_conn_queued(const struct redis_conn *c); /* bytes not yet sent */
void redis_conn_flush(struct redis_conn *c);
void redis_conn_resume(struct redis_conn *c);

#endif
