/* wsctl_token.c - tokens for trying things out. Needs no server. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/jwk.h"
#include "proto/settings.h"
#include "proto/token.h"
#include "tools/wsctl.h"

#define SETTINGS_PATH WSCAST_SYSCONFDIR "/wscast/wscast.conf"
#define TTL_S 3600

/* Words separated by commas, as an array. */
static json_t *
words(const char *text)
{
	json_t *list = json_array();

	while (*text != '\0') {
		size_t len = strcspn(text, ",");

		if (len > 0)
			(void)json_array_append_new(list, json_stringn(text, len));
		text += len + (text[len] == ',');
	}
	return list;
}

static json_t *
claims_of(const struct ctl *ctl)
{
	static const struct {
		enum token_option option;
		const char *name;
		bool is_list;
	} claims[] = {
	    {TOKEN_SUB, "sub", false},
	    {TOKEN_AUD, "aud", false},
	    {TOKEN_ISS, "iss", false},
	    {TOKEN_CHANNELS, "channels", true},
	    {TOKEN_SUBSCRIBE, "subscribe", true},
	    {TOKEN_PUBLISH, "publish", true},
	};
	json_t *o = json_object();
	long ttl_s = ctl->ttl_s < 0 ? TTL_S : ctl->ttl_s;

	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		const char *text = ctl->token[claims[i].option];

		if (text != NULL)
			(void)json_object_set_new(o, claims[i].name,
			    claims[i].is_list ? words(text) : json_string(text));
	}
	if (ctl->jti != NULL)
		(void)json_object_set_new(o, "jti", json_string(ctl->jti));
	(void)json_object_set_new(
	    o, "exp", json_integer((json_int_t)time(NULL) + ttl_s));
	return o;
}

/* Sign with these bytes, and print. */
static enum outcome
make(const struct ctl *ctl, const char *name, const void *key, size_t len)
{
	json_t *claims = claims_of(ctl);
	char *text = json_dumps(claims, JSON_COMPACT), *token = NULL;
	char why[KEYRING_WHY_MAX] = "no memory";
	enum outcome o = OUTCOME_FAILED;

	if (text == NULL) {
		ctl_complain("a claim is no UTF-8");
	} else if (token_make(key, len, text, &token, why) < 0) {
		ctl_complain("%s: %s", name, why);
	} else {
		printf("%s\n", token);
		o = OUTCOME_DONE;
	}
	free(token);
	free(text);
	json_decref(claims);
	return o;
}

static enum outcome
make_by_file(const struct ctl *ctl, const char *path)
{
	char buf[16384];
	FILE *f = fopen(path, "re");
	enum outcome o = OUTCOME_FAILED;
	size_t len;

	if (f == NULL) {
		ctl_complain("cannot read %s: %m", path);
		return OUTCOME_FAILED;
	}
	len = fread(buf, 1, sizeof(buf), f);
	if (ferror(f) || len == sizeof(buf))
		ctl_complain("%s is no key file", path);
	else
		o = make(ctl, path, buf, len);
	explicit_bzero(buf, sizeof(buf));
	(void)fclose(f);
	return o;
}

/* By the secret that the settings name; a private key they never do. */
static enum outcome
make_by_settings(const struct ctl *ctl)
{
	const char *path =
	    ctl->token[TOKEN_CONF] != NULL ? ctl->token[TOKEN_CONF] : SETTINGS_PATH;
	struct settings *s = NULL;
	struct faults faults = {0};
	const struct settings_file *file;
	enum outcome o = OUTCOME_FAILED;

	if (settings_load(path, NULL, 0, &s, &faults) < 0) {
		for (unsigned i = 0; i < faults.n; i++)
			ctl_complain("%s", faults.line[i]);
		ctl_complain("name a key file: --key FILE");
		faults_done(&faults);
		return OUTCOME_FAILED;
	}
	file = settings_file(s, "auth.secret_file");
	if (file != NULL)
		o = make(ctl, "auth.secret_file", file->data, file->len);
	else
		ctl_complain("%s names no secret_file in [auth]: name a key with "
			     "--key FILE",
		    path);
	settings_free(s);
	return o;
}

enum outcome
command_token(struct ctl *ctl)
{
	if (ctl->token[TOKEN_SUB] == NULL) {
		ctl_complain("token: --sub is missing: whom is it for?");
		return OUTCOME_USAGE;
	}
	return ctl->token[TOKEN_KEY] != NULL ? make_by_file(ctl, ctl->token[TOKEN_KEY])
					     : make_by_settings(ctl);
}
