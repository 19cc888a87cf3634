/* identity.c - see identity.h */
#include <errno.h>
#include <string.h>

#include "proto/glob.h"
#include "shm/arena.h"
#include "worker/identity.h"

/* ---- its parts ---- */

const struct identity *
identity_of(const struct worker *w, const struct slot *s)
{
	return s->identity == 0 ? NULL : arena_at(w->arena, s->identity);
}

struct slice
identity_subject(const struct worker *w, const struct slot *s)
{
	const struct identity *i = identity_of(w, s);

	if (i == NULL || i->subject_len == 0)
		return (struct slice){NULL, 0};
	return (struct slice){i->text, i->subject_len};
}

static const char *
jti_of(const struct identity *i)
{
	return i->text + i->subject_len + 1;
}

static const char *
info_of(const struct identity *i)
{
	return jti_of(i) + i->jti_len + 1;
}

/* The first of the channels; then come the globs. */
static const char *
lists_of(const struct identity *i)
{
	return info_of(i) + i->info_len + 1;
}

struct slice
identity_jti(const struct worker *w, const struct slot *s)
{
	const struct identity *i = identity_of(w, s);

	if (i == NULL || i->jti_len == 0)
		return (struct slice){NULL, 0};
	return (struct slice){jti_of(i), i->jti_len};
}

struct slice
identity_info(const struct worker *w, const struct slot *s)
{
	const struct identity *i = identity_of(w, s);

	if (i == NULL || i->info_len == 0)
		return (struct slice){NULL, 0};
	return (struct slice){info_of(i), i->info_len};
}

static const char *
skip(const char *item, unsigned n)
{
	while (n-- > 0)
		item += strlen(item) + 1;
	return item;
}

const char *
identity_channel(const struct worker *w, const struct slot *s, unsigned n)
{
	const struct identity *i = identity_of(w, s);

	return i == NULL || n >= i->nchannels ? NULL : skip(lists_of(i), n);
}

/* ---- its life ---- */

int
identity_set(struct worker *w, uint32_t slot, const struct token *t, int64_t ends_s)
{
	struct slot *s = worker_slot(w, slot);
	arena_ref old = s->identity;
	arena_ref ref = arena_alloc(w->arena, sizeof(struct identity) + t->len);
	struct identity *i;

	if (ref == 0)
		return -ENOBUFS;
	i = arena_at(w->arena, ref);
	*i = (struct identity){
	    .expires_s = t->expires_s,
	    .ends_s = ends_s,
	    .len = (uint32_t)t->len,
	    .subject_len = t->subject_len,
	    .jti_len = t->jti_len,
	    .info_len = t->info_len,
	    .nchannels = t->nchannels,
	    .nsubscribe = t->nsubscribe,
	    .npublish = t->npublish,
	};
	memcpy(i->text, t->text, t->len);
	atomic_signal_fence(memory_order_seq_cst); /* whole before it is referred to */
	s->identity = ref;
	atomic_signal_fence(memory_order_seq_cst);
	arena_free(w->arena, old);
	return 0;
}

void
identity_drop(struct worker *w, uint32_t slot)
{
	struct slot *s = worker_slot(w, slot);
	arena_ref ref = s->identity;

	s->identity = 0;
	atomic_signal_fence(
	    memory_order_seq_cst); /* nobody refers to it once it is free */
	arena_free(w->arena, ref);
}

/* Whether the text holds what its lengths say. */
static bool
is_whole(const struct identity *i, size_t room)
{
	size_t at = (size_t)i->subject_len + i->jti_len + i->info_len + 3;
	unsigned n = i->nchannels + i->nsubscribe + i->npublish;

	if (i->len > room || at > i->len)
		return false;
	for (; n > 0; n--) {
		const char *end = memchr(i->text + at, '\0', i->len - at);

		if (end == NULL)
			return false;
		at = (size_t)(end - i->text) + 1;
	}
	return at == i->len;
}

int
identity_mark(struct worker *w, struct slot *s)
{
	size_t len;

	if (s->identity == 0)
		return 0;
	if (arena_mark(w->arena, s->identity) == 0) {
		len = arena_len(w->arena, s->identity);
		if (len >= sizeof(struct identity) &&
		    is_whole(identity_of(w, s), len - sizeof(struct identity)))
			return 0;
	}
	s->identity = 0;
	return -EINVAL;
}

/* ---- what it may ---- */

const struct rule *
identity_rule(
    const struct worker *w, const struct slot *s, const char *name, size_t len)
{
	return settings_rule_for(w->settings, identity_subject(w, s), name, len);
}

static bool
any_matches(const char *glob, unsigned n, const char *name, size_t len)
{
	for (; n > 0; n--, glob = skip(glob, 1))
		if (glob_match(glob, name, len))
			return true;
	return false;
}

/* A channel that the token names is one that it claims. */
static bool
is_named(const struct identity *i, const char *name, size_t len)
{
	const char *item = lists_of(i);

	for (unsigned n = i->nchannels; n > 0; n--, item = skip(item, 1))
		if (strlen(item) == len && memcmp(item, name, len) == 0)
			return true;
	return false;
}

static bool
claims_subscribe(const struct identity *i, const char *name, size_t len)
{
	return is_named(i, name, len) ||
	       any_matches(skip(lists_of(i), i->nchannels), i->nsubscribe, name, len);
}

static bool
claims_publish(const struct identity *i, const char *name, size_t len)
{
	return any_matches(
	    skip(lists_of(i), i->nchannels + i->nsubscribe), i->npublish, name, len);
}

static bool
is_allowed(enum who who, const struct identity *i, const char *name, size_t len,
    bool (*claims)(const struct identity *i, const char *name, size_t len))
{
	switch (who) {
	case WHO_ANYONE:
		return true;
	case WHO_AUTHENTICATED:
		return i != NULL;
	case WHO_CLAIM:
		return i != NULL && claims(i, name, len);
	case WHO_NOBODY:
		break;
	}
	return false;
}

bool
identity_may_subscribe(struct worker *w, uint32_t slot, const char *name, size_t len)
{
	const struct slot *s = worker_slot(w, slot);

	return is_allowed(identity_rule(w, s, name, len)->subscribe, identity_of(w, s),
	    name, len, claims_subscribe);
}

bool
identity_may_publish(struct worker *w, uint32_t slot, const char *name, size_t len)
{
	const struct slot *s = worker_slot(w, slot);

	return is_allowed(identity_rule(w, s, name, len)->publish, identity_of(w, s),
	    name, len, claims_publish);
}
