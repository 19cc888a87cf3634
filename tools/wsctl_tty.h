/*
 * wsctl_tty.h - the terminal while `wsctl top` has it: keys come at once and unseen,
 * the picture is on the alternate screen, and all is put back however the program ends
 * (but for SIGKILL).
 *
 * One at a time, since signal handlers need to find it.
 */
#ifndef WSCAST_TOOLS_WSCTL_TTY_H
#define WSCAST_TOOLS_WSCTL_TTY_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/* What came by signals since they were last looked at. */
struct tty_events {
	bool end;    /* interrupted, terminated, hung up */
	bool redraw; /* the size has changed, or we were stopped for a while */
};

/* Whether standard input and output are a terminal that can move its cursor. */
bool tty_is_able(void);

/*
 * Take the terminal over, and the signals, which come only while one waits.
 *
 * ret_waiting  the mask to wait with.
 *
 * Returns 0 or -errno.
 */
int tty_enter(sigset_t *ret_waiting) __attribute__((warn_unused_result));
void tty_leave(void); /* also when it was not entered */
struct tty_events tty_events(void);
/* The same signals without a terminal. */
void tty_catch(sigset_t *ret_waiting);

void tty_size(unsigned *ret_columns, unsigned *ret_rows);
/* Show these lines, each shorter than the screen is wide, and nothing else. */
void tty_draw(const char *text, size_t len);

#endif
