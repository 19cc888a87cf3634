/*
 * tokens.h - keys and tokens for the tests of both: the examples of the RFCs, and those
 * that are made here.
 */
#ifndef WSCAST_TESTS_UNIT_TOKENS_H
#define WSCAST_TESTS_UNIT_TOKENS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>

#include "proto/base64.h"
#include "proto/keyring.h"
#include "proto/token.h"

#define NOW 1300819000 /* RFC 7515's examples expire at 1300819380 */
#define SECRET "0123456789abcdef0123456789abcdef"

/* {"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true} */
#define JOE                                                                            \
	"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"             \
	"cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
/* RFC 7515 A.1, also RFC 7519 §3.1 */
#define A1_KEY                                                                         \
	"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUu"     \
	"TwjAzZr1Z9CAow"
#define A1                                                                             \
	"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." JOE                                \
	".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
/* RFC 7515 A.2 */
#define A2_N                                                                           \
	"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qP"     \
	"CJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47s"     \
	"oMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2"     \
	"R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud"     \
	"F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
#define A2_JWK "{\"kty\":\"RSA\",\"n\":\"" A2_N "\",\"e\":\"AQAB\"}"
#define A2                                                                             \
	"eyJhbGciOiJSUzI1NiJ9." JOE                                                    \
	".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4B"    \
	"h-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZ"     \
	"LgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"     \
	"O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6"     \
	"LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
/* RFC 7515 A.3 */
#define A3_XY                                                                          \
	"\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","                       \
	"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define A3_JWK "{\"kty\":\"EC\",\"crv\":\"P-256\"," A3_XY "}"
#define A3                                                                             \
	"eyJhbGciOiJFUzI1NiJ9." JOE                                                    \
	".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKT"    \
	"UJqPP3-Kg6NU1Q"
/* RFC 8037 A.2, A.4 */
#define ED_JWK                                                                         \
	"{\"kty\":\"OKP\",\"crv\":\"Ed25519\","                                        \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}"
#define ED_DATA "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
#define ED_SIG                                                                         \
	"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7"     \
	"sVvpAr_MuM0KAg"

static char why[KEYRING_WHY_MAX];

static inline struct keyring *
ring_of_secret(const char *secret)
{
	struct keyring *k = keyring_new();

	assert_non_null(k);
	assert_int_equal(keyring_add_secret(k, secret, strlen(secret), why), 0);
	return k;
}

static inline struct keyring *
ring_of_public(const char *text)
{
	struct keyring *k = keyring_new();

	assert_non_null(k);
	assert_int_equal(keyring_add_public(k, text, strlen(text), why), 0);
	return k;
}

static inline int
add_public(const char *text)
{
	struct keyring *k = keyring_new();
	int r = keyring_add_public(k, text, strlen(text), why);

	if (r < 0) {
		assert_int_equal(keyring_len(k), 0);
		assert_true(strlen(why) > 20);
	}
	keyring_free(k);
	return r;
}

static const struct token_policy anything = {"", "", 0};

/* Check with a ring of its own, which is freed. */
static inline enum token_result
check(struct keyring *k, const char *text)
{
	struct token t;
	enum token_result r = token_check(k, &anything, text, strlen(text), NOW, &t);

	if (r == TOKEN_OK)
		token_done(&t);
	keyring_free(k);
	return r;
}

/* header.claims.signature by HMAC, whatever the header says. */
static inline const char *
make_hs(const char *header, const char *claims, const void *key, size_t key_len)
{
	static char text[3 * TOKEN_MAX];
	crypto_auth_hmacsha256_state st;
	uint8_t mac[32];
	size_t n = base64_url_put(header, strlen(header), text);

	text[n++] = '.';
	n += base64_url_put(claims, strlen(claims), text + n);
	crypto_auth_hmacsha256_init(&st, key, key_len);
	crypto_auth_hmacsha256_update(&st, (uint8_t *)text, n);
	crypto_auth_hmacsha256_final(&st, mac);
	text[n++] = '.';
	n += base64_url_put(mac, sizeof(mac), text + n);
	text[n] = '\0';
	return text;
}

static inline const char *
make(const char *claims)
{
	return make_hs("{\"alg\":\"HS256\"}", claims, SECRET, strlen(SECRET));
}

static inline const char *
make_header(const char *header)
{
	return make_hs(header, "{}", SECRET, strlen(SECRET));
}

static inline enum token_result
check_claims(const char *claims)
{
	return check(ring_of_secret(SECRET), make(claims));
}

static inline enum token_result
check_header(const char *header)
{
	return check(ring_of_secret(SECRET), make_header(header));
}

/* A fresh key pair in PEM. bits: of RSA; name: of the curve. */
static inline void
make_pem(const char *type, const char *name, size_t bits, char *out, size_t size,
    bool private)
{
	EVP_PKEY *pkey;
	BIO *bio = BIO_new(BIO_s_mem());
	int n;

	if (bits > 0)
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, type, bits);
	else if (name != NULL)
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, type, name);
	else
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, type);
	assert_non_null(pkey);
	if (private)
		n = PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL);
	else
		n = PEM_write_bio_PUBKEY(bio, pkey);
	assert_int_equal(n, 1);
	n = BIO_read(bio, out, (int)size - 1);
	assert_true(n > 0);
	out[n] = '\0';
	EVP_PKEY_free(pkey);
	BIO_free(bio);
}

#endif
