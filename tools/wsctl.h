/*
 * wsctl.h - what the parts of wsctl share: the command line as understood, and the
 * commands.
 */
#ifndef WSCAST_TOOLS_WSCTL_H
#define WSCAST_TOOLS_WSCTL_H

#include <jansson.h>
#include <stdbool.h>

#include "tools/wsctl_client.h"
#include "tools/wsctl_table.h"

/* Exit status. */
enum outcome {
	OUTCOME_DONE = 0,
	OUTCOME_FAILED = 1, /* refused or failed; the reason is on stderr */
	OUTCOME_USAGE = 2,
	OUTCOME_ABSENT = 3, /* no server answers at the socket */
};

#define CTL_SETTINGS_PATH WSCAST_SYSCONFDIR "/wscast/wscast.conf"
#define ANSWER_TIMEOUT_MS 15000 /* for what the server answers by itself */

/* What only `token` takes, as text. */
enum token_option {
	TOKEN_SUB,
	TOKEN_AUD,
	TOKEN_ISS,
	TOKEN_CHANNELS,
	TOKEN_SUBSCRIBE,
	TOKEN_PUBLISH,
	TOKEN_CONF,
	TOKEN_OPTIONS
};

/* One of them, as given. Those that are lists may come again and again. */
struct token_given {
	enum token_option option;
	const char *text;
};

#define TOKEN_GIVEN_MAX 64

struct ctl {
	const char *socket;
	bool json;
	bool help, version;  /* asked for as options */
	bool raw;            /* tail: payloads and nothing else */
	bool once;           /* top: one look */
	const char *channel; /* clients, kick: of this channel only, or NULL */
	const char *user;    /* clients, kick, revoke */
	const char *key;     /* publish: the message's; token: the file */
	const char *jti;     /* revoke, token */
	struct token_given token[TOKEN_GIVEN_MAX];
	unsigned ntoken;
	long for_s;       /* revoke: seconds; -1 when not given */
	long ttl_s;       /* token: -1 when not given */
	long over_s;      /* drain: -1 when not given */
	long interval_ms; /* top: -1 when not given */
	long limit;       /* of a list, so many; -1 when not given */
	char **args;      /* behind the command's name */
	int nargs;
	struct screen screen;
	struct client client; /* opened by ctl_call() or ctl_open() */
};

/* ---- wsctl.c: for all commands ---- */

/* "wsctl: …" on stderr. What comes from outside goes through text_safe() first. */
void ctl_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Connect. On failure the reason is said. */
enum outcome ctl_open(struct ctl *ctl) __attribute__((warn_unused_result));
/* Say why the connection failed: what the functions of wsctl_client.h returned. */
enum outcome ctl_broken(struct ctl *ctl, int err);
/* Say what is in an {"error":…}, and what can be done about it; prefix before it. */
enum outcome ctl_refused(struct ctl *ctl, const char *prefix, const json_t *reply);
/* What is in {"ok":…}; a refusal is said. reply: taken over. */
enum outcome ctl_answer(struct ctl *ctl, json_t *reply, json_t **ret_ok)
    __attribute__((warn_unused_result));
/*
 * Connect if need be, send, and wait for the answer.
 *
 * request  taken over.
 * ret_ok   what is in {"ok":…}; the caller's to json_decref().
 *
 * Returns OUTCOME_DONE, or what it is when the reason was said.
 */
enum outcome ctl_call(struct ctl *ctl, json_t *request, int timeout_ms, json_t **ret_ok)
    __attribute__((warn_unused_result));

/* Show an answer: as it is with --json, else by show(). ok: taken over. */
enum outcome ctl_show(struct ctl *ctl, json_t *ok,
    enum outcome (*show)(struct ctl *ctl, const json_t *ok));
/* Ask, and show the answer. request: taken over. */
enum outcome ctl_ask(struct ctl *ctl, json_t *request, int timeout_ms,
    enum outcome (*show)(struct ctl *ctl, const json_t *ok));

/* The worker named by the command's argument; -1 when none is. Returns false when it
 * is no number, which was said. */
bool ctl_worker(const struct ctl *ctl, long *ret_worker);

/* Print the server's own object; laid out on a terminal, where no name in it can play
 * tricks. */
enum outcome ctl_show_json(const struct ctl *ctl, const json_t *ok);

/* ---- wsctl_status.c: the server as a whole ---- */

enum outcome command_status(struct ctl *ctl);
enum outcome command_workers(struct ctl *ctl);
enum outcome command_metrics(struct ctl *ctl);
enum outcome command_version(struct ctl *ctl);

/* ---- wsctl_top.c: as it goes on ---- */

enum outcome command_top(struct ctl *ctl);

/* ---- wsctl_clients.c: who is there, and for what ---- */

enum outcome command_clients(struct ctl *ctl);
enum outcome command_client(struct ctl *ctl);
enum outcome command_channels(struct ctl *ctl);
enum outcome command_presence(struct ctl *ctl);

/* ---- wsctl_messages.c: many messages, one way or the other ---- */

enum outcome command_publish(struct ctl *ctl);
enum outcome command_tail(struct ctl *ctl);
enum outcome command_history(struct ctl *ctl);

/* ---- wsctl_expel.c: who is not to be there ---- */

enum outcome command_kick(struct ctl *ctl);
enum outcome command_revoke(struct ctl *ctl);

/* ---- wsctl_service.c: what the service is told to do ---- */

enum outcome command_restart(struct ctl *ctl);
enum outcome command_reload(struct ctl *ctl);
enum outcome command_drain(struct ctl *ctl);
enum outcome command_undrain(struct ctl *ctl);

/* ---- wsctl_settings.c ---- */

enum outcome command_check(struct ctl *ctl);
enum outcome command_config(struct ctl *ctl);
enum outcome command_log_level(struct ctl *ctl);

/* ---- wsctl_token.c ---- */

enum outcome command_token(struct ctl *ctl);

#endif
