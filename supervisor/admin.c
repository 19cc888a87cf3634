/*
 * admin.c - see admin.h
 *
 * libmicrohttpd calls on_request() for a request's head, for each piece of its body,
 * and once more when that is whole. A publish waits for the feed with its connection
 * suspended.
 *
 * Source   libmicrohttpd's manual, "External epoll"
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/address.h"
#include "proto/journal.h"
#include "proto/json.h"
#include "supervisor/admin_request.h"
#include "supervisor/metrics.h"
#include "supervisor/supervisor.h"

#define CONNECTIONS_MAX 64
#define IDLE_S 10      /* a connection on which nothing moves */
#define HEAD_MAX 16384 /* bytes of a connection's head, and of its answer's */
#define BACKLOG 64
#define JSON_TYPE "application/json"

/* ---- answers ---- */

void
admin_answer_ok(struct admin_request *q, size_t published)
{
	q->step = ADMIN_ANSWER;
	q->status = MHD_HTTP_OK;
	(void)snprintf(
	    q->text, sizeof(q->text), "{\"ok\":{\"published\":%zu}}\n", published);
}

void
admin_answer_error(
    struct admin_request *q, unsigned status, const char *code, const char *fmt, ...)
{
	char message[200], quoted[6 * sizeof(message) + 2];
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	len = json_put_string(message, strlen(message), quoted);
	q->step = ADMIN_ANSWER;
	q->status = status;
	(void)snprintf(q->text, sizeof(q->text),
	    "{\"error\":{\"code\":\"%s\",\"message\":%.*s}}\n", code, (int)len, quoted);
}

static enum MHD_Result
send_response(struct MHD_Connection *c, unsigned status, const char *type,
    struct MHD_Response *response)
{
	enum MHD_Result r;

	if (response == NULL)
		return MHD_NO;
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	(void)MHD_add_response_header(
	    response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_UNAUTHORIZED)
		(void)MHD_add_response_header(
		    response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
		(void)MHD_add_response_header(
		    response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
	r = MHD_queue_response(c, status, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result
send_text(struct MHD_Connection *c, unsigned status, const char *text)
{
	return send_response(c, status, JSON_TYPE,
	    MHD_create_response_from_buffer(
		strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY));
}

/* ---- what can be asked ---- */

static enum MHD_Result
serve_metrics(struct admin_request *q)
{
	size_t len = 0;
	char *text = metrics_text(q->a->s, &len);

	if (text == NULL)
		return MHD_NO;
	return send_response(q->connection, MHD_HTTP_OK, METRICS_TYPE,
	    MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result
serve_health(struct admin_request *q)
{
	return send_text(q->connection, MHD_HTTP_OK, "{\"healthy\":true}\n");
}

static enum MHD_Result
serve_ready(struct admin_request *q)
{
	const struct supervisor *s = q->a->s;
	const char *reason = NULL;
	struct feed_status feed;

	feed_look(s->feed, &feed);
	if (ring_draining(s->ring))
		reason = "{\"ready\":false,\"reason\":\"draining\"}\n";
	else if (!feed.connected)
		reason = "{\"ready\":false,\"reason\":\"feed_down\"}\n";
	else if (!workers_healthy(s->workers))
		reason = "{\"ready\":false,\"reason\":\"workers_starting\"}\n";
	return reason == NULL
		   ? send_text(q->connection, MHD_HTTP_OK, "{\"ready\":true}\n")
		   : send_text(q->connection, MHD_HTTP_SERVICE_UNAVAILABLE, reason);
}

static enum MHD_Result
send_answer(struct admin_request *q)
{
	return send_text(q->connection, q->status, q->text);
}

/* What is longer than it may be is refused before it is sent. */
static bool
length_fits(struct admin_request *q)
{
	const char *length = MHD_lookup_connection_value(
	    q->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	unsigned long long n = length == NULL ? 0 : strtoull(length, NULL, 10);

	if (n <= admin_body_max(q))
		return true;
	admin_answer_error(q, MHD_HTTP_CONTENT_TOO_LARGE, "too_large",
	    "a body may have at most %zu bytes", admin_body_max(q));
	return false;
}

static enum MHD_Result
serve_publish(struct admin_request *q)
{
	if (!admin_may_publish(q) || !length_fits(q))
		return send_answer(q);
	return MHD_YES; /* the body comes */
}

static const struct {
	const char *url;
	bool post;
	enum MHD_Result (*serve)(struct admin_request *q);
} pages[] = {
    {"/metrics", false, serve_metrics},
    {"/health", false, serve_health},
    {"/ready", false, serve_ready},
    {"/publish", true, serve_publish},
};

static enum MHD_Result
refuse_method(struct admin_request *q, const char *allow)
{
	struct MHD_Response *response;

	admin_answer_error(
	    q, MHD_HTTP_METHOD_NOT_ALLOWED, "bad_request", "this page takes %s", allow);
	response = MHD_create_response_from_buffer(
	    strlen(q->text), q->text, MHD_RESPMEM_MUST_COPY);
	if (response == NULL)
		return MHD_NO;
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
	return send_response(q->connection, q->status, JSON_TYPE, response);
}

static enum MHD_Result
serve(struct admin_request *q, const char *url, const char *method)
{
	bool is_get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 ||
		      strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
	bool is_post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;

	q->a->requests++;
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		if (strcmp(pages[i].url, url) != 0)
			continue;
		if (pages[i].post ? !is_post : !is_get)
			return refuse_method(q, pages[i].post ? "POST" : "GET, HEAD");
		return pages[i].serve(q);
	}
	admin_answer_error(q, MHD_HTTP_NOT_FOUND, "not_found",
	    "there are /metrics, /health, /ready and /publish");
	return send_answer(q);
}

/* ---- a request ---- */

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *data, size_t *data_len,
    void **request)
{
	struct admin_request *q = *request;

	if (q == NULL) {
		q = calloc(1, sizeof(*q));
		if (q == NULL)
			return MHD_NO;
		q->a = cls;
		q->connection = connection;
		q->number = ++q->a->last_number;
		*request = q;
		return serve(q, url, method);
	}
	if (*data_len > 0) {
		/* In the middle of a body nothing can be answered but by its end. */
		if (!admin_body_add(q, data, *data_len))
			return MHD_NO;
		*data_len = 0;
		return MHD_YES;
	}
	if (q->step == ADMIN_BODY && admin_publish(q))
		return MHD_YES; /* suspended, or already answered */
	return q->step == ADMIN_ANSWER ? send_answer(q) : MHD_YES;
}

static void
on_completed(void *cls, struct MHD_Connection *connection, void **request,
    enum MHD_RequestTerminationCode how)
{
	admin_request_free(*request);
	*request = NULL;
}

/* ---- the loop ---- */

static bool
is_full(const struct admin *a)
{
	const union MHD_DaemonInfo *info =
	    MHD_get_daemon_info(a->http, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

	return info != NULL && info->num_connections >= CONNECTIONS_MAX;
}

static void
run(struct admin *a)
{
	bool was_full = is_full(a);
	MHD_UNSIGNED_LONG_LONG ms;

	a->again = false;
	(void)MHD_run(a->http);
	/* When it is full the listener is not watched, and is again only from the turn
	 * behind the one in which a place became free. */
	if (was_full)
		(void)MHD_run(a->http);
	ev_timer_stop(a->s->loop, &a->timeout);
	if (MHD_get_timeout(a->http, &ms) != MHD_YES)
		return;
	ev_timer_set(&a->timeout, (double)ms / 1e3, 0.);
	ev_timer_start(a->s->loop, &a->timeout);
}

static void
on_admin_io(struct ev_loop *loop, ev_io *io, int revents)
{
	run(container_of(io, struct admin, io));
}

static void
on_admin_timeout(struct ev_loop *loop, ev_timer *t, int revents)
{
	run(container_of(t, struct admin, timeout));
}

void
admin_flush(struct admin *a)
{
	if (a != NULL && a->again)
		run(a);
}

void
admin_resume(struct admin *a)
{
	struct admin_request *next;

	for (struct admin_request *q = a == NULL ? NULL : a->first; q != NULL;
	     q = next) {
		next = q->next;
		if (q->nasked < q->nitems && !q->asking)
			admin_publish_more(q);
	}
}

void
admin_published(struct admin *a, const struct receipt *receipt, int err)
{
	for (struct admin_request *q = a == NULL ? NULL : a->first; q != NULL;
	     q = q->next)
		if (q->number == receipt->client) {
			admin_publish_done(q, receipt, err);
			return;
		}
}

/* ---- all of it ---- */

static int
listen_on(const char *where, int *ret_fd)
{
	struct sockaddr_storage sa;
	socklen_t len = 0;
	const char *why;
	int on = 1, r;
	int fd;

	if (address_parse(where, strlen(where), &sa, &len, &why) < 0)
		return -EINVAL;
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&sa, len) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		r = -errno; /* before close() can change it */
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int
http_start(struct admin *a)
{
	const union MHD_DaemonInfo *info;

	a->http = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL,
	    NULL, on_request, a, MHD_OPTION_LISTEN_SOCKET, a->fd,
	    MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
	    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_MAX,
	    MHD_OPTION_NOTIFY_COMPLETED, on_completed, a, MHD_OPTION_END);
	if (a->http == NULL)
		return -ENOMEM;
	a->fd = -1;
	info = MHD_get_daemon_info(a->http, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		return -ENOTSUP;
	ev_io_init(&a->io, on_admin_io, info->epoll_fd, EV_READ);
	ev_io_start(a->s->loop, &a->io);
	return 0;
}

int
admin_open(struct supervisor *s, struct admin **ret_admin)
{
	const char *where = s->settings->admin_listen;
	struct admin *a;
	int r;

	*ret_admin = NULL;
	if (*where == '\0')
		return 0;
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return -ENOMEM;
	a->s = s;
	a->fd = -1;
	ev_timer_init(&a->timeout, on_admin_timeout, 0., 0.);
	r = listen_on(where, &a->fd);
	if (r == 0)
		r = http_start(a);
	if (r < 0) {
		log_error(r,
		    "cannot listen on %s for metrics and publishing: set another "
		    "server.admin_listen, or none",
		    where);
		admin_close(a);
		return r;
	}
	*ret_admin = a;
	return 0;
}

void
admin_close(struct admin *a)
{
	if (a == NULL)
		return;
	ev_io_stop(a->s->loop, &a->io);
	ev_timer_stop(a->s->loop, &a->timeout);
	for (; a->first != NULL; a->first = a->first->next)
		MHD_resume_connection(a->first->connection);
	if (a->http != NULL)
		MHD_stop_daemon(a->http);
	if (a->fd >= 0)
		(void)close(a->fd);
	free(a);
}

void
admin_metrics(const struct admin *a, FILE *out)
{
	static const struct admin none; /* no listener, no requests */
	const struct admin *of = a != NULL ? a : &none;
	const struct {
		const char *name, *help;
		uint64_t n;
	} counts[] = {
	    {"admin_requests", "requests to the admin listener", of->requests},
	    {"admin_unauthorized", "publish requests without a right key",
		of->unauthorized},
	    {"admin_published", "messages published over HTTP", of->published},
	    {"admin_publish_failed", "messages over HTTP that were not published",
		of->publish_failed},
	};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		(void)fprintf(out,
		    "# HELP wscast_%s_total %s\n# TYPE wscast_%s_total counter\n"
		    "wscast_%s_total %" PRIu64 "\n",
		    counts[i].name, counts[i].help, counts[i].name, counts[i].name,
		    counts[i].n);
}
