/* waiters.c - see waiters.h: a list, since a channel has few, and most have none */
#include <errno.h>
#include <stdlib.h>

#include "supervisor/waiters.h"

struct waiting {
	struct waiting *next;
	struct waiter waiter;
};

int
waiters_add(struct waiters *w, const struct waiter *waiter)
{
	struct waiting *one = w->first;

	while (one != NULL && one->waiter.worker != waiter->worker)
		one = one->next;
	if (one == NULL) {
		one = malloc(sizeof(*one));
		if (one == NULL)
			return -ENOMEM;
		one->next = w->first;
		w->first = one;
	}
	one->waiter = *waiter;
	return 0;
}

void
waiters_del(struct waiters *w, unsigned worker)
{
	struct waiting **at = &w->first, *gone;

	while (*at != NULL && (*at)->waiter.worker != worker)
		at = &(*at)->next;
	gone = *at;
	if (gone == NULL)
		return;
	*at = gone->next;
	free(gone);
}

bool
waiters_pop(struct waiters *w, struct waiter *ret_waiter)
{
	struct waiting *gone = w->first;

	if (gone == NULL)
		return false;
	*ret_waiter = gone->waiter;
	w->first = gone->next;
	free(gone);
	return true;
}

void
waiters_done(struct waiters *w)
{
	struct waiter waiter;

	while (waiters_pop(w, &waiter))
		;
}
