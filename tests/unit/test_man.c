/*
 * wscast.conf(5) against the table of settings: the same keys, types, defaults, bounds
 * and words, and what a reload changes. Reads man/wscast.conf.5, so it runs from the
 * top of the tree.
 *
 * In the page, a section is `.Ss [NAME]`, a setting `.It Ic KEY No = Cm DEFAULT`, the
 * next line its facts, `A TYPE from MIN to MAX; a reload changes it.`, and a word that
 * it knows `.Cm WORD`.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/settings_table.h"

#define PAGE "man/wscast.conf.5"
#define EXAMPLE "packaging/wscast.conf"
#define ITEM ".It Ic "
#define DEFAULT " No ="

static char *
file_read(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	assert_non_null(f);
	assert_true(getdelim(&text, &size, '\0', f) > 0);
	(void)fclose(f);
	return text;
}

/* A setting's item as text of its own, from its .It line to the next item or list's
 * end; NULL when the page has none. The caller frees it. */
static char *
item_find(const char *page, const struct setting *k)
{
	char head[64];
	const char *section, *item, *end;

	(void)snprintf(head, sizeof(head), "\n.Ss [%s", k->section);
	section = strstr(page, head);
	if (section == NULL)
		return NULL;
	(void)snprintf(head, sizeof(head), "\n" ITEM "%s" DEFAULT, k->key);
	item = strstr(section, head);
	end = strstr(section, "\n.El");
	if (item == NULL || end == NULL || item > end)
		return NULL;
	item++;
	if (strstr(item, "\n" ITEM) != NULL && strstr(item, "\n" ITEM) < end)
		end = strstr(item, "\n" ITEM);
	return strndup(item, (size_t)(end - item));
}

static bool
is_amount(const struct setting *k)
{
	return k->type == SETTING_NUMBER || k->type == SETTING_SIZE ||
	       k->type == SETTING_PERCENT || k->type == SETTING_TIME;
}

/* What the page calls a setting of its type. */
static const char *
kind_name(const struct setting *k)
{
	static const char *const names[] = {
	    [SETTING_BOOL] = "switch",
	    [SETTING_NUMBER] = "number",
	    [SETTING_SIZE] = "size",
	    [SETTING_PERCENT] = "part",
	    [SETTING_TIME] = "time",
	    [SETTING_WORD] = "word",
	    [SETTING_STRING] = "text",
	    [SETTING_LIST] = "list",
	    [SETTING_LISTEN] = "list",
	};

	return k->file != FILE_NONE ? "file" : names[k->type];
}

/* What the page's amount means, in the setting's own unit. */
static uint32_t
amount_of(const struct setting *k, const char *text)
{
	char why[SETTING_WHY_MAX];
	struct setting field = *k;
	uint32_t n = 0;

	field.offset = 0;
	field.min = 0;
	field.max = UINT32_MAX;
	assert_int_equal(setting_set(&field, &n, text, why), 0);
	return n;
}

static void
test_man_each_setting_has_its_item(void **state)
{
	for (size_t i = 0; i < settings_table_len; i++) {
		char *item = item_find(*state, &settings_table[i]);

		if (item == NULL)
			fail_msg("%s.%s is not in " PAGE, settings_table[i].section,
			    settings_table[i].key);
		free(item);
	}
}

static void
test_man_has_no_other_item(void **state)
{
	size_t items = 0;

	for (const char *p = *state; (p = strstr(p, "\n" ITEM)) != NULL; p++)
		items++;
	assert_int_equal(items, settings_table_len);
}

static void
test_man_defaults_are_the_tables(void **state)
{
	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];
		char *item = item_find(*state, k), want[128];

		assert_non_null(item);
		(void)snprintf(want, sizeof(want), ITEM "%s" DEFAULT "%s%s", k->key,
		    *k->fallback ? " Cm " : "", k->fallback);
		*strchr(item, '\n') = '\0';
		assert_string_equal(item, want);
		free(item);
	}
}

/* The first line of an item: what it is, its bounds, and what changes it. */
static void
test_man_facts_are_the_tables(void **state)
{
	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];
		bool may_be_empty = k->zero != NULL && *k->zero == '\0';
		char *item = item_find(*state, k), want[200], min[32], max[32];
		char *facts, bounds[100] = "";

		assert_non_null(item);
		facts = strchr(item, '\n') + 1;
		*strchr(facts, '\n') = '\0';
		if (is_amount(k)) {
			const char *from = strstr(facts, " from ");

			assert_non_null(from);
			assert_int_equal(
			    sscanf(from, " from %31s to %31[^,;]", min, max), 2);
			assert_int_equal(amount_of(k, min), k->min);
			assert_int_equal(amount_of(k, max), k->max);
			(void)snprintf(
			    bounds, sizeof(bounds), " from %s to %s", min, max);
		}
		(void)snprintf(want, sizeof(want), "A %s%s%s; %s.", kind_name(k),
		    bounds, may_be_empty ? ", or empty" : "",
		    k->reload ? "a reload changes it" : "it takes a restart");
		assert_string_equal(facts, want);
		free(item);
	}
}

static void
test_man_names_each_word(void **state)
{
	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];
		char *item = item_find(*state, k), want[64];

		assert_non_null(item);
		if (k->zero != NULL && *k->zero != '\0') {
			(void)snprintf(want, sizeof(want), "\n.Cm %s", k->zero);
			assert_non_null(strstr(item, want));
		}
		for (size_t j = 0; k->words != NULL && k->words[j] != NULL; j++) {
			(void)snprintf(want, sizeof(want), "\n.Cm %s", k->words[j]);
			if (strstr(item, want) == NULL)
				fail_msg("%s: no word %s", k->key, k->words[j]);
		}
		free(item);
	}
}

/* Whether the section says so: a word of its own, between blanks. */
static bool
has_word(const char *section, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = section; (p = strstr(p, word)) != NULL; p++)
		if (p[-1] == ' ' && (p[len] == ' ' || p[len] == '\n'))
			return true;
	return false;
}

static void
test_man_names_what_takes_a_restart(void **state)
{
	const char *begin = strstr(*state, "\n.Sh RELOAD\n"), *end;

	assert_non_null(begin);
	end = strstr(begin + 1, "\n.Sh ");
	assert_non_null(end);
	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];
		char *list, *rest, head[40];

		if (strcmp(k->section, "channel") == 0) {
			assert_true(k->reload);
			continue;
		}
		(void)snprintf(head, sizeof(head), "\n.It [%s]\n", k->section);
		list = strndup(begin, (size_t)(end - begin));
		assert_non_null(list);
		rest = strstr(list, head);
		if (rest != NULL) {
			char *next = strstr(rest + 1, "\n.It ");

			if (next == NULL)
				next = strstr(rest + 1, "\n.El");
			next[1] = '\0';
		}
		if ((rest != NULL && has_word(rest, k->key)) == k->reload)
			fail_msg("RELOAD: %s.%s %s", k->section, k->key,
			    k->reload ? "takes no restart" : "takes a restart");
		free(list);
	}
}

/* Make `;key = value` lines count; a comment has a blank behind its semicolon. */
static void
uncomment(char *text)
{
	char *out = text;

	for (const char *p = text; *p != '\0'; p++) {
		bool comments = *p == ';' && (p == text || p[-1] == '\n');

		if (!comments || p[1] == ' ')
			*out++ = *p;
	}
	*out = '\0';
}

/* The example file is right, and its commented lines are, too: they set defaults. */
static void
test_man_example_file_sets_defaults_alone(void **state)
{
	struct faults faults = {.n = 0};
	struct settings *defaults = NULL, *set = NULL;
	char *text = file_read(EXAMPLE), *a, *b;

	uncomment(text);
	assert_int_equal(settings_load(NULL, NULL, 0, &defaults, &faults), 0);
	if (settings_parse(text, strlen(text), &set, &faults) < 0)
		fail_msg("%s", faults.n > 0 ? faults.line[0] : "no memory");
	a = settings_dump(defaults);
	b = settings_dump(set);
	assert_non_null(a);
	assert_non_null(b);
	assert_string_equal(a, b);
	free(a);
	free(b);
	free(text);
	settings_free(defaults);
	settings_free(set);
	faults_done(&faults);
}

/* ... and it shows each of them, in its section, as `;key = default`. */
static void
test_man_example_file_has_each_setting(void **state)
{
	char *text = file_read(EXAMPLE);

	for (size_t i = 0; i < settings_table_len; i++) {
		const struct setting *k = &settings_table[i];
		char head[40], line[160], *section, *end;

		(void)snprintf(head, sizeof(head), "\n[%s", k->section);
		section = strstr(text, head);
		if (section == NULL) {
			fail_msg("no section %s in " EXAMPLE, k->section);
			return; /* which the analyzer does not know */
		}
		end = strstr(section + 1, "\n[");
		section = end == NULL ? strdup(section)
				      : strndup(section, (size_t)(end - section));
		assert_non_null(section);
		(void)snprintf(line, sizeof(line), "\n;%s =%s%s\n", k->key,
		    *k->fallback ? " " : "", k->fallback);
		if (strstr(section, line) == NULL)
			fail_msg("[%s] of " EXAMPLE " has no line%s", k->section, line);
		free(section);
	}
	free(text);
}

static int
page_read(void **state)
{
	*state = file_read(PAGE);
	return 0;
}

static int
page_free(void **state)
{
	free(*state);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_man_each_setting_has_its_item),
	    cmocka_unit_test(test_man_has_no_other_item),
	    cmocka_unit_test(test_man_defaults_are_the_tables),
	    cmocka_unit_test(test_man_facts_are_the_tables),
	    cmocka_unit_test(test_man_names_what_takes_a_restart),
	    cmocka_unit_test(test_man_names_each_word),
	    cmocka_unit_test(test_man_example_file_sets_defaults_alone),
	    cmocka_unit_test(test_man_example_file_has_each_setting),
	};

	return cmocka_run_group_tests(tests, page_read, page_free);
}
