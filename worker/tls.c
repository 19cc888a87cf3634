/* tls.c - see tls.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/journal.h"
#include "shm/map.h"
#include "worker/ktls.h"
#include "worker/pieces.h"
#include "worker/tls.h"
#include "worker/tls_conn.h"
#include "worker/tls_opening.h"

#define STEPS 8 /* of handshakes in a turn: some ms with large keys */

/* ---- data ---- */

int
tls_flush(struct worker *w, uint32_t slot)
{
	struct tls_conn *c = tls_conn_of(w, slot);
	ssize_t n;

	if (c->held_len == 0)
		return 0;
	n = tls_conn_send(w, slot, c->held, c->held_len);
	if (n < 0)
		return (int)n;
	c->held_len -= (uint32_t)n;
	if (c->held_len > 0) {
		memmove(c->held, c->held + n, c->held_len);
		return -EAGAIN;
	}
	free(c->held);
	c->held = NULL;
	return 0;
}

bool
tls_is_holding(const struct worker *w, uint32_t slot)
{
	return tls_conn_of(w, slot)->held_len > 0;
}

ssize_t
tls_recv(struct worker *w, uint32_t slot, uint8_t *buf, size_t len)
{
	struct tls *t = w->tls;
	struct tls_conn *c = &t->conn[slot];
	ssize_t n;

	if (c->unread_len > 0) {
		if (len > c->unread_len)
			len = c->unread_len;
		memcpy(buf, c->unread, len);
		tls_consume(w, slot, len);
		return (ssize_t)len;
	}
	if (c->kernel.has_keys) {
		n = tls_conn_recv(w, slot, buf, len);
		page_add(w->page, PAGE_tls_broken, c->failed);
		return n;
	}
	if (c->failed || c->ended)
		return c->failed ? -EPROTO : 0;
	n = recv(worker_slot(w, slot)->fd, t->in, TLS_FEED_MAX, MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	tls_conn_enter(t, slot, t->in, (size_t)n);
	n = tls_conn_read(c, buf, len);
	if (c->failed)
		page_add(w->page, PAGE_tls_broken, 1);
	return n;
}

bool
tls_has_more(const struct worker *w, uint32_t slot)
{
	const struct tls_conn *c = tls_conn_of(w, slot);

	return c->unread_len > 0 || c->ended || c->failed;
}

/* Encrypt and send one record. Returns 0 or -errno. */
static int
send_record(struct tls_conn *c, const void *buf, size_t len)
{
	size_t n;
	int r = SSL_write_ex(c->ssl, buf, len, &n);

	if (r == 1)
		return 0;
	/* To wait for the client in the middle of a write: it is owed an answer to a
	 * KeyUpdate of which it has sent a part. Five bytes come whole from everybody
	 * else. */
	if (tls_conn_outcome(c, r) == -EAGAIN)
		c->failed = true;
	return -EPROTO;
}

/* The next record's bytes: those of the ring where they lie, or what fits of several
 * short pieces. Returns how many, 0 behind the last. */
static size_t
next_record(struct tls *t, struct pieces *p, const void **ret_buf)
{
	char *base = NULL;
	size_t len = pieces_take(p, TLS_RECORD, &base), n;

	*ret_buf = base;
	if (len == TLS_RECORD || !pieces_left(p))
		return len;
	*ret_buf = t->gather;
	for (n = len, len = 0; n > 0; n = pieces_take(p, TLS_RECORD - len, &base)) {
		memcpy(t->gather + len, base, n);
		len += n;
	}
	return len;
}

ssize_t
tls_send(struct worker *w, uint32_t slot, const struct iovec *iov, int niov)
{
	struct tls *t = w->tls;
	struct tls_conn *c = &t->conn[slot];
	struct pieces p = {.iov = iov, .end = iov + niov};
	size_t taken = 0, len;
	const void *buf;
	int r;

	if (c->kernel.has_keys)
		return tls_kernel_send(&c->kernel, worker_slot(w, slot), iov, niov);
	r = tls_flush(w, slot);
	if (r < 0)
		return r;
	if (c->failed)
		return -EPROTO;
	tls_conn_enter(t, slot, NULL, 0);
	while (c->held_len == 0 && (len = next_record(t, &p, &buf)) > 0) {
		r = send_record(c, buf, len);
		if (r < 0)
			break;
		taken += len;
	}
	return taken > 0 ? (ssize_t)taken : r;
}

bool
tls_shutdown(struct worker *w, uint32_t slot)
{
	struct tls_conn *c = tls_conn_of(w, slot);

	if (c->kernel.has_keys) {
		tls_kernel_end(&c->kernel, worker_slot(w, slot), c->failed);
		return false;
	}
	if (!c->opened || c->failed || c->held_len > 0 ||
	    (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN))
		return true;
	tls_conn_enter(w->tls, slot, NULL, 0);
	(void)SSL_shutdown(c->ssl);
	return true;
}

void
tls_drop(struct worker *w, uint32_t slot)
{
	struct tls *t = w->tls;
	struct tls_conn *c = &t->conn[slot];

	if (c->ssl == NULL && !c->kernel.has_keys)
		return;
	if (!c->opened && !c->failed)
		page_add(w->page, PAGE_tls_unfinished, 1);
	SSL_free(c->ssl);
	tls_kernel_forget(&c->kernel);
	free(c->held);
	free(c->unread);
	memset(c, 0, sizeof(*c));
	page_add(w->page, PAGE_tls_connections, (uint64_t)-1);
	if (slot_is_bound(worker_slot(w, slot)))
		t->nconns--;
	else
		page_add(w->page, PAGE_ktls_connections, (uint64_t)-1);
}

/* ---- a successor ---- */

void
tls_settle(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	const struct tls_conn *c = tls_conn_of(w, slot);

	if (!c->kernel.has_keys || c->unread_len > 0 || (s->flags & SLOT_REQUEST))
		return;
	tls_kernel_settle(&c->kernel, s);
	w->tls->nconns--;
	page_add(w->page, PAGE_ktls_connections, 1);
}

bool
tls_adopt(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	struct tls_conn *c;

	if (w->tls == NULL || slot_is_bound(s))
		return false;
	c = tls_conn_of(w, slot);
	if (tls_kernel_adopt(&c->kernel, s) < 0)
		return false;
	c->opened = true;
	page_add(w->page, PAGE_tls_connections, 1);
	page_add(w->page, PAGE_ktls_connections, 1);
	return true;
}

uint32_t
tls_connections(const struct worker *w)
{
	return w->tls == NULL ? 0 : w->tls->nconns;
}

/* ---- all of them ---- */

bool
tls_has_kernel(const struct worker *w)
{
	return w->tls != NULL && w->tls->kernel;
}

void
tls_turn(struct worker *w)
{
	if (w->tls != NULL)
		w->tls->steps = STEPS;
}

static bool
is_wanted(const struct settings *s)
{
	for (unsigned i = 0; i < s->nlisten; i++)
		if (s->listen[i].tls)
			return true;
	return false;
}

static struct slice
bytes_of(const struct settings *s, const char *name)
{
	const struct settings_file *f = settings_file(s, name);

	return f == NULL ? (struct slice){NULL, 0} : (struct slice){f->data, f->len};
}

static int
load(struct worker *w, struct tls *t)
{
	const struct tls_files files = {
	    .certificate = bytes_of(w->settings, "tls.certificate"),
	    .key = bytes_of(w->settings, "tls.key"),
	    .tickets = bytes_of(w->settings, "tls.tickets"),
	};
	const char *why = NULL;
	int r = tls_context_load(t->context, &files, &why);

	if (r < 0)
		log_error(0, "worker %u: cannot use the certificate: %s", w->index,
		    why != NULL ? why : "no memory");
	return r;
}

void
tls_reload(struct worker *w)
{
	if (w->tls != NULL)
		(void)load(w, w->tls);
}

int
tls_new(struct worker *w, struct tls **ret)
{
	struct tls *t;
	int r = -ENOMEM;

	if (!is_wanted(w->settings))
		return 0;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	t->w = w;
	t->kernel = ktls_is_available();
	t->conn_len = w->table.header->nslots * sizeof(*t->conn);
	t->in = malloc(TLS_FEED_MAX);
	t->gather = malloc(TLS_RECORD);
	if (map_private(t->conn_len, (void **)&t->conn) == 0 && t->in != NULL &&
	    t->gather != NULL)
		r = tls_conn_bio(t);
	if (r == 0)
		r = tls_context_new(
		    TLS_RECORD, t->kernel ? &tls_opening_watch : NULL, &t->context);
	if (r == 0)
		r = load(w, t);
	if (r < 0) {
		tls_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void
tls_free(struct tls *t)
{
	if (t == NULL)
		return;
	tls_context_free(t->context);
	BIO_free(t->bio);
	BIO_meth_free(t->method);
	free(t->in);
	free(t->gather);
	map_close(t->conn, t->conn_len);
	free(t);
}
