/* test_token.c - proto/token.h and proto/jwk.h: the examples of the RFCs, and what was
 * ever done to such tokens. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sodium.h>

#include "proto/base64.h"
#include "proto/jwk.h"
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

static struct keyring *
ring_of_secret(const char *secret)
{
	struct keyring *k = keyring_new();

	assert_non_null(k);
	assert_int_equal(keyring_add_secret(k, secret, strlen(secret), why), 0);
	return k;
}

static struct keyring *
ring_of_public(const char *text)
{
	struct keyring *k = keyring_new();

	assert_non_null(k);
	assert_int_equal(keyring_add_public(k, text, strlen(text), why), 0);
	return k;
}

static int
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
static enum token_result
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
static const char *
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

static const char *
make(const char *claims)
{
	return make_hs("{\"alg\":\"HS256\"}", claims, SECRET, strlen(SECRET));
}

static const char *
make_header(const char *header)
{
	return make_hs(header, "{}", SECRET, strlen(SECRET));
}

static enum token_result
check_claims(const char *claims)
{
	return check(ring_of_secret(SECRET), make(claims));
}

static enum token_result
check_header(const char *header)
{
	return check(ring_of_secret(SECRET), make_header(header));
}

/* A fresh key pair in PEM. bits: of RSA; name: of the curve. */
static void
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

/* ---- examples ---- */

static void
test_token_rfc7515_a1_hs256(void **state)
{
	struct keyring *k = keyring_new();
	uint8_t key[80];
	size_t n;

	assert_int_equal(base64_url_get(A1_KEY, strlen(A1_KEY), key, &n), 0);
	assert_int_equal(keyring_add_secret(k, key, n, why), 0);
	assert_int_equal(check(k, A1), TOKEN_OK);
}

static void
test_token_rfc7515_a2_rs256(void **state)
{
	assert_int_equal(check(ring_of_public(A2_JWK), A2), TOKEN_OK);
}

static void
test_token_rfc7515_a3_es256(void **state)
{
	assert_int_equal(check(ring_of_public(A3_JWK), A3), TOKEN_OK);
}

/* Its payload is no JSON: the signature is right, and the token is none. */
static void
test_token_rfc8037_a4_eddsa(void **state)
{
	struct keyring *k = ring_of_public(ED_JWK);
	uint8_t sig[80];
	size_t n;

	assert_int_equal(base64_url_get(ED_SIG, strlen(ED_SIG), sig, &n), 0);
	assert_int_equal(
	    keyring_verify(k, (struct slice){"EdDSA", 5}, (struct slice){NULL, 0},
		(struct slice){ED_DATA, strlen(ED_DATA)},
		(struct slice){(char *)sig, n}),
	    KEYRING_OK);
	assert_int_equal(check(k, ED_DATA "." ED_SIG), TOKEN_MALFORMED);
}

/* RFC 7519 §6.1, and other ways to write it. */
static void
test_token_alg_none_refused(void **state)
{
	assert_int_equal(check(ring_of_secret(SECRET), "eyJhbGciOiJub25lIn0." JOE "."),
	    TOKEN_UNSUPPORTED);
	assert_int_equal(
	    check(NULL, "eyJhbGciOiJub25lIn0." JOE "."), TOKEN_UNSUPPORTED);
	assert_int_equal(check_header("{\"alg\":\"None\"}"), TOKEN_UNSUPPORTED);
	assert_int_equal(check_header("{\"alg\":\"\"}"), TOKEN_UNSUPPORTED);
	assert_int_equal(check_header("{}"), TOKEN_MALFORMED);
	assert_int_equal(check_header("{\"alg\":null}"), TOKEN_MALFORMED);
	assert_int_equal(check_header("{\"alg\":[\"HS256\"]}"), TOKEN_MALFORMED);
}

/* ---- attacks ---- */

/* HMAC keyed with what everybody knows: the public key's text, or its bytes. */
static void
test_token_hmac_with_public_key_refused(void **state)
{
	char pem[2000];
	const char *t;

	make_pem("RSA", NULL, 2048, pem, sizeof(pem), false);
	t = make_hs("{\"alg\":\"HS256\"}", "{}", pem, strlen(pem));
	assert_int_equal(check(ring_of_public(pem), t), TOKEN_NO_KEY);
	t = make_hs("{\"alg\":\"RS256\"}", "{}", pem, strlen(pem));
	assert_int_equal(check(ring_of_public(pem), t), TOKEN_BAD_SIGNATURE);
	/* Neither can it be configured so. */
	{
		struct keyring *k = keyring_new();

		assert_int_equal(keyring_add_secret(k, pem, strlen(pem), why), -EINVAL);
		keyring_free(k);
	}
}

/* A right signature under the name of another algorithm is none. */
static void
test_token_algorithm_is_the_keys(void **state)
{
	static const char *const others[] = {"HS384", "HS512", "RS384", "PS256",
	    "ES384", "ES256K", "hs256", "HS256 ", "Ed25519"};
	char header[64];

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		(void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", others[i]);
		assert_int_equal(check_header(header), TOKEN_UNSUPPORTED);
	}
	assert_int_equal(check_header("{\"alg\":\"RS256\"}"), TOKEN_NO_KEY);
	assert_int_equal(check(ring_of_public(A3_JWK), A2), TOKEN_NO_KEY);
	assert_int_equal(check(ring_of_public(A2_JWK), A3), TOKEN_NO_KEY);
}

/* The key that a token brings along is not looked at. */
static void
test_token_key_inside_is_not_used(void **state)
{
	static const char header[] =
	    "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":"
	    "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"},"
	    "\"jku\":\"http://127.0.0.1:1/\",\"x5u\":\"x\"}";

	assert_int_equal(check(ring_of_secret("another secret, as long as it must be"),
			     make_header(header)),
	    TOKEN_BAD_SIGNATURE);
	assert_int_equal(check_header(header), TOKEN_OK);
}

static void
test_token_each_signature_byte_counts(void **state)
{
	const char *tokens[] = {A1, A2, A3};
	struct keyring *k = keyring_new();
	struct token t;
	uint8_t key[80];
	size_t n;

	assert_int_equal(base64_url_get(A1_KEY, strlen(A1_KEY), key, &n), 0);
	assert_int_equal(keyring_add_secret(k, key, n, why), 0);
	assert_int_equal(keyring_add_public(k, A2_JWK, strlen(A2_JWK), why), 0);
	assert_int_equal(keyring_add_public(k, A3_JWK, strlen(A3_JWK), why), 0);
	for (size_t i = 0; i < 3; i++) {
		char *copy = strdup(tokens[i]);
		size_t len = strlen(copy);

		for (char *p = strrchr(copy, '.') + 1; *p != '\0'; p++) {
			char was = *p;

			*p = was == 'A' ? 'B' : 'A';
			assert_int_not_equal(
			    token_check(k, &anything, copy, len, NOW, &t), TOKEN_OK);
			*p = was;
		}
		assert_int_equal(
		    token_check(k, &anything, copy, len, NOW, &t), TOKEN_OK);
		token_done(&t);
		free(copy);
	}
	keyring_free(k);
}

/* Cut anywhere, it is no token any more. */
static void
test_token_cut_anywhere_refused(void **state)
{
	struct keyring *k = ring_of_public(A3_JWK);
	struct token t;

	for (size_t len = 0; len < strlen(A3); len++)
		assert_int_not_equal(
		    token_check(k, &anything, A3, len, NOW, &t), TOKEN_OK);
	keyring_free(k);
}

/* Signatures with zeros for r and s, which broken verifiers took for right. */
static void
test_token_zero_signature_refused(void **state)
{
	char text[1000], zeros[342 + 1];
	int n;

	memset(zeros, 'A', 342);
	zeros[342] = '\0';
	n = snprintf(text, sizeof(text), "eyJhbGciOiJFUzI1NiJ9." JOE ".%.86s", zeros);
	assert_true(n < (int)sizeof(text));
	assert_int_equal(check(ring_of_public(A3_JWK), text), TOKEN_BAD_SIGNATURE);
	(void)snprintf(text, sizeof(text), "eyJhbGciOiJFZERTQSJ9." JOE ".%.86s", zeros);
	assert_int_equal(check(ring_of_public(ED_JWK), text), TOKEN_BAD_SIGNATURE);
	(void)snprintf(text, sizeof(text), "eyJhbGciOiJSUzI1NiJ9." JOE ".%s", zeros);
	assert_int_equal(check(ring_of_public(A2_JWK), text), TOKEN_BAD_SIGNATURE);
	(void)snprintf(text, sizeof(text), "eyJhbGciOiJIUzI1NiJ9." JOE ".");
	assert_int_equal(check(ring_of_secret(SECRET), text), TOKEN_BAD_SIGNATURE);
}

/* An ES256 signature in DER, as OpenSSL makes it, is another spelling of the same. */
static void
test_token_es256_of_other_length_refused(void **state)
{
	char text[600];

	(void)snprintf(text, sizeof(text), "%sAAAA", A3);
	assert_int_equal(check(ring_of_public(A3_JWK), text), TOKEN_BAD_SIGNATURE);
}

static void
test_token_base64_has_one_spelling(void **state)
{
	char text[600], *end = text + strlen(A1) - 1;
	struct keyring *k = keyring_new();
	uint8_t key[80];
	struct token t;
	size_t n;

	assert_int_equal(base64_url_get(A1_KEY, strlen(A1_KEY), key, &n), 0);
	assert_int_equal(keyring_add_secret(k, key, n, why), 0);
	(void)strcpy(text, A1);
	*end = 'l'; /* the same 32 bytes, if the last two bits were ignored */
	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_MALFORMED);
	(void)strcpy(end, "k=");
	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_MALFORMED);
	(void)strcpy(end, "k\n");
	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_MALFORMED);
	(void)strcpy(text, A1);
	*strchr(text, '-') = '+';
	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_MALFORMED);
	keyring_free(k);
}

static void
test_token_name_twice_refused(void **state)
{
	assert_int_equal(
	    check_header("{\"alg\":\"none\",\"alg\":\"HS256\"}"), TOKEN_MALFORMED);
	assert_int_equal(
	    check_claims("{\"sub\":\"a\",\"sub\":\"b\"}"), TOKEN_MALFORMED);
	assert_int_equal(
	    check_claims("{\"sub\":\"a\",\"s\\u0075b\":\"b\"}"), TOKEN_MALFORMED);
	assert_int_equal(
	    check_claims("{\"exp\":1,\"exp\":9999999999}"), TOKEN_MALFORMED);
	assert_int_equal(check_claims("{\"info\":{\"a\":1,\"a\":2}}"), TOKEN_MALFORMED);
}

static void
test_token_critical_header_refused(void **state)
{
	assert_int_equal(
	    check_header("{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}"),
	    TOKEN_UNSUPPORTED);
	assert_int_equal(
	    check_header("{\"alg\":\"HS256\",\"crit\":[]}"), TOKEN_UNSUPPORTED);
	assert_int_equal(
	    check_header("{\"alg\":\"HS256\",\"b64\":false}"), TOKEN_UNSUPPORTED);
}

static void
test_token_no_three_parts_refused(void **state)
{
	static const char *const table[] = {"", ".", "..", "...", "a", "a.b", "a.b.c.d",
	    "e30.e30.", ".e30.", "e30..", A1 ".x", "." A1,
	    /* JWE has five */ "e30.e30.e30.e30.e30", "{}.{}.{}", "null.null.null"};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_int_equal(
		    check(ring_of_secret(SECRET), table[i]), TOKEN_MALFORMED);
}

/* What is signed must be one JSON object, in UTF-8. */
static void
test_token_claims_no_object_refused(void **state)
{
	static const char *const table[] = {"", "[]", "1", "\"x\"", "{", "{}{}", "{} x",
	    "{\"sub\":\"\xff\"}", "{\"sub\":\"a\\u0000b\"}", "{\"sub\":\"\\ud800\"}",
	    "{'sub':1}", "{\"exp\":1e999}", "{\"exp\":99999999999999999999999}"};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_int_equal(check_claims(table[i]), TOKEN_MALFORMED);
}

static void
test_token_size_is_bounded(void **state)
{
	static char big[2 * TOKEN_MAX];

	memset(big, 'x', sizeof(big));
	(void)memcpy(big, "{\"x\":\"", 6);
	(void)memcpy(big + TOKEN_MAX - 3, "\"}", 3);
	assert_int_equal(check_claims(big), TOKEN_TOO_LONG);
	(void)memcpy(big + 5000, "\"}", 3);
	assert_int_equal(check_claims(big), TOKEN_OK);
	/* A header has little to say. */
	memset(big, 'x', sizeof(big));
	(void)memcpy(big, "{\"alg\":\"HS256\",\"x\":\"", 20);
	(void)memcpy(big + 1000, "\"}", 3);
	assert_int_equal(check_header(big), TOKEN_TOO_LONG);
	(void)memcpy(big + 500, "\"}", 3);
	assert_int_equal(check_header(big), TOKEN_OK);
}

/* ---- kid ---- */

#define JWKS(kid, x)                                                                   \
	"{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"" kid               \
	"\",\"x\":\"" x "\"}]}"

/* kid is compared with our keys' and opens nothing. */
static void
test_token_kid_is_no_path(void **state)
{
	static const char *const kids[] = {
	    "../../dev/null", "/dev/null", "x' UNION SELECT 'k", "|id", "", "\\u0001"};
	char header[200];

	for (size_t i = 0; i < sizeof(kids) / sizeof(kids[0]); i++) {
		(void)snprintf(header, sizeof(header),
		    "{\"alg\":\"HS256\",\"kid\":\"%s\"}", kids[i]);
		/* Keyed with what such a file or query would give. */
		assert_int_equal(
		    check(ring_of_secret(SECRET), make_hs(header, "{}", "", 0)),
		    TOKEN_BAD_SIGNATURE);
		assert_int_equal(
		    check(ring_of_secret(SECRET), make_hs(header, "{}", "k", 1)),
		    TOKEN_BAD_SIGNATURE);
	}
	assert_int_equal(
	    check_header("{\"alg\":\"HS256\",\"kid\":1}"), TOKEN_MALFORMED);
	assert_int_equal(
	    check_header("{\"alg\":\"HS256\",\"kid\":null}"), TOKEN_MALFORMED);
}

/* It selects among keys that have ids, and never makes a key good for more. */
static void
test_token_kid_selects(void **state)
{
	struct keyring *k =
	    ring_of_public(JWKS("new", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
	const struct slice data = {ED_DATA, strlen(ED_DATA)};
	const struct slice alg = {"EdDSA", 5};
	uint8_t sig[80];
	struct slice s = {(char *)sig, 0};

	assert_int_equal(base64_url_get(ED_SIG, strlen(ED_SIG), sig, &s.len), 0);
	assert_int_equal(keyring_verify(k, alg, (struct slice){"new", 3}, data, s), 0);
	assert_int_equal(keyring_verify(k, alg, (struct slice){NULL, 0}, data, s), 0);
	assert_int_equal(
	    keyring_verify(k, alg, (struct slice){"old", 3}, data, s), KEYRING_NO_KEY);
	assert_int_equal(
	    keyring_verify(k, alg, (struct slice){"ne", 2}, data, s), KEYRING_NO_KEY);
	assert_int_equal(keyring_verify(k, (struct slice){"HS256", 5},
			     (struct slice){"new", 3}, data, s),
	    KEYRING_NO_KEY);
	keyring_free(k);
}

/* Rotation: the old key and the new one hold at once. */
static void
test_token_several_keys_at_once(void **state)
{
	struct keyring *k = ring_of_secret("another secret, as long as it must be");
	struct token t;
	const char *token;

	assert_int_equal(keyring_add_secret(k, SECRET "\r\n", 34, why), 0);
	assert_int_equal(keyring_add_public(k, A3_JWK, strlen(A3_JWK), why), 0);
	assert_int_equal(keyring_len(k), 3);
	assert_int_equal(token_check(k, &anything, A3, strlen(A3), NOW, &t), TOKEN_OK);
	token_done(&t);
	token = make("{}");
	assert_int_equal(
	    token_check(k, &anything, token, strlen(token), NOW, &t), TOKEN_OK);
	token_done(&t);
	keyring_free(k);
}

/* ---- claims ---- */

static enum token_result
check_policy(const char *claims, struct token_policy policy, int64_t now)
{
	struct keyring *k = ring_of_secret(SECRET);
	const char *text = make(claims);
	struct token t;
	enum token_result r = token_check(k, &policy, text, strlen(text), now, &t);

	if (r == TOKEN_OK)
		token_done(&t);
	keyring_free(k);
	return r;
}

static void
test_token_expiry_with_leeway(void **state)
{
	struct token_policy p = {"", "", 10};

	assert_int_equal(check_policy("{\"exp\":1000}", p, 999), TOKEN_OK);
	assert_int_equal(check_policy("{\"exp\":1000}", p, 1009), TOKEN_OK);
	assert_int_equal(check_policy("{\"exp\":1000}", p, 1010), TOKEN_EXPIRED);
	assert_int_equal(check_policy("{\"exp\":1000.9}", p, 1010), TOKEN_EXPIRED);
	assert_int_equal(check_policy("{\"exp\":-1}", p, 1010), TOKEN_EXPIRED);
	assert_int_equal(check_policy("{\"exp\":0}", p, 1010), TOKEN_EXPIRED);
	assert_int_equal(check_policy("{\"nbf\":1000}", p, 990), TOKEN_OK);
	assert_int_equal(check_policy("{\"nbf\":1000}", p, 989), TOKEN_NOT_YET);
	assert_int_equal(check_policy("{}", p, 989), TOKEN_OK);
}

/* As a string, "1e9" would be taken for a number by some, and for none by others. */
static void
test_token_dates_of_wrong_type_refused(void **state)
{
	static const char *const values[] = {
	    "\"9999999999\"", "null", "true", "[]", "{}", "1e16", "-1e300"};
	static const char *const names[] = {"exp", "nbf", "iat"};
	char claims[100];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		for (size_t n = 0; n < 3; n++) {
			(void)snprintf(
			    claims, sizeof(claims), "{\"%s\":%s}", names[n], values[i]);
			assert_int_equal(check_claims(claims), TOKEN_BAD_CLAIM);
		}
}

static void
test_token_audience_and_issuer_checked_when_set(void **state)
{
	struct token_policy none = {"", "", 0},
			    p = {"chat live", "https://id.example", 0};
	static const char iss[] = "{\"iss\":\"https://id.example\",\"aud\":%s}";
	static const struct {
		const char *aud;
		enum token_result want;
	} table[] = {
	    {"\"chat\"", TOKEN_OK},
	    {"[\"x\",\"live\"]", TOKEN_OK},
	    {"\"cha\"", TOKEN_WRONG_AUDIENCE},
	    {"\"chat live\"", TOKEN_WRONG_AUDIENCE},
	    {"\"\"", TOKEN_WRONG_AUDIENCE},
	    {"[]", TOKEN_WRONG_AUDIENCE},
	    {"[\"x\"]", TOKEN_WRONG_AUDIENCE},
	    {"[\"chat\",1]", TOKEN_BAD_CLAIM},
	    {"1", TOKEN_BAD_CLAIM},
	    {"null", TOKEN_BAD_CLAIM},
	    {"{\"chat\":1}", TOKEN_BAD_CLAIM},
	};
	char claims[200];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		(void)snprintf(claims, sizeof(claims), iss, table[i].aud);
		assert_int_equal(check_policy(claims, p, NOW), table[i].want);
	}
	assert_int_equal(check_policy("{\"iss\":\"https://id.example\"}", p, NOW),
	    TOKEN_WRONG_AUDIENCE);
	assert_int_equal(
	    check_policy("{\"aud\":\"chat\"}", p, NOW), TOKEN_WRONG_ISSUER);
	assert_int_equal(
	    check_policy("{\"aud\":\"chat\",\"iss\":\"https://id.exampl\"}", p, NOW),
	    TOKEN_WRONG_ISSUER);
	assert_int_equal(check_policy("{\"iss\":[]}", none, NOW), TOKEN_BAD_CLAIM);
	assert_int_equal(
	    check_policy("{\"iss\":\"x\",\"aud\":\"y\"}", none, NOW), TOKEN_OK);
}

static void
test_token_claims_are_kept_in_order(void **state)
{
	static const char want[] = "ann\0"
				   "j1\0"
				   "{\"n\":0.10,\"x\":[1,\"a b\"]}\0"
				   "own\0c\xc3\xa4\0"
				   "news:*\0"
				   "chat:?\0p";
	struct keyring *k = ring_of_secret(SECRET);
	const char *text = make(
	    "{\"publish\":[\"chat:?\",\"p\"], \"sub\":\"ann\",\"channels\":[\"own\","
	    "\"c\\u00e4\"],\"info\":{\"n\" : 0.10, \"x\":[1, \"a b\"]},\"other\":null,"
	    "\"subscribe\":[\"news:*\"],\"jti\":\"j1\",\"exp\":1300819380.5}");
	struct token t;

	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_OK);
	assert_int_equal(t.expires_s, 1300819380);
	assert_int_equal(t.subject_len, 3);
	assert_int_equal(t.jti_len, 2);
	assert_int_equal(t.info_len, 24);
	assert_int_equal(t.nchannels, 2);
	assert_int_equal(t.nsubscribe, 1);
	assert_int_equal(t.npublish, 2);
	assert_int_equal(t.len, sizeof(want));
	assert_memory_equal(t.text, want, sizeof(want));
	token_done(&t);
	keyring_free(k);
}

static void
test_token_claims_of_wrong_type_refused(void **state)
{
	static const char *const table[] = {"{\"sub\":1}", "{\"sub\":\"\"}",
	    "{\"sub\":\"a\\nb\"}", "{\"sub\":null}", "{\"jti\":{}}",
	    "{\"channels\":\"a\"}", "{\"channels\":[1]}", "{\"channels\":[\"\"]}",
	    "{\"channels\":[\"!x\"]}", "{\"subscribe\":\"*\"}", "{\"subscribe\":{}}",
	    "{\"subscribe\":[[\"*\"]]}", "{\"publish\":true}", "{\"publish\":null}"};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_int_equal(check_claims(table[i]), TOKEN_BAD_CLAIM);
}

static void
test_token_claims_are_bounded(void **state)
{
	char claims[5000];
	size_t n;

	(void)snprintf(claims, sizeof(claims), "{\"sub\":\"%0200d\"}", 0);
	assert_int_equal(check_claims(claims), TOKEN_OK);
	(void)snprintf(claims, sizeof(claims), "{\"sub\":\"%0201d\"}", 0);
	assert_int_equal(check_claims(claims), TOKEN_BAD_CLAIM);
	(void)snprintf(claims, sizeof(claims), "{\"info\":\"%01022d\"}", 0);
	assert_int_equal(check_claims(claims), TOKEN_OK);
	(void)snprintf(claims, sizeof(claims), "{\"info\":\"%01023d\"}", 0);
	assert_int_equal(check_claims(claims), TOKEN_BAD_CLAIM);
	n = (size_t)snprintf(claims, sizeof(claims), "{\"publish\":[\"a\"");
	for (int i = 1; i < TOKEN_LIST_MAX; i++)
		n += (size_t)snprintf(claims + n, sizeof(claims) - n, ",\"a\"");
	(void)snprintf(claims + n, sizeof(claims) - n, "]}");
	assert_int_equal(check_claims(claims), TOKEN_OK);
	(void)snprintf(claims + n, sizeof(claims) - n, ",\"a\"]}");
	assert_int_equal(check_claims(claims), TOKEN_BAD_CLAIM);
}

static void
test_token_each_result_says_what_to_do(void **state)
{
	for (int r = TOKEN_OK; r <= TOKEN_NO_MEMORY; r++) {
		const char *text = token_result_text((enum token_result)r);

		assert_true(strlen(text) > 10 && strlen(text) < 200);
		assert_null(strpbrk(text, "\"\\\r\n"));
	}
}

/* ---- keys ---- */

static void
test_keyring_secret_too_short_refused(void **state)
{
	struct keyring *k = keyring_new();

	assert_int_equal(
	    keyring_add_secret(k, "0123456789abcdef0123456789abcde\n\n", 33, why),
	    -EINVAL);
	assert_non_null(strstr(why, "openssl rand"));
	assert_int_equal(keyring_add_secret(k, "", 0, why), -EINVAL);
	assert_int_equal(keyring_len(k), 0);
	keyring_free(k);
}

static void
test_keyring_pem_several_in_one_file(void **state)
{
	char text[6000], one[2000];
	struct keyring *k;
	size_t n = 0;

	make_pem("ED25519", NULL, 0, one, sizeof(one), false);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "first\n%s", one);
	make_pem("EC", "P-256", 0, one, sizeof(one), false);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "\nsecond\n%s", one);
	make_pem("RSA", NULL, 2048, one, sizeof(one), false);
	(void)snprintf(text + n, sizeof(text) - n, "%s\n# the end\n", one);
	k = ring_of_public(text);
	assert_int_equal(keyring_len(k), 3);
	keyring_free(k);
}

static void
test_keyring_pem_unfit_refused(void **state)
{
	char pem[4000];

	make_pem("RSA", NULL, 1024, pem, sizeof(pem), false);
	assert_int_equal(add_public(pem), -EINVAL);
	assert_non_null(strstr(why, "2048"));
	make_pem("EC", "P-384", 0, pem, sizeof(pem), false);
	assert_int_equal(add_public(pem), -EINVAL);
	make_pem("EC", "secp256k1", 0, pem, sizeof(pem), false);
	assert_int_equal(add_public(pem), -EINVAL);
	make_pem("X25519", NULL, 0, pem, sizeof(pem), false);
	assert_int_equal(add_public(pem), -EINVAL);
	make_pem("ED25519", NULL, 0, pem, sizeof(pem), true);
	assert_int_equal(add_public(pem), -EINVAL);
	assert_non_null(strstr(why, "private"));
	assert_int_equal(add_public(""), -EINVAL);
	assert_int_equal(add_public("hello"), -EINVAL);
	assert_int_equal(add_public("-----BEGIN PUBLIC KEY-----\nAAAA\n"), -EINVAL);
	assert_int_equal(
	    add_public("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
	    -EINVAL);
}

/* Of a set, what is not ours is passed over; what is broken is not. */
static void
test_keyring_jwks_table(void **state)
{
#define ED                                                                             \
	"\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"                   \
	"7TyWQHOg7hcvPapiMlrwIaaPcHURo\""
#define AND(more) "{\"keys\":[" more ",{" ED "}]}"
	static const struct {
		const char *text;
		int want;
	} table[] = {
	    {"{" ED "}", 0},
	    {" \n{\"keys\":[{" ED "}]}\n", 0},
	    {AND("{\"kty\":\"xyz\"}"), 0},
	    {AND("{" ED ",\"use\":\"enc\"}"), 0},
	    {AND("{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"AA\"}"), 0},
	    {AND("{\"kty\":\"EC\",\"crv\":\"P-384\"," A3_XY "}"), 0},
	    {AND(A3_JWK), 0},
	    {AND("1"), 0},
	    {"{\"keys\":[]}", -EINVAL},
	    {"{\"keys\":[{" ED ",\"use\":\"enc\"}]}", -EINVAL},
	    {"{\"keys\":[{" ED ",\"alg\":\"ES256\"}]}", -EINVAL},
	    {"{\"keys\":[{" ED ",\"key_ops\":[\"sign\"]}]}", -EINVAL},
	    {"{\"keys\":[{" ED ",\"key_ops\":[\"verify\"],\"use\":\"sig\"}]}", 0},
	    {"{\"keys\":{}}", -EINVAL},
	    {"{\"keys\":[{" ED "}],\"keys\":[]}", -EINVAL},
	    {"{\"keys\":[{" ED "}]", -EINVAL},
	    {AND("{\"kty\":\"oct\",\"k\":\"AAAA\"}"), -EINVAL},
	    {AND("{" ED ",\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\"}"),
		-EINVAL},
	    {AND("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}"), -EINVAL},
	    /* the neutral element: any signature of it holds for every message */
	    {AND("{\"kty\":\"OKP\",\"crv\":\"Ed25519\","
		 "\"x\":\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"),
		-EINVAL},
	    /* no point of the curve */
	    {AND("{\"kty\":\"EC\",\"crv\":\"P-256\","
		 "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
		 "\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}"),
		-EINVAL},
	    {AND("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"AAAA\"}"),
		-EINVAL},
	    {AND("{\"kty\":\"RSA\",\"n\":\"" A2_N "\"}"), -EINVAL},
	    {AND("{\"kty\":\"RSA\",\"n\":\"" A2_N "\",\"e\":\"AQ\"}"), -EINVAL},
	    {AND("{\"kty\":\"RSA\",\"n\":\"" A2_N "\",\"e\":\"AQAA\"}"), -EINVAL},
	    {AND("{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}"), -EINVAL},
	    {AND("{\"kty\":\"RSA\",\"n\":\"" A2_N "=\",\"e\":\"AQAB\"}"), -EINVAL},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int r = add_public(table[i].text);

		if (r != table[i].want)
			print_error("%s: %s\n", table[i].text, why);
		assert_int_equal(r, table[i].want);
	}
}

static void
test_keyring_has_room_for_so_many(void **state)
{
	struct keyring *k = keyring_new();

	for (int i = 0; i < KEYRING_KEYS_MAX; i++)
		assert_int_equal(keyring_add_secret(k, SECRET, 32, why), 0);
	assert_int_equal(keyring_add_secret(k, SECRET, 32, why), -EINVAL);
	assert_int_equal(keyring_add_public(k, ED_JWK, strlen(ED_JWK), why), -EINVAL);
	assert_int_equal(keyring_len(k), KEYRING_KEYS_MAX);
	keyring_free(k);
}

/* ---- making ---- */

static void
test_token_make_is_what_check_takes(void **state)
{
	char private[500], public[500], *token = NULL;
	EVP_PKEY *pkey;
	BIO *bio;
	int n;

	assert_int_equal(
	    token_make(SECRET "\n", 33, "{\"sub\":\"ann\"}", &token, why), 0);
	assert_int_equal(check(ring_of_secret(SECRET), token), TOKEN_OK);
	free(token);

	make_pem("ED25519", NULL, 0, private, sizeof(private), true);
	assert_int_equal(
	    token_make(private, strlen(private), "{\"sub\":\"ann\"}", &token, why), 0);
	bio = BIO_new_mem_buf(private, -1);
	pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	BIO_free(bio);
	bio = BIO_new(BIO_s_mem());
	assert_int_equal(PEM_write_bio_PUBKEY(bio, pkey), 1);
	n = BIO_read(bio, public, sizeof(public) - 1);
	assert_true(n > 0);
	public[n] = '\0';
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	assert_int_equal(check(ring_of_public(public), token), TOKEN_OK);
	free(token);
}

static void
test_token_make_unfit_key_refused(void **state)
{
	char pem[4000], *token = NULL;

	make_pem("EC", "P-256", 0, pem, sizeof(pem), true);
	assert_int_equal(token_make(pem, strlen(pem), "{}", &token, why), -EINVAL);
	make_pem("ED25519", NULL, 0, pem, sizeof(pem), false);
	assert_int_equal(token_make(pem, strlen(pem), "{}", &token, why), -EINVAL);
	assert_int_equal(token_make("short", 5, "{}", &token, why), -EINVAL);
	assert_null(token);
}

/* Old and new secrets in one file; what is none of them is refused as a whole. */
static void
test_keyring_secrets_in_a_set_each_hold(void **state)
{
	static const char set[] = "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":"
				  "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"},"
				  "{\"kty\":\"oct\",\"k\":"
				  "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYx\"}]}";
	static const char *const bad[] = {
	    "{\"keys\":[]}",
	    "{\"kty\":\"oct\",\"k\":\"AAAA\"}",
	    "{\"kty\":\"oct\"}",
	    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}",
	    "{\"kty\":",
	};
	/* Any bytes are a secret, a brace before them or not. */
	static const char brace[] = "{0123456789abcdef0123456789abcdef";
	struct keyring *k = keyring_new();

	assert_int_equal(keyring_add_secret(k, set, sizeof(set) - 1, why), 0);
	assert_int_equal(keyring_len(k), 2);
	assert_string_equal(keyring_kid(k), "a");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    keyring_add_secret(k, bad[i], strlen(bad[i]), why), -EINVAL);
	assert_int_equal(keyring_add_public(k, set, sizeof(set) - 1, why), -EINVAL);
	assert_int_equal(keyring_len(k), 2);
	assert_int_equal(keyring_add_secret(k, brace, sizeof(brace) - 1, why), 0);
	keyring_free(k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_token_rfc7515_a1_hs256),
	    cmocka_unit_test(test_token_rfc7515_a2_rs256),
	    cmocka_unit_test(test_token_rfc7515_a3_es256),
	    cmocka_unit_test(test_token_rfc8037_a4_eddsa),
	    cmocka_unit_test(test_token_alg_none_refused),
	    cmocka_unit_test(test_token_hmac_with_public_key_refused),
	    cmocka_unit_test(test_token_algorithm_is_the_keys),
	    cmocka_unit_test(test_token_key_inside_is_not_used),
	    cmocka_unit_test(test_token_each_signature_byte_counts),
	    cmocka_unit_test(test_token_cut_anywhere_refused),
	    cmocka_unit_test(test_token_zero_signature_refused),
	    cmocka_unit_test(test_token_es256_of_other_length_refused),
	    cmocka_unit_test(test_token_base64_has_one_spelling),
	    cmocka_unit_test(test_token_name_twice_refused),
	    cmocka_unit_test(test_token_critical_header_refused),
	    cmocka_unit_test(test_token_no_three_parts_refused),
	    cmocka_unit_test(test_token_claims_no_object_refused),
	    cmocka_unit_test(test_token_size_is_bounded),
	    cmocka_unit_test(test_token_kid_is_no_path),
	    cmocka_unit_test(test_token_kid_selects),
	    cmocka_unit_test(test_token_several_keys_at_once),
	    cmocka_unit_test(test_token_expiry_with_leeway),
	    cmocka_unit_test(test_token_dates_of_wrong_type_refused),
	    cmocka_unit_test(test_token_audience_and_issuer_checked_when_set),
	    cmocka_unit_test(test_token_claims_are_kept_in_order),
	    cmocka_unit_test(test_token_claims_of_wrong_type_refused),
	    cmocka_unit_test(test_token_claims_are_bounded),
	    cmocka_unit_test(test_token_each_result_says_what_to_do),
	    cmocka_unit_test(test_keyring_secret_too_short_refused),
	    cmocka_unit_test(test_keyring_pem_several_in_one_file),
	    cmocka_unit_test(test_keyring_pem_unfit_refused),
	    cmocka_unit_test(test_keyring_jwks_table),
	    cmocka_unit_test(test_keyring_has_room_for_so_many),
	    cmocka_unit_test(test_token_make_is_what_check_takes),
	    cmocka_unit_test(test_token_make_unfit_key_refused),
	    cmocka_unit_test(test_keyring_secrets_in_a_set_each_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
