/* api_keys.c - see api_keys.h */
#include <sodium.h>
#include <stdint.h>
#include <string.h>

#include "proto/api_keys.h"
#include "proto/slice.h"

struct keys {
	const char *p, *end;
	unsigned line;
};

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static bool
next_key(struct keys *k, struct slice *ret_key)
{
	while (k->p < k->end) {
		const char *newline = memchr(k->p, '\n', (size_t)(k->end - k->p));
		const char *from = k->p, *to = newline != NULL ? newline : k->end;

		k->line++;
		k->p = newline != NULL ? newline + 1 : k->end;
		while (from < to && is_space(*from))
			from++;
		while (to > from && is_space(to[-1]))
			to--;
		*ret_key = (struct slice){from, (size_t)(to - from)};
		if (from < to && *from != '#')
			return true;
	}
	return false;
}

static bool
is_good(struct slice key)
{
	for (size_t i = 0; i < key.len; i++)
		if ((unsigned char)key.p[i] <= ' ' || key.p[i] == 0x7f)
			return false;
	return key.len >= API_KEY_MIN;
}

size_t
api_keys_count(const char *file, size_t len, unsigned *ret_line)
{
	struct keys k = {file, file + len, 0};
	struct slice key;
	size_t n = 0;

	*ret_line = 0;
	for (; next_key(&k, &key); n++)
		if (*ret_line == 0 && !is_good(key))
			*ret_line = k.line;
	return n;
}

bool
api_keys_has(const char *file, size_t len, const char *key, size_t key_len)
{
	unsigned char want[crypto_generichash_BYTES], have[sizeof(want)];
	struct keys k = {file, file + len, 0};
	struct slice one;
	int found = 0;

	/* Hashes: they are of one length, and who tries cannot aim at their bytes. */
	(void)crypto_generichash(
	    want, sizeof(want), (const uint8_t *)key, key_len, NULL, 0);
	while (next_key(&k, &one)) {
		(void)crypto_generichash(
		    have, sizeof(have), (const uint8_t *)one.p, one.len, NULL, 0);
		found |= sodium_memcmp(want, have, sizeof(want)) == 0;
	}
	return found != 0;
}
