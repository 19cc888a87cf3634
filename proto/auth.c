#include <errno.h>
#include <stdio.h>

#include "proto/auth.h"

static int
add_file(const struct settings *s, const char *name, struct keyring *k,
    int (*add)(struct keyring *k, const void *buf, size_t len, char *why), char *why)
{
	const struct settings_file *f = settings_file(s, name);

	return f == NULL ? 0 : add(k, f->data, f->len, why);
}

int
auth_load_keys(const struct settings *s, struct keyring **ret_keys,
    const char **ret_key, char *why)
{
	struct keyring *k = NULL;
	int r;

	if (s->auth_mode != AUTH_NONE) {
		k = keyring_new();
		if (k == NULL)
			return -ENOMEM;
		*ret_key = "secret_file";
		r = add_file(s, "auth.secret_file", k, keyring_add_secret, why);
		if (r < 0)
			goto fail;
		*ret_key = "public_key_file";
		r = add_file(s, "auth.public_key_file", k, keyring_add_public, why);
		if (r < 0)
			goto fail;
		*ret_key = "mode";
		if (keyring_len(k) == 0) {
			(void)snprintf(why, KEYRING_WHY_MAX,
			    "without a key no token can be checked: set secret_file or "
			    "public_key_file, or mode to none");
			r = -EINVAL;
			goto fail;
		}
	}
	*ret_keys = k;
	return 0;
fail:
	keyring_free(k);
	return r;
}

struct token_policy
auth_policy(const struct settings *s)
{
	return (struct token_policy){
	    .audience = s->auth_audience,
	    .issuer = s->auth_issuer,
	    .leeway_s = s->auth_leeway_ms / 1000,
	};
}
