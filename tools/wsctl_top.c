/*
 * wsctl_top.c - top: what the server does, as it does it
 *
 * All of it is read from the shared maps, so that it goes on when a worker is stuck or
 * the supervisor has no time. The supervisor is asked once, for the descriptors; and
 * again when a worker with all its processes was replaced, which has new maps then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/wsctl_clock.h"
#include "tools/wsctl_top.h"
#include "tools/wsctl_tty.h"

#define INTERVAL_MS 1000
#define INTERVAL_MIN_MS 100
#define INTERVAL_MAX_MS 3600000
#define SCAN_MS 250 /* between two walks of the ring: before it comes around */
#define ASK_MS 1000

enum mode { MODE_ONCE, MODE_LINES, MODE_SCREEN };

struct top {
	struct ctl *ctl;
	enum mode mode;
	struct maps maps;
	struct sample last;
	struct busy busy;
	struct top_view view;
	struct top_look look;
	long long next_ms; /* when to look again */
	sigset_t waiting;
	bool seen; /* there is a view */
	bool quit;
};

static long long
now_ms(void)
{
	return (long long)clock_ms(CLOCK_MONOTONIC);
}

/* ---- the maps ---- */

static enum outcome
maps_failed(struct ctl *ctl, int asked, int found)
{
	if (asked != -ETIMEDOUT) {
		if (asked != -EPROTO)
			return ctl_broken(ctl, asked);
		ctl_complain("the server has no maps that this wsctl (%s) understands: "
			     "use the one that came with it",
		    WSCAST_VERSION);
		return OUTCOME_FAILED;
	}
	(void)ctl_broken(ctl, asked);
	if (found == -EACCES || found == -EPERM)
		ctl_complain("root, and its own user, can look without it");
	return OUTCOME_FAILED;
}

static enum outcome
maps_get(struct ctl *ctl, struct maps *ret)
{
	enum outcome o = ctl_open(ctl);
	int asked, found;

	if (o != OUTCOME_DONE)
		return o;
	asked = maps_ask(ctl, ASK_MS, ret);
	if (asked == 0)
		return OUTCOME_DONE;
	found = asked == -ETIMEDOUT ? maps_find(client_peer(&ctl->client), ret) : asked;
	return found == 0 ? OUTCOME_DONE : maps_failed(ctl, asked, found);
}

/* A worker was replaced as a whole. When its new page cannot be had now, it is asked
 * for again at the next look. */
static void
renew_maps(struct top *t)
{
	struct maps maps;
	bool old = false;

	for (unsigned i = 0; i < t->maps.npages; i++) {
		struct page_now now;

		page_look(t->maps.page[i], &now);
		old = old || now.state == WORKER_GONE;
	}
	if (!old)
		return;
	/* A new connection: on the old one an answer may be due that nobody awaits. */
	client_close(&t->ctl->client);
	if (client_open(&t->ctl->client, t->ctl->socket) < 0 ||
	    maps_ask(t->ctl, ASK_MS, &maps) < 0)
		return;
	maps_close(&t->maps);
	t->maps = maps;
}

/* ---- a look ---- */

static enum outcome
show(struct top *t)
{
	size_t len = 0;
	char *text;
	json_t *o;
	enum outcome outcome = OUTCOME_DONE;

	if (t->ctl->json) {
		o = top_json(&t->maps, &t->view, &t->look);
		/* A line each, also on a terminal, for the reader to tell them apart.
		 */
		text = o == NULL
			   ? NULL
			   : json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(15));
		json_decref(o);
		if (text != NULL)
			put_json_safe(&t->ctl->screen, text, strlen(text), stdout);
		putchar('\n');
	} else {
		text = top_text(t->ctl, &t->maps, &t->view, &t->look, &len);
		if (text != NULL && t->mode == MODE_SCREEN)
			tty_draw(text, len);
		else if (text != NULL)
			fwrite(text, 1, len, stdout);
	}
	if (text == NULL)
		outcome = ctl_broken(t->ctl, -ENOMEM);
	free(text);
	return outcome;
}

/* What happened since the last look, unless what is there is to stay. */
static int
look_again(struct top *t)
{
	struct sample now;
	struct top_view view;
	int r;

	renew_maps(t);
	r = sample_take(&t->maps, &now);
	if (r < 0)
		return r;
	r = view_make(&t->maps, &t->last, &now, &t->busy, &view);
	if (r < 0) {
		sample_done(&now);
		return r;
	}
	sample_done(&t->last);
	t->last = now;
	if (t->look.paused && t->seen) {
		view_done(&view);
		return 0;
	}
	view_done(&t->view);
	t->view = view;
	t->seen = true;
	return 0;
}

static enum outcome
tick(struct top *t)
{
	int r = look_again(t);
	long long now = now_ms();

	if (r < 0)
		return ctl_broken(t->ctl, r);
	/* In step, but never in a hurry after a pause of ours. */
	t->next_ms += t->look.interval_ms;
	if (t->next_ms <= now)
		t->next_ms = now + t->look.interval_ms;
	view_sort(&t->view, t->look.channel_order, t->look.worker_order);
	t->quit = t->quit || t->mode == MODE_ONCE;
	return show(t);
}

/* ---- keys ---- */

static void
set_interval(struct top *t, long ms)
{
	if (ms >= INTERVAL_MIN_MS && ms <= INTERVAL_MAX_MS)
		t->look.interval_ms = ms;
	t->next_ms = now_ms() + t->look.interval_ms;
}

static void
on_key(struct top *t, char key)
{
	static const char channels[] = "mbn", workers[] = "icolu";
	const char *at;

	switch (key) {
	case 'q':
	case 'Q':
		t->quit = true;
		return;
	case 'p':
	case ' ':
		t->look.paused = !t->look.paused;
		return;
	case '?':
	case 'h':
		t->look.help = !t->look.help;
		return;
	case '+':
		set_interval(t, t->look.interval_ms / 2);
		return;
	case '-':
		set_interval(t, t->look.interval_ms * 2);
		return;
	case 's':
		t->look.channel_order =
		    (t->look.channel_order + 1) % (sizeof(channels) - 1);
		return;
	case 'w':
		t->look.worker_order =
		    (t->look.worker_order + 1) % (sizeof(workers) - 1);
		return;
	default:
		break;
	}
	at = key == '\0' ? NULL : strchr(channels, key);
	if (at != NULL)
		t->look.channel_order = (enum channel_order)(at - channels);
	at = key == '\0' ? NULL : strchr(workers, key);
	if (at != NULL)
		t->look.worker_order = (enum worker_order)(at - workers);
}

static enum outcome
redraw(struct top *t)
{
	if (t->mode != MODE_SCREEN || !t->seen)
		return OUTCOME_DONE;
	tty_size(&t->look.columns, &t->look.rows);
	view_sort(&t->view, t->look.channel_order, t->look.worker_order);
	return show(t);
}

static enum outcome
read_keys(struct top *t)
{
	char keys[64];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	for (ssize_t i = 0; i < n; i++) {
		if (keys[i] == '\033') /* an arrow, perhaps: all of it is passed */
			break;
		on_key(t, keys[i]);
	}
	return redraw(t);
}

/* ---- the course ---- */

/* Nothing is asked any more: what still comes is an answer that was too late. */
static void
drop_answers(struct client *c)
{
	size_t len;
	char *line;

	while (client_next(c, &line, &len) > 0)
		;
	while (c->nfds > 0)
		(void)close(c->fds[--c->nfds]);
}

/* Wait for the next thing to do, and do it. */
static enum outcome
turn(struct top *t)
{
	struct pollfd others[2] = {{.fd = STDOUT_FILENO}, {.fd = STDIN_FILENO}};
	long long left = t->next_ms - now_ms();
	struct tty_events events;
	int r;

	if (t->mode == MODE_SCREEN)
		others[1].events = POLLIN;
	left = left < 0 ? 0 : left < SCAN_MS ? left : SCAN_MS;
	drop_answers(&t->ctl->client);
	r = client_turn(&t->ctl->client, others, t->mode == MODE_SCREEN ? 2 : 1,
	    (int)left, &t->waiting);
	if (r < 0 && r != -ETIMEDOUT && r != -EINTR)
		return ctl_broken(t->ctl, r);
	if (r == -EINTR || r == -ETIMEDOUT)
		others[0].revents = others[1].revents = 0;
	events = tty_events();
	t->quit = t->quit || events.end ||
		  ((others[0].revents | others[1].revents) & (POLLERR | POLLHUP)) != 0;
	r = busy_scan(&t->busy, t->maps.ring);
	if (r < 0)
		return ctl_broken(t->ctl, r);
	if (t->quit)
		return OUTCOME_DONE;
	if ((others[1].revents & POLLIN) != 0)
		return read_keys(t);
	if (events.redraw)
		return redraw(t);
	return now_ms() >= t->next_ms ? tick(t) : OUTCOME_DONE;
}

static enum outcome
run(struct top *t)
{
	enum outcome o = OUTCOME_DONE;
	int r = sample_take(&t->maps, &t->last);

	if (r == 0)
		r = busy_scan(&t->busy, t->maps.ring); /* begins here */
	if (r == 0 && t->mode == MODE_SCREEN)
		r = tty_enter(&t->waiting);
	else
		tty_catch(&t->waiting);
	if (r < 0)
		return ctl_broken(t->ctl, r);
	if (t->mode == MODE_SCREEN)
		tty_size(&t->look.columns, &t->look.rows);
	t->next_ms = now_ms() + t->look.interval_ms;
	while (o == OUTCOME_DONE && !t->quit) {
		o = turn(t);
		if (t->mode != MODE_SCREEN && fflush(stdout) != 0)
			break; /* main() says why */
	}
	tty_leave();
	return o;
}

static enum mode
mode_of(const struct ctl *ctl)
{
	if (ctl->json)
		return ctl->once ? MODE_ONCE : MODE_LINES;
	return ctl->once || !tty_is_able() ? MODE_ONCE : MODE_SCREEN;
}

enum outcome
command_top(struct ctl *ctl)
{
	struct top t = {
	    .ctl = ctl,
	    .mode = mode_of(ctl),
	    .look.interval_ms = ctl->interval_ms < 0 ? INTERVAL_MS : ctl->interval_ms,
	    .look.channels = ctl->limit > 0 ? (size_t)ctl->limit : 0,
	    .look.columns = ctl->screen.width,
	};
	enum outcome o;

	if (t.look.interval_ms < INTERVAL_MIN_MS ||
	    t.look.interval_ms > INTERVAL_MAX_MS) {
		ctl_complain("--interval takes from 100ms to 1h");
		return OUTCOME_USAGE;
	}
	o = maps_get(ctl, &t.maps);
	if (o == OUTCOME_DONE)
		o = run(&t);
	view_done(&t.view);
	sample_done(&t.last);
	busy_done(&t.busy);
	maps_close(&t.maps);
	return o;
}
