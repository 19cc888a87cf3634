/* feed_state.c - see feed_state.h */
#include <stdio.h>
#include <string.h>

#include "supervisor/feed_state.h"
#include "supervisor/supervisor.h"

void
feed_state_init(struct feed_state *s, const struct feed_env *env, const char *source,
    const char *where)
{
	*s = (struct feed_state){.env = env,
	    .source = source,
	    .down_since_ms = supervisor_real_ms(),
	    .changed_ms = supervisor_now_ms()};
	(void)snprintf(s->where, sizeof(s->where), "%s", where);
	(void)snprintf(s->why, sizeof(s->why), "not connected yet");
	env->on_link(env->owner, s->down_since_ms);
}

void
feed_state_up(struct feed_state *s)
{
	if (s->up)
		return;
	s->up = true;
	s->down_ms += supervisor_now_ms() - s->changed_ms;
	s->changed_ms = supervisor_now_ms();
	s->down_since_ms = 0;
	s->why[0] = s->why_said[0] = '\0';
	log_notice("feed: connected to Redis at %s", s->where);
	s->env->on_link(s->env->owner, 0);
}

static void
say_down(struct feed_state *s, bool was_up)
{
	if (was_up)
		s->down_limit.next_ms = 0; /* that is said in any case */
	else if (strcmp(s->why, s->why_said) == 0)
		return;
	if (log_limited(&s->down_limit, supervisor_now_ms(), LOG_ERROR, 0,
		"feed: Redis at %s is down: %s; clients stay, publishes are refused, "
		"and it is tried again",
		s->where, s->why))
		(void)snprintf(s->why_said, sizeof(s->why_said), "%s", s->why);
}

void
feed_state_down(struct feed_state *s, const char *why)
{
	bool was_up = s->up;

	(void)snprintf(s->why, sizeof(s->why), "%s", why);
	s->up = false;
	if (was_up) {
		s->down_since_ms = supervisor_real_ms();
		s->changed_ms = supervisor_now_ms();
	}
	s->reconnects += was_up;
	say_down(s, was_up);
	s->env->on_link(s->env->owner, s->down_since_ms);
}

void
feed_state_look(const struct feed_state *s, uint32_t lag_ms, struct feed_status *ret)
{
	*ret = (struct feed_status){
	    .source = s->source,
	    .connected = s->up,
	    .down_since_ms = s->down_since_ms,
	    .lag_ms = lag_ms,
	    .down_ms = s->down_ms + (s->up ? 0 : supervisor_now_ms() - s->changed_ms),
	    .breaker = "closed",
	    .reconnects = s->reconnects,
	    .why = s->why,
	};
}
