/*
 * wsctl_table.h - what people read: tables that fit the terminal, numbers and times in
 * a few characters, and text from outside that cannot play tricks on the terminal.
 *
 * Memory   a text function returns malloc'd text, or NULL without memory; the adders
 *          of a table take that over, and table_print() says if one was NULL.
 */
#ifndef WSCAST_TOOLS_WSCTL_TABLE_H
#define WSCAST_TOOLS_WSCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What standard output is. */
struct screen {
	bool terminal;
	bool color;     /* bold and colours are welcome */
	bool ascii;     /* nothing else can be shown */
	unsigned width; /* columns; 0 = as wide as it gets */
};

/* Reads the environment (COLUMNS, NO_COLOR, TERM, locale) and sets LC_CTYPE. */
void screen_init(struct screen *s);

enum style { STYLE_PLAIN, STYLE_HEAD, STYLE_DIM, STYLE_GOOD, STYLE_WARN, STYLE_BAD };
/* Sequences to switch a style on, and all off; empty where no colour is welcome. */
const char *style_on(const struct screen *s, enum style style);
const char *style_off(const struct screen *s);

/*
 * Text from outside, made safe to show: control characters, bidirectional overrides,
 * invisible characters and broken UTF-8 become \n, \x1b or \u{202e}.
 *
 * keep  characters to let through all the same ("\n\t"), or NULL.
 */
char *text_safe(
    const struct screen *s, const char *bytes, size_t len, const char *keep);
/* The same for JSON, which stays the same JSON: \u202e can only be in a string.
 * Newlines between tokens stay. */
void put_json_safe(const struct screen *s, const char *json, size_t len, FILE *out);
/* Columns that a safe text takes. */
size_t text_width(const char *text);

char *text_count(uint64_t n);     /* 999, 9999, 12.3k, 1.23M */
char *text_size(uint64_t bytes);  /* 512 B, 64 MiB, 1.5 GiB */
char *text_duration(uint64_t ms); /* 350ms, 12s, 5m 6s, 4h 5m, 3d 4h */
char *text_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

struct column {
	const char *title;
	bool right; /* numbers */
	bool cut;   /* may be shortened with "…" */
	int drop;   /* left out where the screen is too narrow, the highest first; 0 =
		       never */
};

struct table;

/* columns: borrowed for the table's life. Returns NULL without memory, which all
 * others take, too. */
struct table *table_new(const struct column *columns, size_t ncolumns);
void table_free(struct table *t);
/* The next cell, row by row. text: safe, taken over. */
void table_add(struct table *t, char *text, enum style style);
/* Returns 0 or -ENOMEM. */
int table_print(const struct table *t, const struct screen *s, FILE *out)
    __attribute__((warn_unused_result));

#endif
