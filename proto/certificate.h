/*
 * certificate.h - a server's certificate with its chain and its key, as PEM files have
 * them.
 *
 * The bytes come from whoever could open the file: nothing here opens one, and an
 * encrypted key is refused, since there is nobody to ask for its password.
 *
 * Source   RFC 7468; RFC 5280 §4.1.2.5 (validity), RFC 6125 §6.4 (names)
 */
#ifndef WSCAST_PROTO_CERTIFICATE_H
#define WSCAST_PROTO_CERTIFICATE_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "proto/slice.h"

#define CERTIFICATES_MAX 16 /* of one server */
#define CERTIFICATE_CHAIN_MAX 16

struct certificate {
	X509 *leaf;
	STACK_OF(X509) * chain; /* those between it and the root, perhaps none */
	EVP_PKEY *key;
};

/* Of the names that one server has; each name goes by the first that is for it. */
struct certificates {
	struct certificate certificate[CERTIFICATES_MAX];
	unsigned n;
};

/* Which of the two files a fault is in. */
enum certificate_file { CERTIFICATE_FILE, CERTIFICATE_KEY };

struct certificate_fault {
	enum certificate_file file;
	const char *why; /* a constant: what is wrong, and what would be right */
};

/*
 * Read a certificate, then those that stand behind it in the file, and the key. Without
 * a file for the key there may be several of these, each with its key behind it.
 *
 * pem  the certificate's file.
 * key  the key's; empty: it is in the certificate's.
 *
 * Returns 0; -EINVAL with *ret_fault set; -ENOMEM.
 */
int certificates_parse(struct slice pem, struct slice key, struct certificates *ret,
    struct certificate_fault *ret_fault) __attribute__((warn_unused_result));
void certificates_done(struct certificates *c);

/* Whether it holds at a time, and until when. */
enum certificate_validity {
	CERTIFICATE_VALID,
	CERTIFICATE_NOT_YET,
	CERTIFICATE_EXPIRED,
};
enum certificate_validity certificate_validity(const struct certificate *c, time_t now);

/* Whether it is for this host's name, wildcards heeded. */
bool certificate_is_for(const struct certificate *c, const char *host);

#endif
