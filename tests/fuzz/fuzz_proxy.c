/*
 * fuzz_proxy.c - what a connection behind a proxy begins with, in pieces and whole.
 */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/proxy.h"
#include "tests/fuzz/target.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct proxy_header whole = {.family = -1}, part;
	enum proxy_result result = proxy_parse(data, len, &whole);

	if (result == PROXY_WHOLE)
		must(whole.len <= len && whole.len <= PROXY_MAX &&
		     (whole.family == AF_INET || whole.family == AF_INET6 ||
			 whole.family == AF_UNSPEC));
	else
		must(whole.family == -1);
	must(result != PROXY_MORE || len < PROXY_MAX);
	/* What part of it is taken for must hold for the whole. */
	for (size_t cut = 0; cut < len; cut += 1 + len / 64) {
		switch (proxy_parse(data, cut, &part)) {
		case PROXY_MORE:
			must(result != PROXY_WHOLE || cut < whole.len);
			break;
		case PROXY_WHOLE:
			must(result == PROXY_WHOLE && part.len == whole.len &&
			     part.len <= cut && part.family == whole.family &&
			     part.port == whole.port &&
			     memcmp(part.addr, whole.addr, sizeof(part.addr)) == 0);
			break;
		case PROXY_BAD:
			must(result == PROXY_BAD);
			break;
		}
	}
	return 0;
}
