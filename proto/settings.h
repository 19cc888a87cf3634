/*
 * settings.h - wscast.conf: one table says of each key its name, type, bounds,
 * default, and whether a reload may change it. Parser, dump, `wsctl config` and the
 * man page's test are driven by it.
 *
 * Source   wscast.conf(5). The file is INI, as inih reads it.
 */
#ifndef WSCAST_PROTO_SETTINGS_H
#define WSCAST_PROTO_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "proto/journal.h"
#include "proto/slice.h"

#define SETTINGS_LISTENERS_MAX 16
#define SETTINGS_FAULTS_MAX 100
#define SETTINGS_STREAMS_MAX 16
#define LISTEN_MODE 0660 /* of a unix socket, unless mode= says otherwise */
#define SETTINGS_FILES_MAX 16
#define SETTINGS_FILE_MAX (1u << 20) /* bytes of a file that a setting names */
#define SETTINGS_NAMES_MAX 100

struct listen_address {
	char text[192]; /* as written */
	struct sockaddr_storage addr;
	socklen_t addr_len;
	bool proxy; /* proxy=v2: PROXY protocol v1 or v2 comes first */
	bool tls;
	/* a unix socket's file */
	unsigned mode;
	char group[33]; /* "": ours */
};

/* By io_uring where the kernel lets us, by io_uring or not at all, by send(2). */
enum send_how { SEND_AUTO, SEND_URING, SEND_PLAIN };
/* As enum log_level of journal.h, from LOG_ERROR on. */
enum log_threshold {
	THRESHOLD_ERROR,
	THRESHOLD_WARNING,
	THRESHOLD_NOTICE,
	THRESHOLD_INFO,
	THRESHOLD_DEBUG
};
enum feed_source { FEED_EMBEDDED, FEED_PUBSUB, FEED_STREAM };
enum auth_mode { AUTH_NONE, AUTH_OPTIONAL, AUTH_REQUIRED };
enum who { WHO_ANYONE, WHO_AUTHENTICATED, WHO_CLAIM, WHO_NOBODY };
enum slow_policy { SLOW_CLOSE, SLOW_SKIP, SLOW_LATEST };

/* [channel GLOB]: the first that matches holds. */
struct rule {
	char *glob;
	char *glob_any; /* with any subject in the place of {sub}; NULL: it has none */
	enum who subscribe;
	enum who publish;
	enum slow_policy slow;
	bool history;
	bool cache;
	bool presence;
	uint32_t max_message_size; /* 0 = limits.max_message_size */
	uint32_t rate;             /* publishes a second per connection, 0 = any */
};

/* Who has the bytes of the file that a setting names. */
enum file_readers {
	FILE_NONE,       /* the setting names no file */
	FILE_SUPERVISOR, /* the supervisor alone: no process that strangers talk to */
	FILE_WORKERS,    /* the workers, too */
};

/* A file that a setting names, as it was read together with the settings. */
struct settings_file {
	char name[64]; /* of the setting: "tls.certificate" */
	enum file_readers readers;
	char *data; /* len bytes, and a NUL behind them */
	size_t len;
};

struct settings {
	/* [server] */
	struct listen_address listen[SETTINGS_LISTENERS_MAX];
	unsigned nlisten;
	unsigned workers; /* 0 = auto: one for each core of the affinity mask */
	enum send_how send;
	bool sandbox; /* serving processes may only ask the kernel for what they need */
	char *admin_listen, *api_key_file;
	char *control_socket;
	char *state_directory;
	uint32_t max_connections, max_connections_per_ip;
	uint32_t max_handshakes_per_second, max_handshakes_per_second_per_ip;
	char *origins, *trusted_proxies; /* lists, separated by one blank */
	char *demo;                      /* path of the demo page; empty = off */
	enum log_threshold log_level;
	enum log_format log_format;
	uint32_t drain_timeout_ms; /* over which a stop tells the clients to go */
	bool echo;                 /* /echo is served: for conformance suites */
	/* [limits] */
	uint32_t max_message_size, message_rate;
	uint32_t message_burst; /* 0 = as many as message_rate */
	uint32_t byte_rate;
	uint32_t byte_burst; /* 0 = as many as byte_rate */
	uint32_t channels_per_connection;
	uint32_t handshake_timeout_ms, ping_interval_ms, pong_timeout_ms,
	    write_timeout_ms;
	uint32_t send_buffer; /* bytes */
	/* [ring] */
	uint32_t ring_size; /* bytes, a power of two */
	/* [feed] */
	enum feed_source source;
	char *redis, *prefix, *interest;
	char *stream;           /* keys, separated by one blank */
	uint32_t stream_maxlen; /* entries; 0 = any number */
	char *redis_password_file, *redis_ca, *redis_certificate, *redis_key; /* "" */
	char *sentinel_password_file;
	bool sharded;       /* pub/sub of a cluster */
	bool feed_required; /* to be ready */
	uint32_t probe_interval_ms, publish_timeout_ms;
	/* [presence] */
	uint32_t presence_grace_ms, presence_expiry_ms;
	/* [auth] */
	enum auth_mode auth_mode;
	char *auth_secret_file, *auth_public_key_file; /* paths */
	char *auth_audience, *auth_issuer;             /* lists */
	uint32_t auth_leeway_ms;
	/* [tls] */
	char *tls_certificate, *tls_key; /* paths; key empty: it is in certificate */
	/* [compression] */
	bool compression;
	uint32_t compression_threshold;  /* bytes */
	uint32_t compression_level;      /* zlib's, 1 to 9 */
	uint32_t compression_min_saving; /* percent of the plain frame */
	/* [channel …], in the order of the file; the last is always "*" */
	struct rule *rules;
	size_t nrules;
	/* The files that settings name, those that are set alone. */
	struct settings_file files[SETTINGS_FILES_MAX];
	unsigned nfiles;
	/* No setting: what max_message_size may become without a restart; 0 = any. */
	uint32_t message_bound;
};

/* One fault: "FILE:LINE: what is wrong, and what would be right". */
struct faults {
	char *line[SETTINGS_FAULTS_MAX];
	unsigned n;
};

/*
 * Read a file, then NOVERRIDES settings "SECTION.KEY=VALUE" (reported as "-o N"), and
 * the files that they name.
 *
 * path    NULL: defaults and overrides only.
 * faults  all of them, for the caller to show and faults_done().
 *
 * Returns 0; -EINVAL when there is a fault; -errno when the file cannot be read (which
 * is a fault line, too).
 */
int settings_load(const char *path, const char *const *overrides, size_t noverrides,
    struct settings **ret_settings, struct faults *faults)
    __attribute__((warn_unused_result));

struct settings_names {
	char *name[SETTINGS_NAMES_MAX];
	unsigned n;
	unsigned more; /* that there was no room for */
};

/* What a reload changes: "limits.message_rate", "[channel chat:*] is new". */
struct settings_changes {
	struct settings_names live;    /* holds from now on */
	struct settings_names restart; /* was changed in the file, and waits for one */
};

/*
 * The same for a server that runs: what may not change while it does (setting_info's
 * `reload`) keeps the value that it has.
 *
 * running      borrowed.
 * ret_changes  for settings_changes_done(), whatever is returned.
 */
int settings_reload(const char *path, const char *const *overrides, size_t noverrides,
    const struct settings *running, struct settings **ret_settings,
    struct settings_changes *ret_changes, struct faults *faults)
    __attribute__((warn_unused_result));
void settings_changes_done(struct settings_changes *c);

/* The same from text that settings_dump() wrote; reads no file. */
int settings_parse(const char *text, size_t len, struct settings **ret_settings,
    struct faults *faults) __attribute__((warn_unused_result));
void settings_free(struct settings *s);
void faults_done(struct faults *f);

/* All of it as text that settings_parse() reads back, but for Redis's password, which
 * no worker may have: it is written as ***. malloc'd; NULL: no memory. */
char *settings_dump(const struct settings *s);
/* One key ("server.workers", "channel chat:*.publish") as text, the password as ***;
 * what may be repeated, one a line. malloc'd; NULL with errno ENOENT or ENOMEM. */
char *settings_get(const struct settings *s, const char *key);

/* Log from here on as they say. */
void settings_log(const struct settings *s);
/* A word of server.log_level. Returns false when it is none. */
bool settings_log_level(const char *word, enum log_threshold *ret_level);

/* The file that a setting names ("tls.certificate"); NULL when that is not set. */
const struct settings_file *settings_file(const struct settings *s, const char *name);
/* Add a file to settings that were parsed from text. Copied. Returns 0, -EINVAL when
 * there are too many or the name is too long, -ENOMEM. */
int settings_attach(struct settings *s, const char *name, const void *data, size_t len)
    __attribute__((warn_unused_result));

/* A key of the table, for those who list them all. */
struct setting_info {
	const char *section; /* "channel" for the keys of [channel GLOB] */
	const char *key;
	const char *fallback; /* as text */
	bool reload;          /* a reload may change it */
};
/* The key number `index` from 0 on. Returns false behind the last. */
bool settings_info(size_t index, struct setting_info *ret_info);

/* The rule for a channel, whoever asks: {sub} in a glob stands for any subject. For
 * what is the channel's own, like slow or history. Never NULL. */
const struct rule *settings_rule(
    const struct settings *s, const char *name, size_t len);
/* ... for a connection of this subject (absent: of none), whom {sub} stands for: who
 * may subscribe and publish, and how much. */
const struct rule *settings_rule_for(
    const struct settings *s, struct slice subject, const char *name, size_t len);

/* Whether it can be a channel's name: 1 to 200 bytes of UTF-8 without control
 * characters. Names that begin with NAME_RESERVED are what servers tell each other by,
 * and no channel's: nobody can subscribe to them or publish there. */
#define NAME_RESERVED '!'
bool name_ok(const char *name, size_t len);

#endif
