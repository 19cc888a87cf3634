/* edge.c - see edge.h */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "worker/client.h"
#include "worker/edge.h"

#define EDGES 64 /* taken in one go */

/* An epoll set of its own: libev's tells of levels. */
struct edges {
	ev_io io;
	int epfd;
};

int
edge_wait(struct worker *w, uint32_t slot)
{
	struct epoll_event e = {
	    .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = slot};
	int r;

	client_want_read(w, slot, false);
	/* Once in it stays: a change would tell of what is there again, without end. */
	r = epoll_ctl(w->edges->epfd, EPOLL_CTL_ADD, worker_slot(w, slot)->fd, &e);
	return r < 0 && errno != EEXIST ? -errno : 0;
}

void
edge_stop(struct worker *w, uint32_t slot)
{
	(void)epoll_ctl(w->edges->epfd, EPOLL_CTL_DEL, worker_slot(w, slot)->fd, NULL);
	client_want_read(w, slot, true);
}

/* More has come for some that were waited for, or their end. */
static void
on_edge(struct ev_loop *loop, ev_io *io, int revents)
{
	struct worker *w = ev_userdata(loop);
	struct epoll_event e[EDGES];
	int n = epoll_wait(io->fd, e, EDGES, 0);

	for (int i = 0; i < n; i++)
		if (slot_state(worker_slot(w, e[i].data.u32)) != SLOT_FREE)
			client_readable(w, e[i].data.u32);
}

int
edges_new(struct worker *w, struct edges **ret)
{
	struct edges *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	p->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epfd < 0) {
		int r = -errno;

		free(p);
		return r;
	}
	ev_io_init(&p->io, on_edge, p->epfd, EV_READ);
	ev_io_start(w->loop, &p->io);
	*ret = p;
	return 0;
}
