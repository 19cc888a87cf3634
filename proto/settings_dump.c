/* settings_dump.c - settings as text again; see settings.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/settings_loader.h"

static void
dump_section(const char *section, const void *base, FILE *out)
{
	char before[80];

	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];

		if (strcmp(k->section, section) != 0)
			continue;
		(void)snprintf(before, sizeof(before), "%s = ", k->key);
		setting_print(k, base, before, "\n", out);
	}
}

/* Close a stream of open_memstream(). Returns its text, NULL when there was no memory
 * for all of it. */
static char *
stream_text(FILE *out, char **text)
{
	bool failed = ferror(out) != 0;

	if (fclose(out) != 0 || failed) {
		free(*text);
		errno = ENOMEM;
		return NULL;
	}
	return *text;
}

char *
settings_dump(const struct settings *s)
{
	const char *section = "";
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < settings_table_len; i++) {
		/* The keys of a section lie side by side; those of rules come below. */
		if (strcmp(settings_table[i].section, section) == 0 ||
		    strcmp(settings_table[i].section, "channel") == 0)
			continue;
		section = settings_table[i].section;
		(void)fprintf(out, "[%s]\n", section);
		dump_section(section, s, out);
	}
	for (size_t i = 0; i < s->nrules; i++) {
		(void)fprintf(out, "[channel %s]\n", s->rules[i].glob);
		dump_section("channel", &s->rules[i], out);
	}
	return stream_text(out, &text);
}

char *
settings_get(const struct settings *s, const char *key)
{
	const char *dot = strrchr(key, '.');
	size_t section_len = dot ? (size_t)(dot - key) : 0;
	const void *base = s;
	char section[32] = "channel", *text = NULL;
	const struct setting *k = NULL;
	size_t len = 0, idx;
	FILE *out;

	if (section_len > 8 && memcmp(key, "channel ", 8) == 0) {
		if (settings_find_rule(s, key + 8, section_len - 8, &idx)) {
			base = &s->rules[idx];
			k = settings_find_key("channel", dot + 1);
		}
	} else if (section_len > 0 && section_len < sizeof(section)) {
		memcpy(section, key, section_len);
		section[section_len] = '\0';
		if (strcmp(section, "channel") != 0)
			k = settings_find_key(section, dot + 1);
	}
	if (k == NULL) {
		errno = ENOENT;
		return NULL;
	}
	out = open_memstream(&text, &len);
	if (out == NULL)
		return NULL;
	setting_print(k, base, "", "\n", out);
	text = stream_text(out, &text);
	/* What separates the lines does not end the last. */
	if (text != NULL && len > 0)
		text[len - 1] = '\0';
	return text;
}

bool
settings_info(size_t index, struct setting_info *ret_info)
{
	const struct setting *k;

	if (index >= settings_table_len)
		return false;
	k = &settings_table[index];
	*ret_info = (struct setting_info){
	    .section = k->section,
	    .key = k->key,
	    .fallback = k->fallback,
	    .reload = k->reload,
	};
	return true;
}
