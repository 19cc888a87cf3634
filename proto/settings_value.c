/* settings_value.c - one value of the table, from text, to text, and to another */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "proto/address.h"
#include "proto/journal.h"
#include "proto/redis_url.h"
#include "proto/settings_table.h"
#include "proto/utf8.h"

#define KIB 1024u
#define MIB (1024u * 1024)
#define SECOND 1000u
#define HOUR (3600u * SECOND)
/* A line of the file holds key and value, and inih may read lines of 200 bytes only. */
#define STRING_MAX 160
#define WORD_LEN_MAX 150
#define LIST_MAX 8192

/* ---- text to value ---- */

struct unit {
	const char *name;
	uint32_t factor;
};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
/* Of two names for one, the first is written. */
static const struct unit size_units[] = {{"", 1}, {"k", KIB}, {"M", MIB},
    {"G", 1024 * MIB}, {"K", KIB}, {"m", MIB}, {"g", 1024 * MIB}, {NULL, 0}};
static const struct unit percent_units[] = {{"%", 1}, {"", 1}, {NULL, 0}};
static const struct unit time_units[] = {
    {"", SECOND}, {"ms", 1}, {"s", SECOND}, {"m", 60 * SECOND}, {"h", HOUR}, {NULL, 0}};

static const struct unit *
units_of(const struct setting *k)
{
	if (k->type == SETTING_SIZE)
		return size_units;
	if (k->type == SETTING_PERCENT)
		return percent_units;
	return k->type == SETTING_TIME ? time_units : no_units;
}

/* Digits and a unit. Returns false when it is no such thing; more than 32 bits hold
 * becomes UINT64_MAX. */
static bool
amount_parse(const char *text, const struct unit *units, uint64_t *ret_n)
{
	const char *p = text;
	uint64_t n = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (n <= UINT32_MAX)
			n = n * 10 + (uint64_t)(*p - '0');
	}
	if (p == text)
		return false;
	while (units->name != NULL && strcmp(units->name, p) != 0)
		units++;
	if (units->name == NULL)
		return false;
	*ret_n = n > UINT32_MAX ? UINT64_MAX : n * units->factor;
	return true;
}

/* A number as people write it: with the largest unit that divides it. */
static const char *
amount_print(const struct setting *k, uint64_t n, char *out, size_t size)
{
	/* A bare number of a time would be seconds: always with its unit. */
	const struct unit *best = units_of(k) + (k->type == SETTING_TIME);

	for (const struct unit *u = best; u->name != NULL; u++) {
		if (n != 0 && n % u->factor == 0 && u->factor > best->factor)
			best = u;
	}
	(void)snprintf(
	    out, size, "%llu%s", (unsigned long long)(n / best->factor), best->name);
	return out;
}

static const char *
example_of(const struct setting *k)
{
	switch (k->type) {
	case SETTING_SIZE:
		return "bytes, or a size like 64k or 64M";
	case SETTING_PERCENT:
		return "a part like 10%";
	case SETTING_TIME:
		return "a time like 500ms, 10s or 2m";
	default:
		return "a number";
	}
}

static int
number_set(const struct setting *k, uint32_t *field, const char *text, char *why)
{
	char quoted[64], min[32], max[32];
	uint64_t n;

	if (k->zero != NULL && strcmp(text, k->zero) == 0) {
		*field = 0;
		return 0;
	}
	(void)log_quote(text, strlen(text), quoted, sizeof(quoted));
	(void)amount_print(k, k->min, min, sizeof(min));
	(void)amount_print(k, k->max, max, sizeof(max));
	if (!amount_parse(text, units_of(k), &n)) {
		(void)snprintf(why, SETTING_WHY_MAX,
		    "\"%s\" is not understood: write %s, from %s to %s%s%s", quoted,
		    example_of(k), min, max, k->zero && *k->zero ? ", or " : "",
		    k->zero ? k->zero : "");
		return -EINVAL;
	}
	if (n < k->min || n > k->max) {
		(void)snprintf(why, SETTING_WHY_MAX,
		    "%s is out of bounds: write %s, from %s to %s", quoted,
		    example_of(k), min, max);
		return -EINVAL;
	}
	*field = (uint32_t)n;
	return 0;
}

static int
bool_set(bool *field, const char *text, char *why)
{
	char quoted[64];
	bool yes = strcmp(text, "yes") == 0;

	if (!yes && strcmp(text, "no") != 0) {
		(void)snprintf(why, SETTING_WHY_MAX, "\"%s\" is neither yes nor no",
		    log_quote(text, strlen(text), quoted, sizeof(quoted)));
		return -EINVAL;
	}
	*field = yes;
	return 0;
}

static int
word_set(const struct setting *k, void *field, const char *text, char *why)
{
	char quoted[64];
	unsigned i = 0;
	int n;

	while (k->words[i] != NULL && strcmp(k->words[i], text) != 0)
		i++;
	if (k->words[i] != NULL) {
		/* All enums here are of this size; see the assertion below. */
		memcpy(field, &i, sizeof(i));
		return 0;
	}
	n = snprintf(why, SETTING_WHY_MAX, "\"%s\" is none of:",
	    log_quote(text, strlen(text), quoted, sizeof(quoted)));
	for (i = 0; k->words[i] != NULL; i++)
		n += snprintf(why + n, SETTING_WHY_MAX - (size_t)n, "%s %s",
		    i > 0 ? "," : "", k->words[i]);
	return -EINVAL;
}
_Static_assert(sizeof(enum who) == sizeof(unsigned) &&
		   sizeof(enum auth_mode) == sizeof(unsigned) &&
		   sizeof(enum slow_policy) == sizeof(unsigned) &&
		   sizeof(enum send_how) == sizeof(unsigned) &&
		   sizeof(enum feed_source) == sizeof(unsigned),
    "an enum is set as an unsigned");

/* What a file can hold: an inline comment or a line's end would cut it, and a dump of
 * the settings would say something else. */
static const char *
text_fault(const char *text)
{
	size_t len = strlen(text), n;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_char_len((const unsigned char *)text + i, len - i);
		if (n == 0)
			return "it is not UTF-8";
		if (utf8_is_control((const unsigned char *)text + i, n) &&
		    text[i] != '\t')
			return "it holds a control character";
		if (text[i] == ';' &&
		    (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t'))
			return "a ';' at its start or after a blank begins a comment";
	}
	return NULL;
}

static int
string_set(const struct setting *k, char **field, const char *text, char *why)
{
	const char *fault = text_fault(text);
	char *copy;

	if (fault == NULL && strlen(text) > STRING_MAX)
		fault = "it is longer than 160 bytes";
	if (fault == NULL && k->check != NULL)
		fault = k->check(text);
	if (fault != NULL) {
		/* The text itself is not shown: it may be a URL with a password. */
		(void)snprintf(why, SETTING_WHY_MAX, "%s", fault);
		return -EINVAL;
	}
	copy = strdup(text);
	if (copy == NULL)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

/* Add one word to a list. */
static int
word_add(const struct setting *k, char **field, const char *word, size_t len, char *why)
{
	size_t have = *field ? strlen(*field) : 0;
	char text[WORD_LEN_MAX + 1], quoted[64];
	const char *fault = NULL;
	char *list;

	if (len > WORD_LEN_MAX || have + 1 + len > LIST_MAX) {
		fault = len > WORD_LEN_MAX ? "it is longer than 150 bytes"
					   : "the list is longer than 8 KiB";
		len = len > WORD_LEN_MAX ? WORD_LEN_MAX : len;
	}
	memcpy(text, word, len);
	text[len] = '\0';
	if (fault == NULL && k->check != NULL)
		fault = k->check(text);
	if (fault != NULL) {
		(void)snprintf(why, SETTING_WHY_MAX, "\"%s\": %s",
		    log_quote(text, len, quoted, sizeof(quoted)), fault);
		return -EINVAL;
	}
	list = realloc(*field, have + 1 + len + 1);
	if (list == NULL)
		return -ENOMEM;
	if (have > 0)
		list[have++] = ' ';
	memcpy(list + have, text, len + 1);
	*field = list;
	return 0;
}

static int
list_set(const struct setting *k, char **field, const char *text, char *why)
{
	const char *fault = text_fault(text), *word;
	size_t len;
	int r = 0;

	if (fault != NULL) {
		(void)snprintf(why, SETTING_WHY_MAX, "%s", fault);
		return -EINVAL;
	}
	if (*field == NULL) {
		*field = strdup("");
		if (*field == NULL)
			return -ENOMEM;
	}
	while (r == 0 && (len = list_next(&text, &word)) > 0)
		r = word_add(k, field, word, len, why);
	return r;
}

static bool
option_is(const char *word, size_t len, const char *text)
{
	return strlen(text) == len && memcmp(word, text, len) == 0;
}

/* What follows NAME= in an option, or NULL when it is another. */
static const char *
option_value(const char *word, size_t len, const char *name, size_t *ret_len)
{
	size_t name_len = strlen(name);

	if (len < name_len || memcmp(word, name, name_len) != 0)
		return NULL;
	*ret_len = len - name_len;
	return word + name_len;
}

/* Three octal digits, or four of which the first is 0. */
static bool
mode_parse(const char *text, size_t len, unsigned *ret_mode)
{
	unsigned mode = 0;

	if (len == 4 && text[0] == '0') {
		text++;
		len--;
	}
	if (len != 3)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '7')
			return false;
		mode = mode * 8 + (unsigned)(text[i] - '0');
	}
	*ret_mode = mode;
	return true;
}

/* The options that only the file of a unix socket has. */
static const char *
listen_file_option(struct listen_address *l, const char *word, size_t len)
{
	size_t value_len = 0;
	const char *value = option_value(word, len, "mode=", &value_len);

	if (value != NULL)
		return mode_parse(value, value_len, &l->mode)
			   ? NULL
			   : "write mode= with three octal digits, like mode=0660";
	value = option_value(word, len, "group=", &value_len);
	if (value == NULL || value_len == 0 || value_len >= sizeof(l->group))
		return "behind the address only the options proxy=, tls=, and for a "
		       "unix socket mode= and group= can stand";
	memcpy(l->group, value, value_len);
	l->group[value_len] = '\0';
	return NULL;
}

static const char *
listen_option(struct listen_address *l, const char *word, size_t len)
{
	if (option_is(word, len, "proxy=v2") || option_is(word, len, "proxy=no")) {
		l->proxy = word[6] == 'v';
		return NULL;
	}
	if (option_is(word, len, "tls=yes") || option_is(word, len, "tls=no")) {
		l->tls = word[4] == 'y';
		return NULL;
	}
	if (len >= 4 && memcmp(word, "tls=", 4) == 0)
		return "write tls=yes or tls=no";
	if (len >= 6 && memcmp(word, "proxy=", 6) == 0)
		return "write proxy=v2, which takes the PROXY protocol's version 1, "
		       "too, or proxy=no";
	if (l->addr.ss_family == AF_UNIX)
		return listen_file_option(l, word, len);
	return "behind the address only the options proxy= and tls= can stand";
}

/* unix:PATH or an address and port. */
static const char *
listen_where(const char *word, size_t len, struct listen_address *l)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const char *why = NULL;
	size_t path_len = 0;
	const char *path = option_value(word, len, "unix:", &path_len);

	if (path == NULL)
		return address_parse(word, len, &l->addr, &l->addr_len, &why) < 0
			   ? why
			   : NULL;
	if (path_len < 2 || path[0] != '/' || path_len >= sizeof(un.sun_path))
		return "write unix: and an absolute path of at most 107 bytes";
	memcpy(un.sun_path, path, path_len);
	memcpy(&l->addr, &un, sizeof(un));
	l->addr_len = sizeof(un);
	return NULL;
}

static const char *
listen_fault(const struct settings *s, const char *text, struct listen_address *ret)
{
	const char *p = text, *word, *why;
	size_t len = list_next(&p, &word);

	if (text_fault(text) != NULL || strlen(text) >= sizeof(ret->text))
		return "write ADDRESS:PORT or unix:PATH and options, at most 191 bytes";
	if (s->nlisten == SETTINGS_LISTENERS_MAX)
		return "there can be no more than 16 listeners";
	memcpy(ret->text, text, strlen(text) + 1);
	why = listen_where(word, len, ret);
	for (unsigned i = 0; why == NULL && i < s->nlisten; i++) {
		if (s->listen[i].addr_len == ret->addr_len &&
		    memcmp(&s->listen[i].addr, &ret->addr, ret->addr_len) == 0)
			why = "this address is already listened on";
	}
	while (why == NULL && (len = list_next(&p, &word)) > 0)
		why = listen_option(ret, word, len);
	return why;
}

static int
listen_set(struct settings *s, const char *text, char *why)
{
	struct listen_address l = {.mode = LISTEN_MODE};
	const char *fault = listen_fault(s, text, &l);
	char quoted[160];

	if (fault != NULL) {
		(void)snprintf(why, SETTING_WHY_MAX, "\"%s\": %s",
		    log_quote(text, strlen(text), quoted, sizeof(quoted)), fault);
		return -EINVAL;
	}
	s->listen[s->nlisten++] = l;
	return 0;
}

static void *
field_of(const struct setting *k, void *base)
{
	return (char *)base + k->offset;
}

int
setting_set(const struct setting *k, void *base, const char *text, char *why)
{
	void *field = field_of(k, base);

	switch (k->type) {
	case SETTING_BOOL:
		return bool_set(field, text, why);
	case SETTING_NUMBER:
	case SETTING_SIZE:
	case SETTING_PERCENT:
	case SETTING_TIME:
		return number_set(k, field, text, why);
	case SETTING_WORD:
		return word_set(k, field, text, why);
	case SETTING_STRING:
		return string_set(k, field, text, why);
	case SETTING_LIST:
		return list_set(k, field, text, why);
	case SETTING_LISTEN:
		break;
	}
	return listen_set(base, text, why);
}

void
setting_clear(const struct setting *k, void *base)
{
	if (k->type == SETTING_LISTEN)
		((struct settings *)base)->nlisten = 0;
	else if (k->type == SETTING_LIST && *(char **)field_of(k, base) != NULL)
		**(char **)field_of(k, base) = '\0';
}

void
setting_done(const struct setting *k, void *base)
{
	if (k->type == SETTING_STRING || k->type == SETTING_LIST) {
		free(*(char **)field_of(k, base));
		*(char **)field_of(k, base) = NULL;
	}
}

/* ---- value to value ---- */

static size_t
field_size(const struct setting *k)
{
	switch (k->type) {
	case SETTING_BOOL:
		return sizeof(bool);
	case SETTING_WORD:
		return sizeof(enum who); /* all are of int's size */
	default:
		return sizeof(uint32_t);
	}
}

static bool
same_listeners(const struct settings *a, const struct settings *b)
{
	for (unsigned i = 0; a->nlisten == b->nlisten && i < a->nlisten; i++)
		if (strcmp(a->listen[i].text, b->listen[i].text) != 0)
			return false;
	return a->nlisten == b->nlisten;
}

bool
setting_same(const struct setting *k, const void *a, const void *b)
{
	const char *fa = (const char *)a + k->offset, *fb = (const char *)b + k->offset;

	if (k->type == SETTING_LISTEN)
		return same_listeners(a, b);
	if (k->type == SETTING_STRING || k->type == SETTING_LIST)
		return strcmp(*(const char *const *)fa, *(const char *const *)fb) == 0;
	return memcmp(fa, fb, field_size(k)) == 0;
}

int
setting_copy(const struct setting *k, const void *from, void *to)
{
	const struct settings *s = from;
	char *text;

	if (k->type == SETTING_LISTEN) {
		memcpy(((struct settings *)to)->listen, s->listen, sizeof(s->listen));
		((struct settings *)to)->nlisten = s->nlisten;
	} else if (k->type == SETTING_STRING || k->type == SETTING_LIST) {
		text = strdup(*(const char *const *)((const char *)from + k->offset));
		if (text == NULL)
			return -ENOMEM;
		setting_done(k, to);
		*(char **)field_of(k, to) = text;
	} else {
		memcpy(field_of(k, to), (const char *)from + k->offset, field_size(k));
	}
	return 0;
}

/* ---- value to text ---- */

static void
print_number(const struct setting *k, uint32_t n, FILE *out)
{
	char text[32];

	if (n == 0 && k->zero != NULL)
		(void)fputs(k->zero, out);
	else
		(void)fputs(amount_print(k, n, text, sizeof(text)), out);
}

/* Word by word, since a line has an end. No word at all is one empty line: it says
 * that the list is empty. */
static void
print_list(const char *list, const char *before, const char *after, FILE *out)
{
	const char *word;
	size_t len = list_next(&list, &word);

	do {
		(void)fprintf(out, "%s%.*s%s", before, (int)len, word, after);
	} while ((len = list_next(&list, &word)) > 0);
}

static void
print_listen(const struct settings *s, const char *before, const char *after, FILE *out)
{
	for (unsigned i = 0; i < s->nlisten; i++)
		(void)fprintf(out, "%s%s%s", before, s->listen[i].text, after);
}

static void
print_one(const struct setting *k, const void *field, FILE *out)
{
	char masked[2 * REDIS_URL_MAX];
	const char *text;
	unsigned word;

	switch (k->type) {
	case SETTING_BOOL:
		(void)fputs(*(const bool *)field ? "yes" : "no", out);
		break;
	case SETTING_WORD:
		memcpy(&word, field, sizeof(word));
		(void)fputs(k->words[word], out);
		break;
	case SETTING_STRING:
		text = *(const char *const *)field;
		(void)fputs(k->has_password
				? redis_url_mask(text, masked, sizeof(masked))
				: text,
		    out);
		break;
	default:
		print_number(k, *(const uint32_t *)field, out);
	}
}

void
setting_print(const struct setting *k, const void *base, const char *before,
    const char *after, FILE *out)
{
	const void *field = (const char *)base + k->offset;

	if (k->type == SETTING_LISTEN) {
		print_listen(base, before, after, out);
	} else if (k->type == SETTING_LIST) {
		print_list(*(const char *const *)field, before, after, out);
	} else {
		(void)fputs(before, out);
		print_one(k, field, out);
		(void)fputs(after, out);
	}
}
