/* wsctl_token.c - tokens for trying things out. Needs no server. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/keyring.h"
#include "proto/settings.h"
#include "proto/token.h"
#include "tools/wsctl.h"

#define TTL_S 3600

/* The option's text, the last that was given; NULL: none was. */
static const char *
given(const struct ctl *ctl, enum token_option option)
{
	for (unsigned i = ctl->ntoken; i-- > 0;)
		if (ctl->token[i].option == option)
			return ctl->token[i].text;
	return NULL;
}

/* Add words separated by commas to a claim. False: one is no UTF-8. */
static bool
add_words(json_t *claims, const char *name, const char *text)
{
	json_t *list = json_object_get(claims, name);

	if (list == NULL) {
		list = json_array();
		if (json_object_set_new(claims, name, list) < 0)
			return false;
	}
	while (*text != '\0') {
		size_t len = strcspn(text, ",");

		if (len > 0 && json_array_append_new(list, json_stringn(text, len)) < 0)
			return false;
		text += len + (text[len] == ',');
	}
	return true;
}

/* False: it is no UTF-8. */
static bool
add_claim(json_t *claims, const struct token_given *g)
{
	static const struct {
		const char *name;
		bool is_list;
	} kinds[TOKEN_OPTIONS] = {
	    [TOKEN_SUB] = {"sub", false},
	    [TOKEN_AUD] = {"aud", false},
	    [TOKEN_ISS] = {"iss", false},
	    [TOKEN_CHANNELS] = {"channels", true},
	    [TOKEN_SUBSCRIBE] = {"subscribe", true},
	    [TOKEN_PUBLISH] = {"publish", true},
	};
	const char *name = kinds[g->option].name;

	if (name == NULL)
		return true; /* it says where the key is */
	if (kinds[g->option].is_list)
		return add_words(claims, name, g->text);
	return json_object_set_new(claims, name, json_string(g->text)) == 0;
}

/* As JSON, to be freed; NULL: one is no UTF-8. */
static char *
claims_text(const struct ctl *ctl)
{
	json_t *o = json_object();
	long ttl_s = ctl->ttl_s < 0 ? TTL_S : ctl->ttl_s;
	char *text = NULL;
	bool ok = true;

	for (unsigned i = 0; ok && i < ctl->ntoken; i++)
		ok = add_claim(o, &ctl->token[i]);
	if (ok && ctl->jti != NULL)
		ok = json_object_set_new(o, "jti", json_string(ctl->jti)) == 0;
	if (ok && json_object_set_new(
		      o, "exp", json_integer((json_int_t)time(NULL) + ttl_s)) == 0)
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

/* Sign with these bytes, and print. */
static enum outcome
make(const struct ctl *ctl, const char *name, const void *key, size_t len)
{
	char *text = claims_text(ctl), *token = NULL;
	char why[KEYRING_WHY_MAX] = "no memory";
	enum outcome o = OUTCOME_FAILED;

	if (text == NULL) {
		ctl_complain("a claim is no UTF-8");
	} else if (token_make(key, len, text, &token, why) < 0) {
		ctl_complain("%s: %s", name, why);
	} else if (ctl->json) {
		json_t *answer = json_pack("{s:s}", "token", token);

		o = ctl_show_json(ctl, answer);
		json_decref(answer);
	} else {
		printf("%s\n", token);
		o = OUTCOME_DONE;
	}
	free(token);
	free(text);
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
	const char *conf = given(ctl, TOKEN_CONF);
	const char *path = conf != NULL ? conf : CTL_SETTINGS_PATH;
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
	const char *key = ctl->key;

	if (given(ctl, TOKEN_SUB) == NULL) {
		ctl_complain("token: --sub is missing: whom is it for?");
		return OUTCOME_USAGE;
	}
	return key != NULL ? make_by_file(ctl, key) : make_by_settings(ctl);
}
