/*
 * tls_keys.h - the keys of a TLS connection, as its handshake agreed on them.
 *
 * OpenSSL keeps them to itself. They follow from what it gives away: of TLS 1.3 the two
 * secrets of the traffic, which it logs, and of TLS 1.2 the master secret.
 *
 * Source   RFC 8446 §5.3, §7.1, §7.3; RFC 5246 §5, §6.3; RFC 5288 §3; RFC 7905 §2
 */
#ifndef WSCAST_WORKER_TLS_KEYS_H
#define WSCAST_WORKER_TLS_KEYS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_SECRET_MAX 48
#define TLS_KEY_MAX 32
#define TLS_IV 12

enum tls_aead { TLS_AES_128_GCM, TLS_AES_256_GCM, TLS_CHACHA20_POLY1305, TLS_AEADS };

/* Whose records. */
enum tls_side { TLS_OURS, TLS_CLIENTS, TLS_SIDES };

/* What a handshake of TLS 1.3 gave away. All zero at its begin. */
struct tls_secrets {
	uint8_t secret[TLS_SIDES][TLS_SECRET_MAX]; /* application traffic secrets */
	size_t len[TLS_SIDES];
	uint64_t written; /* records under ours: tickets go before all data */
};

/* Of one direction. */
struct tls_key {
	uint8_t key[TLS_KEY_MAX]; /* tls_key_len() bytes */
	uint8_t iv[TLS_IV];       /* of AES in TLS 1.2: 4 bytes, and `record` */
	uint64_t record;          /* the number of the record that comes next */
};

struct tls_keys {
	uint16_t version; /* TLS1_2_VERSION or TLS1_3_VERSION */
	enum tls_aead aead;
	struct tls_key of[TLS_SIDES];
};

size_t tls_key_len(enum tls_aead aead);

/* For OpenSSL's callbacks of these kinds: SSL_CTX_set_keylog_callback(3), whose lines
 * have SSLKEYLOGFILE's format, and SSL_CTX_set_msg_callback(3). */
void tls_secrets_on_key(struct tls_secrets *s, const char *line);
void tls_secrets_on_message(struct tls_secrets *s, bool write, int type);

/*
 * The keys and record numbers behind a server's handshake that is done, of which
 * nothing was read that came behind the client's Finished.
 *
 * *ret holds secrets: the caller cleanses it, whatever is returned.
 *
 * Returns 0; -EOPNOTSUPP for another version or cipher, or when s misses something; or
 * -ENOMEM.
 */
int tls_keys_get(const struct tls_secrets *s, const SSL *ssl, struct tls_keys *ret)
    __attribute__((warn_unused_result));

/* TLS 1.3: a side's key and IV, from its traffic secret of len bytes. Returns 0 or
 * -ENOMEM. */
int tls_key_expand(enum tls_aead aead, const uint8_t *secret, size_t len,
    struct tls_key *ret) __attribute__((warn_unused_result));

#endif
