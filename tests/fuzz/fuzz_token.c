/*
 * fuzz_token.c - a token from anybody. The first byte says what the rest is: 't' a
 * whole token; 'h' a header and 'c' claims that are signed here, so that what lies
 * behind the signature is reached.
 */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/keyring.h"
#include "proto/token.h"
#include "tests/fuzz/target.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define ED                                                                             \
	"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k\","                          \
	"\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}"
#define EC                                                                             \
	"{\"kty\":\"EC\",\"crv\":\"P-256\","                                           \
	"\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","                       \
	"\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}"

static struct keyring *
keys(void)
{
	static struct keyring *k;
	char why[KEYRING_WHY_MAX];

	if (k != NULL)
		return k;
	k = keyring_new();
	must(k != NULL && keyring_add_secret(k, SECRET, 32, why) == 0 &&
	     keyring_add_public(k, ED, strlen(ED), why) == 0 &&
	     keyring_add_public(k, EC, strlen(EC), why) == 0);
	return k;
}

/* A right token has all that its numbers say, and nothing behind. */
static void
check(const char *text, size_t len)
{
	static const struct token_policy policy = {"me you", "", 10};
	struct token t;
	size_t at;

	if (token_check(keys(), &policy, text, len, 1300819000, &t) != TOKEN_OK)
		return;
	must(t.subject_len <= TOKEN_TEXT_MAX && t.jti_len <= TOKEN_TEXT_MAX &&
	     t.info_len <= TOKEN_INFO_MAX && t.nchannels <= TOKEN_LIST_MAX &&
	     t.nsubscribe <= TOKEN_LIST_MAX && t.npublish <= TOKEN_LIST_MAX);
	at = (size_t)t.subject_len + t.jti_len + t.info_len + 3;
	must(at <= t.len && t.text[at - 1] == '\0');
	for (unsigned n = t.nchannels + t.nsubscribe + t.npublish; n > 0; n--) {
		must(at < t.len && t.text[at] != '\0');
		at += strlen(t.text + at) + 1;
	}
	must(at == t.len);
	must(t.expires_s == 0 || t.expires_s > 1300819000 - 10);
	token_done(&t);
}

static void
sign_and_check(
    const char *header, size_t header_len, const char *claims, size_t claims_len)
{
	size_t size = base64_url_len(header_len) + base64_url_len(claims_len) + 64;
	char *text = malloc(size);
	crypto_auth_hmacsha256_state st;
	uint8_t mac[32];
	size_t n;

	must(text != NULL);
	n = base64_url_put(header, header_len, text);
	text[n++] = '.';
	n += base64_url_put(claims, claims_len, text + n);
	must(crypto_auth_hmacsha256_init(&st, (const uint8_t *)SECRET, 32) == 0);
	must(crypto_auth_hmacsha256_update(&st, (const uint8_t *)text, n) == 0);
	must(crypto_auth_hmacsha256_final(&st, mac) == 0);
	text[n++] = '.';
	n += base64_url_put(mac, sizeof(mac), text + n);
	check(text, n);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char header[] = "{\"alg\":\"HS256\"}";
	const char *rest = (const char *)data + 1;

	if (len == 0)
		return 0;
	if (data[0] == 'h')
		sign_and_check(rest, len - 1, "{}", 2);
	else if (data[0] == 'c')
		sign_and_check(header, strlen(header), rest, len - 1);
	else
		check(rest, len - 1);
	return 0;
}
