/* redis_target.c - see redis_target.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/journal.h"
#include "supervisor/redis_target.h"

struct redis_target {
	struct redis_url url;
	char *password_file, *ca, *certificate, *key;
	struct redis_login login; /* of these */
	char where[2 * REDIS_URL_MAX];
};

static int
login_set(struct redis_target *t, const struct settings *settings)
{
	t->password_file = strdup(settings->redis_password_file);
	t->ca = strdup(settings->redis_ca);
	t->certificate = strdup(settings->redis_certificate);
	t->key = strdup(settings->redis_key);
	if (t->password_file == NULL || t->ca == NULL || t->certificate == NULL ||
	    t->key == NULL)
		return -ENOMEM;
	t->login = (struct redis_login){
	    .user = t->url.user,
	    .password = t->url.password,
	    .password_file = t->password_file,
	    .db = t->url.db,
	    .tls = t->url.tls,
	    .ca = t->ca,
	    .certificate = t->certificate,
	    .key = t->key,
	};
	return 0;
}

int
redis_target_new(struct ev_loop *loop, const struct settings *settings,
    struct redis_target **ret_target)
{
	struct redis_target *t = calloc(1, sizeof(*t));
	const char *why;
	int r;

	if (t == NULL)
		return -ENOMEM;
	r = redis_url_parse(settings->redis, &t->url, &why);
	if (r < 0) {
		log_error(0, "feed.redis: %s", why);
		redis_target_free(t);
		return r;
	}
	r = login_set(t, settings);
	if (r < 0) {
		redis_target_free(t);
		return r;
	}
	(void)redis_address_text(&t->url.address[0], t->where, sizeof(t->where));
	*ret_target = t;
	return 0;
}

void
redis_target_free(struct redis_target *t)
{
	if (t == NULL)
		return;
	free(t->password_file);
	free(t->ca);
	free(t->certificate);
	free(t->key);
	free(t);
}

const struct redis_login *
redis_target_login(const struct redis_target *t)
{
	return &t->login;
}

bool
redis_target_is_master(const struct redis_target *t)
{
	return t->url.form == REDIS_SENTINEL;
}

const char *
redis_target_where(const struct redis_target *t)
{
	return t->where;
}

void
redis_seeker_init(struct redis_seeker *s, struct redis_target *target,
    const struct redis_seeks *seeks, void *owner)
{
	*s = (struct redis_seeker){.target = target, .seeks = seeks, .owner = owner};
}

void
redis_seeker_start(struct redis_seeker *s)
{
	s->seeks->on_found(s->owner, &s->target->url.address[0]);
}

void
redis_seeker_stop(struct redis_seeker *s)
{
}
