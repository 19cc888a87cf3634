/*
 * fuzz_json.c - json_valid() against jansson, and what reads valid JSON.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"
#include "proto/utf8.h"
#include "tests/fuzz/target.h"

/* jansson refuses more than the RFC does (big numbers, lone surrogates), so only what
 * it takes must be taken; but to it a raw NUL is the text's end. */
static void
compare(const char *text, size_t len, bool valid)
{
	json_t *json;

	if (len == 0 || memchr(text, '\0', len) != NULL)
		return;
	json = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	must(json == NULL || valid);
	json_decref(json);
}

static void
walk(struct slice text)
{
	struct json_members m;
	struct slice name, value;

	if (!json_members_begin(&m, text))
		return;
	while (json_members_next(&m, &name, &value)) {
		must(name.p >= text.p && value.p + value.len <= text.p + text.len);
		must(json_valid(value.p, value.len));
		must(json_value_len(value.p, value.len) == value.len);
	}
}

static void
read_string(struct slice string)
{
	char *out = malloc(string.len + 1);
	ptrdiff_t n;

	must(out != NULL);
	n = json_get_string(string, out, string.len + 1);
	must(n < 0 || (strlen(out) == (size_t)n && utf8_valid(out, (size_t)n)));
	free(out);
}

static void
write_string(const char *text, size_t len)
{
	char *out = malloc(json_string_len(text, len));

	must(out != NULL);
	must(json_put_string(text, len, out) == json_string_len(text, len));
	must(json_valid(out, json_string_len(text, len)));
	free(out);
}

static void
measure(const char *text, size_t len)
{
	size_t quoted;
	bool text_is = json_string_measure(text, len, &quoted);

	must(text_is == utf8_valid(text, len));
	must(!text_is || quoted == json_string_len(text, len));
}

static void
compact(const char *text, size_t len)
{
	char *out = malloc(len), *again = malloc(len);
	size_t n;

	must(out != NULL && again != NULL);
	n = json_compact(text, len, out);
	must(n <= len && json_valid(out, n));
	must(json_compact(out, n, again) == n && memcmp(out, again, n) == 0);
	free(out);
	free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	bool valid = json_valid(text, len);

	compare(text, len, valid);
	measure(text, len);
	if (utf8_valid(text, len))
		write_string(text, len);
	if (!valid)
		return 0;
	must(utf8_valid(text, len));
	walk((struct slice){text, len});
	compact(text, len);
	if (text[0] == '"' && json_value_len(text, len) == len)
		read_string((struct slice){text, len});
	return 0;
}
