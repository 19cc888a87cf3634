/*
 * settings_loader.c - from the text of a settings file and from overrides to the fields
 * of struct settings; see settings_loader.h
 */
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/glob.h"
#include "proto/journal.h"
#include "proto/settings_loader.h"

#define RULES_MAX 1000
#define KEY_DISTANCE_MAX 64 /* longest name that is compared */

/* ---- faults ---- */

void
faults_add(struct faults *f, char *line)
{
	if (line == NULL)
		return;
	if (f->n == SETTINGS_FAULTS_MAX)
		free(line);
	else
		f->line[f->n++] = line;
}

void
fault_at(struct loader *l, mark at, const char *fmt, ...)
{
	char text[1024], *line = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n >= 0 && at & MARK_OVERRIDE)
		n = asprintf(&line, "-o %u: %s", at & ~MARK_OVERRIDE, text);
	else if (n >= 0)
		n = asprintf(&line, "%s:%u: %s", l->file, at, text);
	if (n < 0) {
		l->nomem = true;
		return;
	}
	faults_add(l->faults, line);
}

#define fault(l, ...) fault_at(l, (l)->here, __VA_ARGS__)

void
faults_done(struct faults *f)
{
	if (f == NULL)
		return;
	for (unsigned i = 0; i < f->n; i++)
		free(f->line[i]);
	f->n = 0;
}

/* ---- the nearest known key ---- */

static size_t
smallest(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* How many letters must be changed, added or left out (Levenshtein). */
static size_t
distance(const char *a, const char *b)
{
	size_t row[KEY_DISTANCE_MAX + 1];
	size_t na = strnlen(a, KEY_DISTANCE_MAX), nb = strnlen(b, KEY_DISTANCE_MAX);

	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t up = row[j];

			row[j] = smallest(
			    up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = up;
		}
	}
	return row[nb];
}

/* A key of the same section is preferred to an equally near one elsewhere. NULL: all
 * differ from what is written in more than half of its letters. */
static const struct setting *
nearest_key(const char *section, const char *key)
{
	const struct setting *best = NULL;
	size_t best_d = SIZE_MAX, d;

	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];

		d = 2 * distance(key, k->key) + (strcmp(section, k->section) != 0);
		if (d < best_d) {
			best_d = d;
			best = k;
		}
	}
	return best_d <= strlen(key) + 1 ? best : NULL;
}

/* ---- rules ---- */

/* Give every key of struct rule, or of struct settings, its default. */
int
settings_set_defaults(bool of_rule, void *base)
{
	char why[SETTING_WHY_MAX];
	int r;

	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];

		if ((strcmp(k->section, "channel") == 0) != of_rule)
			continue;
		r = setting_set(k, base, k->fallback, why);
		if (r < 0)
			return r;
	}
	return 0;
}

static int
rule_init(struct rule *r, const char *glob, size_t len)
{
	int err;

	memset(r, 0, sizeof(*r));
	err = settings_set_defaults(true, r);
	if (err < 0)
		return err;
	r->glob = strndup(glob, len);
	if (r->glob == NULL)
		return -ENOMEM;
	if (!glob_has_subject(r->glob))
		return 0;
	r->glob_any = malloc(len + 1);
	if (r->glob_any == NULL)
		return -ENOMEM;
	/* {sub} becomes ?*, which is shorter. */
	return glob_put_subject(r->glob, (struct slice){NULL, 0}, r->glob_any, len + 1)
		   ? 0
		   : -EINVAL;
}

bool
settings_find_rule(
    const struct settings *s, const char *glob, size_t len, size_t *ret_idx)
{
	for (size_t i = 0; i < s->nrules; i++) {
		if (strlen(s->rules[i].glob) == len &&
		    memcmp(s->rules[i].glob, glob, len) == 0) {
			*ret_idx = i;
			return true;
		}
	}
	return false;
}

/* Make room for a rule at idx. */
static int
rule_insert(struct loader *l, size_t idx, const char *glob, size_t len)
{
	struct settings *s = l->s;
	size_t behind = s->nrules - idx;
	struct rule *rules;
	struct marks *marks;
	struct rule new;
	int r;

	rules = reallocarray(s->rules, s->nrules + 1, sizeof(*rules));
	if (rules == NULL)
		return -ENOMEM;
	s->rules = rules;
	marks = reallocarray(l->rule_marks, s->nrules + 1, sizeof(*marks));
	if (marks == NULL)
		return -ENOMEM;
	l->rule_marks = marks;
	r = rule_init(&new, glob, len);
	if (r < 0) {
		free(new.glob_any);
		free(new.glob);
		return r;
	}
	memmove(&rules[idx + 1], &rules[idx], behind * sizeof(*rules));
	memmove(&marks[idx + 1], &marks[idx], behind * sizeof(*marks));
	rules[idx] = new;
	memset(&marks[idx], 0, sizeof(*marks));
	s->nrules++;
	return 0;
}

/* The file's end: what no rule takes gets the defaults. */
int
loader_end_rules(struct loader *l)
{
	size_t idx;

	if (settings_find_rule(l->s, "*", 1, &idx))
		return 0;
	return rule_insert(l, l->s->nrules, "*", 1);
}

/* ---- sections ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Make the rule for a glob the current one. From the file a new one goes to the end,
 * from an override before the last, which takes all that is left. */
static void
enter_rule(struct loader *l, const char *glob, size_t len)
{
	size_t star = 0, idx;
	bool has_star = settings_find_rule(l->s, "*", 1, &star);
	bool in_file = !(l->here & MARK_OVERRIDE);

	l->scope = SCOPE_UNKNOWN;
	if (!name_ok(glob, len)) {
		fault(l, "[channel ...] needs a channel's name or a glob, of 1 to 200 "
			 "bytes of UTF-8, the first no \"!\": [channel chat:*]");
		return;
	}
	if (settings_find_rule(l->s, glob, len, &idx)) {
		l->scope = SCOPE_RULE;
		l->rule = idx;
		return;
	}
	if (l->s->nrules == RULES_MAX) {
		fault(l, "there can be no more than 1000 [channel ...] sections");
		return;
	}
	if (in_file && has_star)
		fault(l, "this section is never reached, since the first that matches "
			 "holds: put it before [channel *]");
	idx = in_file ? l->s->nrules : star;
	if (rule_insert(l, idx, glob, len) < 0) {
		l->nomem = true;
		return;
	}
	l->scope = SCOPE_RULE;
	l->rule = idx;
}

/* The table has a section's keys in one place. */
static void
fault_unknown_section(struct loader *l, const char *name, size_t len)
{
	char quoted[80], known[256] = "";
	const char *last = "channel"; /* stands at the end */
	size_t at = 0;

	for (size_t i = 0; i < settings_table_len && at < sizeof(known); i++) {
		const char *section = settings_table[i].section;

		if (strcmp(section, last) == 0 || strcmp(section, "channel") == 0)
			continue;
		at += (size_t)snprintf(known + at, sizeof(known) - at, "%s[%s]",
		    at > 0 ? ", " : "", section);
		last = section;
	}
	fault(l,
	    "this version does not know the section [%s]; it knows %s and "
	    "[channel GLOB]",
	    log_quote(name, len, quoted, sizeof(quoted)), known);
}

static void
enter_section(struct loader *l, const char *name, size_t len)
{
	l->scope = SCOPE_UNKNOWN;
	if (len >= 7 && memcmp(name, "channel", 7) == 0 &&
	    (len == 7 || is_blank(name[7]))) {
		for (name += 7, len -= 7; len > 0 && is_blank(*name); len--)
			name++;
		enter_rule(l, name, len);
		return;
	}
	for (size_t i = 0; i < settings_table_len; i++) {
		const char *section = settings_table[i].section;

		if (strcmp(section, "channel") != 0 && strlen(section) == len &&
		    memcmp(section, name, len) == 0) {
			l->scope = SCOPE_SETTINGS;
			l->section = section;
			return;
		}
	}
	fault_unknown_section(l, name, len);
}

/* ---- keys ---- */

const struct setting *
settings_find_key(const char *section, const char *key)
{
	for (size_t i = 0; i < settings_table_len; i++) {
		if (strcmp(settings_table[i].section, section) == 0 &&
		    strcmp(settings_table[i].key, key) == 0)
			return &settings_table[i];
	}
	return NULL;
}

/* Say that the key is none, and which was perhaps meant. */
static void
fault_unknown_key(struct loader *l, const char *section, const char *key)
{
	const struct setting *near = nearest_key(section, key);
	char quoted[80];

	(void)log_quote(key, strlen(key), quoted, sizeof(quoted));
	if (near == NULL)
		fault(l, "this version does not know `%s` in [%s]", quoted, section);
	else if (strcmp(near->section, section) == 0)
		fault(l, "this version does not know `%s` in [%s]; nearest is `%s`",
		    quoted, section, near->key);
	else
		fault(l,
		    "this version does not know `%s` in [%s]; nearest is `%s` in "
		    "[%s]",
		    quoted, section, near->key, near->section);
}

/* What the file says once must not be said twice; an override takes the place of what
 * was said. Returns false when that was a fault. */
static bool
mark_key(struct loader *l, const struct setting *k, mark *m, void *base)
{
	bool adds = k->type == SETTING_LIST || k->type == SETTING_LISTEN;
	bool first_here = (*m & MARK_OVERRIDE) != (l->here & MARK_OVERRIDE) || *m == 0;

	if (!(l->here & MARK_OVERRIDE) && *m != 0 && !adds) {
		fault(l, "`%s` is already set in line %u", k->key, *m);
		return false;
	}
	/* The first line takes the default's place, further ones add to it. */
	if (adds && first_here)
		setting_clear(k, base);
	*m = l->here;
	return true;
}

static void
set_key(struct loader *l, const char *key, const char *value)
{
	bool of_rule = l->scope == SCOPE_RULE;
	const char *section = of_rule ? "channel" : l->section;
	char why[SETTING_WHY_MAX];
	const struct setting *k;
	void *base;
	mark *m;
	int r;

	if (l->scope == SCOPE_UNKNOWN) /* said at its head */
		return;
	if (l->scope == SCOPE_NONE) {
		fault(l, "a setting before the first [SECTION]");
		return;
	}
	k = settings_find_key(section, key);
	if (k == NULL) {
		fault_unknown_key(l, section, key);
		return;
	}
	base = of_rule ? (void *)&l->s->rules[l->rule] : l->s;
	m = &(of_rule ? &l->rule_marks[l->rule] : &l->marks)->of[k - settings_table];
	if (!mark_key(l, k, m, base))
		return;
	r = setting_set(k, base, value, why);
	if (r == -EINVAL)
		fault(l, "%s: %s", key, why);
	else if (r < 0)
		l->nomem = true;
}

/* ---- the file, line by line ---- */

/*
 * inih splits KEY from VALUE. It is given one such line at a time by next_line(), and
 * never a section: it would cut the name to 49 bytes without a word. Nor is it given
 * a comment, an indented line (for it: the value before goes on) or one longer than
 * its buffer (it would take the rest for another line). So its line numbers are not
 * needed, which not every build of it gives.
 */

/* An inline comment begins at a ';' after a blank. */
static size_t
cut_comment(const char *line, size_t len)
{
	for (size_t i = 1; i < len; i++) {
		if (line[i] == ';' && is_blank(line[i - 1]))
			return i;
	}
	return len;
}

static size_t
cut_blanks(const char *line, size_t len)
{
	while (len > 0 && (is_blank(line[len - 1]) || line[len - 1] == '\r'))
		len--;
	return len;
}

/* The next line without comment and outer blanks. Returns false at the end. */
static bool
take_line(struct loader *l, const char **ret_line, size_t *ret_len)
{
	const char *line = l->p, *newline;
	size_t len;

	if (l->p == l->end)
		return false;
	newline = memchr(line, '\n', (size_t)(l->end - line));
	len = (size_t)((newline ? newline : l->end) - line);
	l->p = newline ? newline + 1 : l->end;
	l->here = ++l->line;
	for (; len > 0 && is_blank(*line); len--)
		line++;
	if (len > 0 && (*line == '#' || *line == ';'))
		len = 0;
	*ret_line = line;
	*ret_len = cut_blanks(line, cut_comment(line, len));
	return true;
}

static void
fault_if_no_key(struct loader *l)
{
	if (l->key_due)
		fault(l, "this is neither [SECTION] nor KEY = VALUE");
	l->key_due = false;
}

/* inih's reader, in place of fgets(). */
static char *
next_line(char *str, int num, void *stream)
{
	struct loader *l = stream;
	const char *line;
	size_t len;

	fault_if_no_key(l);
	if (!take_line(l, &line, &len))
		return NULL;
	(void)snprintf(str, (size_t)num, "\n");
	if (len == 0)
		return str;
	if (memchr(line, '\0', len) != NULL) {
		fault(l, "the line holds a NUL byte");
	} else if (line[0] == '[') {
		if (line[len - 1] == ']')
			enter_section(l, line + 1, len - 2);
		else
			fault(l, "the section's name does not end with ']'");
	} else if (len + 2 > (size_t)num) {
		fault(l,
		    "the line is longer than %d bytes (a list may be spread over "
		    "several lines, each with the key)",
		    num - 2);
	} else {
		memcpy(str, line, len);
		memcpy(str + len, "\n", 2);
		l->key_due = true;
	}
	return str;
}

static int
on_key(void *user, const char *section, const char *name, const char *value)
{
	struct loader *l = user;

	if (value == NULL) /* a build of inih that allows keys without value */
		return 1;
	l->key_due = false;
	set_key(l, name, value);
	return 1;
}

void
loader_text(struct loader *l, const char *text, size_t len)
{
	l->p = text;
	l->end = text + len;
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		l->p += 3; /* what some editors put before UTF-8 */
	l->scope = SCOPE_NONE;
	/* It returns the first line that it did not understand: fault_if_no_key() has
	 * named all of them. */
	if (ini_parse_stream(next_line, l, on_key, l) == -2)
		l->nomem = true;
	fault_if_no_key(l);
}

/* ---- overrides ---- */

static const char *
skip_blanks(const char *s)
{
	while (is_blank(*s))
		s++;
	return s;
}

/* SECTION.KEY=VALUE. The section ends at the last dot before the '=', since a glob may
 * hold dots and no key does. It may hold '=' too: one without a dot and a key's letters
 * before it is the glob's. */
static bool
split_override(const char *text, size_t *ret_section, char *key, size_t key_size,
    const char **ret_value)
{
	const char *equals = strchr(text, '=');

	for (; equals != NULL; equals = strchr(equals + 1, '=')) {
		const char *dot = memrchr(text, '.', (size_t)(equals - text));
		const char *from = dot ? skip_blanks(dot + 1) : NULL;
		size_t len = dot && from < equals
				 ? cut_blanks(from, (size_t)(equals - from))
				 : 0;

		if (len == 0 || len >= key_size ||
		    strspn(from, "abcdefghijklmnopqrstuvwxyz_") != len)
			continue;
		memcpy(key, from, len);
		key[len] = '\0';
		*ret_section = cut_blanks(text, (size_t)(dot - text));
		*ret_value = equals + 1;
		return *ret_section > 0;
	}
	return false;
}

void
loader_override(struct loader *l, const char *text)
{
	const char *value = NULL;
	size_t section_len = 0;
	char key[64], *copy;

	text = skip_blanks(text);
	if (!split_override(text, &section_len, key, sizeof(key), &value)) {
		fault(l, "write SECTION.KEY=VALUE, like server.workers=4 or "
			 "'channel chat:*.publish=anyone'");
		return;
	}
	value = skip_blanks(value);
	copy = strndup(value, cut_blanks(value, strlen(value)));
	if (copy == NULL) {
		l->nomem = true;
		return;
	}
	enter_section(l, text, section_len);
	set_key(l, key, copy);
	free(copy);
}
