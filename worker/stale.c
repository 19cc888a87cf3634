/* stale.c - see stale.h */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/launch.h"
#include "worker/stale.h"

/* TCP states of include/net/tcp_states.h, as TCP_INFO gives them. */
#define STATE_ESTABLISHED 1
#define STATE_CLOSE_WAIT 8 /* the peer has said all it had to say */

/*
 * A number above all open descriptors: the room in the file table, of which the kernel
 * makes it known how much there is. To ask about each number is cheaper than to list
 * /proc/self/fd, whose entries the kernel has to make up one by one.
 */
static int
table_room(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	struct rlimit limit;
	char line[256];
	int room = -1;

	if (f != NULL) {
		while (room < 0 && fgets(line, sizeof(line), f) != NULL)
			if (strncmp(line, "FDSize:", 7) == 0)
				room = atoi(line + 7);
		(void)fclose(f);
	}
	if (room > 0)
		return room;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
		return 1 << 20;
	return (int)limit.rlim_cur;
}

static uint8_t *
slot_fds(const struct table *table, int room)
{
	uint8_t *used = calloc((size_t)room / 8 + 1, 1);
	uint32_t nslots = table_slots_used(table);

	if (used == NULL)
		return NULL;
	for (uint32_t i = 0; i < nslots; i++) {
		const struct slot *s = &table->slots[i];

		if (slot_state(s) != SLOT_FREE && s->fd >= 0 && s->fd < room)
			used[s->fd / 8] |= (uint8_t)(1 << s->fd % 8);
	}
	return used;
}

/* A connection as it is between accept4() and its slot. One that its slot gave up was
 * shut down before, and is not connected any more. */
static bool
is_connected(int fd)
{
	struct sockaddr_storage own = {0};
	struct pollfd pfd = {.fd = fd};
	struct tcp_info info;
	socklen_t len = sizeof(info), own_len = sizeof(own);

	if (getsockname(fd, (struct sockaddr *)&own, &own_len) < 0)
		return false;
	if (own.ss_family == AF_UNIX) /* POLLHUP: shut down on both sides */
		return poll(&pfd, 1, 0) >= 0 && !(pfd.revents & POLLHUP);
	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return false;
	return info.tcpi_state == STATE_ESTABLISHED ||
	       info.tcpi_state == STATE_CLOSE_WAIT;
}

static int
add_orphan(struct stale *s, int fd)
{
	if (s->norphans == s->cap) {
		size_t cap = s->cap == 0 ? 64 : s->cap * 2;
		int *p = realloc(s->orphans, cap * sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		s->orphans = p;
		s->cap = cap;
	}
	s->orphans[s->norphans++] = fd;
	return 0;
}

int
stale_close(const struct table *table, const struct launch *launch,
    const struct keeper_shared *shared, struct stale *ret)
{
	int room = table_room();
	uint8_t *used = slot_fds(table, room);
	struct stale s = {0};

	if (used == NULL)
		return -ENOMEM;
	for (int fd = LAUNCH_LISTENERS + (int)launch->nlisteners; fd < room; fd++) {
		if ((used[fd / 8] & 1 << fd % 8) || fcntl(fd, F_GETFD) < 0)
			continue;
		/* In this order: the keeper may open one just now, and gives it its
		 * name first. */
		if (keeper_has_fd(shared, fd))
			continue;
		if (is_connected(fd) && add_orphan(&s, fd) == 0)
			continue;
		(void)close(fd);
	}
	free(used);
	*ret = s;
	return 0;
}

void
stale_done(struct stale *s)
{
	free(s->orphans);
	*s = (struct stale){0};
}
