/* wsctl_show.c - see wsctl_show.h */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/wsctl_show.h"

/* ---- values ---- */

static uint64_t
number_of(const json_t *value)
{
	double x = json_number_value(value);

	if (json_is_integer(value) && json_integer_value(value) >= 0)
		return (uint64_t)json_integer_value(value);
	return x > 0 && x < 1e18 ? (uint64_t)x : 0;
}

uint64_t
number_at(const json_t *object, const char *key)
{
	return number_of(json_object_get(object, key));
}

uint64_t
ms_at(const json_t *object, const char *key)
{
	double s = json_number_value(json_object_get(object, key));

	return s > 0 && s < 1e15 ? (uint64_t)(s * 1000) : 0;
}

char *
safe_string(const struct ctl *ctl, const json_t *value)
{
	return text_safe(
	    &ctl->screen, json_string_value(value), json_string_length(value), NULL);
}

static char *
since_text(uint64_t seconds)
{
	time_t now = time(NULL);
	uint64_t s = now > (time_t)seconds ? (uint64_t)now - seconds : 0;

	return s == 0 ? text_format("now") : text_duration(s * 1000);
}

/* A number of any size as it stands in the JSON. */
static char *
plain_text(const json_t *value)
{
	return json_is_integer(value)
		   ? text_format("%lld", (long long)json_integer_value(value))
		   : text_format("%.3f", json_real_value(value));
}

static char *
number_text(const json_t *value, enum kind kind)
{
	uint64_t n = number_of(value);

	switch (kind) {
	case KIND_COUNT:
		return text_count(n);
	case KIND_LAG:
		return n == 0 ? text_format("-") : text_count(n);
	case KIND_SIZE:
		return text_size(n);
	case KIND_MS:
		return text_duration(n);
	case KIND_SINCE:
		return since_text(n);
	default:
		return plain_text(value);
	}
}

static char *
json_text(const struct ctl *ctl, const json_t *value)
{
	char *json = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), *text;

	if (json == NULL)
		return NULL;
	text = text_safe(&ctl->screen, json, strlen(json), NULL);
	free(json);
	return text;
}

char *
value_text(const struct ctl *ctl, const json_t *value, enum kind kind)
{
	if (kind == KIND_JSON && value != NULL)
		return json_text(ctl, value);
	if (json_is_string(value))
		return safe_string(ctl, value);
	if (json_is_boolean(value))
		return text_format("%s", json_is_true(value) ? "yes" : "no");
	/* What is a list in one answer is a count in another. */
	if (json_is_array(value))
		return text_count(json_array_size(value));
	if (json_is_number(value))
		return number_text(value, kind);
	return text_format("-");
}

enum style
value_style(const json_t *value, enum kind kind)
{
	const char *text = json_string_value(value);

	if (kind == KIND_LAG && number_of(value) > 0)
		return STYLE_WARN;
	if (kind != KIND_STATE || text == NULL)
		return STYLE_PLAIN;
	if (strcmp(text, "serving") == 0 || strcmp(text, "open") == 0)
		return STYLE_GOOD;
	return STYLE_WARN;
}

enum outcome
out_of_memory(void)
{
	ctl_complain("out of memory");
	return OUTCOME_FAILED;
}

char *
ctl_text(const struct ctl *ctl, const json_t *object, const char *key, enum kind kind)
{
	const json_t *value = json_object_get(object, key);

	return value == NULL ? text_format("?") : value_text(ctl, value, kind);
}

/* ---- rows ---- */

/* Whether any row says something of this; with no rows at all, the head is whole. */
static bool
is_known(const json_t *rows, const char *key)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)rows, i, row)
	{
		if (json_object_get(row, key) != NULL)
			return true;
	}
	return json_array_size(rows) == 0;
}

enum outcome
show_rows(const struct ctl *ctl, const json_t *rows, const struct view *view)
{
	const struct field *fields[VIEW_MAX];
	struct column columns[VIEW_MAX];
	const json_t *row;
	struct table *t;
	size_t i, n = 0;
	int r;

	for (i = 0; i < view->n; i++)
		if (is_known(rows, view->fields[i].key)) {
			columns[n] = view->fields[i].column;
			fields[n++] = &view->fields[i];
		}
	t = table_new(columns, n);
	json_array_foreach((json_t *)rows, i, row)
	{
		for (size_t f = 0; f < n; f++) {
			const json_t *value = json_object_get(row, fields[f]->key);

			table_add(t, value_text(ctl, value, fields[f]->kind),
			    value_style(value, fields[f]->kind));
		}
	}
	r = table_print(t, &ctl->screen, stdout);
	table_free(t);
	return r < 0 ? out_of_memory() : OUTCOME_DONE;
}

/* ---- lines ---- */

bool
put_line(const struct ctl *ctl, const char *name, char *text, enum style style)
{
	if (text == NULL)
		return false;
	printf("%s%-12s%s %s%s%s\n", style_on(&ctl->screen, STYLE_HEAD), name,
	    style_off(&ctl->screen), style_on(&ctl->screen, style), text,
	    style == STYLE_PLAIN ? "" : style_off(&ctl->screen));
	free(text);
	return true;
}

bool
put_parts(const struct ctl *ctl, const char *name, const json_t *object,
    const struct part *parts, size_t n)
{
	char *text = text_format("%s", ""), *value, *longer;

	for (size_t i = 0; i < n && text != NULL; i++) {
		value = ctl_text(ctl, object, parts[i].key, parts[i].kind);
		longer = value == NULL
			     ? NULL
			     : text_format("%s%s%s", text, parts[i].before, value);
		free(value);
		free(text);
		text = longer;
	}
	return put_line(ctl, name, text, STYLE_PLAIN);
}
