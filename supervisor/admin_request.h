/*
 * admin_request.h - one request of the admin listener; shared by admin.c and
 * admin_publish.c alone.
 */
#ifndef WSCAST_SUPERVISOR_ADMIN_REQUEST_H
#define WSCAST_SUPERVISOR_ADMIN_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/publish_body.h"
#include "supervisor/admin.h"

struct admin {
	struct supervisor *s;
	struct MHD_Daemon *http;
	int fd; /* the listener: libmicrohttpd's once it runs */
	ev_io io;
	ev_timer timeout;
	bool again;                  /* something was answered that waits to be sent */
	struct admin_request *first; /* those that are published */
	uint64_t last_number;
	size_t body_bytes; /* of all bodies */
	uint64_t requests, unauthorized, published, publish_failed;
};

enum admin_step {
	ADMIN_BODY,    /* being read */
	ADMIN_PUBLISH, /* being published: suspended */
	ADMIN_ANSWER,  /* `status` and `text` are to be sent */
};

struct admin_request {
	struct admin *a;
	struct MHD_Connection *connection;
	struct admin_request *next; /* ADMIN_PUBLISH */
	enum admin_step step;
	uint64_t number;

	char *body;
	size_t len, cap;
	struct publish_item *items; /* of the body */
	size_t nitems, nasked, nanswered, npublished;
	bool asking; /* inside feed_publish(), which may answer at once */
	int err;     /* the first that failed, and which */
	size_t err_item;

	unsigned status;
	char text[512];
};

/* Say how it ends: one line of JSON. */
void admin_answer_ok(struct admin_request *q, size_t published);
void admin_answer_error(struct admin_request *q, unsigned status, const char *code,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Whether the request may publish; else it is answered. */
bool admin_may_publish(struct admin_request *q);
/* Bytes that a body may have. */
size_t admin_body_max(const struct admin_request *q);
/* A piece of the body. Returns false when it is answered. */
bool admin_body_add(struct admin_request *q, const char *data, size_t len);
/* The body is whole: publish it. Returns false when it is answered. */
bool admin_publish(struct admin_request *q);
/* Ask for what is not yet asked. */
void admin_publish_more(struct admin_request *q);
void admin_publish_done(
    struct admin_request *q, const struct receipt *receipt, int err);
void admin_request_free(struct admin_request *q);

#endif
