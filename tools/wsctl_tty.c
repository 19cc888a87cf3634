/*
 * wsctl_tty.c - see wsctl_tty.h
 *
 * Source   termios(3); ECMA-48 and xterm's control sequences, which all terminals in
 *          use know: no library is needed for a dozen of them
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "tools/wsctl_tty.h"

/* Alternate screen, no cursor, no wrapping at the margin; and back. */
#define ENTER "\033[?1049h\033[?25l\033[?7l"
#define LEAVE "\033[?7h\033[?25h\033[?1049l"

static struct termios before;
static volatile sig_atomic_t entered, ended, resized, suspended;

static void
put(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, text, len);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return; /* it is gone */
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

static int
take(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return -errno;
	raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) < 0)
		return -errno;
	entered = 1;
	put(ENTER, strlen(ENTER));
	return 0;
}

/* Safe within a signal handler. */
static void
give_back(void)
{
	if (!entered)
		return;
	entered = 0;
	put(LEAVE, strlen(LEAVE));
	(void)tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

/* ---- signals ---- */

static void
on_end(int sig)
{
	(void)sig;
	ended = 1;
}

static void
on_resize(int sig)
{
	(void)sig;
	resized = 1;
}

static void
on_suspend(int sig)
{
	(void)sig;
	suspended = 1;
}

/* We are broken, and the terminal shall not be. The default action follows. */
static void
on_fault(int sig)
{
	int saved = errno;

	give_back();
	errno = saved;
	(void)raise(sig);
}

static void
handle(int sig, void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

	(void)sigaction(sig, &action, NULL);
}

void
tty_catch(sigset_t *ret_waiting)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigset_t block;

	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		handle(ends[i], on_end, 0);
		sigaddset(&block, ends[i]);
	}
	sigaddset(&block, SIGWINCH);
	sigaddset(&block, SIGTSTP);
	sigaddset(&block, SIGCONT);
	sigprocmask(SIG_BLOCK, &block, ret_waiting);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		sigdelset(ret_waiting, ends[i]);
	sigdelset(ret_waiting, SIGWINCH);
	sigdelset(ret_waiting, SIGTSTP);
	sigdelset(ret_waiting, SIGCONT);
}

bool
tty_is_able(void)
{
	const char *term = getenv("TERM");

	return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 &&
	       term != NULL && *term != '\0' && strcmp(term, "dumb") != 0;
}

int
tty_enter(sigset_t *ret_waiting)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

	tty_catch(ret_waiting);
	handle(SIGWINCH, on_resize, 0);
	handle(SIGCONT, on_resize, 0);
	handle(SIGTSTP, on_suspend, 0);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		handle(faults[i], on_fault, (int)(SA_RESETHAND | SA_NODEFER));
	(void)atexit(tty_leave);
	return take();
}

void
tty_leave(void)
{
	give_back();
}

/* ^Z: the shell gets its terminal as it was, and we have ours again when it goes on. */
static void
suspend(void)
{
	give_back();
	(void)raise(SIGSTOP);
	if (take() < 0)
		ended = 1;
}

struct tty_events
tty_events(void)
{
	struct tty_events events;

	if (suspended) {
		suspended = 0;
		suspend();
		resized = 1;
	}
	events = (struct tty_events){ended != 0, resized != 0};
	resized = 0;
	return events;
}

/* ---- the picture ---- */

void
tty_size(unsigned *ret_columns, unsigned *ret_rows)
{
	struct winsize size;

	*ret_columns = 80;
	*ret_rows = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 ||
	    size.ws_row == 0)
		return;
	*ret_columns = size.ws_col;
	*ret_rows = size.ws_row;
}

void
tty_draw(const char *text, size_t len)
{
	const char *end = text + len, *line_end;
	char *out = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&out, &size);

	if (f == NULL)
		return; /* the next one, perhaps */
	/* In one write, and each line erased only behind what is new: no flicker. */
	fputs("\033[H", f);
	for (; text < end; text = line_end + 1) {
		line_end = memchr(text, '\n', (size_t)(end - text));
		if (line_end == NULL)
			line_end = end;
		fwrite(text, 1, (size_t)(line_end - text), f);
		fputs(line_end < end ? "\033[K\n" : "\033[K", f);
	}
	fputs("\033[J", f);
	if (fclose(f) == 0)
		put(out, size);
	free(out);
}
