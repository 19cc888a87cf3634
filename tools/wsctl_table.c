#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "proto/utf8.h"
#include "tools/wsctl_table.h"

#define GAP 2     /* columns between two cells */
#define CUT_MIN 8 /* a cell is never cut to less */

/* ---- the screen ---- */

static unsigned
screen_width(bool terminal)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	unsigned long width;
	char *end;

	if (columns != NULL && *columns != '\0') {
		width = strtoul(columns, &end, 10);
		if (*end == '\0' && width > 0 && width < 100000)
			return (unsigned)width;
	}
	if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		return size.ws_col;
	return 0;
}

void
screen_init(struct screen *s)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
	bool utf8;

	setlocale(LC_CTYPE, "");
	utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	s->terminal = isatty(STDOUT_FILENO) == 1;
	s->width = screen_width(s->terminal);
	s->color = s->terminal && (no_color == NULL || *no_color == '\0') &&
		   term != NULL && strcmp(term, "dumb") != 0;
	/* A file gets UTF-8 whatever the locale; what wcwidth() knows is needed there,
	 * too. */
	s->ascii = !utf8 && (s->terminal || setlocale(LC_CTYPE, "C.UTF-8") == NULL);
}

const char *
style_on(const struct screen *s, enum style style)
{
	static const char *const on[] = {
	    [STYLE_PLAIN] = "",
	    [STYLE_HEAD] = "\033[1m",
	    [STYLE_DIM] = "\033[2m",
	    [STYLE_GOOD] = "\033[32m",
	    [STYLE_WARN] = "\033[33m",
	    [STYLE_BAD] = "\033[1;31m",
	};

	return s->color ? on[style] : "";
}

const char *
style_off(const struct screen *s)
{
	return s->color ? "\033[0m" : "";
}

/* ---- text ---- */

/* One character of UTF-8 at p. Returns its length, 0 when it is broken. */
static size_t
decode(const unsigned char *p, size_t len, uint32_t *ret_c)
{
	size_t n = utf8_char_len(p, len);
	uint32_t c = n < 2 ? p[0] : p[0] & (0xffu >> (n + 1));

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (p[i] & 0x3f);
	if (n > 0)
		*ret_c = c;
	return n;
}

/* Characters that make a text look like another: directions and what nobody sees. */
static bool
is_deceptive(uint32_t c)
{
	static const uint32_t ranges[][2] = {
	    {0x00ad, 0x00ad},   /* soft hyphen */
	    {0x034f, 0x034f},   /* grapheme joiner */
	    {0x061c, 0x061c},   /* Arabic letter mark */
	    {0x115f, 0x1160},   /* Hangul fillers */
	    {0x17b4, 0x17b5},   /* Khmer inherent vowels */
	    {0x180b, 0x180f},   /* Mongolian selectors */
	    {0x200b, 0x200f},   /* zero width, directional marks */
	    {0x2028, 0x202e},   /* line separators, directional overrides */
	    {0x2060, 0x206f},   /* word joiner, isolates */
	    {0x3164, 0x3164},   /* Hangul filler */
	    {0xfe00, 0xfe0f},   /* variation selectors */
	    {0xfeff, 0xfeff},   /* byte order mark */
	    {0xffa0, 0xffa0},   /* Hangul filler */
	    {0xfff0, 0xfffc},   /* annotations */
	    {0xe0000, 0xe0fff}, /* tags */
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (c >= ranges[i][0] && c <= ranges[i][1])
			return true;
	return false;
}

static bool
is_shown(const struct screen *s, uint32_t c)
{
	if (c < 0x80)
		return c >= 0x20 && c < 0x7f;
	return !s->ascii && c >= 0xa0 && !is_deceptive(c) && wcwidth((wchar_t)c) >= 0;
}

static void
put_escaped(FILE *out, uint32_t c)
{
	static const char known[] = "\n\r\t", letters[] = "nrt";
	const char *at = c == 0 || c >= 0x80 ? NULL : strchr(known, (int)c);

	if (at != NULL)
		fprintf(out, "\\%c", letters[at - known]);
	else if (c < 0x80)
		fprintf(out, "\\x%02x", (unsigned)c);
	else
		fprintf(out, "\\u{%x}", (unsigned)c);
}

char *
text_safe(const struct screen *s, const char *bytes, size_t len, const char *keep)
{
	const unsigned char *p = (const unsigned char *)bytes, *end = p + len;
	char *text = NULL;
	size_t size, n;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	while (p < end) {
		uint32_t c;

		n = decode(p, (size_t)(end - p), &c);
		if (n == 0)
			fprintf(out, "\\x%02x", *p++);
		else if (is_shown(s, c) || (keep != NULL && n == 1 && c != 0 &&
					       strchr(keep, (int)c) != NULL))
			fwrite(p, 1, n, out);
		else
			put_escaped(out, c);
		p += n;
	}
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* A character in JSON's own spelling. */
static void
put_json_escaped(FILE *out, uint32_t c)
{
	if (c >= 0x10000) {
		c -= 0x10000;
		fprintf(out, "\\u%04x", (unsigned)(0xd800 + (c >> 10)));
		c = 0xdc00 + (c & 0x3ff);
	}
	fprintf(out, "\\u%04x", (unsigned)c);
}

void
put_json_safe(const struct screen *s, const char *json, size_t len, FILE *out)
{
	const unsigned char *p = (const unsigned char *)json, *end = p + len;
	size_t n;

	for (; p < end; p += n) {
		uint32_t c = 0xfffd;

		n = decode(p, (size_t)(end - p), &c);
		if (c == '\n' || (n > 0 && is_shown(s, c)))
			fwrite(p, 1, n, out);
		else if (c < 0x20) /* between tokens, or it would be escaped */
			fputc(' ', out);
		else
			put_json_escaped(out, c);
		n = n > 0 ? n : 1;
	}
}

/* The columns of the text up to the first `bytes`, and not more than max; *ret_bytes
 * how much of it that is. */
static size_t
measure(const char *text, size_t max, size_t *ret_bytes)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t len = strlen(text), at = 0, width = 0, n, w;

	while (at < len) {
		uint32_t c = '?';

		n = decode(p + at, len - at, &c);
		w = c < 0x80 ? 1 : (size_t)wcwidth((wchar_t)c);
		if (w > 2)
			w = 1; /* -1: not what text_safe() lets through */
		if (width + w > max)
			break;
		width += w;
		at += n > 0 ? n : 1;
	}
	*ret_bytes = at;
	return width;
}

size_t
text_width(const char *text)
{
	size_t bytes;

	return measure(text, SIZE_MAX, &bytes);
}

char *
text_format(const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : text;
}

/* Three digits of n / unit. */
static char *
text_scaled(double n, const char *space, const char *unit)
{
	int decimals = n < 9.995 ? 2 : n < 99.95 ? 1 : 0;
	char number[32];

	snprintf(number, sizeof(number), "%.*f", decimals, n);
	/* 64.0 MiB is what was meant as 64 MiB. */
	if (*space != '\0' && strchr(number, '.') != NULL)
		for (char *p = number + strlen(number) - 1; *p == '0' || *p == '.';
		     p--) {
			bool point = *p == '.';

			*p = '\0';
			if (point)
				break;
		}
	return text_format("%s%s%s", number, space, unit);
}

char *
text_count(uint64_t n)
{
	static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
	double x = (double)n;
	int unit = 0;

	if (n < 10000)
		return text_format("%llu", (unsigned long long)n);
	while (x >= 999.5 && unit < 6) {
		x /= 1000;
		unit++;
	}
	return text_scaled(x, "", units[unit]);
}

char *
text_size(uint64_t bytes)
{
	static const char *const units[] = {
	    "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double x = (double)bytes;
	int unit = 0;

	while (x >= 1023.5 && unit < 6) {
		x /= 1024;
		unit++;
	}
	return text_scaled(x, " ", units[unit]);
}

char *
text_duration(uint64_t ms)
{
	unsigned long long s = ms / 1000;

	if (ms > 0 && ms < 1000)
		return text_format("%llums", (unsigned long long)ms);
	if (s < 60)
		return text_format("%llus", s);
	if (s < 3600)
		return text_format("%llum %llus", s / 60, s % 60);
	if (s < 86400)
		return text_format("%lluh %llum", s / 3600, s % 3600 / 60);
	return text_format("%llud %lluh", s / 86400, s % 86400 / 3600);
}

/* ---- tables ---- */

struct cell {
	char *text;
	enum style style;
};

struct table {
	const struct column *columns;
	size_t ncolumns;
	struct cell *cells;
	size_t ncells, cap;
	bool failed; /* a cell found no memory */
};

/* How one column is printed. */
struct fit {
	size_t width;
	bool dropped;
};

struct table *
table_new(const struct column *columns, size_t ncolumns)
{
	struct table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->columns = columns;
	t->ncolumns = ncolumns;
	return t;
}

void
table_free(struct table *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->ncells; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
}

void
table_add(struct table *t, char *text, enum style style)
{
	if (t != NULL && text != NULL && t->ncells == t->cap) {
		size_t cap = t->cap == 0 ? 64 : t->cap * 2;
		struct cell *cells = reallocarray(t->cells, cap, sizeof(*cells));

		if (cells == NULL) {
			t->failed = true;
		} else {
			t->cells = cells;
			t->cap = cap;
		}
	}
	if (t == NULL || text == NULL || t->failed) {
		if (t != NULL)
			t->failed = true;
		free(text);
		return;
	}
	t->cells[t->ncells++] = (struct cell){text, style};
}

/* The columns that a row takes as things are. */
static size_t
fit_total(const struct fit *fits, size_t n)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		if (!fits[i].dropped)
			total += fits[i].width + (total > 0 ? GAP : 0);
	return total;
}

/* Shorten the widest column that may be, by what is too much. False: none is left. */
static bool
fit_cut(const struct table *t, struct fit *fits, size_t excess)
{
	struct fit *widest = NULL;

	for (size_t i = 0; i < t->ncolumns; i++)
		if (t->columns[i].cut && !fits[i].dropped && fits[i].width > CUT_MIN &&
		    (widest == NULL || fits[i].width > widest->width))
			widest = &fits[i];
	if (widest == NULL)
		return false;
	widest->width =
	    widest->width - CUT_MIN > excess ? widest->width - excess : CUT_MIN;
	return true;
}

static bool
fit_drop(const struct table *t, struct fit *fits)
{
	size_t last = t->ncolumns;

	for (size_t i = 0; i < t->ncolumns; i++)
		if (!fits[i].dropped && t->columns[i].drop > 0 &&
		    (last == t->ncolumns ||
			t->columns[i].drop >= t->columns[last].drop))
			last = i;
	if (last == t->ncolumns)
		return false;
	fits[last].dropped = true;
	return true;
}

/* First the columns that matter least go, then names are cut: what is left of a row
 * is whole, and ids always are. */
static void
fit_columns(const struct table *t, const struct screen *s, struct fit *fits)
{
	size_t total, wide;

	for (size_t i = 0; i < t->ncolumns; i++)
		fits[i] = (struct fit){.width = strlen(t->columns[i].title)};
	for (size_t i = 0; i < t->ncells; i++) {
		struct fit *fit = &fits[i % t->ncolumns];

		wide = text_width(t->cells[i].text);
		if (wide > fit->width)
			fit->width = wide;
	}
	if (s->width == 0)
		return;
	/* A name that alone is wider than half a screen is cut before a column goes. */
	for (size_t i = 0; i < t->ncolumns; i++)
		if (t->columns[i].cut && fits[i].width > s->width / 2 &&
		    s->width / 2 > CUT_MIN && fit_total(fits, t->ncolumns) > s->width) {
			total = fit_total(fits, t->ncolumns) - s->width;
			fits[i].width = fits[i].width - s->width / 2 > total
					    ? fits[i].width - total
					    : s->width / 2;
		}
	while (fit_total(fits, t->ncolumns) > s->width && fit_drop(t, fits))
		;
	while ((total = fit_total(fits, t->ncolumns)) > s->width &&
	       fit_cut(t, fits, total - s->width))
		;
}

static void
put_spaces(FILE *out, size_t n)
{
	while (n-- > 0)
		fputc(' ', out);
}

static void
put_cell(const struct screen *s, FILE *out, const struct cell *cell, size_t width,
    bool right, bool last)
{
	const char *dots = s->ascii ? ".." : "…";
	size_t bytes, wide = measure(cell->text, width, &bytes);
	bool cut = cell->text[bytes] != '\0';

	if (cut)
		wide = measure(cell->text, width - text_width(dots), &bytes) +
		       text_width(dots);
	if (right)
		put_spaces(out, width - wide);
	fprintf(out, "%s%.*s%s%s", style_on(s, cell->style), (int)bytes, cell->text,
	    cut ? dots : "", cell->style == STYLE_PLAIN ? "" : style_off(s));
	if (!right && !last)
		put_spaces(out, width - wide);
}

static void
put_row(const struct table *t, const struct screen *s, FILE *out,
    const struct fit *fits, const struct cell *row)
{
	size_t last = 0;
	bool first = true;

	for (size_t i = 0; i < t->ncolumns; i++)
		if (!fits[i].dropped)
			last = i;
	for (size_t i = 0; i <= last; i++) {
		if (fits[i].dropped)
			continue;
		if (!first)
			put_spaces(out, GAP);
		first = false;
		put_cell(
		    s, out, &row[i], fits[i].width, t->columns[i].right, i == last);
	}
	fputc('\n', out);
}

static int
put_head(
    const struct table *t, const struct screen *s, FILE *out, const struct fit *fits)
{
	struct cell *row = calloc(t->ncolumns, sizeof(*row));

	if (row == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < t->ncolumns; i++)
		row[i] = (struct cell){(char *)t->columns[i].title, STYLE_HEAD};
	put_row(t, s, out, fits, row);
	free(row);
	return 0;
}

int
table_print(const struct table *t, const struct screen *s, FILE *out)
{
	struct fit *fits;
	int r;

	if (t == NULL || t->failed)
		return -ENOMEM;
	if (t->ncolumns == 0)
		return 0;
	fits = calloc(t->ncolumns, sizeof(*fits));
	if (fits == NULL)
		return -ENOMEM;
	fit_columns(t, s, fits);
	r = put_head(t, s, out, fits);
	for (size_t i = 0; r == 0 && i + t->ncolumns <= t->ncells; i += t->ncolumns)
		put_row(t, s, out, fits, &t->cells[i]);
	free(fits);
	return r;
}
