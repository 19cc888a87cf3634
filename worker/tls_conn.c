/* tls_conn.c - see tls_conn.h */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/edge.h"
#include "worker/ktls.h"
#include "worker/tls_conn.h"

#define HELD_MAX (64u << 10) /* a flight of the handshake, with a long chain */

/* Keep what the socket did not take. So OpenSSL never has to wait for a socket, and
 * nothing of it is ever to be tried again. */
static bool
hold(struct tls_conn *c, const void *buf, size_t len)
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

ssize_t
tls_conn_send(struct worker *w, uint32_t slot, const void *buf, size_t len)
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

/*
 * Linux 6.0 to 6.5 call a socket readable that has a part of a record and no more: who
 * sends half of one would keep us awake. But they tell of an arrival only once a record
 * is whole. Other kernels say so of neither, and hardly ever come here.
 */
static int
wait_for_rest(struct worker *w, uint32_t slot)
{
	tls_conn_of(w, slot)->waits = true;
	return edge_wait(w, slot);
}

ssize_t
tls_conn_recv(struct worker *w, uint32_t slot, uint8_t *buf, size_t len)
{
	struct tls_conn *c = tls_conn_of(w, slot);
	ssize_t n = ktls_recv(worker_slot(w, slot)->fd, buf, len);

	if (n == -EAGAIN) {
		int r = wait_for_rest(w, slot);

		return r < 0 ? r : n;
	}
	if (c->waits)
		edge_stop(w, slot); /* more may be there, of which it does not tell */
	c->waits = false;
	c->failed = n == -EPROTO;
	return n;
}

static int
on_bio_write(BIO *bio, const char *buf, int len)
{
	struct tls *t = BIO_get_data(bio);
	struct tls_conn *c = &t->conn[t->slot];
	ssize_t n = 0;

	/* What a read left would make OpenSSL take an error for a wait. */
	BIO_clear_retry_flags(bio);
	if (c->held_len == 0)
		n = tls_conn_send(t->w, t->slot, buf, (size_t)len);
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

void
tls_conn_enter(struct tls *t, uint32_t slot, const uint8_t *feed, size_t feed_len)
{
	t->slot = slot;
	t->feed = feed;
	t->feed_len = feed_len;
	ERR_clear_error();
}

int
tls_conn_outcome(struct tls_conn *c, int ret)
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

ssize_t
tls_conn_read(struct tls_conn *c, uint8_t *buf, size_t len)
{
	size_t total = 0, n;
	int r;

	while ((r = SSL_read_ex(c->ssl, buf + total, len - total, &n)) == 1)
		total += n;
	r = tls_conn_outcome(c, r);
	return total > 0 ? (ssize_t)total : r;
}

int
tls_conn_bio(struct tls *t)
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
