/*
 * wsctl_options.h - the options of all commands: one table, by which they are read,
 * refused where a command does not take them, and told to the shells' completions.
 */
#ifndef WSCAST_TOOLS_WSCTL_OPTIONS_H
#define WSCAST_TOOLS_WSCTL_OPTIONS_H

#include <jansson.h>

#include "tools/wsctl.h"

/* Groups of options, as commands take them. */
enum command_option {
	OPTION_ALL = 0, /* every command takes it */
	OPTION_CHANNEL = 1 << 0,
	OPTION_LIMIT = 1 << 1,
	OPTION_RAW = 1 << 2,
	OPTION_USER = 1 << 3,
	OPTION_JTI = 1 << 4,
	OPTION_FOR = 1 << 5,
	OPTION_TOKEN = 1 << 6,
	OPTION_OVER = 1 << 7,
	OPTION_TOP = 1 << 8,
	OPTION_KEY = 1 << 9,
};

/*
 * Take the options, wherever they stand; argv is put in order for that.
 *
 * ret_given  the groups that were given.
 * ret_rest   index of the first argument that is no option.
 *
 * Returns OUTCOME_DONE, or OUTCOME_USAGE with the reason said.
 */
enum outcome options_take(
    struct ctl *ctl, int argc, char **argv, unsigned *ret_given, int *ret_rest);

/* ["--channel","-c",…]: what a command of these groups takes; 0: what all take. */
json_t *options_list(unsigned groups);

/* A number from 0 up, and nothing behind it. */
bool parse_number(const char *text, long *ret_number);

/* "wsctl: WHAT: WHY" and what to try. Returns OUTCOME_USAGE. */
enum outcome usage_wrong(const char *what, const char *why);

#endif
