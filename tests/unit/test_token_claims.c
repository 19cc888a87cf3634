/* test_token_claims.c - proto/token.h: what a token says, once its signature is right
 */
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_token_expiry_with_leeway),
	    cmocka_unit_test(test_token_dates_of_wrong_type_refused),
	    cmocka_unit_test(test_token_audience_and_issuer_checked_when_set),
	    cmocka_unit_test(test_token_claims_are_kept_in_order),
	    cmocka_unit_test(test_token_claims_of_wrong_type_refused),
	    cmocka_unit_test(test_token_claims_are_bounded),
	    cmocka_unit_test(test_token_each_result_says_what_to_do),
	    cmocka_unit_test(test_token_make_is_what_check_takes),
	    cmocka_unit_test(test_token_make_unfit_key_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
