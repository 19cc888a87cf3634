/* feed_embedded.c - no Redis: what is published here is all there is; see feed.h */
#include <errno.h>
#include <stdlib.h>

#include "supervisor/feed.h"

static void
on_embedded_want(struct feed *f, uint32_t channel)
{
	registry_confirmed(f->env.registry, channel, 0);
}

static void
on_embedded_drop(struct feed *f, uint32_t channel)
{
}

static int
on_embedded_publish(
    struct feed *f, const struct feed_publish *m, const struct receipt *receipt)
{
	uint32_t channel;
	/* Also without a subscriber: whoever comes while the ring has it may ask for
	 * it, by history or by an offset. */
	int r = registry_take(f->env.registry, m->channel.p, m->channel.len, &channel);

	if (r == 0)
		r = publisher_keyed(
		    f->env.publisher, channel, m->key, m->data.p, m->data.len);
	if (r == 0)
		f->env.on_done(f->env.owner, receipt, 0);
	return r;
}

static void
on_embedded_idle(struct feed *f)
{
}

static void
on_embedded_status(const struct feed *f, struct feed_status *ret)
{
	*ret = (struct feed_status){
	    .source = "embedded", .connected = true, .breaker = "closed", .why = ""};
}

static void
on_embedded_free(struct feed *f)
{
	free(f);
}

static const struct feed_ops embedded_ops = {
    .want = on_embedded_want,
    .drop = on_embedded_drop,
    .publish = on_embedded_publish,
    .flush = on_embedded_idle,
    .resume = on_embedded_idle,
    .status = on_embedded_status,
    .free = on_embedded_free,
    .complete = true,
    .at_once = true,
};

int
feed_embedded_new(const struct feed_env *env, struct feed **ret_feed)
{
	struct feed *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return -ENOMEM;
	f->ops = &embedded_ops;
	f->env = *env;
	*ret_feed = f;
	env->on_link(env->owner, 0);
	return 0;
}
