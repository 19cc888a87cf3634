/*
 * fuzz_revocation.c - who is revoked, as anybody who may write to Redis says it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/revocation.h"
#include "tests/fuzz/target.h"

/* What we write of it is read as the same person. */
static void
check_again(const struct revocation *r, char *text, struct revocation *again)
{
	must(text != NULL && revocation_parse(text, strlen(text), again) == 0);
	must(again->is_user == r->is_user && again->len == r->len &&
	     memcmp(again->name, r->name, r->len) == 0);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct revocation r, again;
	uint64_t apart;

	if (revocation_parse((const char *)data, len, &r) < 0)
		return 0;
	must(r.len > 0 && r.len <= REVOCATION_NAME_MAX);
	must(r.for_ms <= REVOCATION_FOR_MS_MAX);
	must(memchr(r.node, '\0', sizeof(r.node)) != NULL);
	check_again(&r, revocation_kept(&r), &again);
	check_again(&r, revocation_told(&r), &again);
	apart =
	    again.for_ms > r.for_ms ? again.for_ms - r.for_ms : r.for_ms - again.for_ms;
	must(apart <= 1); /* milliseconds as a fraction of seconds */
	must(strcmp(again.node, r.node) == 0);
	return 0;
}
