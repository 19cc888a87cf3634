/*
 * ctl_client.h - one client of the control socket; shared by ctlsock.c, commands.c and
 * command_*.c alone.
 */
#ifndef WSCAST_SUPERVISOR_CTL_CLIENT_H
#define WSCAST_SUPERVISOR_CTL_CLIENT_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/control.h"
#include "supervisor/ctlsock.h"
#include "supervisor/outbuf.h"
#include "supervisor/report.h"
#include "supervisor/unix_file.h"

#define CTL_CLIENTS_MAX 64
#define CTL_CLIENTS_RESERVED 8 /* of them for root and our own user */
#define CTL_TAILS_MAX 128      /* channels of one client */

enum ctl_waits {
	CTL_WAITS_NOT,
	CTL_WAITS_ROOM,    /* `request` is tried again when there is room */
	CTL_WAITS_PUBLISH, /* for the feed's answer */
	CTL_WAITS_TAIL,    /* for channels to become live */
	CTL_WAITS_RESTART, /* for new serving processes */
	CTL_WAITS_RELOAD,  /* for all workers to have new settings */
	CTL_WAITS_EXPEL,   /* for workers to close connections */
	CTL_WAITS_LIST,    /* for more of its answer, of which a part was sent */
};

struct ctl_client {
	struct ctlsock *sock;
	uint64_t number; /* never used again */
	int fd;
	bool may_change;
	bool gone;  /* to be freed at the end of this turn */
	bool ended; /* nothing more is read: close once all is answered */
	struct control_line in;

	struct outbuf out;
	bool blocked;       /* the socket took not all */
	uint64_t looked_ms; /* when it was seen to be there while it waits */

	enum ctl_waits waits;
	json_t *request; /* what is being answered, or NULL */

	uint32_t tails[CTL_TAILS_MAX]; /* indexes into the directory */
	unsigned ntails;
	uint64_t missed; /* messages since the last line */

	/* RESTART: workers [next, end), one after the other */
	unsigned next, end;
	uint64_t healthy_before, adopted_before, deadline_ms;
	json_t *restarted;

	/* RELOAD: the answer, once all workers have this generation */
	uint64_t generation;
	json_t *reloaded;
	/* EXPEL: what the workers that have answered closed; also till deadline_ms */
	uint64_t record, closed;
	uint8_t answered[RING_WORKERS_MAX / 8]; /* a bit for each worker */
	unsigned nanswered;
	bool told; /* other hosts were, if there are any */

	/* LIST: what it shows, and whether a comma comes next */
	struct report_list list;
	bool comma;

	ev_io read_io, write_io;
};

struct ctlsock {
	struct supervisor *s;
	int fd;
	struct unix_file file; /* its group's members may change things */
	uint64_t last_number;
	struct ctl_client *clients[CTL_CLIENTS_MAX];
	unsigned nclients;
	unsigned first;   /* whose turn comes first */
	uint64_t turn_ms; /* when this turn's first request was taken, 0 = none */
	uint64_t accept_again_ms; /* 0, or when descriptors may be free again */
	ev_io accept_io;
};

/* ---- ctlsock.c ---- */

/* Queue a line (malloc'd, freed here; NULL: no memory, the client is dropped). */
void client_reply(struct ctl_client *c, char *line, size_t len);
/* The same from the caller's storage. */
void client_put(struct ctl_client *c, const char *line, size_t len);
/* Whether a tail's line of so many bytes may be queued. */
bool client_has_room(const struct ctl_client *c, size_t len);

/* ---- commands.c ---- */

/* Run c->request: it is answered now, or `waits` says for what it waits. */
void command_run(struct ctl_client *c);
/* The feed's answer to a publish. */
void command_published(struct ctl_client *c, int err);
/* A channel of a waiting tail is live, or was refused. */
void command_live(struct ctl_client *c, uint32_t channel, int err);
/* Look whether a waiting restart or reload has come further. */
void command_turn(struct ctl_client *c);
/* The client goes: end its tails and what it waited for. */
void command_end(struct ctl_client *c);

/* ---- command_answer.c: for the files of commands ---- */

/* Answer c->request, which is then done. ok: taken over; NULL: no memory. */
void say_ok(struct ctl_client *c, json_t *ok);
#define say_error(c, code, ...)                                                        \
	do {                                                                           \
		size_t say_len = 0;                                                    \
		char *say_line = control_error(code, &say_len, __VA_ARGS__);           \
		command_finish(c);                                                     \
		client_reply(c, say_line, say_len);                                    \
	} while (0)
void command_finish(struct ctl_client *c); /* done, whatever was answered */

/* Each returns false or NULL when it has answered: the client may change nothing; a
 * member is no channel's name, no text, or no count; "client" is no client's id;
 * "worker" is no worker. */
bool command_may_change(struct ctl_client *c);
const char *command_name(
    struct ctl_client *c, const json_t *value, const char *member, size_t *ret_len);
bool command_client(struct ctl_client *c, uint64_t *ret_id);
/* A user's name or a token's jti, of 1 to REVOKED_TEXT_MAX bytes. */
const char *command_text(struct ctl_client *c, const char *member, size_t *ret_len);
/* fallback: when it is absent. */
bool command_count(
    struct ctl_client *c, const char *member, uint64_t fallback, uint64_t *ret_n);
/* "worker": the workers [*ret_first, *ret_end), all when it is absent. */
bool command_workers(struct ctl_client *c, unsigned *ret_first, unsigned *ret_end);

/* ---- command_maps.c ---- */

void command_maps(struct ctl_client *c);

/* ---- command_settings.c ---- */

void command_config(struct ctl_client *c);
void command_log_level(struct ctl_client *c);

/* ---- command_drain.c ---- */

void command_drain(struct ctl_client *c);
void command_undrain(struct ctl_client *c);

/* ---- command_presence.c ---- */

void command_presence(struct ctl_client *c);

/* ---- command_expel.c ---- */

void command_kick(struct ctl_client *c);
void command_revoke(struct ctl_client *c);
/* A worker has done what one of them asks. */
void command_expelled(
    struct ctl_client *c, unsigned worker, uint64_t record, uint32_t closed);
/* A worker is away for too long: its successor will do it, and nobody waits for that.
 */
void command_expel_ends(struct ctl_client *c);

#endif
