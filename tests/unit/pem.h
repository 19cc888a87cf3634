/*
 * pem.h - certificates for tests, made on the spot: nothing in the tree expires.
 */
#ifndef WSCAST_TESTS_UNIT_PEM_H
#define WSCAST_TESTS_UNIT_PEM_H

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "proto/slice.h"

#define PEM_MAX 16384

/* A certificate for a host that signs itself, and its key. */
struct pem {
	char certificate[PEM_MAX], key[PEM_MAX];
};

static inline struct slice
pem_slice(const char *text)
{
	return (struct slice){text, strlen(text)};
}

static inline void
pem_read(BIO *bio, char *out)
{
	int n = BIO_read(bio, out, PEM_MAX - 1);

	assert_true(n > 0);
	out[n] = '\0';
	BIO_free(bio);
}

static inline void
pem_name(X509 *x, const char *host)
{
	char alt[300];
	X509_EXTENSION *ext;
	X509_NAME *name = X509_get_subject_name(x);

	assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
			     (const unsigned char *)host, -1, -1, 0),
	    1);
	assert_int_equal(X509_set_issuer_name(x, name), 1);
	(void)snprintf(alt, sizeof(alt), "DNS:%s", host);
	ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt);
	assert_non_null(ext);
	assert_int_equal(X509_add_ext(x, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

/* Valid from `from` to `to`, in seconds from now. password: of the key, or NULL. */
static inline void
pem_make(const char *host, long from, long to, char *password, struct pem *ret)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	X509 *x = X509_new();
	BIO *bio = BIO_new(BIO_s_mem());

	assert_non_null(key);
	assert_non_null(x);
	assert_int_equal(X509_set_version(x, 2), 1);
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), 1), 1);
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), from));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), to));
	assert_int_equal(X509_set_pubkey(x, key), 1);
	pem_name(x, host);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509(bio, x), 1);
	pem_read(bio, ret->certificate);
	bio = BIO_new(BIO_s_mem());
	assert_int_equal(
	    PEM_write_bio_PrivateKey(bio, key,
		password != NULL ? EVP_aes_256_cbc() : NULL, (unsigned char *)password,
		password != NULL ? (int)strlen(password) : 0, NULL, NULL),
	    1);
	pem_read(bio, ret->key);
	X509_free(x);
	EVP_PKEY_free(key);
}

/* Behind what out holds already. out: 4 * PEM_MAX bytes. */
static inline void
pem_append(char *out, const char *text)
{
	size_t len = strlen(out);

	assert_true(len + strlen(text) < (size_t)4 * PEM_MAX);
	memcpy(out + len, text, strlen(text) + 1);
}

#endif
