/* certificate.c - see certificate.h */
#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "proto/certificate.h"

/* Nobody is there to be asked for a password. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	*(bool *)arg = true;
	return -1;
}

static BIO *
bio_of(struct slice pem)
{
	return pem.len > INT_MAX ? NULL : BIO_new_mem_buf(pem.p, (int)pem.len);
}

/* The leaf, and whatever certificates follow. Returns NULL, or why not. */
static const char *
read_chain(BIO *bio, struct certificate *c)
{
	X509 *x;

	c->leaf = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
	if (c->leaf == NULL)
		return "holds no certificate: it must begin with the server's own, "
		       "as PEM (-----BEGIN CERTIFICATE-----)";
	while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		if (sk_X509_num(c->chain) == CERTIFICATE_CHAIN_MAX ||
		    sk_X509_push(c->chain, x) == 0) {
			X509_free(x);
			return "holds more than 16 certificates behind the first";
		}
	}
	/* The end of the file looks like this; all else is a broken certificate. */
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return "holds a certificate that cannot be read behind the first";
	return NULL;
}

static const char *
read_key(BIO *bio, bool own_file, struct certificate *c)
{
	bool encrypted = false;

	c->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &encrypted);
	if (c->key != NULL)
		return NULL;
	if (encrypted)
		return "holds an encrypted key: write it without a password, readable "
		       "for wscastd alone";
	return own_file ? "holds no private key that can be read, as PEM"
			: "holds no private key, and tls.key names no other file";
}

/* One certificate. Returns NULL, or why not. */
static const char *
read_one(struct slice pem, struct slice key, struct certificate *c,
    enum certificate_file *ret_file)
{
	bool own_file = key.len > 0;
	BIO *bio = bio_of(pem), *key_bio = bio_of(own_file ? key : pem);
	const char *why = "cannot be read: no memory";

	*ret_file = CERTIFICATE_FILE;
	c->chain = sk_X509_new_null();
	if (bio != NULL && key_bio != NULL && c->chain != NULL)
		why = read_chain(bio, c);
	if (why == NULL) {
		if (own_file)
			*ret_file = CERTIFICATE_KEY;
		why = read_key(key_bio, own_file, c);
	}
	if (why == NULL && X509_check_private_key(c->leaf, c->key) != 1)
		why = "holds a key that is not the certificate's";
	BIO_free(bio);
	BIO_free(key_bio);
	ERR_clear_error();
	return why;
}

/* The bytes up to behind the next private key, or all when there is none behind that:
 * which of the two stands first in a file that holds one of each does not matter. */
static size_t
part_len(struct slice pem)
{
	static const char end[] = "PRIVATE KEY-----", begin[] = "-----BEGIN ";
	const size_t end_len = sizeof(end) - 1, begin_len = sizeof(begin) - 1;
	const char *p = pem.p;
	size_t left = pem.len;

	/* The key's first line, and its last. */
	for (int i = 0; i < 2; i++) {
		p = memmem(p, left, end, end_len);
		if (p == NULL)
			return pem.len;
		p += end_len;
		left = pem.len - (size_t)(p - pem.p);
	}
	if (memmem(p, left, end, end_len) == NULL ||
	    memmem(p, left, begin, begin_len) == NULL)
		return pem.len;
	return pem.len - left;
}

int
certificates_parse(struct slice pem, struct slice key, struct certificates *ret,
    struct certificate_fault *ret_fault)
{
	enum certificate_file file = CERTIFICATE_FILE;
	const char *why = NULL;

	*ret = (struct certificates){.n = 0};
	ERR_clear_error();
	do {
		size_t len = key.len > 0 ? pem.len : part_len(pem);

		if (ret->n == CERTIFICATES_MAX)
			why = "holds more than 16 certificates with their keys";
		else
			why = read_one((struct slice){pem.p, len}, key,
			    &ret->certificate[ret->n++], &file);
		pem = (struct slice){pem.p + len, pem.len - len};
	} while (why == NULL && pem.len > 0);
	if (why == NULL)
		return 0;
	certificates_done(ret);
	*ret_fault = (struct certificate_fault){file, why};
	return -EINVAL;
}

void
certificates_done(struct certificates *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		X509_free(c->certificate[i].leaf);
		sk_X509_pop_free(c->certificate[i].chain, X509_free);
		EVP_PKEY_free(c->certificate[i].key);
	}
	*c = (struct certificates){.n = 0};
}

enum certificate_validity
certificate_validity(const struct certificate *c, time_t now)
{
	/* A time that cannot be read compares as 0: it is no later one. */
	if (X509_cmp_time(X509_get0_notBefore(c->leaf), &now) > 0)
		return CERTIFICATE_NOT_YET;
	if (X509_cmp_time(X509_get0_notAfter(c->leaf), &now) <= 0)
		return CERTIFICATE_EXPIRED;
	return CERTIFICATE_VALID;
}

bool
certificate_is_for(const struct certificate *c, const char *host)
{
	return X509_check_host(c->leaf, host, strlen(host), 0, NULL) == 1;
}
