/* wsctl_options.c - see wsctl_options.h */
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tools/wsctl_options.h"

enum option_kind {
	KIND_FLAG,
	KIND_TEXT,
	KIND_NUMBER,  /* from 0 up */
	KIND_SECONDS, /* with a unit, or without */
	KIND_MILLIS,  /* likewise, also of parts of a second */
	KIND_TOKEN,   /* to be looked at by `token`; `at` is an enum token_option */
};

struct option_row {
	const char *name;
	int letter; /* 0: none */
	unsigned group;
	enum option_kind kind;
	size_t at; /* within struct ctl */
};

#define AT(field) offsetof(struct ctl, field)

static const struct option_row rows[] = {
    {"socket", 's', OPTION_ALL, KIND_TEXT, AT(socket)},
    {"json", 'j', OPTION_ALL, KIND_FLAG, AT(json)},
    {"help", 'h', OPTION_ALL, KIND_FLAG, AT(help)},
    {"version", 'V', OPTION_ALL, KIND_FLAG, AT(version)},
    {"channel", 'c', OPTION_CHANNEL, KIND_TEXT, AT(channel)},
    {"limit", 'n', OPTION_LIMIT, KIND_NUMBER, AT(limit)},
    {"raw", 'r', OPTION_RAW, KIND_FLAG, AT(raw)},
    {"user", 'u', OPTION_USER, KIND_TEXT, AT(user)},
    {"jti", 0, OPTION_JTI, KIND_TEXT, AT(jti)},
    {"for", 0, OPTION_FOR, KIND_SECONDS, AT(for_s)},
    {"over", 0, OPTION_OVER, KIND_SECONDS, AT(over_s)},
    {"once", 0, OPTION_TOP, KIND_FLAG, AT(once)},
    {"interval", 'i', OPTION_TOP, KIND_MILLIS, AT(interval_ms)},
    {"ttl", 0, OPTION_TOKEN, KIND_SECONDS, AT(ttl_s)},
    {"sub", 0, OPTION_TOKEN, KIND_TOKEN, TOKEN_SUB},
    {"aud", 0, OPTION_TOKEN, KIND_TOKEN, TOKEN_AUD},
    {"iss", 0, OPTION_TOKEN, KIND_TOKEN, TOKEN_ISS},
    {"channels", 0, OPTION_TOKEN, KIND_TOKEN, TOKEN_CHANNELS},
    {"subscribe", 0, OPTION_TOKEN, KIND_TOKEN, TOKEN_SUBSCRIBE},
    {"publish", 0, OPTION_TOKEN, KIND_TOKEN, TOKEN_PUBLISH},
    {"key", 0, OPTION_KEY, KIND_TEXT, AT(key)},
    {"conf", 0, OPTION_TOKEN, KIND_TOKEN, TOKEN_CONF},
};

#define NROWS (sizeof(rows) / sizeof(rows[0]))
#define LONG_ONLY 256 /* what getopt_long() returns for rows[0]; rows[1] the next */

/* As getopt_long() wants them; short_ has room for two characters each. */
static void
describe(struct option *long_, char *short_)
{
	for (size_t i = 0; i < NROWS; i++) {
		long_[i] = (struct option){
		    .name = rows[i].name,
		    .has_arg =
			rows[i].kind == KIND_FLAG ? no_argument : required_argument,
		    .val = LONG_ONLY + (int)i,
		};
		if (rows[i].letter == 0)
			continue;
		*short_++ = (char)rows[i].letter;
		if (rows[i].kind != KIND_FLAG)
			*short_++ = ':';
	}
	*short_ = '\0';
	long_[NROWS] = (struct option){0};
}

static const struct option_row *
row_of(int c)
{
	if (c >= LONG_ONLY)
		return &rows[c - LONG_ONLY];
	for (size_t i = 0; i < NROWS; i++)
		if (rows[i].letter == c)
			return &rows[i];
	return NULL;
}

enum outcome
usage_wrong(const char *what, const char *why)
{
	struct screen plain = {.ascii = false};
	char *safe = text_safe(&plain, what, strlen(what), NULL);

	ctl_complain("%s: %s", safe == NULL ? "?" : safe, why);
	fputs("Try `wsctl help`.\n", stderr);
	free(safe);
	return OUTCOME_USAGE;
}

/* A time in milliseconds; without a unit it is seconds. */
static bool
parse_time(const char *text, long *ret_ms)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = {
	    {"", 1e3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 36e5}, {"d", 864e5}};
	size_t len = strspn(text, "0123456789.");
	char number[16], *end;
	double n;

	if (len == 0 || len >= sizeof(number))
		return false;
	memcpy(number, text, len);
	number[len] = '\0';
	n = strtod(number, &end);
	for (size_t i = 0; *end == '\0' && i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(text + len, units[i].unit) == 0 && n * units[i].ms < 1e15) {
			*ret_ms = (long)(n * units[i].ms + 0.5);
			return true;
		}
	return false;
}

static bool
parse_seconds(const char *text, long *ret_s)
{
	long ms;

	if (!parse_time(text, &ms) || ms % 1000 != 0)
		return false;
	*ret_s = ms / 1000;
	return true;
}

bool
parse_number(const char *text, long *ret_number)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno != 0 || *end != '\0' || *text < '0' || *text > '9')
		return false;
	*ret_number = n;
	return true;
}

/* Returns NULL, or what the option takes instead. */
static const char *
option_set(struct ctl *ctl, const struct option_row *row, const char *text)
{
	void *field = (char *)ctl + row->at;

	switch (row->kind) {
	case KIND_FLAG:
		*(bool *)field = true;
		return NULL;
	case KIND_TEXT:
		*(const char **)field = text;
		return NULL;
	case KIND_NUMBER:
		return parse_number(text, field) ? NULL : "a number";
	case KIND_SECONDS:
		return parse_seconds(text, field) ? NULL : "a time such as 30s or 2m";
	case KIND_MILLIS:
		return parse_time(text, field) ? NULL : "a time such as 2s or 500ms";
	case KIND_TOKEN:
		if (ctl->ntoken == TOKEN_GIVEN_MAX)
			return "not so many";
		ctl->token[ctl->ntoken++] =
		    (struct token_given){(enum token_option)row->at, text};
		return NULL;
	}
	return NULL;
}

enum outcome
options_take(struct ctl *ctl, int argc, char **argv, unsigned *ret_given, int *ret_rest)
{
	struct option long_[NROWS + 1];
	char short_[2 * NROWS + 1], why[64];
	unsigned given = 0;
	int c;

	describe(long_, short_);
	argv[0] = "wsctl"; /* getopt complains in this name */
	while ((c = getopt_long(argc, argv, short_, long_, NULL)) != -1) {
		const struct option_row *row = row_of(c);
		const char *takes;

		if (row == NULL) { /* getopt has said what is wrong */
			fputs("Try `wsctl help`.\n", stderr);
			return OUTCOME_USAGE;
		}
		takes = option_set(ctl, row, optarg);
		if (takes != NULL) {
			(void)snprintf(
			    why, sizeof(why), "--%s takes %s", row->name, takes);
			return usage_wrong(optarg, why);
		}
		given |= row->group;
	}
	*ret_given = given;
	*ret_rest = optind;
	return OUTCOME_DONE;
}

json_t *
options_list(unsigned groups)
{
	json_t *list = json_array();

	for (size_t i = 0; i < NROWS; i++) {
		if (groups == 0 ? rows[i].group != 0 : (rows[i].group & groups) == 0)
			continue;
		(void)json_array_append_new(list, json_sprintf("--%s", rows[i].name));
		if (rows[i].letter != 0)
			(void)json_array_append_new(
			    list, json_sprintf("-%c", rows[i].letter));
	}
	return list;
}
