/*
 * fuzz_settings.c - wscast.conf; the last line, when it begins with "-o ", is an
 * override.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/settings.h"
#include "tests/fuzz/target.h"

/* A dump says what was read, and reads back as it was. */
static void
check_dump(struct settings *s)
{
	struct settings *again = NULL;
	struct faults faults;
	char *text = settings_dump(s), *second;

	must(text != NULL);
	must(settings_parse(text, strlen(text), &again, &faults) == 0);
	second = settings_dump(again);
	must(second != NULL && strcmp(text, second) == 0);
	free(text);
	free(second);
	settings_free(again);
}

static void
check_override(const char *text, size_t len)
{
	char *copy = strndup(text, len);
	const char *override = copy;
	struct settings *s = NULL;
	struct faults faults;

	must(copy != NULL);
	if (settings_load(NULL, &override, 1, &s, &faults) == 0)
		check_dump(s);
	else
		must(faults.n > 0);
	settings_free(s);
	faults_done(&faults);
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	struct settings *s = NULL;
	struct faults faults;
	const char *last = memrchr(text, '\n', len);

	last = last ? last + 1 : text;
	if ((size_t)(text + len - last) > 3 && memcmp(last, "-o ", 3) == 0) {
		check_override(last + 3, (size_t)(text + len - last) - 3);
		len = (size_t)(last - text);
	}
	if (settings_parse(text, len, &s, &faults) == 0) {
		const struct rule *r = settings_rule(s, "news", 4);

		must(faults.n == 0 && r != NULL && s->nlisten > 0);
		check_dump(s);
	} else {
		must(faults.n > 0 && s == NULL);
	}
	settings_free(s);
	faults_done(&faults);
	return 0;
}
