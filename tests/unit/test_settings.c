/* test_settings.c - proto/settings.c and its table. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/settings.h"
#include "proto/settings_table.h"

/* Add to the text in a buffer of this size. */
static void
append(char *text, size_t size, const char *more)
{
	size_t len = strlen(text);

	assert_true(len + strlen(more) < size);
	memcpy(text + len, more, strlen(more) + 1);
}

/* Parse text that must be right. */
static struct settings *
parse(const char *text)
{
	struct settings *s = NULL;
	struct faults faults;
	int r = settings_parse(text, strlen(text), &s, &faults);

	if (r < 0)
		fail_msg("%d: %s", r, faults.n > 0 ? faults.line[0] : "no fault");
	assert_int_equal(faults.n, 0);
	return s;
}

/* Parse text with one fault, which must be this. */
static void
assert_fault(const char *text, const char *want)
{
	struct settings *s = NULL;
	struct faults faults;

	assert_int_equal(settings_parse(text, strlen(text), &s, &faults), -EINVAL);
	assert_null(s);
	assert_int_equal(faults.n, 1);
	assert_string_equal(faults.line[0], want);
	faults_done(&faults);
	assert_int_equal(faults.n, 0);
}

static struct settings *
load(const char *const *overrides, size_t n)
{
	struct settings *s = NULL;
	struct faults faults;
	int r = settings_load(NULL, overrides, n, &s, &faults);

	if (r < 0)
		fail_msg("%d: %s", r, faults.n > 0 ? faults.line[0] : "no fault");
	return s;
}

static void
assert_override_fault(const char *override, const char *want)
{
	struct settings *s = NULL;
	struct faults faults;

	assert_int_equal(settings_load(NULL, &override, 1, &s, &faults), -EINVAL);
	assert_int_equal(faults.n, 1);
	assert_string_equal(faults.line[0], want);
	faults_done(&faults);
}

static void
test_settings_empty_text_gives_defaults(void **state)
{
	struct settings *s = parse("");

	assert_int_equal(s->nlisten, 1);
	assert_string_equal(s->listen[0].text, "0.0.0.0:8080");
	assert_int_equal(s->workers, 0);
	assert_string_equal(s->admin_listen, "127.0.0.1:8081");
	assert_string_equal(s->origins, "");
	assert_int_equal(s->max_message_size, 65536);
	assert_int_equal(s->ping_interval_ms, 25000);
	assert_int_equal(s->ring_size, 64 << 20);
	assert_int_equal(s->source, FEED_EMBEDDED);
	assert_int_equal(s->nrules, 1);
	assert_string_equal(s->rules[0].glob, "*");
	assert_int_equal(s->rules[0].publish, WHO_NOBODY);
	assert_true(s->rules[0].history);
	settings_free(s);
}

static void
test_settings_units_understood(void **state)
{
	struct settings *s =
	    parse("[limits]\nsend_buffer = 128k\nmax_message_size=1M\n"
		  "ping_interval = 1500ms\npong_timeout=2m\nwrite_timeout=7\n"
		  "handshake_timeout = 1h\n[ring]\nsize = 8388608");

	assert_int_equal(s->send_buffer, 128 << 10);
	assert_int_equal(s->max_message_size, 1 << 20);
	assert_int_equal(s->ping_interval_ms, 1500);
	assert_int_equal(s->pong_timeout_ms, 120000);
	assert_int_equal(s->write_timeout_ms, 7000);
	assert_int_equal(s->handshake_timeout_ms, 3600000);
	assert_int_equal(s->ring_size, 8 << 20);
	settings_free(s);
}

static void
test_settings_comments_blanks_and_crlf_ignored(void **state)
{
	struct settings *s = parse("\xef\xbb\xbf# a comment\r\n\r\n  [server] ; one\r\n"
				   "\tworkers = 3 ; and more\r\n;[bad\n"
				   "    control_socket=/tmp/a;b\n  listen : *:99 ; c");

	assert_int_equal(s->workers, 3);
	assert_string_equal(s->control_socket, "/tmp/a;b");
	assert_string_equal(s->listen[0].text, "*:99");
	settings_free(s);
}

static void
test_settings_listeners_and_lists_add_up(void **state)
{
	struct settings *s =
	    parse("[server]\nlisten=127.0.0.1:1\nlisten = [::1]:2 tls=no proxy=no\n"
		  "origins = a, b\norigins=c\ntrusted_proxies=10.0.0.0/8\n");

	assert_int_equal(s->nlisten, 2);
	assert_int_equal(s->listen[1].addr.ss_family, AF_INET6);
	assert_int_equal(s->listen[1].addr_len, sizeof(struct sockaddr_in6));
	assert_string_equal(s->origins, "a b c");
	settings_free(s);
}

static void
test_settings_listener_options_are_taken(void **state)
{
	struct settings *s =
	    parse("[server]\nlisten = *:1 proxy=v2\nlisten = unix:/run/a\n"
		  "listen = unix:/run/b mode=606 group=www-data proxy=v2\n");

	assert_true(s->listen[0].proxy);
	assert_int_equal(s->listen[1].addr.ss_family, AF_UNIX);
	assert_string_equal(
	    ((struct sockaddr_un *)&s->listen[1].addr)->sun_path, "/run/a");
	assert_int_equal(s->listen[1].mode, 0660);
	assert_string_equal(s->listen[1].group, "");
	assert_false(s->listen[1].proxy);
	assert_int_equal(s->listen[2].mode, 0606);
	assert_string_equal(s->listen[2].group, "www-data");
	assert_true(s->listen[2].proxy);
	settings_free(s);
}

static void
test_settings_rules_first_match_holds(void **state)
{
	struct settings *s = parse("[channel chat:*]\npublish = anyone\nrate = 5\n"
				   "[channel chat:vip]\npublish = claim\n"
				   "[channel *]\nsubscribe = nobody\n");

	assert_int_equal(s->nrules, 3);
	assert_ptr_equal(settings_rule(s, "chat:vip", 8), &s->rules[0]);
	assert_ptr_equal(settings_rule(s, "chat:", 5), &s->rules[0]);
	assert_ptr_equal(settings_rule(s, "news", 4), &s->rules[2]);
	assert_int_equal(s->rules[0].publish, WHO_ANYONE);
	assert_int_equal(s->rules[0].rate, 5);
	assert_int_equal(
	    s->rules[0].subscribe, WHO_ANYONE); /* not that of [channel *] */
	assert_int_equal(s->rules[2].subscribe, WHO_NOBODY);
	settings_free(s);
}

/* Whose channel it is decides who may; how it is kept is the same for all. */
static void
test_settings_rule_with_subject_by_connection(void **state)
{
	struct settings *s =
	    parse("[channel user:{sub}]\nslow = latest\n[channel user:*]\n");

	assert_ptr_equal(settings_rule_for(s, (struct slice){"ann", 3}, "user:ann", 8),
	    &s->rules[0]);
	assert_ptr_equal(settings_rule_for(s, (struct slice){"bob", 3}, "user:ann", 8),
	    &s->rules[1]);
	assert_ptr_equal(
	    settings_rule_for(s, (struct slice){NULL, 0}, "user:ann", 8), &s->rules[1]);
	assert_ptr_equal(settings_rule(s, "user:ann", 8), &s->rules[0]);
	assert_ptr_equal(settings_rule(s, "user:", 5), &s->rules[1]);
	settings_free(s);
}

/* inih would cut this name to 49 bytes, and take the rest of a long line for another.
 */
static void
test_settings_long_section_name_kept_whole(void **state)
{
	char text[400], glob[201];
	struct settings *s;

	memset(glob, 'g', 200);
	glob[200] = '\0';
	(void)snprintf(text, sizeof(text), "[channel %s]\ncache = yes\n", glob);
	s = parse(text);
	assert_string_equal(s->rules[0].glob, glob);
	assert_true(settings_rule(s, glob, 200)->cache);
	assert_false(settings_rule(s, glob, 199)->cache);
	settings_free(s);
}

#define SECTIONS                                                                       \
	"[server], [limits], [ring], [feed], [presence], [auth], [tls], "              \
	"[compression] and [channel GLOB]"

static void
test_settings_each_fault_says_what_to_do(void **state)
{
	static const char *const table[][2] = {
	    {"workers = 1", "settings:1: a setting before the first [SECTION]"},
	    {"[server]\nnonsense",
		"settings:2: this is neither [SECTION] nor KEY = VALUE"},
	    {"\n[server\n", "settings:2: the section's name does not end with ']'"},
	    {"[auht]\nmode = none\n", "settings:1: this version does not know the "
				      "section [auht]; it knows " SECTIONS},
	    {"[server]\nmax_conections = 1", "settings:2: this version does not know "
					     "`max_conections` in [server]; nearest is "
					     "`max_connections`"},
	    {"[server]\nprefx = 1", "settings:2: this version does not know `prefx` in "
				    "[server]; nearest is `prefix` in "
				    "[feed]"},
	    {"[server]\nnosuch = 1", "settings:2: this version does not know `nosuch` "
				     "in [server]"},
	    {"[channel a]\npublsh = 1", "settings:2: this version does not know "
					"`publsh` in [channel]; nearest is "
					"`publish`"},
	    {"[server]\nworkers = 1\nworkers = 2",
		"settings:3: `workers` is already set in line 2"},
	    {"[server]\nworkers = many",
		"settings:2: workers: \"many\" is not understood: write a number, from "
		"1 to 1024, or "
		"auto"},
	    {"[server]\nworkers = 0", "settings:2: workers: 0 is out of bounds: write "
				      "a number, from 1 to 1024"},
	    {"[server]\nmax_connections = 99999999999999999999999",
		"settings:2: max_connections: 99999999999999999999999 is out of "
		"bounds: write a "
		"number, from 0 to 100000000"},
	    {"[limits]\nsend_buffer = 64q",
		"settings:2: send_buffer: \"64q\" is not understood: write bytes, or a "
		"size like 64k "
		"or 64M, from 4k to 64M"},
	    {"[limits]\nping_interval = 1ms",
		"settings:2: ping_interval: 1ms is out of bounds: write a time like "
		"500ms, 10s or "
		"2m, from 100ms to 24h"},
	    {"[limits]\nping_interval =", "settings:2: ping_interval: \"\" is not "
					  "understood: write a time like 500ms, 10s or "
					  "2m, from 100ms to 24h"},
	    {"[channel a]\nhistory = maybe",
		"settings:2: history: \"maybe\" is neither yes nor no"},
	    {"[channel a]\nslow = now",
		"settings:2: slow: \"now\" is none of: close, skip, latest"},
	    {"[channel]\n", "settings:1: [channel ...] needs a channel's name or a "
			    "glob, of 1 to 200 bytes of "
			    "UTF-8, the first no \"!\": [channel chat:*]"},
	    {"[channel *]\n[channel a]\n", "settings:2: this section is never reached, "
					   "since the first that matches holds: put "
					   "it before [channel *]"},
	    {"[server]\nlisten = 127.0.0.1", "settings:2: listen: \"127.0.0.1\": write "
					     "ADDRESS:PORT with a port of 1 to 65535"},
	    {"[server]\nlisten = host:1", "settings:2: listen: \"host:1\": write the "
					  "address in figures, like 127.0.0.1:8080, "
					  "[::1]:8080 or *:8080"},
	    {"[server]\nlisten = *:1\nlisten = 0.0.0.0:1",
		"settings:3: listen: \"0.0.0.0:1\": this address is already listened "
		"on"},
	    {"[server]\nlisten = *:1 tls=on",
		"settings:2: listen: \"*:1 tls=on\": write tls=yes or tls=no"},
	    {"[server]\nlisten = *:1 proxy=v1",
		"settings:2: listen: \"*:1 proxy=v1\": write proxy=v2, which takes "
		"the PROXY protocol's version 1, too, or proxy=no"},
	    {"[server]\nlisten = *:1 mode=0660",
		"settings:2: listen: \"*:1 mode=0660\": behind the address only the "
		"options proxy= and tls= can stand"},
	    {"[server]\nlisten = unix:ws.sock",
		"settings:2: listen: \"unix:ws.sock\": write unix: and an absolute "
		"path of at most 107 bytes"},
	    {"[server]\nlisten = unix:/a\nlisten = unix:/a mode=666",
		"settings:3: listen: \"unix:/a mode=666\": this address is already "
		"listened on"},
	    {"[server]\nlisten = unix:/a mode=4660",
		"settings:2: listen: \"unix:/a mode=4660\": write mode= with three "
		"octal digits, like mode=0660"},
	    {"[server]\nlisten = unix:/a mode=0668",
		"settings:2: listen: \"unix:/a mode=0668\": write mode= with three "
		"octal digits, like mode=0660"},
	    {"[server]\nlisten = unix:/a group=",
		"settings:2: listen: \"unix:/a group=\": behind the address only the "
		"options proxy=, tls=, and for a unix socket mode= and group= can "
		"stand"},
	    {"[server]\nlisten = *:1 fast", "settings:2: listen: \"*:1 fast\": behind "
					    "the address only the options proxy= and "
					    "tls= can stand"},
	    {"[server]\ntrusted_proxies = 10.0.0.1/8",
		"settings:2: trusted_proxies: \"10.0.0.1/8\": write addresses or "
		"networks, like "
		"10.0.0.0/8 or fd00::/8, without bits set outside the network"},
	    {"[server]\ncontrol_socket = here", "settings:2: control_socket: write an "
						"absolute path of at most 107 bytes"},
	    {"[server]\ndemo = \xff", "settings:2: demo: it is not UTF-8"},
	    {"[server]\ndemo = a\x01",
		"settings:2: demo: it holds a control character"},
	    {"[feed]\nsource = stream\nstream =",
		"settings:3: stream: with source = stream it must name one, at least"},
	    {"[feed]\nstream = 1 2 3 4 5 6 7 8 9 a b c d e f g h",
		"settings:2: stream: there can be no more than 16"},
	    {"[feed]\ninterest = a*",
		"settings:2: interest: this version knows only `dynamic`, no patterns"},
	    {"[feed]\nredis = http://x",
		"settings:2: redis: write redis://HOST:PORT/DB, unix:///PATH, "
		"redis-sentinel://HOST,HOST/MASTER or redis-cluster://HOST,HOST "
		"(rediss... for TLS)"},
	    {"[feed]\nredis = redis://u@x",
		"settings:2: redis: there is no password before the '@': write "
		"redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST, or name its "
		"file by redis_password_file"},
	    {"[feed]\nredis = redis://:x@x\nredis_password_file = /x",
		"settings:3: redis_password_file: the URL has a password, too: write "
		"one of them"},
	    {"[feed]\nredis_key = /x",
		"settings:2: redis_key: there is no redis_certificate that it belongs "
		"to"},
	    {"[feed]\nredis = redis-cluster://h\nstream = {a}1 {a}2 b",
		"settings:3: stream: in a cluster they must all be in one slot, by the "
		"same {tag} in their names"},
	    {"[feed]\nsource = pubsub\nsharded = yes",
		"settings:3: sharded: there is sharded pub/sub in a cluster alone: "
		"write source = pubsub and redis = redis-cluster://..."},
	    {"[feed]\nredis_ca = x", "settings:2: redis_ca: write an absolute path"},
	    {"[ring]\nsize = 65M", "settings:2: size: the ring's size must be a power "
				   "of two, like 32M or 64M"},
	    {"[ring]\nsize = 1M\n[limits]\nmax_message_size = 1M",
		"settings:4: max_message_size (1048576 bytes) is over an eighth of the "
		"ring's size "
		"(1048576 bytes): make it smaller or the ring larger"},
	    {"[channel a]\nmax_message_size = 1M",
		"settings:2: max_message_size: a channel's can only be narrower than "
		"that of "
		"[limits], which is 65536 bytes"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_fault(table[i][0], table[i][1]);
}

static void
test_settings_line_too_long_is_one_fault(void **state)
{
	char text[600] = "[server]\ndemo = ";

	memset(text + strlen(text), 'x', 400);
	assert_fault(text,
	    "settings:2: the line is longer than 198 bytes (a list may be spread "
	    "over several lines, each with the key)");
	/* ... and a comment may be as long as it likes. */
	memcpy(text, "[server]\n;emo", 13);
	settings_free(parse(text));
}

static void
test_settings_nul_byte_is_a_fault(void **state)
{
	static const char text[] = "[server]\nworkers = 1\0002\n";
	struct settings *s = NULL;
	struct faults faults;

	assert_int_equal(settings_parse(text, sizeof(text) - 1, &s, &faults), -EINVAL);
	assert_string_equal(faults.line[0], "settings:2: the line holds a NUL byte");
	faults_done(&faults);
}

static void
test_settings_all_faults_reported_up_to_limit(void **state)
{
	char text[8000] = "[server]\n";
	struct settings *s = NULL;
	struct faults faults;

	for (int i = 0; i < 150; i++)
		append(text, sizeof(text), "bad line\n");
	assert_int_equal(settings_parse(text, strlen(text), &s, &faults), -EINVAL);
	assert_int_equal(faults.n, SETTINGS_FAULTS_MAX);
	assert_string_equal(
	    faults.line[99], "settings:101: this is neither [SECTION] nor KEY = VALUE");
	faults_done(&faults);
}

static void
test_settings_no_file_is_errno_and_fault(void **state)
{
	struct settings *s = NULL;
	struct faults faults;

	assert_int_equal(
	    settings_load("/nonexistent/x", NULL, 0, &s, &faults), -ENOENT);
	assert_int_equal(faults.n, 1);
	assert_string_equal(faults.line[0],
	    "/nonexistent/x: cannot be read: No such file or directory");
	faults_done(&faults);
}

static void
test_settings_overrides_take_the_files_place(void **state)
{
	static const char *const overrides[] = {"server.listen=127.0.0.1:7",
	    "server.listen=[::1]:7", " channel b.c*.publish = anyone",
	    "channel *.cache=yes", "server.workers=2", "server.workers=3",
	    "feed.redis=redis://:a=b@h"};
	char path[] = "/tmp/test_settings_XXXXXX";
	static const char text[] =
	    "[server]\nlisten = *:1\nlisten = *:2\nworkers = 9\n";
	struct settings *s = NULL;
	struct faults faults;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	assert_int_equal(settings_load(path, overrides, 7, &s, &faults), 0);
	(void)close(fd);
	(void)unlink(path);
	assert_int_equal(s->nlisten, 2);
	assert_string_equal(s->listen[0].text, "127.0.0.1:7");
	assert_string_equal(s->listen[1].text, "[::1]:7");
	assert_int_equal(s->workers, 3);
	assert_int_equal(s->nrules, 2);
	assert_string_equal(s->rules[0].glob, "b.c*");
	assert_int_equal(s->rules[0].publish, WHO_ANYONE);
	assert_true(s->rules[1].cache);
	assert_string_equal(s->redis, "redis://:a=b@h");
	settings_free(s);
}

static void
test_settings_override_faults_numbered(void **state)
{
	assert_override_fault("server.workers=x",
	    "-o 1: workers: \"x\" is not understood: write a "
	    "number, from 1 to 1024, or auto");
	assert_override_fault("workers=1",
	    "-o 1: write SECTION.KEY=VALUE, like server.workers=4 or "
	    "'channel chat:*.publish=anyone'");
	assert_override_fault("server.workers",
	    "-o 1: write SECTION.KEY=VALUE, like server.workers=4 or "
	    "'channel chat:*.publish=anyone'");
	assert_override_fault("tsl.key=x",
	    "-o 1: this version does not know the section [tsl]; it knows " SECTIONS);
	assert_override_fault("server.demo=/a ;b",
	    "-o 1: demo: a ';' at its start or after a blank begins a comment");
	assert_override_fault(
	    "server.demo=a\nb", "-o 1: demo: it holds a control character");
}

/* What a dump says is read back as the same, whatever was set. */
static void
test_settings_dump_reads_back(void **state)
{
	static const char *const overrides[] = {"server.listen=127.0.0.1:7",
	    "server.listen=[::1]:7", "server.workers=5",
	    "server.admin_listen=", "server.origins=a b c", "limits.message_rate=7",
	    "limits.ping_interval=1501ms", "limits.max_message_size=1000",
	    "ring.size=8M", "compression.enabled=no", "compression.level=9",
	    "compression.min_saving=25%", "feed.source=pubsub",
	    "feed.redis=unix:///x?db=2", "feed.prefix=", "channel a]b;c.slow=skip",
	    "channel chat:*.max_message_size=10", "channel *.rate=3",
	    "channel *.publish=claim"};
	struct settings *a = load(overrides, sizeof(overrides) / sizeof(overrides[0])),
			*b;
	char *text = settings_dump(a), *again;

	assert_non_null(text);
	b = parse(text);
	again = settings_dump(b);
	assert_string_equal(again, text);
	assert_string_equal(b->admin_listen, "");
	assert_string_equal(b->origins, "a b c");
	assert_int_equal(b->ping_interval_ms, 1501);
	assert_false(b->compression);
	assert_int_equal(b->compression_level, 9);
	assert_int_equal(b->compression_min_saving, 25);
	assert_string_equal(b->rules[0].glob, "a]b;c");
	assert_int_equal(b->rules[0].slow, SLOW_SKIP);
	assert_int_equal(b->rules[1].max_message_size, 10);
	assert_string_equal(b->redis, "unix:///x?db=2");
	free(text);
	free(again);
	settings_free(a);
	settings_free(b);
}

static void
test_settings_password_never_shown(void **state)
{
	static const char *const o = "feed.redis=redis://user:geheim@h/1";
	struct settings *s = load(&o, 1);
	char *text = settings_dump(s), *value = settings_get(s, "feed.redis");

	assert_null(strstr(text, "geheim"));
	assert_string_equal(value, "redis://user:***@h/1");
	free(text);
	free(value);
	settings_free(s);
	assert_override_fault("feed.redis=redis://user:geheim@h:port",
	    "-o 1: redis: the port must be a number of 1 to 65535");
}

static void
test_settings_get_values_and_unknown(void **state)
{
	static const char *const table[][2] = {{"server.workers", "auto"},
	    {"limits.send_buffer", "64k"}, {"limits.ping_interval", "25s"},
	    {"server.origins", ""}, {"server.listen", "127.0.0.1:7\n[::1]:7"},
	    {"channel a.b.publish", "anyone"}, {"channel *.rate", ""},
	    {"channel *.history", "yes"}};
	static const char *const unknown[] = {"", "workers", "server.", ".workers",
	    "server.x", "channel.publish", "channel x.publish", "channel a.b.x"};
	static const char *const o[] = {"server.listen=127.0.0.1:7",
	    "server.listen=[::1]:7", "channel a.b.publish=anyone"};
	struct settings *s = load(o, 3);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char *value = settings_get(s, table[i][0]);

		assert_non_null(value);
		assert_string_equal(value, table[i][1]);
		free(value);
	}
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		errno = 0;
		assert_null(settings_get(s, unknown[i]));
		assert_int_equal(errno, ENOENT);
	}
	settings_free(s);
}

/* A dump is all that the workers get. */
static void
test_settings_dump_has_every_key_once(void **state)
{
	struct settings *s = load(NULL, 0);
	char *text = settings_dump(s), *section, line[80];

	assert_non_null(text);
	for (size_t i = 0; i < settings_table_len; i++) {
		const char *at, *end;

		(void)snprintf(line, sizeof(line), "[%s", settings_table[i].section);
		section = strstr(text, line);
		assert_non_null(section);
		assert_null(strstr(section + 1, line));
		end = strstr(section, "\n[");
		(void)snprintf(line, sizeof(line), "\n%s = ", settings_table[i].key);
		at = strstr(section, line);
		if (at == NULL || (end != NULL && at > end))
			fail_msg("no %s.%s", settings_table[i].section,
			    settings_table[i].key);
	}
	free(text);
	settings_free(s);
}

static void
test_settings_info_names_every_key(void **state)
{
	struct setting_info info;
	size_t n = 0;

	while (settings_info(n, &info)) {
		assert_non_null(info.section);
		assert_non_null(info.key);
		assert_non_null(info.fallback);
		n++;
	}
	assert_int_equal(n, settings_table_len);
}

static void
test_name_ok_bounds(void **state)
{
	char name[201];

	memset(name, 'a', sizeof(name));
	assert_true(name_ok(name, 200));
	assert_false(name_ok(name, 201));
	assert_false(name_ok("", 0));
	assert_true(name_ok("chat room \xc3\xa4", 12));
	assert_false(name_ok("a\0b", 3));
	assert_false(name_ok("a\n", 2));
	assert_false(name_ok("\xc2\x85", 2));
	assert_false(name_ok("\xc3", 1));
	assert_false(name_ok("!revoke", 7));
	assert_true(name_ok("news!", 5));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_settings_empty_text_gives_defaults),
	    cmocka_unit_test(test_settings_units_understood),
	    cmocka_unit_test(test_settings_comments_blanks_and_crlf_ignored),
	    cmocka_unit_test(test_settings_listeners_and_lists_add_up),
	    cmocka_unit_test(test_settings_listener_options_are_taken),
	    cmocka_unit_test(test_settings_rules_first_match_holds),
	    cmocka_unit_test(test_settings_rule_with_subject_by_connection),
	    cmocka_unit_test(test_settings_long_section_name_kept_whole),
	    cmocka_unit_test(test_settings_each_fault_says_what_to_do),
	    cmocka_unit_test(test_settings_line_too_long_is_one_fault),
	    cmocka_unit_test(test_settings_nul_byte_is_a_fault),
	    cmocka_unit_test(test_settings_all_faults_reported_up_to_limit),
	    cmocka_unit_test(test_settings_no_file_is_errno_and_fault),
	    cmocka_unit_test(test_settings_overrides_take_the_files_place),
	    cmocka_unit_test(test_settings_override_faults_numbered),
	    cmocka_unit_test(test_settings_dump_reads_back),
	    cmocka_unit_test(test_settings_password_never_shown),
	    cmocka_unit_test(test_settings_get_values_and_unknown),
	    cmocka_unit_test(test_settings_dump_has_every_key_once),
	    cmocka_unit_test(test_settings_info_names_every_key),
	    cmocka_unit_test(test_name_ok_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
