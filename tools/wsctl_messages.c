/* wsctl_messages.c - publish, tail, history: many messages, one way or the other */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/dialect.h"
#include "proto/settings.h"
#include "proto/utf8.h"
#include "tools/wsctl.h"

#define FEED_TIMEOUT_MS 30000
#define PUBLISH_WINDOW 1024      /* messages that wait for their answer */
#define PUBLISH_QUEUE (1u << 20) /* bytes to send before more input is read */
#define COMPLAINTS_MAX 10        /* refused messages that are named */

/* ---- publish ---- */

/* A line to send; NULL with the reason said. what: "the message", "line 7". */
static char *
publish_line(const struct ctl *ctl, const char *channel, const void *data, size_t len,
    const char *what, size_t *ret_len)
{
	json_t *request = json_pack(
	    "{s:s,s:s,s:s*}", "cmd", "publish", "channel", channel, "key", ctl->key);
	char *line;

	if (request != NULL && control_put_payload(request, data, len) < 0) {
		json_decref(request);
		request = NULL;
	}
	line = control_line_of(request, ret_len);
	if (line == NULL) {
		ctl_complain("out of memory");
	} else if (*ret_len - 1 > CONTROL_LINE_MAX) {
		ctl_complain("%s is too long to publish", what);
		free(line);
		line = NULL;
	}
	return line;
}

static enum outcome
publish_one(struct ctl *ctl, const char *channel, const char *data)
{
	json_t *ok;
	size_t len;
	char *line =
	    publish_line(ctl, channel, data, strlen(data), "the message", &len);
	enum outcome o;

	if (line == NULL)
		return OUTCOME_FAILED;
	o = ctl_call(ctl, json_loadb(line, len, 0, NULL), FEED_TIMEOUT_MS, &ok);
	free(line);
	if (o != OUTCOME_DONE)
		return o;
	if (ctl->json) {
		json_dumpf(ok, stdout, JSON_COMPACT);
		putchar('\n');
	}
	json_decref(ok);
	return OUTCOME_DONE;
}

/* Standard input, a message a line, sent ahead of the answers. */
struct stream {
	struct ctl *ctl;
	const char *channel;
	struct control_line in;
	bool ended; /* no more input is to be read */
	uint64_t lines, sent, answered, refused;
	uint64_t *waiting; /* line numbers, a ring of PUBLISH_WINDOW */
	enum outcome outcome;
};

static void
stream_failed(struct stream *s)
{
	s->refused++;
	s->outcome = OUTCOME_FAILED;
}

/* No more input, and none of what was read. */
static void
stream_stop(struct stream *s)
{
	s->ended = true;
	control_line_done(&s->in);
}

static int
stream_send(struct stream *s, const char *data, size_t len)
{
	char what[40], *line;
	size_t line_len;

	s->lines++;
	snprintf(what, sizeof(what), "line %llu", (unsigned long long)s->lines);
	line = publish_line(s->ctl, s->channel, data, len, what, &line_len);
	if (line == NULL) {
		stream_failed(s);
		return 0;
	}
	s->waiting[s->sent++ % PUBLISH_WINDOW] = s->lines;
	return client_queue(&s->ctl->client, line, line_len);
}

/* Whether more may be sent before answers have come. */
static bool
stream_may_send(const struct stream *s)
{
	return s->sent - s->answered < PUBLISH_WINDOW &&
	       client_queued(&s->ctl->client) < PUBLISH_QUEUE;
}

/* Send the whole lines that were read. Returns 1 when more should be read. */
static int
stream_fill(struct stream *s)
{
	size_t len;
	char *line;
	int r;

	while (stream_may_send(s)) {
		r = control_line_next(&s->in, &line, &len);
		if (r == -EMSGSIZE) {
			s->lines++;
			stream_failed(s);
			ctl_complain("line %llu is too long to publish, and the last",
			    (unsigned long long)s->lines);
			stream_stop(s); /* where the next one begins is not known */
			return 0;
		}
		if (r == 0 && s->ended && s->in.len > 0) { /* no newline at the end */
			r = stream_send(s, s->in.buf + s->in.start, s->in.len);
			s->in.len = s->in.scanned = 0;
			return r;
		}
		if (r == 0)
			return !s->ended;
		r = stream_send(s, line, len);
		if (r < 0)
			return r;
	}
	return 0;
}

static int
stream_read(struct stream *s)
{
	size_t room;
	void *p = control_line_room(&s->in, &room);
	ssize_t n;

	if (p == NULL)
		return -errno;
	n = read(STDIN_FILENO, p, room);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0) {
		ctl_complain("cannot read standard input: %s", strerror(errno));
		s->outcome = OUTCOME_FAILED;
	}
	if (n <= 0)
		s->ended = true;
	else
		control_line_fed(&s->in, (size_t)n);
	return 0;
}

static void
stream_refused(struct stream *s, const json_t *reply, uint64_t line)
{
	const char *code =
	    json_string_value(json_object_get(json_object_get(reply, "error"), "code"));
	char prefix[40];

	snprintf(prefix, sizeof(prefix), "line %llu: ", (unsigned long long)line);
	stream_failed(s);
	if (s->refused <= COMPLAINTS_MAX)
		(void)ctl_refused(s->ctl, prefix, reply);
	/* No other line would fare better. */
	if (code != NULL && strcmp(code, control_code_name(CONTROL_FORBIDDEN)) == 0)
		stream_stop(s);
}

static int
stream_answers(struct stream *s)
{
	json_t *reply;
	size_t len;
	char *line;
	int r;

	while ((r = client_next(&s->ctl->client, &line, &len)) > 0) {
		r = client_parse(line, len, &reply);
		if (r < 0)
			return r;
		if (s->answered == s->sent) {
			json_decref(reply);
			return -EBADMSG;
		}
		if (json_object_get(reply, "error") != NULL)
			stream_refused(
			    s, reply, s->waiting[s->answered % PUBLISH_WINDOW]);
		s->answered++;
		json_decref(reply);
	}
	return r;
}

/* One wait: for answers, for room, and for input where there is a use for it. */
static int
stream_turn(struct stream *s, bool hungry)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	bool idle = s->sent == s->answered; /* then only input can be waited for */
	int r;

	r = client_turn(
	    &s->ctl->client, &input, hungry ? 1 : 0, idle ? -1 : FEED_TIMEOUT_MS, NULL);
	if (r == 0 && hungry && input.revents != 0)
		r = stream_read(s);
	return r == -EINTR ? 0 : r;
}

static int
stream_run(struct stream *s)
{
	int r;

	for (;;) {
		r = stream_answers(s);
		if (r < 0)
			return r;
		r = stream_fill(s);
		if (r < 0)
			return r;
		if (s->ended && s->in.len == 0 && s->sent == s->answered)
			return 0;
		r = stream_turn(s, r == 1);
		if (r < 0)
			return r;
	}
}

static void
stream_report(const struct stream *s)
{
	uint64_t unknown = s->sent - s->answered;

	if (s->ctl->json) {
		printf("{\"published\":%llu,\"refused\":%llu,\"unanswered\":%llu}\n",
		    (unsigned long long)(s->lines - s->refused - unknown),
		    (unsigned long long)s->refused, (unsigned long long)unknown);
		return;
	}
	if (s->refused == 0 && unknown == 0 && !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "wsctl: published %llu of %llu messages",
	    (unsigned long long)(s->lines - s->refused - unknown),
	    (unsigned long long)s->lines);
	if (unknown > 0)
		fprintf(stderr, ", %llu more were sent and not answered",
		    (unsigned long long)unknown);
	fputc('\n', stderr);
}

static enum outcome
publish_stream(struct ctl *ctl, const char *channel)
{
	struct stream s = {.ctl = ctl, .channel = channel};
	enum outcome o = ctl_open(ctl);
	int r;

	if (o != OUTCOME_DONE)
		return o;
	s.waiting = calloc(PUBLISH_WINDOW, sizeof(*s.waiting));
	if (s.waiting == NULL)
		return ctl_broken(ctl, -ENOMEM);
	control_line_init(&s.in, CONTROL_LINE_MAX);
	r = stream_run(&s);
	if (r < 0)
		s.outcome = ctl_broken(ctl, r);
	stream_report(&s);
	control_line_done(&s.in);
	free(s.waiting);
	return s.outcome;
}

static bool
check_channel(const char *channel)
{
	if (name_ok(channel, strlen(channel)))
		return true;
	ctl_complain(
	    "a channel's name is 1 to 200 bytes of UTF-8 without control characters, "
	    "the first no '!'");
	return false;
}

enum outcome
command_publish(struct ctl *ctl)
{
	if (!check_channel(ctl->args[0]))
		return OUTCOME_USAGE;
	if (ctl->key != NULL &&
	    (*ctl->key == '\0' || strlen(ctl->key) > MESSAGE_KEY_MAX ||
		!utf8_valid(ctl->key, strlen(ctl->key)))) {
		ctl_complain("a key is 1 to 200 bytes of UTF-8");
		return OUTCOME_USAGE;
	}
	return ctl->nargs == 1 ? publish_stream(ctl, ctl->args[0])
			       : publish_one(ctl, ctl->args[0], ctl->args[1]);
}

/* ---- tail ---- */

static volatile sig_atomic_t interrupted;

static void
on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* Let ^C in only while we wait, so that each message is printed whole. */
static void
catch_interrupts(sigset_t *ret_waiting)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	sigset_t block;

	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, ret_waiting);
	sigdelset(ret_waiting, SIGINT);
	sigdelset(ret_waiting, SIGTERM);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* The server's line, as it is. */
static void
put_json_line(const struct ctl *ctl, const char *line, size_t len)
{
	if (ctl->screen.terminal)
		put_json_safe(&ctl->screen, line, len, stdout);
	else
		fwrite(line, 1, len, stdout);
	putchar('\n');
}

static void
put_time(double time)
{
	time_t seconds = time > 0 && time < 1e11 ? (time_t)time : 0;
	struct tm tm;
	char text[16] = "--:--:--";

	if (localtime_r(&seconds, &tm) != NULL)
		strftime(text, sizeof(text), "%H:%M:%S", &tm);
	printf(
	    "%s.%03d", text, seconds == 0 ? 0 : (int)((time - (double)seconds) * 1000));
}

static int
put_event(const struct ctl *ctl, const struct control_event *e)
{
	const struct screen *s = &ctl->screen;
	char *channel, *data;
	int r = 0;

	if (ctl->raw && !s->terminal) {
		fwrite(e->data, 1, e->data_len, stdout);
		putchar('\n');
		return 0;
	}
	channel = text_safe(s, e->channel, strlen(e->channel), NULL);
	data = text_safe(s, e->data, e->data_len, ctl->raw ? "\n\t" : NULL);
	if (channel == NULL || data == NULL) {
		r = -ENOMEM;
	} else if (ctl->raw) {
		puts(data);
	} else {
		fputs(style_on(s, STYLE_DIM), stdout);
		put_time(e->time);
		printf("%s %s%s%s %s%llu%s %s\n", style_off(s), style_on(s, STYLE_HEAD),
		    channel, style_off(s), style_on(s, STYLE_DIM),
		    (unsigned long long)e->offset, style_off(s), data);
	}
	free(channel);
	free(data);
	return r;
}

static int
put_line(const struct ctl *ctl, const char *line, size_t len)
{
	struct control_event e;
	int r = control_event_parse(line, len, &e);

	if (r < 0)
		return r;
	if (ctl->json) {
		put_json_line(ctl, line, len);
	} else if (e.missed > 0) {
		fflush(stdout);
		ctl_complain("%llu messages were missed: they came faster than they "
			     "could be printed",
		    (unsigned long long)e.missed);
	} else {
		r = put_event(ctl, &e);
	}
	control_event_done(&e);
	return r;
}

/* Print until interrupted. Returns 0, or what went wrong. */
static int
tail_run(struct ctl *ctl)
{
	/* For a reader that goes away while nothing is printed. */
	struct pollfd output = {.fd = STDOUT_FILENO};
	sigset_t waiting;
	size_t len;
	char *line;
	int r;

	catch_interrupts(&waiting);
	while (!interrupted) {
		while ((r = client_next(&ctl->client, &line, &len)) > 0) {
			r = put_line(ctl, line, len);
			if (r < 0)
				return r;
		}
		if (r < 0)
			return r;
		if (fflush(stdout) != 0)
			return 0; /* main() says why */
		output.revents = 0;
		r = client_turn(&ctl->client, &output, 1, -1, &waiting);
		if (r < 0 && r != -EINTR)
			return r;
		if ((output.revents & (POLLERR | POLLHUP)) != 0)
			return 0;
	}
	return 0;
}

enum outcome
command_tail(struct ctl *ctl)
{
	json_t *ok, *channels = json_array(), *request;
	enum outcome o;
	int r;

	for (int i = 0; i < ctl->nargs; i++) {
		if (!check_channel(ctl->args[i])) {
			json_decref(channels);
			return OUTCOME_USAGE;
		}
		if (json_array_append_new(channels, json_string(ctl->args[i])) < 0) {
			json_decref(channels);
			return ctl_broken(ctl, -ENOMEM);
		}
	}
	request = json_pack("{s:s,s:o}", "cmd", "tail", "channels", channels);
	o = ctl_call(ctl, request, FEED_TIMEOUT_MS, &ok);
	if (o != OUTCOME_DONE)
		return o;
	json_decref(ok);
	r = tail_run(ctl);
	return r < 0 ? ctl_broken(ctl, r) : OUTCOME_DONE;
}

/* ---- history ---- */

/* Print the n lines that follow the answer. Returns 0, or what went wrong. */
static int
history_run(struct ctl *ctl, uint64_t n)
{
	size_t len;
	char *line;
	int r;

	while (n > 0) {
		r = client_next(&ctl->client, &line, &len);
		if (r > 0) {
			r = put_line(ctl, line, len);
			n--;
		} else if (r == 0) {
			r = client_turn(&ctl->client, NULL, 0, FEED_TIMEOUT_MS, NULL);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

enum outcome
command_history(struct ctl *ctl)
{
	json_t *ok, *request;
	enum outcome o;
	int r;

	if (!check_channel(ctl->args[0]))
		return OUTCOME_USAGE;
	request = json_pack("{s:s,s:s}", "cmd", "history", "channel", ctl->args[0]);
	if (ctl->limit >= 0)
		(void)json_object_set_new(request, "limit", json_integer(ctl->limit));
	o = ctl_call(ctl, request, FEED_TIMEOUT_MS, &ok);
	if (o != OUTCOME_DONE)
		return o;
	r = history_run(
	    ctl, (uint64_t)json_integer_value(json_object_get(ok, "messages")));
	json_decref(ok);
	return r < 0 ? ctl_broken(ctl, r) : OUTCOME_DONE;
}
