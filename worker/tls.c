/* tls.c - see tls.h */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "proto/http.h"
#include "proto/journal.h"
#include "worker/client.h"
#include "worker/handshake.h"
#include "worker/limits.h"
#include "worker/peek.h"
#include "worker/reader.h"
#include "worker/tls.h"
#include "worker/tls_context.h"

#define FEED_MAX (32u << 10) /* encrypted bytes read at once: fit a reader's buffer */
#define HELD_MAX (64u << 10) /* a flight of the handshake, with a long chain */
#define STEPS 8              /* of handshakes in a turn: some ms with large keys */
#define RECORD_HEAD 5
#define RECORD_MAX (RECORD_HEAD + 16384) /* of a handshake */
#define RECORD_HANDSHAKE 22

_Static_assert(FEED_MAX + RECORD_MAX < READER_BUFFER,
    "what was fed, and a record that it completes, are read at once");

struct conn {
	SSL *ssl;
	/* Encrypted, and not taken by the socket. */
	uint8_t *held;
	uint32_t held_len;
	/* Decrypted before anybody could use it: a request in pieces, or what came with
	 * its end. */
	uint32_t unread_len;
	uint8_t *unread;
	bool opened; /* the handshake is done */
	bool ended;  /* the client sends no more */
	bool failed; /* nothing can be asked of ssl any more */
};

struct tls {
	struct worker *w;
	struct tls_context *context;
	struct conn *conn; /* [nslots], touched when used */
	size_t conn_len;   /* bytes */
	uint32_t nconns;
	unsigned steps; /* left for this turn */
	/* One for all connections: its other side is what follows. */
	BIO *bio;
	BIO_METHOD *method;
	uint32_t slot;       /* whose turn it is */
	const uint8_t *feed; /* what its socket gave, as far as it is not taken */
	size_t feed_len;
	uint8_t *in;     /* FEED_MAX */
	uint8_t *gather; /* TLS_RECORD */
};

static struct conn *
conn_of(const struct worker *w, uint32_t slot)
{
	return &w->tls->conn[slot];
}

/* ---- below OpenSSL: the sockets ---- */

/* Keep what the socket did not take. So OpenSSL never has to wait for a socket, and
 * nothing of it is ever to be tried again. */
static bool
hold(struct conn *c, const void *buf, size_t len)
{
	uint8_t *held;

	if (c->held_len + len > HELD_MAX)
		return false;
	held = realloc(c->held, c->held_len + len);
	if (held == NULL)
		return false;
	memcpy(held + c->held_len, buf, len);
	c->held = held;
	c->held_len += (uint32_t)len;
	return true;
}

/* Returns how many bytes were taken, 0 when it would block, or -errno. */
static ssize_t
socket_send(struct worker *w, uint32_t slot, const void *buf, size_t len)
{
	struct slot *s = worker_slot(w, slot);
	ssize_t n = send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS))
		return 0;
	if (n < 0)
		return -errno;
	s->progress = w->tick;
	return n;
}

static int
on_bio_write(BIO *bio, const char *buf, int len)
{
	struct tls *t = BIO_get_data(bio);
	struct conn *c = &t->conn[t->slot];
	ssize_t n = 0;

	/* What a read left would make OpenSSL take an error for a wait. */
	BIO_clear_retry_flags(bio);
	if (c->held_len == 0)
		n = socket_send(t->w, t->slot, buf, (size_t)len);
	if (n < 0 || (n < len && !hold(c, buf + n, (size_t)(len - n))))
		return -1;
	return len;
}

static int
on_bio_read(BIO *bio, char *buf, int len)
{
	struct tls *t = BIO_get_data(bio);
	size_t n = t->feed_len < (size_t)len ? t->feed_len : (size_t)len;

	BIO_clear_retry_flags(bio);
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(buf, t->feed, n);
	t->feed += n;
	t->feed_len -= n;
	return (int)n;
}

static long
on_bio_ctrl(BIO *bio, int cmd, long larg, void *parg)
{
	return cmd == BIO_CTRL_FLUSH;
}

/* What OpenSSL reads and writes from here on is this connection's. */
static void
enter(struct tls *t, uint32_t slot, const uint8_t *feed, size_t feed_len)
{
	t->slot = slot;
	t->feed = feed;
	t->feed_len = feed_len;
	ERR_clear_error();
}

/* A call of OpenSSL's did not succeed. Returns 0 at the end of what the client sends,
 * -EAGAIN when more of it is needed, or -EPROTO. */
static int
outcome(struct conn *c, int ret)
{
	switch (SSL_get_error(c->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		c->ended = true;
		return 0;
	default:
		c->failed = true;
		return -EPROTO;
	}
}

int
tls_flush(struct worker *w, uint32_t slot)
{
	struct conn *c = conn_of(w, slot);
	ssize_t n;

	if (c->held_len == 0)
		return 0;
	n = socket_send(w, slot, c->held, c->held_len);
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
	return conn_of(w, slot)->held_len > 0;
}

/* ---- handshakes ---- */

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
	t->conn[slot] = (struct conn){.ssl = ssl};
	t->nconns++;
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
	return !conn_of(w, slot)->opened;
}

/* Decrypt all that was fed. Returns how many bytes came, or what outcome() says. */
static ssize_t
read_all(struct conn *c, uint8_t *buf, size_t len)
{
	size_t total = 0, n;
	int r;

	while ((r = SSL_read_ex(c->ssl, buf + total, len - total, &n)) == 1)
		total += n;
	r = outcome(c, r);
	return total > 0 ? (ssize_t)total : r;
}

static void
look_for_opened(struct worker *w, struct conn *c)
{
	if (c->opened || !SSL_is_init_finished(c->ssl))
		return;
	c->opened = true;
	page_add(w->page, PAGE_tls_handshakes, 1);
	if (SSL_session_reused(c->ssl))
		page_add(w->page, PAGE_tls_resumed, 1);
}

static bool
unread_add(struct conn *c, const uint8_t *buf, size_t len)
{
	uint8_t *unread = realloc(c->unread, c->unread_len + len);

	if (unread == NULL)
		return false;
	memcpy(unread + c->unread_len, buf, len);
	c->unread = unread;
	c->unread_len += (uint32_t)len;
	return true;
}

/* Bytes of the socket to OpenSSL, and what it makes of them behind `unread`. Returns as
 * tls_peek(). */
static ssize_t
step(struct worker *w, uint32_t slot)
{
	struct tls *t = w->tls;
	struct conn *c = &t->conn[slot];
	uint8_t *buf = readers_buffer(w);
	ssize_t n = recv(worker_slot(w, slot)->fd, t->in, FEED_MAX, MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 ? -errno : 0;
	enter(t, slot, t->in, (size_t)n);
	n = read_all(c, buf, READER_BUFFER);
	look_for_opened(w, c);
	if (n > 0 && !unread_add(c, buf, (size_t)n))
		return -ENOMEM;
	return n;
}

ssize_t
tls_peek(struct worker *w, uint32_t slot, uint8_t *buf, size_t len)
{
	struct conn *c = conn_of(w, slot);
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
	struct conn *c = conn_of(w, slot);

	if (len < c->unread_len) {
		memmove(c->unread, c->unread + len, c->unread_len - len);
		c->unread_len -= (uint32_t)len;
		return;
	}
	free(c->unread);
	c->unread = NULL;
	c->unread_len = 0;
}

/* ---- data ---- */

ssize_t
tls_recv(struct worker *w, uint32_t slot, uint8_t *buf, size_t len)
{
	struct tls *t = w->tls;
	struct conn *c = &t->conn[slot];
	ssize_t n;

	if (c->unread_len > 0) {
		if (len > c->unread_len)
			len = c->unread_len;
		memcpy(buf, c->unread, len);
		tls_consume(w, slot, len);
		return (ssize_t)len;
	}
	if (c->failed || c->ended)
		return c->failed ? -EPROTO : 0;
	n = recv(worker_slot(w, slot)->fd, t->in, FEED_MAX, MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	enter(t, slot, t->in, (size_t)n);
	n = read_all(c, buf, len);
	if (c->failed)
		page_add(w->page, PAGE_tls_broken, 1);
	return n;
}

bool
tls_has_more(const struct worker *w, uint32_t slot)
{
	const struct conn *c = conn_of(w, slot);

	return c->unread_len > 0 || c->ended || c->failed;
}

/* Encrypt and send one record. Returns 0 or -errno. */
static int
send_record(struct conn *c, const void *buf, size_t len)
{
	size_t n;
	int r = SSL_write_ex(c->ssl, buf, len, &n);

	if (r == 1)
		return 0;
	/* To wait for the client in the middle of a write: it is owed an answer to a
	 * KeyUpdate of which it has sent a part. Five bytes come whole from everybody
	 * else. */
	if (outcome(c, r) == -EAGAIN)
		c->failed = true;
	return -EPROTO;
}

/* Move on by max bytes of the piece at hand, or to its end. Returns by how many. */
static size_t
pass_piece(const struct iovec **iov, size_t *at, size_t max)
{
	size_t n = (*iov)->iov_len - *at;

	if (n > max) {
		*at += max;
		return max;
	}
	(*iov)++;
	*at = 0;
	return n;
}

/* The next record's bytes: those of the ring where they lie, or what fits of several
 * short pieces. Returns how many, 0 behind the last. */
static size_t
next_record(struct tls *t, const struct iovec **iov, const struct iovec *end,
    size_t *at, const void **ret_buf)
{
	size_t len = 0;

	if (*iov == end)
		return 0;
	*ret_buf = (const char *)(*iov)->iov_base + *at;
	if ((*iov)->iov_len - *at >= TLS_RECORD || *iov + 1 == end)
		return pass_piece(iov, at, TLS_RECORD);
	*ret_buf = t->gather;
	while (*iov < end && len < TLS_RECORD) {
		const char *base = (const char *)(*iov)->iov_base + *at;
		size_t n = pass_piece(iov, at, TLS_RECORD - len);

		memcpy(t->gather + len, base, n);
		len += n;
	}
	return len;
}

ssize_t
tls_send(struct worker *w, uint32_t slot, const struct iovec *iov, int niov)
{
	struct tls *t = w->tls;
	struct conn *c = &t->conn[slot];
	const struct iovec *end = iov + niov;
	size_t at = 0, taken = 0, len;
	const void *buf = NULL;
	int r = tls_flush(w, slot);

	if (r < 0)
		return r;
	if (c->failed)
		return -EPROTO;
	enter(t, slot, NULL, 0);
	while (c->held_len == 0 && (len = next_record(t, &iov, end, &at, &buf)) > 0) {
		r = send_record(c, buf, len);
		if (r < 0)
			break;
		taken += len;
	}
	return taken > 0 ? (ssize_t)taken : r;
}

void
tls_shutdown(struct worker *w, uint32_t slot)
{
	struct conn *c = conn_of(w, slot);

	if (!c->opened || c->failed || c->held_len > 0 ||
	    (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN))
		return;
	enter(w->tls, slot, NULL, 0);
	(void)SSL_shutdown(c->ssl);
}

void
tls_drop(struct worker *w, uint32_t slot)
{
	struct tls *t = w->tls;
	struct conn *c = &t->conn[slot];

	if (c->ssl == NULL)
		return;
	if (!c->opened && !c->failed)
		page_add(w->page, PAGE_tls_unfinished, 1);
	SSL_free(c->ssl);
	free(c->held);
	free(c->unread);
	memset(c, 0, sizeof(*c));
	t->nconns--;
}

uint32_t
tls_connections(const struct worker *w)
{
	return w->tls == NULL ? 0 : w->tls->nconns;
}

/* ---- all of them ---- */

void
tls_turn(struct worker *w)
{
	if (w->tls != NULL)
		w->tls->steps = STEPS;
}

static int
bio_make(struct tls *t)
{
	t->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "wscast");
	if (t->method == NULL || BIO_meth_set_write(t->method, on_bio_write) != 1 ||
	    BIO_meth_set_read(t->method, on_bio_read) != 1 ||
	    BIO_meth_set_ctrl(t->method, on_bio_ctrl) != 1)
		return -ENOMEM;
	t->bio = BIO_new(t->method);
	if (t->bio == NULL)
		return -ENOMEM;
	BIO_set_data(t->bio, t);
	BIO_set_init(t->bio, 1);
	return 0;
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
	t->conn_len = w->table.header->nslots * sizeof(*t->conn);
	t->conn = mmap(NULL, t->conn_len, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t->conn == MAP_FAILED)
		t->conn = NULL;
	t->in = malloc(FEED_MAX);
	t->gather = malloc(TLS_RECORD);
	if (t->conn != NULL && t->in != NULL && t->gather != NULL)
		r = bio_make(t);
	if (r == 0)
		r = tls_context_new(TLS_RECORD, NULL, &t->context);
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
	if (t->conn != NULL)
		(void)munmap(t->conn, t->conn_len);
	free(t);
}
