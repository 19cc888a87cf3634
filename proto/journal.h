/*
 * journal.h - log lines on stderr: the journal's level prefix, or plain text with the
 * time when stderr is a terminal.
 *
 * Levels   error: a person must act; warning: something was lost; notice: lives and
 *          reloads; info, debug: for finding faults.
 */
#ifndef WSCAST_PROTO_JOURNAL_H
#define WSCAST_PROTO_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_ERROR = 3,
	LOG_WARNING = 4,
	LOG_NOTICE = 5,
	LOG_INFO = 6,
	LOG_DEBUG = 7
};

/* JSON: an object a line, with time, level, who and message; behind the journal's
 * prefix where there is one. */
enum log_format { LOG_TEXT, LOG_JSON };

/* who: borrowed for ever, before each line ("wscastd", "worker 3"). */
void log_open(const char *who);
void log_set_level(enum log_level level);
void log_set_format(enum log_format format);

/* One line, cut at 1 KiB, control characters and broken UTF-8 escaped; err < 0 adds
 * ": strerror(-err)", 0 adds nothing. A full disk or closed stderr is no error. */
void log_line(enum log_level level, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(err, ...) log_line(LOG_ERROR, err, __VA_ARGS__)
#define log_warning(err, ...) log_line(LOG_WARNING, err, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, 0, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, 0, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, 0, __VA_ARGS__)

/* For what a client or Redis can repeat: at most one line a second for each `limit`,
 * which says how many were left out since the last one. now_ms: any monotonic clock.
 * Returns whether it was let through. */
struct log_limit {
	unsigned long long next_ms;
	unsigned long missed;
};
bool log_limited(struct log_limit *limit, unsigned long long now_ms,
    enum log_level level, int err, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Quote a name from outside for a line: control characters and broken UTF-8 as
 * \xNN, cut with "..." to fit. Returns out. */
const char *log_quote(const char *s, size_t len, char *out, size_t size);

#endif
