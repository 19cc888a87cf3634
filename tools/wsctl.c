/*
 * wsctl - look at and change a running wscastd.
 *
 *   wsctl.c           the commands, and what all of them share
 *   wsctl_options.c   their options
 *   wsctl_client.c    the connection to the control socket
 *   wsctl_table.c     tables, numbers for people, text made safe for a terminal
 *   wsctl_show.c      objects of an answer as rows or lines
 *   wsctl_status.c    status, workers, metrics, version
 *   wsctl_top.c       top (wsctl_sample.c what it measures, wsctl_busy.c the busiest
 *                     channels, wsctl_top_show.c the picture, wsctl_tty.c the terminal)
 *   wsctl_maps.c      the shared maps, read-only (wsctl_maps_status.c what they say)
 *   wsctl_proc.c      what /proc says of a process
 *   wsctl_clients.c   clients, client, channels, presence
 *   wsctl_messages.c  publish, tail, history
 *   wsctl_expel.c     kick, revoke
 *   wsctl_service.c   restart, reload, drain, undrain
 *   wsctl_settings.c  check, config, log-level
 *   wsctl_token.c     token
 *
 * Source   wsctl(1); proto/control.h for what goes over the socket
 */
#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/wsctl_options.h"
#include "tools/wsctl_proc.h"

static const struct command {
	const char *name;
	enum outcome (*run)(struct ctl *ctl);
	int min_args, max_args;
	unsigned options; /* enum command_option: beside those that all have */
	const char *synopsis;
	const char *summary;
	const char *help;
} commands[] = {
    {"status", command_status, 0, 0, 0, "", "what the server is, and how it goes",
	"Version, feed, connections, messages, the ring, and a line for each "
	"worker.\n"},
    {"workers", command_workers, 0, 0, 0, "", "a line for each worker",
	"CONNS      connections open now\n"
	"RESTARTS   serving processes that were replaced, after a crash or on demand\n"
	"ADOPTED    connections taken over from a predecessor\n"
	"SENT       messages delivered\n"
	"LAGGING    connections with something still to send\n"
	"LAPPED     times that a connection fell out of the ring\n"
	"SLOW       connections closed because they took nothing\n"
	"BEAT       time since the worker's last sign of life\n"
	"SANDBOX    the kernel lets it do no more than it needs (server.sandbox)\n"
	"Columns that do not fit the screen are left out; --json has all.\n"},
    {"top", command_top, 0, 0, OPTION_TOP | OPTION_LIMIT, "[-i TIME] [--once] [-n N]",
	"rates, latency, busiest channels: live",
	"  -i, --interval TIME  between two looks, from 100ms to 1h (default 1s)\n"
	"      --once           one look, and no more; as where there is no terminal\n"
	"  -n, --limit N        not more than N channels\n"
	"Keys: q quit, p pause, s and w other orders, + and - the interval, ? help.\n"
	"--json: a line for each look, until ^C. What is counted, is counted within\n"
	"the time between two looks.\n"},
    {"clients", command_clients, 0, 0, OPTION_CHANNEL | OPTION_USER | OPTION_LIMIT,
	"[-c CHANNEL] [-u USER] [-n N]", "the connections",
	"  -c, --channel CHANNEL  only those subscribed to this channel\n"
	"  -u, --user USER        only those of this user (claim sub)\n"
	"  -n, --limit N          not more than N (default 100; 0: all)\n"
	"LAG is how many messages a client has still to be sent.\n"
	"KTLS: the kernel has the keys of its TLS, and it outlives its worker.\n"},
    {"client", command_client, 1, 1, 0, "ID", "one connection, with its channels",
	"ID as `wsctl clients` shows it.\n"},
    {"channels", command_channels, 0, 1, OPTION_LIMIT, "[GLOB] [-n N]",
	"the channels, or those that match",
	"  -n, --limit N  not more than N (0: all)\n"
	"Quote the GLOB, so that the shell leaves it alone: wsctl channels 'chat:*'\n"},
    {"publish", command_publish, 1, 2, OPTION_KEY, "[--key KEY] CHANNEL [DATA]",
	"publish it, or each line of standard input",
	"      --key KEY  what the message is about, for channels with slow = latest\n"
	"Without DATA each line of standard input is a message of its own.\n"
	"DATA that begins with - goes behind --: wsctl publish news -- -5\n"},
    {"tail", command_tail, 1, 1000, OPTION_RAW, "[-r] CHANNEL...",
	"print messages as they come, until ^C",
	"  -r, --raw  the payloads and nothing else\n"
	"Otherwise: time, channel, offset, payload, a line each.\n"},
    {"history", command_history, 1, 1, OPTION_LIMIT, "CHANNEL [-n N]",
	"the channel's last messages",
	"  -n, --limit N  not more than N (default 10; at most 1000)\n"
	"A line each, as tail prints them, the oldest first.\n"},
    {"restart", command_restart, 0, 1, 0, "[WORKER]",
	"replace serving processes; clients stay",
	"Answers when the new processes serve. Without WORKER: all of them.\n"},
    {"reload", command_reload, 0, 0, 0, "", "read the settings file anew",
	"Answers when all workers have the new settings, and names those that wait "
	"for a\nrestart. A file with faults changes nothing: all of them are shown.\n"},
    {"check", command_check, 0, 1, 0, "[FILE]", "look for faults in a settings file",
	"All of them are shown, as file:line; the files that it names are read, "
	"too.\nWithout FILE: " CTL_SETTINGS_PATH ". Needs no server.\n"},
    {"config", command_config, 0, 1, 0, "[KEY]", "the settings as they hold now",
	"KEY is SECTION.KEY, or \"channel GLOB.KEY\". Without it: all of them, as a "
	"file.\n"},
    {"log-level", command_log_level, 1, 1, 0, "LEVEL",
	"log more, or less, until the next reload",
	"LEVEL is error, warning, notice, info or debug (server.log_level).\n"},
    {"drain", command_drain, 0, 1, OPTION_OVER, "[--over TIME] [WORKER]",
	"tell clients to go, and let no new ones in",
	"One after the other they are told to come again elsewhere, evenly over the "
	"time,\nand new ones are refused with 503. The progress is shown; ^C ends "
	"that and not\nthe drain. It lasts until `wsctl undrain`, or the server's "
	"end.\n"
	"      --over TIME  such as 30s, 2m (default: server.drain_timeout); 0: at "
	"once\n"
	"Exit status 1 when it was ended by `wsctl undrain`.\n"},
    {"undrain", command_undrain, 0, 1, 0, "[WORKER]",
	"end a drain: who is still there stays", "New clients are let in again.\n"},
    {"kick", command_kick, 0, 1, OPTION_USER | OPTION_CHANNEL,
	"ID | -u USER | -c CHANNEL", "close connections of this host",
	"ID as `wsctl clients` shows it. They are closed with 4403, and may come "
	"again.\n"
	"  -u, --user USER        those of this user (claim sub)\n"
	"  -c, --channel CHANNEL  those subscribed to this channel\n"},
    {"revoke", command_revoke, 0, 0, OPTION_USER | OPTION_JTI | OPTION_FOR,
	"-u USER | --jti JTI [--for TIME]", "refuse a user or token on all hosts",
	"Connections are closed on all hosts that share our Redis: a user's with "
	"4403,\n"
	"those of a token with 4401. For the time given, neither can come in.\n"
	"  -u, --user USER  this user (claim sub)\n"
	"      --jti JTI    the token with this claim jti\n"
	"      --for TIME   such as 90s, 10m, 8h, 30d (default 1h); 0: only close\n"},
    {"presence", command_presence, 1, 1, OPTION_LIMIT, "CHANNEL [-n N]",
	"who is in a channel, on all hosts",
	"  -n, --limit N  not more than N (default: all)\n"
	"For channels whose rule has presence.\n"},
    {"token", command_token, 0, 0, OPTION_TOKEN | OPTION_JTI | OPTION_KEY,
	"--sub USER [OPTION]...", "make a token, for trying things out",
	"      --sub USER         who it is for\n"
	"      --ttl TIME         how long it holds (default 1h)\n"
	"      --channels C,...   channels that it subscribes at once\n"
	"      --subscribe G,...  globs for rules with the word claim\n"
	"      --publish G,...    the same for publishing\n"
	"                         (these three may be given several times)\n"
	"      --aud, --iss TEXT  audience and issuer\n"
	"      --jti JTI          a name of its own\n"
	"      --key FILE         a secret (HS256) or a private Ed25519 key in PEM\n"
	"                         (EdDSA); default: the secret_file of the settings\n"
	"      --conf FILE        the settings\n"
	"Needs no server.\n"},
    {"metrics", command_metrics, 0, 0, 0, "", "what is counted, for Prometheus",
	"The same text as /metrics on the admin listener.\n"},
    {"version", command_version, 0, 0, 0, "", "of wsctl and of the running server", ""},
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static const char usage_text[] =
    "Usage: wsctl [-s SOCKET] [--json] COMMAND [ARGUMENT]...\n"
    "Look at and change a running wscastd.\n\n";

static const char options_text[] =
    "\nOptions, before or behind the command:\n"
    "  -s, --socket PATH  the control socket (default: $WSCAST_SOCKET, else\n"
    "                     " CONTROL_DEFAULT_SOCKET ")\n"
    "  -j, --json         print the server's answer as JSON; tail: an object a line\n"
    "  -h, --help         this, or a command's own help\n"
    "  -V, --version      wsctl's own version\n\n"
    "Exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 no server.\n";

/* ---- for all commands ---- */

void
ctl_complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("wsctl: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

/* The group that may use the socket, as a hint for those who may not. */
static const char *
socket_group(const char *path)
{
	struct stat st;
	const struct group *group;

	/* Where not even the directory may be entered, the package's group it is. */
	if (stat(path, &st) < 0 || st.st_gid == 0)
		return "wscast";
	/* cppcheck-suppress getgrgidCalled ; there is one thread */
	group = getgrgid(st.st_gid);
	return group == NULL ? "wscast" : group->gr_name;
}

enum outcome
ctl_open(struct ctl *ctl)
{
	int r = client_open(&ctl->client, ctl->socket);

	switch (r) {
	case 0:
		return OUTCOME_DONE;
	case -EACCES:
	case -EPERM:
		ctl_complain("no permission on socket %s: be root, or add yourself to "
			     "group %s (and log in again)",
		    ctl->socket, socket_group(ctl->socket));
		return OUTCOME_FAILED;
	case -ENAMETOOLONG:
		ctl_complain("socket %s: the path is too long", ctl->socket);
		return OUTCOME_USAGE;
	case -ETIMEDOUT:
		ctl_complain(
		    "wscastd does not take connections at socket %s: it may be "
		    "stopped, or overloaded",
		    ctl->socket);
		return OUTCOME_FAILED;
	case -ENOENT:
	case -ECONNREFUSED:
		ctl_complain(
		    "is wscastd running? socket %s: %s", ctl->socket, strerror(-r));
		return OUTCOME_ABSENT;
	default:
		ctl_complain(
		    "cannot connect to socket %s: %s", ctl->socket, strerror(-r));
		return OUTCOME_ABSENT;
	}
}

static void
complain_silent(pid_t pid)
{
	if (proc_is_stopped(pid))
		ctl_complain("wscastd (pid %d) does not answer: the process is "
			     "stopped; `kill -CONT %d` lets it go on",
		    (int)pid, (int)pid);
	else
		ctl_complain("wscastd (pid %d) did not answer in time: it is "
			     "overloaded, or hangs",
		    (int)pid);
}

enum outcome
ctl_broken(struct ctl *ctl, int err)
{
	switch (err) {
	case -ETIMEDOUT:
		complain_silent(client_peer(&ctl->client));
		break;
	case -ECONNRESET:
		ctl_complain("wscastd closed the connection");
		break;
	case -EBADMSG:
	case -EMSGSIZE:
		ctl_complain("what answers at socket %s does not speak as wscastd does",
		    ctl->socket);
		break;
	default:
		ctl_complain("%s", strerror(-err));
		break;
	}
	return OUTCOME_FAILED;
}

enum outcome
ctl_refused(struct ctl *ctl, const char *prefix, const json_t *reply)
{
	const json_t *error = json_object_get(reply, "error");
	const json_t *message = json_object_get(error, "message");
	const char *code = json_string_value(json_object_get(error, "code"));
	const json_t *fault;
	char *text = NULL;
	size_t i;

	if (json_is_string(message))
		text = text_safe(&ctl->screen, json_string_value(message),
		    json_string_length(message), NULL);
	ctl_complain("%s%s", prefix, text == NULL || *text == '\0' ? "refused" : text);
	free(text);
	json_array_foreach(json_object_get(error, "faults"), i, fault)
	{
		text = text_safe(&ctl->screen, json_string_value(fault),
		    json_string_length(fault), NULL);
		fprintf(stderr, "%s\n", text == NULL ? "?" : text);
		free(text);
	}
	if (code != NULL && strcmp(code, control_code_name(CONTROL_FORBIDDEN)) == 0)
		ctl_complain("be root, or add yourself to group %s (and log in again)",
		    socket_group(ctl->socket));
	return OUTCOME_FAILED;
}

enum outcome
ctl_answer(struct ctl *ctl, json_t *reply, json_t **ret_ok)
{
	json_t *ok = json_object_get(reply, "ok");
	enum outcome o = OUTCOME_DONE;

	if (ok != NULL)
		*ret_ok = json_incref(ok);
	else
		o = ctl_refused(ctl, "", reply);
	json_decref(reply);
	return o;
}

enum outcome
ctl_call(struct ctl *ctl, json_t *request, int timeout_ms, json_t **ret_ok)
{
	json_t *reply;
	enum outcome o = OUTCOME_DONE;
	int r;

	if (ctl->client.fd < 0)
		o = ctl_open(ctl);
	if (o != OUTCOME_DONE) {
		json_decref(request);
		return o;
	}
	r = client_call(&ctl->client, request, timeout_ms, &reply);
	return r < 0 ? ctl_broken(ctl, r) : ctl_answer(ctl, reply, ret_ok);
}

enum outcome
ctl_show(struct ctl *ctl, json_t *ok,
    enum outcome (*show)(struct ctl *ctl, const json_t *ok))
{
	enum outcome o = ctl->json ? ctl_show_json(ctl, ok) : show(ctl, ok);

	json_decref(ok);
	return o;
}

enum outcome
ctl_ask(struct ctl *ctl, json_t *request, int timeout_ms,
    enum outcome (*show)(struct ctl *ctl, const json_t *ok))
{
	json_t *ok;
	enum outcome o = ctl_call(ctl, request, timeout_ms, &ok);

	return o == OUTCOME_DONE ? ctl_show(ctl, ok, show) : o;
}

enum outcome
ctl_show_json(const struct ctl *ctl, const json_t *ok)
{
	char *text =
	    json_dumps(ok, JSON_REAL_PRECISION(15) |
			       (ctl->screen.terminal ? JSON_INDENT(2) : JSON_COMPACT));

	if (text == NULL) {
		ctl_complain("out of memory");
		return OUTCOME_FAILED;
	}
	if (ctl->screen.terminal)
		put_json_safe(&ctl->screen, text, strlen(text), stdout);
	else
		fputs(text, stdout);
	putchar('\n');
	free(text);
	return OUTCOME_DONE;
}

bool
ctl_worker(const struct ctl *ctl, long *ret_worker)
{
	*ret_worker = -1;
	if (ctl->nargs == 0 ||
	    (parse_number(ctl->args[0], ret_worker) && *ret_worker <= 65535))
		return true;
	ctl_complain("a worker is a number (see `wsctl workers`)");
	return false;
}

/* ---- the command line ---- */

static const struct command *
command_find(const char *name)
{
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void
help_command(const struct command *c)
{
	printf("Usage: wsctl %s%s%s\n%c%s.\n", c->name, *c->synopsis == '\0' ? "" : " ",
	    c->synopsis, c->summary[0] - 'a' + 'A', c->summary + 1);
	if (*c->help != '\0')
		printf("\n%s", c->help);
	fputs(options_text, stdout);
}

/* The tables, for the shells' completions and whoever else asks. */
static enum outcome
help_json(const struct ctl *ctl)
{
	json_t *list = json_array(), *all;
	enum outcome o;

	for (size_t i = 0; i < NCOMMANDS; i++) {
		const struct command *c = &commands[i];

		(void)json_array_append_new(list,
		    json_pack("{s:s, s:s, s:s, s:o}", "command", c->name, "synopsis",
			c->synopsis, "summary", c->summary, "options",
			c->options == 0 ? json_array() : options_list(c->options)));
	}
	all = json_pack("{s:o, s:o}", "commands", list, "options", options_list(0));
	o = ctl_show_json(ctl, all);
	json_decref(all);
	return o;
}

static enum outcome
help_all(void)
{
	char line[80];
	int len;

	fputs(usage_text, stdout);
	for (size_t i = 0; i < NCOMMANDS; i++) {
		len = snprintf(line, sizeof(line), "%s %s", commands[i].name,
		    commands[i].synopsis);
		/* Too long a one has a line of its own. */
		printf("  %-28s%s%s\n", line,
		    len > 28 ? "\n                               " : " ",
		    commands[i].summary);
	}
	printf("  %-28s %s\n", "help [COMMAND]", "this, or more about one command");
	fputs(options_text, stdout);
	return OUTCOME_DONE;
}

static enum outcome
help(const struct ctl *ctl, const char *name)
{
	const struct command *c;

	if (ctl->json)
		return help_json(ctl);
	if (name == NULL || strcmp(name, "help") == 0)
		return help_all();
	c = command_find(name);
	if (c == NULL)
		return usage_wrong(name, "no such command");
	help_command(c);
	return OUTCOME_DONE;
}

/* Whether the command takes these arguments and options. */
static enum outcome
check_usage(const struct ctl *ctl, const struct command *c, unsigned options)
{
	if (ctl->nargs < c->min_args || ctl->nargs > c->max_args ||
	    (options & ~c->options) != 0) {
		if ((options & ~c->options) != 0)
			ctl_complain("%s does not take that option", c->name);
		else if (ctl->nargs < c->min_args)
			ctl_complain("%s: something is missing", c->name);
		else
			ctl_complain("%s: too many arguments%s", c->name,
			    c->run == command_publish ? " (quote the data)" : "");
		fprintf(stderr, "Usage: wsctl %s %s\n", c->name, c->synopsis);
		return OUTCOME_USAGE;
	}
	return OUTCOME_DONE;
}

static enum outcome
run(struct ctl *ctl, int argc, char **argv)
{
	const struct command *c;
	const char *name;
	unsigned given;
	int rest;
	enum outcome o = options_take(ctl, argc, argv, &given, &rest);

	if (o != OUTCOME_DONE)
		return o;
	name = argv[rest];
	if (ctl->version) {
		printf("wsctl %s (%s)\n", WSCAST_VERSION, WSCAST_COMMIT);
		return OUTCOME_DONE;
	}
	if (ctl->help)
		return help(ctl, name);
	if (name == NULL) {
		fputs(usage_text, stderr);
		fputs("`wsctl help` names the commands.\n", stderr);
		return OUTCOME_USAGE;
	}
	ctl->args = argv + rest + 1;
	ctl->nargs = argc - rest - 1;
	if (strcmp(name, "help") == 0)
		return help(ctl, ctl->args[0]);
	c = command_find(name);
	if (c == NULL)
		return usage_wrong(name, "no such command");
	o = check_usage(ctl, c, given);
	return o == OUTCOME_DONE ? c->run(ctl) : o;
}

int
main(int argc, char **argv)
{
	const char *env = getenv("WSCAST_SOCKET");
	struct ctl ctl = {
	    .limit = -1,
	    .for_s = -1,
	    .ttl_s = -1,
	    .over_s = -1,
	    .interval_ms = -1,
	    .socket = env != NULL && *env != '\0' ? env : CONTROL_DEFAULT_SOCKET,
	};
	enum outcome o;

	screen_init(&ctl.screen);
	client_init(&ctl.client);
	o = run(&ctl, argc, argv);
	client_close(&ctl.client);
	/* A full disk is found here. */
	if ((ferror(stdout) || fclose(stdout) != 0) && o == OUTCOME_DONE) {
		ctl_complain("cannot write to standard output: %s", strerror(errno));
		o = OUTCOME_FAILED;
	}
	return (int)o;
}
