#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/journal.h"
#include "proto/utf8.h"

#define LINE_MAX_LEN 1024 /* newline included */
#define WRITE_TRIES 8     /* against signals; a line is not worth more */
#define CUT "..."
#define ROOM_BEHIND 192 /* of a line, for its reason and what was left out */

static struct {
	const char *who;
	enum log_level level;
	enum log_format format;
	bool terminal;
} journal = {.who = NULL, .level = LOG_INFO};

void
log_open(const char *who)
{
	journal.who = who;
	journal.terminal = isatty(STDERR_FILENO) == 1;
	/* The time zone's file is read now: a sandboxed process could not later. */
	tzset();
}

void
log_set_level(enum log_level level)
{
	journal.level = level;
}

void
log_set_format(enum log_format format)
{
	journal.format = format;
}

/* Write one character of s, escaped if need be, to out. Returns how many bytes of s
 * it took; *ret_len is how many it gives, at most 4. */
static size_t
escape_one(const char *s, size_t len, char *out, size_t *ret_len)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = (const unsigned char *)s;
	size_t n = utf8_char_len(p, len);

	if (n > 0 && !utf8_is_control(p, n)) {
		memcpy(out, p, n);
		*ret_len = n;
		return n;
	}
	out[0] = '\\';
	out[1] = 'x';
	out[2] = hex[p[0] >> 4];
	out[3] = hex[p[0] & 15];
	*ret_len = 4;
	/* The second byte of a C1 control is escaped in its turn: alone it is broken.
	 */
	return 1;
}

const char *
log_quote(const char *s, size_t len, char *out, size_t size)
{
	size_t o = 0, fits = 0, n;
	char one[4];

	if (size == 0)
		return out;
	for (size_t i = 0; i < len;) {
		i += escape_one(s + i, len - i, one, &n);
		if (o + n >= size) {
			/* Back to where the dots still fit; in a tiny buffer none do.
			 */
			n = sizeof(CUT) <= size ? sizeof(CUT) - 1 : 0;
			memcpy(out + fits, CUT, n);
			out[fits + n] = '\0';
			return out;
		}
		memcpy(out + o, one, n);
		o += n;
		if (o + sizeof(CUT) <= size)
			fits = o;
	}
	out[o] = '\0';
	return out;
}

static const char *
level_name(enum log_level level)
{
	static const char *const name[] = {
	    [LOG_ERROR] = "error",
	    [LOG_WARNING] = "warning",
	    [LOG_NOTICE] = "notice",
	    [LOG_INFO] = "info",
	    [LOG_DEBUG] = "debug",
	};

	return name[level];
}

/* What comes before the text: "<5>wscastd: ", or for people the time and the level's
 * name where it matters. Returns its length. */
static size_t
put_prefix(enum log_level level, char *out, size_t size)
{
	const char *who = journal.who ? journal.who : "wscast";
	struct timespec now;
	struct tm tm;
	char clock[40] = ""; /* strftime() may look at the time zone's file again */
	int n;

	if (!journal.terminal) {
		n = snprintf(out, size, "<%d>%.64s: ", (int)level, who);
	} else {
		if (clock_gettime(CLOCK_REALTIME, &now) == 0 &&
		    localtime_r(&now.tv_sec, &tm) != NULL)
			(void)snprintf(clock, sizeof(clock), "%02d:%02d:%02d",
			    tm.tm_hour, tm.tm_min, tm.tm_sec);
		n = snprintf(out, size, "%s.%03ld %.64s: %s%s", clock,
		    now.tv_nsec / 1000000, who,
		    level <= LOG_WARNING ? level_name(level) : "",
		    level <= LOG_WARNING ? ": " : "");
	}
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

/* As much of a quoted text as fits, as the inside of a JSON string. Returns its length.
 */
static size_t
put_json_text(const char *text, char *out, size_t size)
{
	size_t len = 0;

	for (; *text != '\0'; text++) {
		if (len + 2 > size) {
			/* No part of a character is left. */
			while (len > 0 && ((unsigned char)*text & 0xc0) == 0x80 &&
			       (unsigned char)out[len - 1] >= 0x80)
				text--, len--;
			break;
		}
		if (*text == '"' || *text == '\\')
			out[len++] = '\\';
		out[len++] = *text;
	}
	return len;
}

/* text: quoted. */
static size_t
put_json(enum log_level level, const char *text, char *out, size_t size)
{
	static const char end[] = "\"}";
	struct timespec now = {0};
	struct tm tm = {0};
	char prefix[8] = "", clock[32] = "";
	int n;

	if (!journal.terminal)
		(void)snprintf(prefix, sizeof(prefix), "<%d>", (int)level);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (gmtime_r(&now.tv_sec, &tm) != NULL)
		(void)strftime(clock, sizeof(clock), "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(out, size,
	    "%s{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"who\":\"%.64s\","
	    "\"message\":\"",
	    prefix, clock, now.tv_nsec / 1000000, level_name(level),
	    journal.who ? journal.who : "wscast");
	n += (int)put_json_text(text, out + n, size - (size_t)n - sizeof(end));
	memcpy(out + n, end, sizeof(end));
	return (size_t)n + sizeof(end) - 1;
}

/* One write for one line, so that those of several processes never mix. What cannot
 * be written is lost: there is nobody to tell. */
static void
write_line(const char *line, size_t len)
{
	for (int i = 0; i < WRITE_TRIES; i++) {
		if (write(STDERR_FILENO, line, len) >= 0 || errno != EINTR)
			return;
	}
}

static void
log_text(enum log_level level, const char *text, size_t len)
{
	char quoted[LINE_MAX_LEN], line[LINE_MAX_LEN];
	size_t used;

	if (journal.format == LOG_JSON) {
		(void)log_quote(text, len, quoted, sizeof(quoted));
		used = put_json(level, quoted, line, sizeof(line) - 1);
	} else {
		used = put_prefix(level, line, sizeof(line));
		(void)log_quote(text, len, line + used, sizeof(line) - used - 1);
		used += strlen(line + used);
	}
	line[used++] = '\n';
	write_line(line, used);
}

/* Append to a text of len bytes in room for LINE_MAX_LEN; returns the new length. */
__attribute__((format(printf, 3, 0))) static size_t
append(char *text, size_t len, const char *fmt, va_list ap)
{
	int n = vsnprintf(text + len, LINE_MAX_LEN - len, fmt, ap);

	if (n < 0)
		return len;
	return len + (size_t)n < LINE_MAX_LEN ? len + (size_t)n : LINE_MAX_LEN - 1;
}

__attribute__((format(printf, 3, 4))) static size_t
append_more(char *text, size_t len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	len = append(text, len, fmt, ap);
	va_end(ap);
	return len;
}

__attribute__((format(printf, 4, 0))) static void
log_va(enum log_level level, int err, unsigned long missed, const char *fmt, va_list ap)
{
	char text[LINE_MAX_LEN], reason[128];
	int saved = errno;
	size_t len;

	len = append(text, 0, fmt, ap);
	if (len > LINE_MAX_LEN - ROOM_BEHIND)
		len = LINE_MAX_LEN - ROOM_BEHIND;
	if (err < 0)
		len = append_more(
		    text, len, ": %s", strerror_r(-err, reason, sizeof(reason)));
	if (missed > 0)
		len =
		    append_more(text, len, " (%lu more like it were left out)", missed);
	log_text(level, text, len);
	errno = saved;
}

void
log_line(enum log_level level, int err, const char *fmt, ...)
{
	va_list ap;

	if (level > journal.level)
		return;
	va_start(ap, fmt);
	log_va(level, err, 0, fmt, ap);
	va_end(ap);
}

bool
log_limited(struct log_limit *limit, unsigned long long now_ms, enum log_level level,
    int err, const char *fmt, ...)
{
	unsigned long missed = limit->missed;
	va_list ap;

	if (now_ms < limit->next_ms) {
		limit->missed++;
		return false;
	}
	limit->missed = 0;
	limit->next_ms = now_ms + 1000;
	if (level > journal.level)
		return true;
	va_start(ap, fmt);
	log_va(level, err, missed, fmt, ap);
	va_end(ap);
	return true;
}
