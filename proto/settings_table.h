/*
 * settings_table.h - the table of all settings (settings_table.c), and the text of one
 * value (settings_value.c). For settings*.c alone.
 */
#ifndef WSCAST_PROTO_SETTINGS_TABLE_H
#define WSCAST_PROTO_SETTINGS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/settings.h"

enum setting_type {
	SETTING_BOOL,    /* bool: yes, no */
	SETTING_NUMBER,  /* uint32_t */
	SETTING_SIZE,    /* uint32_t, bytes: 65536, 64k, 64M */
	SETTING_PERCENT, /* uint32_t: 10% or 10 */
	SETTING_TIME,   /* uint32_t, ms: 500ms, 10s, 2m, 1h; a bare number is seconds */
	SETTING_WORD,   /* an enum whose values count from 0: one of `words` */
	SETTING_STRING, /* char *, never NULL */
	SETTING_LIST,   /* char *, never NULL: words; each further line adds some */
	SETTING_LISTEN, /* struct settings' listen and nlisten: each line adds one */
};

#define SETTING_WHY_MAX 400

struct setting {
	const char *section; /* "channel": of struct rule, else of struct settings */
	const char *key;
	enum setting_type type;
	size_t offset; /* of the field */
	uint32_t min, max;
	const char *fallback;
	/* One more word that stands for the value 0 ("auto"; "" = may be empty). */
	const char *zero;
	const char *const *words; /* NULL-terminated */
	/* Whether a string, or a word of a list, is right: NULL, or why not. */
	const char *(*check)(const char *text);
	bool reload;
	bool has_password; /* a Redis URL: shown with *** in its place */
	/* A SETTING_STRING that is the path of a file; `max` bounds its bytes, 0 =
	 * SETTINGS_FILE_MAX. */
	enum file_readers file;
};

extern const struct setting settings_table[];
extern const size_t settings_table_len;
#define SETTINGS_TABLE_MAX 96 /* settings_table_len is at most so much */

/*
 * Parse a value into its field (SETTING_LIST and SETTING_LISTEN: add to it).
 *
 * base  struct settings or struct rule, as the key's section says.
 * text  without white space around it.
 * why   SETTING_WHY_MAX bytes.
 *
 * Returns 0; -EINVAL with why filled; -ENOMEM.
 */
int setting_set(const struct setting *k, void *base, const char *text, char *why)
    __attribute__((warn_unused_result));

/* Empty what setting_set() would add to. */
void setting_clear(const struct setting *k, void *base);

/* Free what a field owns. */
void setting_done(const struct setting *k, void *base);

/* Whether two have the same value / make `to` have that of `from` (0 or -ENOMEM). */
bool setting_same(const struct setting *k, const void *a, const void *b);
int setting_copy(const struct setting *k, const void *from, void *to)
    __attribute__((warn_unused_result));

/* Write the value, each line behind `before` and with `after` at its end. */
void setting_print(const struct setting *k, const void *base, const char *before,
    const char *after, FILE *out);

#endif
