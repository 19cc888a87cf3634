/* settings.c - see settings.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/api_keys.h"
#include "proto/auth.h"
#include "proto/certificate.h"
#include "proto/glob.h"
#include "proto/redis_url.h"
#include "proto/settings_loader.h"
#include "proto/utf8.h"

#define FILE_MAX (1u << 20)
#define NAME_LEN_MAX 200 /* as CHANNEL_NAME_MAX of shm/directory.h */
#define FRAME_SHARE 8    /* a frame takes at most an eighth of the ring */

/* ---- what several keys say together ---- */

mark
mark_of(const struct loader *l, const struct setting *k)
{
	return l->marks.of[k - settings_table];
}

static void
check_sizes(struct loader *l)
{
	struct settings *s = l->s;
	mark size = mark_of(l, settings_find_key("ring", "size"));
	mark message = mark_of(l, settings_find_key("limits", "max_message_size"));

	if (s->ring_size & (s->ring_size - 1))
		fault_at(l, size,
		    "size: the ring's size must be a power of two, like 32M or 64M");
	/* What /echo is sent does not go through the ring; a channel still refuses what
	 * does not fit. */
	if (s->max_message_size > s->ring_size / FRAME_SHARE && !s->echo)
		fault_at(l, message ? message : size,
		    "max_message_size (%u bytes) is over an eighth of the ring's size "
		    "(%u bytes): make it smaller or the ring larger",
		    s->max_message_size, s->ring_size);
	for (size_t i = 0; i < s->nrules; i++) {
		const struct setting *k =
		    settings_find_key("channel", "max_message_size");

		if (s->rules[i].max_message_size > s->max_message_size)
			fault_at(l, l->rule_marks[i].of[k - settings_table],
			    "max_message_size: a channel's can only be narrower than "
			    "that of [limits], which is %u bytes",
			    s->max_message_size);
	}
}

/* Whether all of these words are. */
static bool
in_one_slot(const char *keys)
{
	uint16_t slot = redis_slot(keys, strcspn(keys, " "));

	for (const char *key = keys; key != NULL; key = strchr(key, ' ')) {
		key += *key == ' ';
		if (redis_slot(key, strcspn(key, " ")) != slot)
			return false;
	}
	return true;
}

static void
check_streams(struct loader *l, const struct redis_url *url)
{
	unsigned n = l->s->stream[0] != '\0';

	for (const char *p = l->s->stream; *p != '\0'; p++)
		n += *p == ' ';
	if (n == 0 && l->s->source == FEED_STREAM)
		fault_at(l, mark_of(l, settings_find_key("feed", "stream")),
		    "stream: with source = stream it must name one, at least");
	if (n > SETTINGS_STREAMS_MAX)
		fault_at(l, mark_of(l, settings_find_key("feed", "stream")),
		    "stream: there can be no more than %u", SETTINGS_STREAMS_MAX);
	if (url->form == REDIS_CLUSTER && !in_one_slot(l->s->stream))
		fault_at(l, mark_of(l, settings_find_key("feed", "stream")),
		    "stream: in a cluster they must all be in one slot, by the same "
		    "{tag} in their names");
}

static void
check_feed(struct loader *l)
{
	const struct settings *s = l->s;
	const char *why;
	struct redis_url url;

	if (redis_url_parse(s->redis, &url, &why) < 0)
		return; /* said */
	if (url.user[0] != '\0' && url.password[0] == '\0' &&
	    s->redis_password_file[0] == '\0')
		fault_at(l, mark_of(l, settings_find_key("feed", "redis")),
		    "redis: there is no password before the '@': write "
		    "redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST, or name its "
		    "file by redis_password_file");
	if (url.password[0] != '\0' && s->redis_password_file[0] != '\0')
		fault_at(l,
		    mark_of(l, settings_find_key("feed", "redis_password_file")),
		    "redis_password_file: the URL has a password, too: write one of "
		    "them");
	check_streams(l, &url);
	if (s->sharded && (url.form != REDIS_CLUSTER || s->source != FEED_PUBSUB))
		fault_at(l, mark_of(l, settings_find_key("feed", "sharded")),
		    "sharded: there is sharded pub/sub in a cluster alone: write "
		    "source = pubsub and redis = redis-cluster://...");
	if (s->redis_key[0] != '\0' && s->redis_certificate[0] == '\0')
		fault_at(l, mark_of(l, settings_find_key("feed", "redis_key")),
		    "redis_key: there is no redis_certificate that it belongs to");
}

/* What the files of [auth] hold, once they were read. */
static void
check_keys(struct loader *l)
{
	const struct settings *s = l->s;
	struct keyring *keys = NULL;
	char why[KEYRING_WHY_MAX];
	const char *key;
	int r;

	if ((s->auth_secret_file[0] != '\0' &&
		settings_file(s, "auth.secret_file") == NULL) ||
	    (s->auth_public_key_file[0] != '\0' &&
		settings_file(s, "auth.public_key_file") == NULL))
		return; /* said */
	r = auth_load_keys(s, &keys, &key, why);
	if (r == -EINVAL)
		fault_at(
		    l, mark_of(l, settings_find_key("auth", key)), "%s: %s", key, why);
	else if (r < 0)
		l->nomem = true;
	keyring_free(keys);
}

static bool
wants_tls(const struct settings *s)
{
	for (unsigned i = 0; i < s->nlisten; i++)
		if (s->listen[i].tls)
			return true;
	return false;
}

static struct slice
bytes_of(const struct settings *s, const char *name)
{
	const struct settings_file *f = settings_file(s, name);

	return f == NULL ? (struct slice){NULL, 0} : (struct slice){f->data, f->len};
}

/* What is in the files of the certificate and its key. Where one could not be read,
 * that was said. */
static void
check_certificate(struct loader *l)
{
	const struct setting *certificate = settings_find_key("tls", "certificate");
	const struct setting *key = settings_find_key("tls", "key");
	const struct settings *s = l->s;
	const struct slice pem = bytes_of(s, "tls.certificate");
	const struct slice key_pem = bytes_of(s, "tls.key");
	struct certificate_fault f;
	struct certificates c;
	int r;

	if (s->tls_certificate[0] == '\0' && s->tls_key[0] != '\0')
		fault_at(l, mark_of(l, key),
		    "key: there is no certificate that it belongs to");
	else if (s->tls_certificate[0] == '\0' && wants_tls(s))
		fault_at(l, mark_of(l, settings_find_key("server", "listen")),
		    "listen: tls=yes wants a certificate: name one in [tls]");
	if (pem.p == NULL || (s->tls_key[0] != '\0' && key_pem.p == NULL))
		return;
	r = certificates_parse(pem, key_pem, &c, &f);
	if (r == 0)
		certificates_done(&c);
	else if (r == -ENOMEM)
		l->nomem = true;
	else if (f.file == CERTIFICATE_KEY)
		fault_at(l, mark_of(l, key), "key: %s %s", s->tls_key, f.why);
	else
		fault_at(l, mark_of(l, certificate), "certificate: %s %s",
		    s->tls_certificate, f.why);
}

static void
check_api_keys(struct loader *l)
{
	const struct setting *k = settings_find_key("server", "api_key_file");
	const struct settings_file *f = settings_file(l->s, "server.api_key_file");
	unsigned line;

	if (f == NULL)
		return;
	if (api_keys_count(f->data, f->len, &line) == 0)
		fault_at(l, mark_of(l, k), "api_key_file: %s holds no key",
		    l->s->api_key_file);
	else if (line != 0)
		fault_at(l, mark_of(l, k),
		    "api_key_file: line %u of %s: a key has at least %u bytes, and no "
		    "white space",
		    line, l->s->api_key_file, API_KEY_MIN);
}

static void
check_all(struct loader *l)
{
	check_api_keys(l);
	check_feed(l);
	check_sizes(l);
}

/* ---- load ---- */

static int
loader_init(struct loader *l, const char *file, struct faults *faults)
{
	int r;

	memset(l, 0, sizeof(*l));
	memset(faults, 0, sizeof(*faults));
	l->file = file;
	l->faults = faults;
	l->s = calloc(1, sizeof(*l->s));
	if (l->s == NULL)
		return -ENOMEM;
	r = settings_set_defaults(false, l->s);
	if (r < 0)
		settings_free(l->s);
	return r;
}

static void
loader_override_all(struct loader *l, const char *const *overrides, size_t noverrides)
{
	for (size_t i = 0; i < noverrides && !l->nomem; i++) {
		l->here = MARK_OVERRIDE | (mark)(i + 1);
		loader_override(l, overrides[i]);
	}
}

/* All was read: check it, and hand it out. */
static int
loader_finish(struct loader *l, struct settings **ret_settings)
{
	if (!l->nomem)
		check_all(l);
	free(l->rule_marks);
	if (l->nomem || l->faults->n > 0) {
		settings_free(l->s);
		return l->nomem ? -ENOMEM : -EINVAL;
	}
	*ret_settings = l->s;
	return 0;
}

int
settings_parse(
    const char *text, size_t len, struct settings **ret_settings, struct faults *faults)
{
	struct loader l;
	int r = loader_init(&l, "settings", faults);

	if (r < 0)
		return r;
	loader_text(&l, text, len);
	if (!l.nomem && loader_end_rules(&l) < 0)
		l.nomem = true;
	return loader_finish(&l, ret_settings);
}

static void
fault_unreadable(struct faults *faults, const char *path, int err)
{
	char reason[128], *line = NULL;

	if (asprintf(&line, "%s: cannot be read: %s", path,
		strerror_r(-err, reason, sizeof(reason))) >= 0)
		faults_add(faults, line);
}

/* From file and overrides; running: NULL, or what is not to change. */
static int
load(const char *path, const char *const *overrides, size_t noverrides,
    const struct settings *running, struct settings **ret_settings,
    struct settings_changes *changes, struct faults *faults)
{
	struct loader l;
	char *text = NULL;
	size_t len = 0;
	int r = loader_init(&l, path ? path : "defaults", faults);

	if (r < 0)
		return r;
	if (path != NULL) {
		r = settings_read_file(path, FILE_MAX, &text, &len);
		if (r < 0) {
			fault_unreadable(faults, path, r);
			settings_free(l.s);
			return r;
		}
		loader_text(&l, text, len);
		free(text);
	}
	if (!l.nomem && loader_end_rules(&l) < 0)
		l.nomem = true;
	loader_override_all(&l, overrides, noverrides);
	if (!l.nomem)
		loader_read_files(&l);
	if (!l.nomem)
		check_keys(&l);
	if (!l.nomem)
		check_certificate(&l);
	if (!l.nomem && running != NULL && settings_keep(running, l.s, changes) < 0)
		l.nomem = true;
	return loader_finish(&l, ret_settings);
}

int
settings_load(const char *path, const char *const *overrides, size_t noverrides,
    struct settings **ret_settings, struct faults *faults)
{
	return load(path, overrides, noverrides, NULL, ret_settings, NULL, faults);
}

int
settings_reload(const char *path, const char *const *overrides, size_t noverrides,
    const struct settings *running, struct settings **ret_settings,
    struct settings_changes *ret_changes, struct faults *faults)
{
	*ret_changes = (struct settings_changes){.live = {.n = 0}};
	return load(
	    path, overrides, noverrides, running, ret_settings, ret_changes, faults);
}

static void
rule_done(struct rule *r)
{
	free(r->glob);
	free(r->glob_any);
	for (size_t i = 0; i < settings_table_len; i++) {
		if (strcmp(settings_table[i].section, "channel") == 0)
			setting_done(&settings_table[i], r);
	}
}

void
settings_free(struct settings *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < settings_table_len; i++) {
		if (strcmp(settings_table[i].section, "channel") != 0)
			setting_done(&settings_table[i], s);
	}
	for (size_t i = 0; i < s->nrules; i++)
		rule_done(&s->rules[i]);
	free(s->rules);
	settings_drop_files(s);
	free(s);
}

const struct rule *
settings_rule(const struct settings *s, const char *name, size_t len)
{
	for (size_t i = 0; i + 1 < s->nrules; i++) {
		const struct rule *r = &s->rules[i];

		if (glob_match(r->glob_any != NULL ? r->glob_any : r->glob, name, len))
			return r;
	}
	return &s->rules[s->nrules - 1];
}

const struct rule *
settings_rule_for(
    const struct settings *s, struct slice subject, const char *name, size_t len)
{
	char glob[GLOB_EXPANDED_MAX];

	for (size_t i = 0; i + 1 < s->nrules; i++) {
		const struct rule *r = &s->rules[i];
		const char *pattern = r->glob;

		if (r->glob_any != NULL) {
			if (subject.p == NULL ||
			    !glob_put_subject(r->glob, subject, glob, sizeof(glob)))
				continue;
			pattern = glob;
		}
		if (glob_match(pattern, name, len))
			return r;
	}
	return &s->rules[s->nrules - 1];
}

bool
name_ok(const char *name, size_t len)
{
	return len > 0 && len <= NAME_LEN_MAX && name[0] != NAME_RESERVED &&
	       utf8_is_text(name, len);
}

void
settings_log(const struct settings *s)
{
	log_set_level((enum log_level)(LOG_ERROR + (int)s->log_level));
	log_set_format(s->log_format);
}

bool
settings_log_level(const char *word, enum log_threshold *ret_level)
{
	const struct setting *k = settings_find_key("server", "log_level");

	for (int i = 0; k->words[i] != NULL; i++)
		if (strcmp(k->words[i], word) == 0) {
			*ret_level = (enum log_threshold)i;
			return true;
		}
	return false;
}
