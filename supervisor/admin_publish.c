/* admin_publish.c - POST /publish; see admin.h */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/api_keys.h"
#include "proto/settings.h"
#include "supervisor/admin_request.h"
#include "supervisor/supervisor.h"

#define BODY_MAX (16u << 20)
#define BODIES_MAX (64u << 20) /* bytes of all bodies together */
#define BODY_FIRST 4096
#define ITEMS_FIRST 16

/* ---- who may ---- */

bool
admin_may_publish(struct admin_request *q)
{
	const struct settings_file *keys =
	    settings_file(q->a->s->settings, "server.api_key_file");
	const char *given = MHD_lookup_connection_value(
	    q->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);

	if (keys == NULL) {
		admin_answer_error(q, MHD_HTTP_FORBIDDEN, "forbidden",
		    "publishing over HTTP is off: name a file of keys in "
		    "server.api_key_file, and reload");
		return false;
	}
	if (given != NULL && strncasecmp(given, "Bearer ", 7) == 0) {
		for (given += 7; *given == ' ';)
			given++;
		if (api_keys_has(keys->data, keys->len, given, strlen(given)))
			return true;
	}
	q->a->unauthorized++;
	admin_answer_error(q, MHD_HTTP_UNAUTHORIZED, "unauthorized",
	    given == NULL ? "write Authorization: Bearer and an API key"
			  : "this API key is none of ours");
	return false;
}

/* ---- the body ---- */

size_t
admin_body_max(const struct admin_request *q)
{
	size_t longest = ring_frame_max(q->a->s->ring);

	/* One of the longest, written with escapes, or many of them. */
	return 4 * longest < BODY_MAX ? 4 * longest : BODY_MAX;
}

static bool
body_grow(struct admin_request *q, size_t need)
{
	size_t cap = q->cap == 0 ? BODY_FIRST : q->cap;
	char *body;

	while (cap < need)
		cap *= 2;
	if (q->a->body_bytes + cap - q->cap > BODIES_MAX)
		return false;
	body = realloc(q->body, cap);
	if (body == NULL)
		return false;
	q->a->body_bytes += cap - q->cap;
	q->body = body;
	q->cap = cap;
	return true;
}

bool
admin_body_add(struct admin_request *q, const char *data, size_t len)
{
	if (q->len + len > admin_body_max(q)) {
		admin_answer_error(q, MHD_HTTP_CONTENT_TOO_LARGE, "too_large",
		    "a body may have at most %zu bytes", admin_body_max(q));
		return false;
	}
	if (q->len + len > q->cap && !body_grow(q, q->len + len)) {
		admin_answer_error(q, MHD_HTTP_SERVICE_UNAVAILABLE, "limit",
		    "too many bodies at a time: try again later");
		return false;
	}
	if (len > 0)
		memcpy(q->body + q->len, data, len);
	q->len += len;
	return true;
}

static bool
items_add(struct admin_request *q, const struct publish_item *item)
{
	/* Full at each power of two. */
	if (q->nitems >= ITEMS_FIRST && (q->nitems & (q->nitems - 1)) != 0) {
		q->items[q->nitems++] = *item;
		return true;
	}
	if (q->nitems == 0 || q->nitems >= ITEMS_FIRST) {
		size_t cap = q->nitems == 0 ? ITEMS_FIRST : 2 * q->nitems;
		struct publish_item *items =
		    reallocarray(q->items, cap, sizeof(*items));

		if (items == NULL)
			return false;
		q->items = items;
	}
	q->items[q->nitems++] = *item;
	return true;
}

/* All of it is read before the first message is published. */
static bool
body_read(struct admin_request *q)
{
	char why[PUBLISH_WHY_MAX];
	struct publish_item item;
	struct publish_body b;
	int r = publish_body_begin(&b, q->body, q->len, why);

	while (r == 0 && (r = publish_body_next(&b, &item, why)) > 0)
		r = items_add(q, &item) ? 0 : -ENOMEM;
	if (r == 0)
		return true;
	if (r == -ENOMEM)
		admin_answer_error(
		    q, MHD_HTTP_SERVICE_UNAVAILABLE, "limit", "no memory");
	else if (b.list)
		admin_answer_error(q, MHD_HTTP_BAD_REQUEST, "bad_request",
		    "message %zu: %s", q->nitems, why);
	else
		admin_answer_error(q, MHD_HTTP_BAD_REQUEST, "bad_request", "%s", why);
	return false;
}

/* ---- publishing ---- */

static const struct {
	int err;
	unsigned status;
	const char *code, *why;
} failures[] = {
    {EMSGSIZE, MHD_HTTP_CONTENT_TOO_LARGE, "too_large",
	"the message is longer than an eighth of ring.size"},
    {EACCES, MHD_HTTP_FORBIDDEN, "forbidden",
	"Redis forbids our user to publish to this channel"},
    {ENOSPC, MHD_HTTP_SERVICE_UNAVAILABLE, "limit", "too many channels"},
    {EPROTONOSUPPORT, MHD_HTTP_BAD_REQUEST, "bad_request",
	"Redis' pub/sub carries no \"key\": leave it out, or set feed.source to "
	"stream"},
    {ENOTCONN, MHD_HTTP_SERVICE_UNAVAILABLE, "feed_down", "the feed is down"},
    {0, MHD_HTTP_INTERNAL_SERVER_ERROR, "internal", NULL},
};

static void
answer(struct admin_request *q)
{
	size_t i = 0;

	q->a->published += q->npublished;
	q->a->publish_failed += q->nitems - q->npublished;
	if (q->err == 0) {
		admin_answer_ok(q, q->npublished);
		return;
	}
	while (failures[i].err != 0 && failures[i].err != -q->err)
		i++;
	admin_answer_error(q, failures[i].status, failures[i].code,
	    "message %zu: %s (%zu of %zu were published)", q->err_item,
	    failures[i].why != NULL ? failures[i].why : strerror(-q->err),
	    q->npublished, q->nitems);
}

/* Take a request that is answered out of the list, and let its answer be sent. */
static void
finish(struct admin_request *q)
{
	struct admin_request **at = &q->a->first;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	answer(q);
	q->a->again = true;
	MHD_resume_connection(q->connection);
}

static void
note(struct admin_request *q, size_t item, int err)
{
	q->nanswered++;
	if (err == 0) {
		q->npublished++;
	} else if (q->err == 0 || item < q->err_item) {
		q->err = err;
		q->err_item = item;
	}
}

void
admin_publish_more(struct admin_request *q)
{
	q->asking = true;
	while (q->nasked < q->nitems) {
		const struct publish_item *item = &q->items[q->nasked];
		struct receipt receipt = {.kind = RECEIPT_ADMIN,
		    .client = q->number,
		    .cookie = (uint32_t)q->nasked};
		const struct feed_publish m = {
		    .channel = item->channel,
		    .key = item->key,
		    .data = item->data,
		};
		int r = feed_publish(q->a->s->feed, &m, &receipt);

		if (r == -ENOBUFS)
			break; /* admin_resume() goes on */
		q->nasked++;
		if (r < 0)
			note(q, q->nasked - 1, r);
	}
	q->asking = false;
	if (q->nanswered == q->nitems)
		finish(q);
}

void
admin_publish_done(struct admin_request *q, const struct receipt *receipt, int err)
{
	note(q, receipt->cookie, err);
	if (!q->asking && q->nanswered == q->nitems)
		finish(q);
}

bool
admin_publish(struct admin_request *q)
{
	if (!body_read(q))
		return false;
	q->step = ADMIN_PUBLISH;
	q->next = q->a->first;
	q->a->first = q;
	/* Also when all is answered at once: finish() resumes what is suspended. */
	MHD_suspend_connection(q->connection);
	admin_publish_more(q);
	return true;
}

void
admin_request_free(struct admin_request *q)
{
	if (q == NULL)
		return;
	q->a->body_bytes -= q->cap;
	free(q->body);
	free(q->items);
	free(q);
}
