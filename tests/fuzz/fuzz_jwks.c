/*
 * fuzz_jwks.c - the bytes of a key file: PEM, JWK Sets, secrets. Whoever writes such a
 * file may do what they like to the server, but often somebody else does: a set is
 * fetched from an issuer.
 */
#include <stdint.h>

#include "proto/keyring.h"
#include "tests/fuzz/target.h"

/* No key takes zeros for a signature. */
static void
verify(const struct keyring *k)
{
	static const char *const algs[] = {"HS256", "EdDSA", "ES256", "RS256"};
	static const size_t lens[] = {32, 64, 64, 256};
	static const char zeros[256];

	for (size_t i = 0; i < 4; i++) {
		struct slice alg = {algs[i], 5}, none = {NULL, 0};
		struct slice data = {"data", 4}, sig = {zeros, lens[i]};

		must(keyring_verify(k, alg, none, data, sig) != KEYRING_OK);
		must(keyring_verify(k, alg, data, data, sig) != KEYRING_OK);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct keyring *k = keyring_new();
	char why[KEYRING_WHY_MAX] = "";

	must(k != NULL);
	if (keyring_add_public(k, data, len, why) == 0)
		must(keyring_len(k) > 0);
	else
		must(keyring_len(k) == 0 && why[0] != '\0');
	if (keyring_add_secret(k, data, len, why) == 0)
		must(len >= KEYRING_SECRET_MIN);
	verify(k);
	keyring_free(k);
	return 0;
}
