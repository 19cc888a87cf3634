/*
 * settings_loader.h - what is known while settings are loaded: where each value came
 * from, and what is wrong. For settings*.c alone.
 *
 *   settings.c         load, check what several keys say together
 *   settings_loader.c  lines and overrides into fields
 *   settings_files.c   the files that settings name
 *   settings_keep.c    what a reload may not change, and what it did
 *   settings_dump.c    fields into text
 *   settings_table.c   the table of all keys, and the text of one value
 */
#ifndef WSCAST_PROTO_SETTINGS_LOADER_H
#define WSCAST_PROTO_SETTINGS_LOADER_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/settings.h"
#include "proto/settings_table.h"

/* Where a value came from: a line of the file, or MARK_OVERRIDE + number. 0: neither.
 */
typedef unsigned mark;
#define MARK_OVERRIDE 0x80000000u

enum scope { SCOPE_NONE, SCOPE_UNKNOWN, SCOPE_SETTINGS, SCOPE_RULE };

/* Marks of the keys, by their index in the table. */
struct marks {
	mark of[SETTINGS_TABLE_MAX];
};

struct loader {
	struct settings *s;
	struct faults *faults;
	const char *file;
	bool nomem;

	struct marks marks;       /* of the keys of struct settings */
	struct marks *rule_marks; /* one for each rule */

	/* where we are */
	mark here;
	enum scope scope;
	const char *section; /* SCOPE_SETTINGS: as in the table */
	size_t rule;         /* SCOPE_RULE */

	/* the text, for the reader */
	const char *p, *end;
	unsigned line;
	bool key_due; /* a line was handed to inih that must be KEY = VALUE */
};

/* ---- settings_loader.c ---- */

/* Take over a fault's line (malloc'd; NULL is dropped). */
void faults_add(struct faults *f, char *line);
/* A fault of what came from there. */
void fault_at(struct loader *l, mark at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Take in a file's text, or one override (l->here is set). */
void loader_text(struct loader *l, const char *text, size_t len);
void loader_override(struct loader *l, const char *text);
/* The file's end: what no rule takes gets the defaults. Returns 0 or -ENOMEM. */
int loader_end_rules(struct loader *l) __attribute__((warn_unused_result));

/* Give every key of struct rule, or of struct settings, its default. */
int settings_set_defaults(bool of_rule, void *base) __attribute__((warn_unused_result));
const struct setting *settings_find_key(const char *section, const char *key);
bool settings_find_rule(
    const struct settings *s, const char *glob, size_t len, size_t *ret_idx);

/* ---- settings.c ---- */

/* Where a key of struct settings was set. */
mark mark_of(const struct loader *l, const struct setting *k);

/* ---- settings_files.c ---- */

/*
 * Read all of a plain file of at most `max` bytes.
 *
 * ret_data  malloc'd, with a NUL behind it that is not counted.
 *
 * Returns 0, -EFBIG, -EINVAL when it is no plain file, or -errno.
 */
int settings_read_file(const char *path, size_t max, char **ret_data, size_t *ret_len)
    __attribute__((warn_unused_result));
/* Read the files that the settings name; a fault for each that cannot be had. */
void loader_read_files(struct loader *l);
void settings_drop_files(struct settings *s);

/* ---- settings_keep.c ---- */

/* Put back what a reload may not change, and note all that is changed. Returns 0 or
 * -ENOMEM. */
int settings_keep(const struct settings *running, struct settings *s,
    struct settings_changes *changes) __attribute__((warn_unused_result));

#endif
