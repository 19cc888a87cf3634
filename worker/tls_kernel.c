/* tls_kernel.c - see tls_kernel.h */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "worker/ktls.h"
#include "worker/pieces.h"
#include "worker/tls_kernel.h"

#define PIECES 64 /* of one record */

_Static_assert(KTLS_RECORD <= UINT16_MAX, "slot_set_record() has 16 bits for it");

/* ---- a handshake ---- */

void
tls_kernel_want(struct tls_kernel *k)
{
	k->secrets = calloc(1, sizeof(*k->secrets));
}

void
tls_kernel_forget(struct tls_kernel *k)
{
	if (k->secrets != NULL)
		OPENSSL_cleanse(k->secrets, sizeof(*k->secrets));
	free(k->secrets);
	k->secrets = NULL;
}

/* RFC 6066 §4: the kernel's records would be longer than this client takes. */
static bool
wants_short(const SSL *ssl)
{
	return SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl)) !=
	       TLSEXT_max_fragment_length_DISABLED;
}

int
tls_kernel_take(struct tls_kernel *k, int fd, const SSL *ssl)
{
	struct tls_keys keys;
	int r;

	if (wants_short(ssl) || SSL_has_pending(ssl))
		return -EOPNOTSUPP;
	r = tls_keys_get(k->secrets, ssl, &keys);
	if (r == 0)
		r = ktls_begin(fd, &keys);
	k->records = (uint16_t)keys.of[TLS_OURS].record;
	k->has_keys = r == 0;
	OPENSSL_cleanse(&keys, sizeof(keys));
	return r;
}

/* ---- sending ---- */

/* taken: bytes of the stream that went since `tx` and `part` were stored. */
static ssize_t
send_record(struct tls_kernel *k, struct slot *s, size_t taken, uint8_t type,
    const struct iovec *iov, int niov, size_t len)
{
	uint32_t tx = slot_tx(s) + s->part + (uint32_t)taken;
	ssize_t n;

	/* What is no data is none of the stream's. */
	if (s->marks & SLOT_KTLS)
		slot_set_record(s, tx, k->records, type == KTLS_DATA ? len : 0);
	atomic_signal_fence(memory_order_seq_cst); /* a successor sees program order */
	n = ktls_send(s->fd, type, iov, niov);
	if (n > 0)
		k->records++;
	return n;
}

/* The pieces of the next record. Returns how many, with their bytes in *ret_len. */
static int
next_record(struct pieces *p, struct iovec *piece, size_t *ret_len)
{
	size_t len = 0, take;
	char *base;
	int n = 0;

	while (n < PIECES && (take = pieces_take(p, KTLS_RECORD - len, &base)) > 0) {
		piece[n++] = (struct iovec){base, take};
		len += take;
	}
	*ret_len = len;
	return n;
}

ssize_t
tls_kernel_send(struct tls_kernel *k, struct slot *s, const struct iovec *iov, int niov)
{
	struct pieces p = {.iov = iov, .end = iov + niov};
	struct iovec piece[PIECES];
	size_t taken = 0, len;
	ssize_t n = 0;
	int npieces;

	while ((npieces = next_record(&p, piece, &len)) > 0) {
		n = send_record(k, s, taken, KTLS_DATA, piece, npieces, len);
		if (n > 0)
			taken += (size_t)n;
		if (n != (ssize_t)len)
			break;
	}
	return taken > 0 ? (ssize_t)taken : n;
}

void
tls_kernel_end(struct tls_kernel *k, struct slot *s, bool failed)
{
	/* RFC 8446 §6: close_notify; or fatal, unexpected_message */
	static const uint8_t alerts[][2] = {{1, 0}, {2, 10}};
	const struct iovec iov = {(void *)alerts[failed], sizeof(alerts[failed])};

	if (!k->said_end && send_record(k, s, 0, KTLS_ALERT, &iov, 1, iov.iov_len) > 0)
		k->said_end = true;
}

/* ---- a successor ---- */

void
tls_kernel_settle(const struct tls_kernel *k, struct slot *s)
{
	slot_set_record(s, slot_tx(s) + s->part, k->records, 0);
	atomic_signal_fence(memory_order_seq_cst); /* the mark makes it count */
	s->marks |= SLOT_KTLS;
}

int
tls_kernel_adopt(struct tls_kernel *k, const struct slot *s)
{
	uint64_t records = 0;
	int r = ktls_records(s->fd, &records);

	k->records = (uint16_t)records;
	k->has_keys = r == 0;
	return r;
}

int
tls_kernel_taken(const struct slot *s, uint32_t *ret_taken)
{
	uint64_t record = atomic_load_explicit(&s->record, memory_order_relaxed);
	uint64_t records;
	uint16_t more;
	int r = ktls_records(s->fd, &records);

	if (r < 0)
		return r;
	more = (uint16_t)(records - (record >> 16));
	if (more > 1) /* than the one that was noted */
		return -ECONNABORTED;
	*ret_taken = (uint32_t)(record >> 32) + (more == 1 ? (uint16_t)record : 0);
	return 0;
}
