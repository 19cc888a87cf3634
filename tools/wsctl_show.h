/*
 * wsctl_show.h - objects of the server's answers made readable: as rows of a table, or
 * as lines of "name  value". What is missing, or of another type than it should be, is
 * shown as such, and does no harm.
 */
#ifndef WSCAST_TOOLS_WSCTL_SHOW_H
#define WSCAST_TOOLS_WSCTL_SHOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/wsctl.h"

enum kind {
	KIND_TEXT,
	KIND_COUNT,
	KIND_SIZE,
	KIND_MS,    /* a duration in milliseconds */
	KIND_SINCE, /* UNIX seconds: how long ago */
	KIND_PLAIN, /* a number that is a name: pid, index, offset */
	KIND_LAG,   /* like COUNT; nothing to see when 0 */
	KIND_STATE,
	KIND_BOOL,
	KIND_JSON, /* of any type, as it is */
};

/* A column, and which member of each object it shows. */
struct field {
	struct column column;
	const char *key;
	enum kind kind;
};

#define VIEW_MAX 20
struct view {
	const struct field *fields;
	size_t n; /* at most VIEW_MAX */
};
#define VIEW(fields)                                                                   \
	{                                                                              \
		fields, sizeof(fields) / sizeof(fields[0])                             \
	}

/* A number of any type, 0 for anything else or below. */
uint64_t number_at(const json_t *object, const char *key);
/* Of what is said in seconds. */
uint64_t ms_at(const json_t *object, const char *key);

/* Text to be freed, NULL without memory. ctl_text(): "?" where nothing is said. */
char *safe_string(const struct ctl *ctl, const json_t *value);
char *value_text(const struct ctl *ctl, const json_t *value, enum kind kind);
char *ctl_text(
    const struct ctl *ctl, const json_t *object, const char *key, enum kind kind);
enum style value_style(const json_t *value, enum kind kind);

/* A table of objects; columns that no row knows are left out. */
enum outcome show_rows(
    const struct ctl *ctl, const json_t *rows, const struct view *view);

/* "name   text" as a line. text: taken over; NULL: no memory, which returns false. */
bool put_line(const struct ctl *ctl, const char *name, char *text, enum style style);

/* One line made of several values. */
struct part {
	const char *before; /* printed before the value */
	const char *key;
	enum kind kind;
};
bool put_parts(const struct ctl *ctl, const char *name, const json_t *object,
    const struct part *parts, size_t n);
#define PUT_PARTS(ctl, name, object, ...)                                              \
	put_parts(ctl, name, object, (const struct part[]){__VA_ARGS__},               \
	    sizeof((const struct part[]){__VA_ARGS__}) / sizeof(struct part))

/* Says so, and returns OUTCOME_FAILED. */
enum outcome out_of_memory(void);

#endif
