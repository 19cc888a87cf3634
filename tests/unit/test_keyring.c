/* test_keyring.c - proto/keyring.h: what is a key, and what is refused */
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

/* Where a file of secrets is broken is said, and nothing of what stands there. */
static void
test_keyring_broken_secrets_are_not_shown(void **state)
{
	static const char broken[] = "{\"kty\":\"oct\",\n\"k\":\"c2VjcmV0\" c2VjcmV0";
	struct keyring *k = keyring_new();

	assert_int_equal(
	    keyring_add_secret(k, broken, sizeof(broken) - 1, why), -EINVAL);
	assert_non_null(strstr(why, "line 2"));
	assert_null(strstr(why, "c2V"));
	keyring_free(k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_keyring_secret_too_short_refused),
	    cmocka_unit_test(test_keyring_pem_several_in_one_file),
	    cmocka_unit_test(test_keyring_pem_unfit_refused),
	    cmocka_unit_test(test_keyring_jwks_table),
	    cmocka_unit_test(test_keyring_has_room_for_so_many),
	    cmocka_unit_test(test_keyring_secrets_in_a_set_each_hold),
	    cmocka_unit_test(test_keyring_broken_secrets_are_not_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
