/* ktls.c - see ktls.h */
#include <endian.h>
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/ktls.h"

/* All that setsockopt(2) takes, by the cipher. */
union crypto_info {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 gcm128;
	struct tls12_crypto_info_aes_gcm_256 gcm256;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
};

/* Where it has what. */
struct layout {
	uint16_t type; /* the kernel's name of the cipher */
	socklen_t len;
	size_t key;
	size_t salt, salt_len; /* the first bytes of the IV; the rest is at iv */
	size_t iv;
	size_t record;
};

#define LAYOUT(t, s, salt_bytes)                                                       \
	{                                                                              \
		.type = (t), .len = sizeof(struct s), .key = offsetof(struct s, key),  \
		.salt = offsetof(struct s, salt), .salt_len = (salt_bytes),            \
		.iv = offsetof(struct s, iv), .record = offsetof(struct s, rec_seq)    \
	}

static const struct layout layouts[TLS_AEADS] = {
    [TLS_AES_128_GCM] = LAYOUT(TLS_CIPHER_AES_GCM_128, tls12_crypto_info_aes_gcm_128,
	TLS_CIPHER_AES_GCM_128_SALT_SIZE),
    [TLS_AES_256_GCM] = LAYOUT(TLS_CIPHER_AES_GCM_256, tls12_crypto_info_aes_gcm_256,
	TLS_CIPHER_AES_GCM_256_SALT_SIZE),
    [TLS_CHACHA20_POLY1305] = LAYOUT(TLS_CIPHER_CHACHA20_POLY1305,
	tls12_crypto_info_chacha20_poly1305, TLS_CIPHER_CHACHA20_POLY1305_SALT_SIZE),
};

bool
ktls_is_available(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool found;

	if (fd < 0)
		return false;
	/* It wants a connection; a kernel that has none of it says ENOENT before. */
	found = setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) == 0 ||
		errno == ENOTCONN;
	(void)close(fd);
	return found;
}

/* ---- keys ---- */

static void
fill(const struct layout *l, const struct tls_keys *keys, enum tls_side side,
    union crypto_info *u)
{
	const struct tls_key *k = &keys->of[side];
	uint64_t record = htobe64(k->record);
	uint8_t *at = (uint8_t *)u;

	memset(u, 0, sizeof(*u));
	u->info.version = keys->version;
	u->info.cipher_type = l->type;
	memcpy(at + l->key, k->key, tls_key_len(keys->aead));
	memcpy(at + l->salt, k->iv, l->salt_len);
	memcpy(at + l->iv, k->iv + l->salt_len, TLS_IV - l->salt_len);
	memcpy(at + l->record, &record, sizeof(record));
}

int
ktls_begin(int fd, const struct tls_keys *keys)
{
	const struct layout *l = &layouts[keys->aead];
	union crypto_info tx, rx;
	int r = 0;

	fill(l, keys, TLS_OURS, &tx);
	fill(l, keys, TLS_CLIENTS, &rx);
	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0 ||
	    setsockopt(fd, SOL_TLS, TLS_RX, &rx, l->len) < 0)
		r = -EOPNOTSUPP; /* without keys it lets all through */
	else if (setsockopt(fd, SOL_TLS, TLS_TX, &tx, l->len) < 0)
		r = -errno;
	OPENSSL_cleanse(&tx, sizeof(tx));
	OPENSSL_cleanse(&rx, sizeof(rx));
	return r;
}

int
ktls_records(int fd, uint64_t *ret_records)
{
	const struct layout *l = layouts;
	union crypto_info u;
	socklen_t len = sizeof(u.info);
	uint64_t records;

	if (getsockopt(fd, SOL_TLS, TLS_TX, &u, &len) < 0)
		return -errno;
	while (l < layouts + TLS_AEADS && l->type != u.info.cipher_type)
		l++;
	if (l == layouts + TLS_AEADS)
		return -EOPNOTSUPP;
	len = l->len;
	if (getsockopt(fd, SOL_TLS, TLS_TX, &u, &len) < 0)
		return -errno;
	memcpy(&records, (uint8_t *)&u + l->record, sizeof(records));
	OPENSSL_cleanse(&u, sizeof(u));
	*ret_records = be64toh(records);
	return 0;
}

/* ---- records ---- */

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(uint8_t))];
};

ssize_t
ktls_send(int fd, uint8_t type, const struct iovec *iov, int niov)
{
	union control control;
	struct msghdr msg = {
	    .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)niov};
	ssize_t n;

	if (type != KTLS_DATA) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.head.cmsg_level = SOL_TLS;
		control.head.cmsg_type = TLS_SET_RECORD_TYPE;
		control.head.cmsg_len = CMSG_LEN(sizeof(type));
		*CMSG_DATA(&control.head) = type;
	}
	n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static ssize_t
took_record(uint8_t type, const uint8_t *buf, size_t len)
{
	enum { CLOSE_NOTIFY = 0 };

	if (type == KTLS_ALERT && len == 2 && buf[1] == CLOSE_NOTIFY)
		return 0;
	if (type != KTLS_DATA)
		return -EPROTO;
	return len > 0 ? (ssize_t)len : -EINTR; /* RFC 8446 §5.1: empty, but no end */
}

ssize_t
ktls_recv(int fd, uint8_t *buf, size_t len)
{
	union control control;
	struct iovec iov = {buf, len};
	struct msghdr msg = {.msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	const struct cmsghdr *c;
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);

	/* Not authentic, too long, no TLS: the kernel's three words for it. */
	if (n < 0 && (errno == EBADMSG || errno == EMSGSIZE || errno == EINVAL))
		return -EPROTO;
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c == NULL || c->cmsg_level != SOL_TLS ||
	    c->cmsg_type != TLS_GET_RECORD_TYPE)
		return n;
	return took_record(*CMSG_DATA(c), buf, (size_t)n);
}
