/*
 * fuzz_redis_url.c - Redis's URL: parsed, and masked for people.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/redis_url.h"
#include "tests/fuzz/target.h"

static size_t
count(const char *text, const char *word)
{
	size_t n = 0;

	while ((text = strstr(text, word)) != NULL) {
		text++;
		n++;
	}
	return n;
}

/* A password that was written as it is stands once less in what people see: by chance
 * it may be part of the user or host as well. */
static void
check_mask(const char *text, const struct redis_url *url)
{
	char masked[2 * REDIS_URL_MAX];

	(void)redis_url_mask(text, masked, sizeof(masked));
	if (url->password[0] == '\0' && url->user[0] == '\0') {
		must(strcmp(masked, text) == 0);
		return;
	}
	must(strstr(masked, "***") != NULL);
	if (url->password[0] != '\0' && strpbrk(text, "%*") == NULL)
		must(count(masked, url->password) < count(text, url->password));
}

static void
check_addresses(const struct redis_url *url)
{
	must(url->naddresses > 0 && url->naddresses <= REDIS_ADDRESSES_MAX);
	must(url->form != REDIS_SERVER || url->naddresses == 1);
	must((url->form == REDIS_SENTINEL) == (url->master[0] != '\0'));
	must(url->db <= REDIS_DB_MAX);
	for (unsigned i = 0; i < url->naddresses; i++) {
		const struct redis_address *a = &url->address[i];

		must((a->host[0] == '\0') != (a->path[0] == '\0'));
		must(a->path[0] != '\0' || a->port > 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = strndup((const char *)data, len), small[8];
	const char *why = NULL;
	struct redis_url url;

	must(text != NULL);
	must(strlen(redis_url_mask(text, small, sizeof(small))) < sizeof(small));
	if (redis_url_parse(text, &url, &why) == 0) {
		check_addresses(&url);
		check_mask(text, &url);
	} else {
		must(why != NULL);
	}
	free(text);
	return 0;
}
