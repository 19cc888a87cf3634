/* settings_keep.c - what a reload may not change, and what it did; see settings.h */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "proto/settings_loader.h"

static int list_add(struct settings_names *l, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int
list_add(struct settings_names *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (l->n == SETTINGS_NAMES_MAX) {
		l->more++;
		return 0;
	}
	va_start(ap, fmt);
	n = vasprintf(&l->name[l->n], fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	l->n++;
	return 0;
}

static void
list_done(struct settings_names *l)
{
	for (unsigned i = 0; i < l->n; i++)
		free(l->name[i]);
	*l = (struct settings_names){.n = 0};
}

void
settings_changes_done(struct settings_changes *c)
{
	if (c == NULL)
		return;
	list_done(&c->live);
	list_done(&c->restart);
}

/* ---- [section] ---- */

static bool
same_file(const struct settings *a, const struct settings *b, const struct setting *k)
{
	char name[sizeof(a->files[0].name)];
	const struct settings_file *fa, *fb;

	if (k->file == FILE_NONE)
		return true;
	(void)snprintf(name, sizeof(name), "%s.%s", k->section, k->key);
	fa = settings_file(a, name);
	fb = settings_file(b, name);
	if (fa == NULL || fb == NULL)
		return fa == fb;
	return fa->len == fb->len && memcmp(fa->data, fb->data, fa->len) == 0;
}

/* A message must fit what the workers pass on to the supervisor, whose size was chosen
 * at the start. */
static bool
may_grow_to(const struct settings *running, const struct settings *s)
{
	return running->message_bound == 0 ||
	       s->max_message_size <= running->max_message_size ||
	       s->max_message_size <= running->message_bound;
}

static int
keep_key(const struct settings *running, struct settings *s, const struct setting *k,
    struct settings_changes *changes)
{
	bool live = k->reload;
	int r;

	if (setting_same(k, running, s))
		return same_file(running, s, k)
			   ? 0
			   : list_add(&changes->live, "%s.%s", k->section, k->key);
	if (k->offset == offsetof(struct settings, max_message_size))
		live = may_grow_to(running, s);
	if (live)
		return list_add(&changes->live, "%s.%s", k->section, k->key);
	r = setting_copy(k, running, s);
	return r < 0 ? r : list_add(&changes->restart, "%s.%s", k->section, k->key);
}

/* ---- [channel GLOB] ---- */

static int
note_rule(const struct rule *was, const struct rule *is, struct settings_changes *c)
{
	char glob[256];
	int r = 0;

	(void)log_quote(is->glob, strlen(is->glob), glob, sizeof(glob));
	for (size_t i = 0; r == 0 && i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];

		if (strcmp(k->section, "channel") == 0 && !setting_same(k, was, is))
			r = list_add(&c->live, "channel %s.%s", glob, k->key);
	}
	return r;
}

/* The sections of `a` that `b` has not. */
static int
note_missing(const struct settings *a, const struct settings *b, const char *what,
    struct settings_changes *c)
{
	char glob[256];
	size_t idx;
	int r = 0;

	for (size_t i = 0; r == 0 && i < a->nrules; i++) {
		const char *text = a->rules[i].glob;

		if (settings_find_rule(b, text, strlen(text), &idx))
			continue;
		(void)log_quote(text, strlen(text), glob, sizeof(glob));
		r = list_add(&c->live, "[channel %s] %s", glob, what);
	}
	return r;
}

/* Every rule may change. Their order counts as well: the first that matches holds. */
static int
note_rules(
    const struct settings *was, const struct settings *is, struct settings_changes *c)
{
	size_t idx, last = 0;
	bool moved = false;
	int r = note_missing(is, was, "is new", c);

	if (r == 0)
		r = note_missing(was, is, "is gone", c);
	for (size_t i = 0; r == 0 && i < is->nrules; i++) {
		const char *glob = is->rules[i].glob;

		if (!settings_find_rule(was, glob, strlen(glob), &idx))
			continue;
		moved = moved || idx < last;
		last = idx;
		r = note_rule(&was->rules[idx], &is->rules[i], c);
	}
	if (r == 0 && moved)
		r = list_add(&c->live, "the order of the [channel ...] sections");
	return r;
}

int
settings_keep(const struct settings *running, struct settings *s,
    struct settings_changes *changes)
{
	int r = 0;

	s->message_bound = running->message_bound;
	for (size_t i = 0; r == 0 && i < settings_table_len; i++)
		if (strcmp(settings_table[i].section, "channel") != 0)
			r = keep_key(running, s, &settings_table[i], changes);
	return r < 0 ? r : note_rules(running, s, changes);
}
