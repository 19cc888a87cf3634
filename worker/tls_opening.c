/* tls_opening.c - see tls_opening.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/http.h"
#include "worker/client.h"
#include "worker/handshake.h"
#include "worker/limits.h"
#include "worker/peek.h"
#include "worker/reader.h"
#include "worker/tls.h"
#include "worker/tls_conn.h"
#include "worker/tls_opening.h"

#define RECORD_HEAD 5
#define RECORD_MAX (RECORD_HEAD + 16384) /* of a handshake */
#define RECORD_HANDSHAKE 22

_Static_assert(TLS_FEED_MAX + RECORD_MAX < READER_BUFFER,
    "what was fed, and a record that it completes, are read at once");

bool
tls_is_due(const struct worker *w, const struct slot *s)
{
	return w->tls != NULL && s->listener < w->settings->nlisten &&
	       w->settings->listen[s->listener].tls && !(s->flags & SLOT_TLS) &&
	       slot_state(s) == SLOT_HANDSHAKE;
}

enum tls_hello
tls_hello(const uint8_t *buf, size_t len, size_t *ret_need)
{
	if (len > 0 && buf[0] >= 'A' && buf[0] <= 'Z')
		return TLS_HELLO_HTTP;
	if (len > 0 && buf[0] != RECORD_HANDSHAKE)
		return TLS_HELLO_BROKEN;
	*ret_need = RECORD_HEAD;
	if (len >= RECORD_HEAD)
		*ret_need += (size_t)buf[3] << 8 | buf[4];
	if (*ret_need > RECORD_MAX)
		return TLS_HELLO_BROKEN;
	if (*ret_need > PEEK_MAX)
		*ret_need = PEEK_MAX; /* as much as is looked at */
	return len < RECORD_HEAD || len < *ret_need ? TLS_HELLO_MORE : TLS_HELLO_WHOLE;
}

/* Returns 0 or -ENOMEM. */
static int
begin(struct tls *t, uint32_t slot)
{
	SSL *ssl = tls_context_accept(t->context);

	if (ssl == NULL)
		return -ENOMEM;
	(void)BIO_up_ref(t->bio);
	SSL_set_bio(ssl, t->bio, t->bio); /* the one reference counts for both */
	t->conn[slot] = (struct tls_conn){.ssl = ssl};
	if (t->kernel)
		tls_kernel_want(&t->conn[slot].kernel);
	t->nconns++;
	page_add(t->w->page, PAGE_tls_connections, 1);
	worker_slot(t->w, slot)->flags |= SLOT_TLS;
	return 0;
}

static bool
take_hello(struct worker *w, uint32_t slot)
{
	if (!limits_handshake(w)) {
		page_add(w->page, PAGE_limited_handshakes, 1);
		client_close(w, slot, CLIENT_END_LIMIT);
		return false;
	}
	peek_consume(w, slot, 0); /* by TLS, and woken by any byte from now on */
	if (begin(w->tls, slot) == 0)
		return true;
	client_close(w, slot, CLIENT_END_LIMIT);
	return false;
}

bool
tls_take(struct worker *w, uint32_t slot)
{
	static const struct http_fault no_tls = {.status = 400,
	    .message = "this port speaks TLS alone: use wss:// or https://"};
	size_t len, need = 0;

	if (w->tls->steps == 0)
		return false; /* the socket stays readable */
	len = peek(w, slot);
	if (len == 0)
		return false;
	switch (tls_hello(readers_buffer(w), len, &need)) {
	case TLS_HELLO_WHOLE:
		return take_hello(w, slot);
	case TLS_HELLO_MORE:
		peek_wait(w, slot, need - 1);
		break;
	case TLS_HELLO_HTTP:
		page_add(w->page, PAGE_tls_plain, 1);
		handshake_refuse(w, slot, &no_tls);
		break;
	case TLS_HELLO_BROKEN:
		page_add(w->page, PAGE_tls_failed, 1);
		client_close(w, slot, CLIENT_END_PROTOCOL);
		break;
	}
	return false;
}

bool
tls_is_opening(const struct worker *w, uint32_t slot)
{
	return !tls_conn_of(w, slot)->opened;
}

static void
look_for_opened(struct worker *w, struct tls_conn *c)
{
	if (c->opened || !SSL_is_init_finished(c->ssl))
		return;
	c->opened = true;
	page_add(w->page, PAGE_tls_handshakes, 1);
	if (SSL_session_reused(c->ssl))
		page_add(w->page, PAGE_tls_resumed, 1);
}

static bool
unread_add(struct tls_conn *c, const uint8_t *buf, size_t len)
{
	uint8_t *unread = realloc(c->unread, c->unread_len + len);

	if (unread == NULL)
		return false;
	memcpy(unread + c->unread_len, buf, len);
	c->unread = unread;
	c->unread_len += (uint32_t)len;
	return true;
}

/* The handshake is done: the kernel goes on, or else OpenSSL. Returns 0 or -errno. */
static int
hand_over(struct worker *w, uint32_t slot)
{
	struct tls_conn *c = tls_conn_of(w, slot);
	int r = -EOPNOTSUPP;

	if (c->held_len == 0)
		r = tls_kernel_take(&c->kernel, worker_slot(w, slot)->fd, c->ssl);
	tls_kernel_forget(&c->kernel);
	if (r == 0) {
		SSL_free(c->ssl);
		c->ssl = NULL;
	}
	return r == -EOPNOTSUPP ? 0 : r;
}

/* As step(), where the kernel may go on: no byte behind the handshake is taken out of
 * it. */
static ssize_t
step_to_kernel(struct worker *w, uint32_t slot)
{
	struct tls *t = w->tls;
	struct tls_conn *c = &t->conn[slot];
	int fd = worker_slot(w, slot)->fd, r;
	ssize_t n = recv(fd, t->in, TLS_FEED_MAX, MSG_DONTWAIT | MSG_PEEK);

	if (n <= 0)
		return n < 0 ? -errno : 0;
	tls_conn_enter(t, slot, t->in, (size_t)n);
	r = SSL_do_handshake(c->ssl);
	if (r != 1)
		r = tls_conn_outcome(c, r);
	n -= (ssize_t)t->feed_len;
	if (n > 0 && recv(fd, t->in, (size_t)n, MSG_DONTWAIT) != n)
		return -EPROTO; /* it was there a moment ago */
	if (r != 1)
		return r;
	look_for_opened(w, c);
	r = hand_over(w, slot);
	return r < 0 ? r : -EAGAIN; /* the socket stays readable */
}

/* What the client has sent behind the handshake, as the kernel opens it. */
static ssize_t
step_in_kernel(struct worker *w, uint32_t slot)
{
	uint8_t *buf = readers_buffer(w);
	ssize_t n = tls_conn_recv(w, slot, buf, READER_BUFFER);

	if (n > 0 && !unread_add(tls_conn_of(w, slot), buf, (size_t)n))
		return -ENOMEM;
	return n;
}

/* Bytes of the socket to OpenSSL, and what it makes of them behind `unread`. Returns as
 * tls_peek(). */
static ssize_t
step(struct worker *w, uint32_t slot)
{
	struct tls *t = w->tls;
	struct tls_conn *c = &t->conn[slot];
	uint8_t *buf = readers_buffer(w);
	ssize_t n;

	if (c->kernel.has_keys)
		return step_in_kernel(w, slot);
	if (c->kernel.secrets != NULL)
		return step_to_kernel(w, slot);
	n = recv(worker_slot(w, slot)->fd, t->in, TLS_FEED_MAX, MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	tls_conn_enter(t, slot, t->in, (size_t)n);
	n = tls_conn_read(c, buf, READER_BUFFER);
	look_for_opened(w, c);
	if (n > 0 && !unread_add(c, buf, (size_t)n))
		return -ENOMEM;
	return n;
}

ssize_t
tls_peek(struct worker *w, uint32_t slot, uint8_t *buf, size_t len)
{
	struct tls_conn *c = tls_conn_of(w, slot);
	bool opening = !c->opened;
	ssize_t n;
	int r;

	if (opening && w->tls->steps == 0)
		return -EAGAIN; /* the socket stays readable */
	w->tls->steps -= opening;
	r = tls_flush(w, slot);
	if (r < 0 && r != -EAGAIN)
		return r;
	n = step(w, slot);
	if (c->failed)
		page_add(w->page, opening ? PAGE_tls_failed : PAGE_tls_broken, 1);
	if (opening || c->held_len > 0)
		client_want_write(w, slot, c->held_len > 0);
	if (n <= 0)
		return n;
	if (len > c->unread_len)
		len = c->unread_len;
	memcpy(buf, c->unread, len);
	return (ssize_t)len;
}

void
tls_consume(struct worker *w, uint32_t slot, size_t len)
{
	struct tls_conn *c = tls_conn_of(w, slot);

	if (len < c->unread_len) {
		memmove(c->unread, c->unread + len, c->unread_len - len);
		c->unread_len -= (uint32_t)len;
		return;
	}
	free(c->unread);
	c->unread = NULL;
	c->unread_len = 0;
}

/* ---- what a handshake gives away for the kernel ---- */

static struct tls_secrets *
secrets_of(const SSL *ssl)
{
	const struct tls *t = BIO_get_data(SSL_get_rbio(ssl));

	return t->conn[t->slot].kernel.secrets;
}

static void
on_key(const SSL *ssl, const char *line)
{
	if (secrets_of(ssl) != NULL)
		tls_secrets_on_key(secrets_of(ssl), line);
}

static void
on_message(
    int write, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	if (secrets_of(ssl) != NULL)
		tls_secrets_on_message(secrets_of(ssl), write, type);
}

const struct tls_watch tls_opening_watch = {.on_key = on_key, .on_message = on_message};
