#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tools/wsbench_check.h"
#include "tools/wsbench_net.h"
#include "tools/wsbench_options.h"

enum kind {
	KIND_TEXT,
	KIND_COUNT,
	KIND_NUMBER, /* a rate, or seconds with an optional unit */
	KIND_SHARE,  /* 0.1 or 10% */
	KIND_SIZE,   /* N or N-M bytes */
	KIND_FLAG,   /* also --no-NAME */
	KIND_SECTION,
};

struct option_row {
	const char *name;
	enum kind kind;
	size_t at;
	const char *arg;
	const char *help;
};

#define AT(field) offsetof(struct options, field)

static const struct option_row rows[] = {
    {"Whom to measure", KIND_SECTION, 0, "", ""},
    {"url", KIND_TEXT, AT(url), "URL", "ws://HOST:PORT/PATH; %c in it: the channel"},
    {"protocol", KIND_TEXT, AT(protocol), "NAME", "raw, v1, socketio"},
    {"token", KIND_TEXT, AT(token), "TOKEN", "sent as Authorization: Bearer"},
    {"server", KIND_TEXT, AT(server), "CMD", "start it so, wait for its port, stop it"},
    {"server-log", KIND_TEXT, AT(server_log), "FILE",
	"what it says; else shown on failure"},
    {"pid", KIND_COUNT, AT(pid), "PID", "measure this process and its descendants"},
    {"cgroup", KIND_TEXT, AT(cgroup), "DIR", "measure the processes of this cgroup"},
    {"Clients", KIND_SECTION, 0, "", ""},
    {"connections", KIND_COUNT, AT(connections), "N", "in all"},
    {"processes", KIND_COUNT, AT(processes), "N|auto", "that hold them"},
    {"channels", KIND_COUNT, AT(channels), "N", "in all"},
    {"subscriptions", KIND_COUNT, AT(subscriptions), "N", "of each connection"},
    {"channel", KIND_TEXT, AT(channel), "NAME", "name, or its beginning if several"},
    {"connect-rate", KIND_NUMBER, AT(connect_rate), "N", "a second; 0: no limit"},
    {"concurrency", KIND_COUNT, AT(concurrency), "N", "handshakes at a time"},
    {"source", KIND_TEXT, AT(source), "ADDR,…", "source addresses"},
    {"pin", KIND_FLAG, AT(pin), "", "each process to a core"},
    {"resume", KIND_FLAG, AT(resume), "", "wss://: with the ticket that came last"},
    {"Messages", KIND_SECTION, 0, "", ""},
    {"publish", KIND_TEXT, AT(publish), "VIA",
	"none, redis, emitter, http, post, control, client, floor"},
    {"redis", KIND_TEXT, AT(redis), "ADDR", "HOST:PORT or a socket's path"},
    {"prefix", KIND_TEXT, AT(prefix), "TEXT", "of Redis channels"},
    {"admin", KIND_TEXT, AT(admin), "ADDR", "admin listener, for http"},
    {"api-key", KIND_TEXT, AT(api_key), "KEY", "for http"},
    {"control", KIND_TEXT, AT(control), "ADDR", "control socket; or the floor's port"},
    {"publishers", KIND_COUNT, AT(publishers), "N", "connections to publish on"},
    {"rate", KIND_NUMBER, AT(rate), "N", "messages a second"},
    {"burst", KIND_COUNT, AT(burst), "N", "so many at a time, at the same rate"},
    {"in-flight", KIND_COUNT, AT(in_flight), "N",
	"saturate: always N not yet delivered"},
    {"size", KIND_SIZE, AT(size), "N[-M]", "bytes of payload, from 52"},
    {"random-channels", KIND_FLAG, AT(random_channels), "", "not one after the other"},
    {"Course", KIND_SECTION, 0, "", ""},
    {"settle", KIND_NUMBER, AT(settle), "S", "at most, until all subscriptions work"},
    {"warmup", KIND_NUMBER, AT(warmup), "S", "messages that are not measured"},
    {"duration", KIND_NUMBER, AT(duration), "S", "of what is measured"},
    {"drain", KIND_NUMBER, AT(drain), "S", "at most, for what is under way"},
    {"Trouble", KIND_SECTION, 0, "", ""},
    {"storm", KIND_FLAG, AT(storm), "", "all clients reconnect at once, at a third"},
    {"drops", KIND_SHARE, AT(drops), "SHARE", "of the clients vanish each second"},
    {"away", KIND_NUMBER, AT(away), "S", "and come back after so long"},
    {"reconnect", KIND_FLAG, AT(reconnect), "", "clients that the server closed"},
    {"restart-every", KIND_NUMBER, AT(restart_every), "S", "restart workers"},
    {"restart", KIND_TEXT, AT(restart), "HOW", "ask, kill, or a command"},
    {"slow", KIND_SHARE, AT(slow), "SHARE", "of the clients read little"},
    {"slow-bytes", KIND_COUNT, AT(slow_bytes), "N", "that they read a second"},
    {"Floors", KIND_SECTION, 0, "", ""},
    {"floor", KIND_TEXT, AT(floor), "KIND,…", "send, send-share, uring, uring-share"},
    {"rounds", KIND_COUNT, AT(rounds), "N", "of floor and server in turn"},
    {"Output", KIND_SECTION, 0, "", ""},
    {"json", KIND_TEXT, AT(json), "FILE", "also as JSON; -: to standard output"},
    {"quiet", KIND_FLAG, AT(quiet), "", "no progress"},
};

#define NROWS (sizeof(rows) / sizeof(rows[0]))

struct preset {
	const char *name;
	const char *help;
	const char *args[12]; /* as on the command line; NULL at the end */
};

static const struct preset presets[] = {
    {"idle", "connect, and wait: connects/s, memory",
	{"--connections=10000", "--publish=none", "--duration=5"}},
    {"broadcast", "one channel to all: CPU, latency, fanout",
	{"--connections=5000", "--rate=10", "--duration=10"}},
    {"channels", "many small channels: cost of a message",
	{"--connections=10000", "--channels=10000", "--subscriptions=10",
	    "--rate=20000", "--publishers=4", "--random-channels", "--duration=10"}},
    {"storm", "all clients reconnect at once",
	{"--connections=10000", "--rate=1", "--storm", "--reconnect", "--duration=15"}},
    {"drops", "clients lose the net for 2 s at random",
	{"--connections=5000", "--protocol=v1", "--rate=10", "--drops=5%", "--away=2",
	    "--reconnect", "--duration=20"}},
    {"restart", "workers are restarted meanwhile",
	{"--connections=5000", "--rate=10", "--restart-every=5", "--restart=ask",
	    "--duration=20"}},
    {"slow", "one client in ten reads nothing",
	{"--connections=5000", "--rate=10", "--size=1024", "--slow=10%",
	    "--duration=20"}},
};

static const char *const defaults[] = {"--url=ws://127.0.0.1:8080/ws", "--protocol=raw",
    "--connections=1000", "--channels=1", "--subscriptions=1", "--channel=bench",
    "--concurrency=512", "--publish=control", "--redis=127.0.0.1:6379",
    "--prefix=wscast:", "--admin=127.0.0.1:8081", "--control=/run/wscast/control.sock",
    "--publishers=1", "--rate=10", "--burst=1", "--size=128", "--settle=10",
    "--warmup=1", "--duration=10", "--drain=5", "--away=2", "--restart=ask",
    "--rounds=5"};

static int
complain(const char *name, const char *value, const char *what)
{
	fprintf(stderr, "wsbench: --%s=%s: %s\n", name, value, what);
	return -EINVAL;
}

/* "5", "0.5", "5s", "200ms", "2m"; plain for rates. */
static int
read_number(const char *text, double *ret)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || !isfinite(v) || v < 0)
		return -EINVAL;
	if (strcmp(end, "ms") == 0)
		v /= 1000;
	else if (strcmp(end, "m") == 0)
		v *= 60;
	else if (*end != '\0' && strcmp(end, "s") != 0)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int
read_share(const char *text, double *ret)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || !isfinite(v))
		return -EINVAL;
	if (*end == '%') {
		v /= 100;
		end++;
	}
	if (*end != '\0' || v < 0 || v > 1)
		return -EINVAL;
	*ret = v;
	return 0;
}

static int
read_count(const char *text, unsigned *ret)
{
	char *end;
	unsigned long v;

	if (strcmp(text, "auto") == 0) {
		*ret = 0;
		return 0;
	}
	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	v = strtoul(text, &end, 10);
	if (strcmp(end, "k") == 0) {
		v *= 1000;
		end++;
	} else if (strcmp(end, "M") == 0) {
		v *= 1000000;
		end++;
	}
	if (errno != 0 || *end != '\0' || v > 1000000000)
		return -EINVAL;
	*ret = (unsigned)v;
	return 0;
}

static int
read_size(const char *text, struct size_range *ret)
{
	char *end;
	struct size_range r;

	r.low = r.high = strtoul(text, &end, 10);
	if (*end == '-')
		r.high = strtoul(end + 1, &end, 10);
	if (*end != '\0' || r.low < CHECK_SIZE_MIN || r.high < r.low ||
	    r.high > CHECK_SIZE_MAX)
		return -EINVAL;
	*ret = r;
	return 0;
}

static int
set_option(struct options *o, const struct option_row *row, const char *value)
{
	void *field = (char *)o + row->at;

	switch (row->kind) {
	case KIND_TEXT:
		*(const char **)field = value;
		return 0;
	case KIND_COUNT:
		if (read_count(value, field) < 0)
			return complain(row->name, value, "want a whole number");
		return 0;
	case KIND_NUMBER:
		if (read_number(value, field) < 0)
			return complain(row->name, value, "want a number");
		return 0;
	case KIND_SHARE:
		if (read_share(value, field) < 0)
			return complain(row->name, value, "want a share, as 10%");
		return 0;
	case KIND_SIZE:
		if (read_size(value, field) < 0)
			return complain(row->name, value, "want 52 to 1048576 bytes");
		return 0;
	case KIND_FLAG:
		*(bool *)field = true;
		return 0;
	case KIND_SECTION:
		break;
	}
	return -EINVAL;
}

static const struct option_row *
find_row(const char *name, size_t len)
{
	for (size_t i = 0; i < NROWS; i++)
		if (rows[i].kind != KIND_SECTION && strlen(rows[i].name) == len &&
		    memcmp(rows[i].name, name, len) == 0)
			return &rows[i];
	return NULL;
}

/* One argument, and the next where the value stands there. Returns how many it took. */
static int
take_option(struct options *o, const char *arg, const char *next)
{
	const char *name = arg + 2, *equals = strchr(name, '=');
	size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
	const struct option_row *row = find_row(name, len);
	int r, took = 1;

	if (row == NULL && strncmp(name, "no-", 3) == 0) {
		row = find_row(name + 3, len - 3);
		if (row != NULL && row->kind == KIND_FLAG && equals == NULL) {
			*(bool *)((char *)o + row->at) = false;
			return 1;
		}
		row = NULL;
	}
	if (row == NULL) {
		fprintf(stderr, "wsbench: unknown option %s; see wsbench help\n", arg);
		return -EINVAL;
	}
	if (row->kind == KIND_FLAG) {
		if (equals != NULL)
			return complain(row->name, equals + 1, "takes no value");
		return set_option(o, row, NULL) < 0 ? -EINVAL : 1;
	}
	/* `--json` and `--floor` alone have a usual meaning. */
	if (equals == NULL && (strcmp(row->name, "json") == 0))
		return set_option(o, row, "-") < 0 ? -EINVAL : 1;
	if (equals == NULL && strcmp(row->name, "floor") == 0)
		return set_option(o, row, "send") < 0 ? -EINVAL : 1;
	if (equals == NULL && next == NULL) {
		fprintf(stderr, "wsbench: %s wants a value\n", arg);
		return -EINVAL;
	}
	if (equals == NULL)
		took = 2;
	r = set_option(o, row, equals != NULL ? equals + 1 : next);
	return r < 0 ? r : took;
}

static int
take_preset(struct options *o, const char *name)
{
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++) {
		if (strcmp(presets[i].name, name) != 0)
			continue;
		o->preset = presets[i].name;
		for (const char *const *a = presets[i].args; *a != NULL; a++)
			if (take_option(o, *a, NULL) < 0)
				return -EINVAL;
		return 0;
	}
	fprintf(stderr, "wsbench: no preset %s; see wsbench help\n", name);
	return -EINVAL;
}

int
options_parse(int argc, char **argv, struct options *ret)
{
	struct options o = {.preset = "custom"};
	int i = 0, took;

	for (size_t d = 0; d < sizeof(defaults) / sizeof(defaults[0]); d++)
		if (take_option(&o, defaults[d], NULL) < 0)
			return -EINVAL;
	if (argc > 0 && argv[0][0] != '-') {
		if (take_preset(&o, argv[0]) < 0)
			return -EINVAL;
		i = 1;
	}
	for (; i < argc; i += took) {
		if (strncmp(argv[i], "--", 2) != 0) {
			fprintf(stderr, "wsbench: %s: not an option\n", argv[i]);
			return -EINVAL;
		}
		took = take_option(&o, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
		if (took < 0)
			return -EINVAL;
	}
	*ret = o;
	return 0;
}

/* As many cores as we have, and more where descriptors make that necessary. */
static unsigned
auto_processes(unsigned connections)
{
	struct rlimit limit = {.rlim_cur = 1024};
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned per, need;

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	per = limit.rlim_max > 1000000 ? 1000000 : (unsigned)limit.rlim_max;
	per = per > 200 ? per - 100 : 100; /* what is no client's */
	need = (connections + per - 1) / per;
	if (cores > 0 && need < (unsigned)cores && connections >= (unsigned)cores)
		need = (unsigned)cores;
	return need == 0 ? 1 : need;
}

static int
finish_sources(struct options *o)
{
	const char *p = o->source;
	char one[64];
	size_t len;

	while (p != NULL && *p != '\0') {
		len = strcspn(p, ",");
		if (o->nsources == OPTIONS_SOURCES_MAX || len >= sizeof(one))
			return complain("source", o->source, "too many");
		memcpy(one, p, len);
		one[len] = '\0';
		if (inet_pton(AF_INET, one, &o->sources[o->nsources]) != 1)
			return complain("source", one, "not an IPv4 address");
		o->nsources++;
		p += len + (p[len] == ',');
	}
	return 0;
}

static unsigned
gcd(unsigned a, unsigned b)
{
	return b == 0 ? a : gcd(b, a % b);
}

/* The distance between a connection's channels: about all channels divided by them,
 * and such that they are spread evenly and are never twice the same. */
static unsigned
find_stride(unsigned channels, unsigned subscriptions)
{
	unsigned s;

	if (subscriptions == 1)
		return 1;
	for (s = channels / subscriptions + 1; s < channels; s++)
		if (gcd(s, channels) == 1 && gcd(s, subscriptions) == 1)
			return s;
	return 1;
}

int
options_finish(struct options *o)
{
	if (net_url(o->url, &o->addr, &o->addr_len, o->host, sizeof(o->host), o->path,
		sizeof(o->path)) < 0)
		return complain(
		    "url", o->url, "not a ws:// or wss:// URL that can be resolved");
	o->tls = strncmp(o->url, "wss:", 4) == 0;
	if (o->tls && o->floor != NULL)
		return complain("floor", o->floor, "floors speak no TLS");
	if (o->resume && !o->tls)
		return complain("resume", o->url, "not a wss:// URL");
	if (finish_sources(o) < 0)
		return -EINVAL;
	if (o->connections == 0 || o->channels == 0 || o->subscriptions == 0 ||
	    o->concurrency == 0 || o->burst == 0 || o->publishers == 0 ||
	    o->rounds == 0) {
		fprintf(stderr, "wsbench: there must be a connection, a channel, a "
				"subscription, a handshake, a burst, a publisher, a "
				"round\n");
		return -EINVAL;
	}
	if (o->channels > 0xffffff || o->subscriptions > o->channels ||
	    o->subscriptions > 1024) {
		fprintf(stderr, "wsbench: at most 1024 subscriptions, of different "
				"channels, of which there may be 16777215\n");
		return -EINVAL;
	}
	if (o->publishers > 64 || o->in_flight > 4096 || o->burst > 10000 ||
	    o->rounds > 100 || strlen(o->channel) > OPTIONS_NAME_MAX - 10) {
		fprintf(stderr,
		    "wsbench: at most 64 publishers, 4096 in flight, bursts "
		    "of 10000, 100 rounds\n");
		return -EINVAL;
	}
	if (o->processes == 0)
		o->processes = auto_processes(o->connections);
	if (o->processes > OPTIONS_PROCESSES_MAX || o->processes > o->connections)
		return complain("processes", "", "too many");
	o->stride = find_stride(o->channels, o->subscriptions);
	if (getrandom(&o->run, sizeof(o->run), 0) != sizeof(o->run))
		return -EINVAL;
	return 0;
}

size_t
options_channel_name(const struct options *o, uint32_t channel, char *out)
{
	if (o->channels == 1)
		return (size_t)sprintf(out, "%s", o->channel);
	return (size_t)sprintf(out, "%s:%u", o->channel, channel);
}

void
options_help(void)
{
	char left[64];

	printf("usage: wsbench run [PRESET] [--OPTION=VALUE]…\n"
	       "       wsbench limit [--OPTION=VALUE]…    the floor: a server with no "
	       "logic\n"
	       "       wsbench compare A.json B.json\n"
	       "       wsbench help\n\nPresets\n");
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
		printf("  %-28s%s\n", presets[i].name, presets[i].help);
	for (size_t i = 0; i < NROWS; i++) {
		if (rows[i].kind == KIND_SECTION) {
			printf("\n%s\n", rows[i].name);
			continue;
		}
		snprintf(left, sizeof(left), "--%s%s%s", rows[i].name,
		    rows[i].arg[0] != '\0' ? "=" : "", rows[i].arg);
		printf("  %-28s%s\n", left, rows[i].help);
	}
}

json_t *
options_json(const struct options *o)
{
	json_t *all = json_object();

	for (size_t i = 0; i < NROWS; i++) {
		const void *field = (const char *)o + rows[i].at;
		const struct size_range *range = field;
		const char *text;
		json_t *value = NULL;

		switch (rows[i].kind) {
		case KIND_TEXT:
			text = *(const char *const *)field;
			/* Neither a secret nor where the output went. */
			if (text != NULL && field != (const void *)&o->token &&
			    field != (const void *)&o->api_key &&
			    field != (const void *)&o->json)
				value = json_string(text);
			break;
		case KIND_COUNT:
			value = json_integer(*(const unsigned *)field);
			break;
		case KIND_NUMBER:
		case KIND_SHARE:
			value = json_real(*(const double *)field);
			break;
		case KIND_SIZE:
			value = json_pack(
			    "[I, I]", (json_int_t)range->low, (json_int_t)range->high);
			break;
		case KIND_FLAG:
			value = json_boolean(*(const bool *)field);
			break;
		case KIND_SECTION:
			break;
		}
		if (value != NULL)
			(void)json_object_set_new(all, rows[i].name, value);
	}
	return all;
}
