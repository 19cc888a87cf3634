/* test_token.c - proto/token.h: the examples of the RFCs, and what was ever done to
 * such tokens. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/tokens.h"

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
	(void)snprintf(text, sizeof(text), "%s", A1);
	*end = 'l'; /* the same 32 bytes, if the last two bits were ignored */
	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_MALFORMED);
	(void)memcpy(end, "k=", 3);
	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_MALFORMED);
	(void)memcpy(end, "k\n", 3);
	assert_int_equal(
	    token_check(k, &anything, text, strlen(text), NOW, &t), TOKEN_MALFORMED);
	(void)snprintf(text, sizeof(text), "%s", A1);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
