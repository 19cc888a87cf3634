/*
 * wsbench_options.h - what one measurement is to do: options, and presets, which are
 * options set beforehand.
 */
#ifndef WSCAST_TOOLS_WSBENCH_OPTIONS_H
#define WSCAST_TOOLS_WSBENCH_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <jansson.h>

#define OPTIONS_SOURCES_MAX 64
#define OPTIONS_PROCESSES_MAX 512
#define OPTIONS_NAME_MAX 200 /* bytes of a channel's name */

struct size_range {
	size_t low, high; /* bytes, both included */
};

/* Strings are borrowed from argv or constant. Shares lie between 0 and 1. */
/* In the order of the help, not of sizes: there is one of it. */
struct options { /* NOLINT(clang-analyzer-optin.performance.Padding) */
	const char *preset;
	/* whom */
	const char *url;
	const char *protocol;
	const char *token;
	const char *server; /* a command that starts it; NULL: it runs already */
	const char *server_log;
	unsigned pid;
	const char *cgroup;
	/* clients */
	unsigned connections, processes; /* processes 0: auto */
	unsigned channels, subscriptions;
	const char *channel;
	double connect_rate; /* a second, 0: as fast as concurrency allows */
	unsigned concurrency;
	const char *source;
	bool pin;
	bool resume; /* TLS, with the ticket that a client got last */
	/* publishers */
	const char *publish;
	const char *redis, *prefix, *admin, *api_key, *control;
	unsigned publishers;
	double rate;
	unsigned burst, in_flight;
	struct size_range size;
	bool random_channels;
	/* course */
	double settle, warmup, duration, drain; /* seconds */
	/* trouble */
	bool storm;
	double drops, away; /* share a second; seconds */
	bool reconnect;
	double restart_every; /* seconds, 0: never */
	const char *restart;
	double slow;
	unsigned slow_bytes; /* a second for each slow client */
	/* floors */
	const char *floor;
	unsigned rounds;
	/* output */
	const char *json; /* "-": standard output */
	bool quiet;

	/* worked out by options_finish() */
	bool tls; /* a wss:// URL */
	struct sockaddr_storage addr;
	socklen_t addr_len;
	char host[256]; /* for the Host header */
	char path[1024];
	struct in_addr sources[OPTIONS_SOURCES_MAX];
	unsigned nsources;
	unsigned stride; /* between a connection's channels, options_channel() */
	uint32_t run;    /* tells this run's messages from others' */
	unsigned floor_processes; /* whose control ports follow that of `control` */
};

/*
 * Read `[PRESET] [--option[=VALUE]]…`; options override the preset's.
 *
 * Returns 0, or -EINVAL after a line on standard error said what is wrong.
 */
int options_parse(int argc, char **argv, struct options *ret)
    __attribute__((warn_unused_result));

/* Resolve the URL and all that follows from the rest. Returns 0 or -EINVAL, having
 * said why. */
int options_finish(struct options *o) __attribute__((warn_unused_result));

void options_help(void);

/* All that was decided, as a new JSON object. */
json_t *options_json(const struct options *o);

/* The channel of a connection's k-th subscription. Each channel gets as many
 * receivers as the next, give or take one. */
static inline uint32_t
options_channel(const struct options *o, uint64_t connection, unsigned k)
{
	return (uint32_t)((connection * o->subscriptions + (uint64_t)k * o->stride) %
			  o->channels);
}

/* A channel's name; out has OPTIONS_NAME_MAX + 12 bytes. */
size_t options_channel_name(const struct options *o, uint32_t channel, char *out);

#endif
