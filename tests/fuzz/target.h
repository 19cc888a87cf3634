/*
 * target.h - what each fuzz target has: the door by which inputs come, and a way to say
 * what must hold.
 *
 * `make fuzz` builds a target with clang's libFuzzer and the address and
 * undefined-behaviour sanitizers; `make check` with replay.c, which feeds it what lies
 * in seeds/NAME/ and each cut of that.
 */
#ifndef WSCAST_TESTS_FUZZ_TARGET_H
#define WSCAST_TESTS_FUZZ_TARGET_H

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static inline void
must(int ok)
{
	if (!ok)
		abort();
}

#endif
