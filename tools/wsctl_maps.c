/* wsctl_maps.c - see wsctl_maps.h */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/map.h"
#include "tools/wsctl_clock.h"
#include "tools/wsctl_maps.h"
#include "tools/wsctl_proc.h"

void
maps_close(struct maps *m)
{
	for (unsigned i = 0; i < RING_WORKERS_MAX; i++)
		if (m->page[i] != NULL)
			page_close(m->page[i]);
	ring_close(m->ring);
	*m = (struct maps){0};
}

/* Both leave the descriptor to the caller. */
static int
add_ring(struct maps *m, int fd)
{
	return m->ring != NULL ? 0 : ring_open(fd, false, &m->ring);
}

static int
add_page(struct maps *m, int fd)
{
	struct page *page;
	int r = page_open(fd, false, &page);

	if (r < 0)
		return r;
	if (page->index >= RING_WORKERS_MAX || m->page[page->index] != NULL) {
		page_close(page);
		return 0;
	}
	m->page[page->index] = page;
	if (page->index >= m->npages)
		m->npages = page->index + 1;
	return 0;
}

static bool
is_whole(const struct maps *m)
{
	for (unsigned i = 0; i < m->npages; i++)
		if (m->page[i] == NULL)
			return false;
	return m->ring != NULL && m->npages > 0;
}

uint64_t
maps_up_ms(const struct maps *m)
{
	uint64_t now_ms = clock_ms(CLOCK_BOOTTIME);

	return m->started_ms != 0 && m->started_ms < now_ms ? now_ms - m->started_ms
							    : 0;
}

/* ---- from the supervisor ---- */

static void
copy_text(char *to, size_t size, const json_t *ok, const char *key)
{
	const char *text = json_string_value(json_object_get(ok, key));

	if (text != NULL && strlen(text) < size)
		memcpy(to, text, strlen(text) + 1);
}

/* What came with one answer: the ring, when `first` is 0, and pages. */
static int
add_parcel(struct maps *m, struct client *c, bool first)
{
	int r = first && c->nfds == 0 ? -EPROTO : 0;

	for (unsigned i = 0; i < c->nfds; i++) {
		if (r == 0)
			r = first && i == 0 ? add_ring(m, c->fds[i])
					    : add_page(m, c->fds[i]);
		(void)close(c->fds[i]);
	}
	c->nfds = 0;
	return r;
}

static int
ask_some(
    struct ctl *ctl, int timeout_ms, struct maps *m, json_int_t first, json_t **ret_ok)
{
	json_t *reply, *ok;
	int r = client_call(&ctl->client,
	    json_pack("{s:s,s:I}", "cmd", "maps", "first", first), timeout_ms, &reply);

	if (r < 0)
		return r;
	ok = json_object_get(reply, "ok");
	r = ok == NULL ? -EPROTO : add_parcel(m, &ctl->client, first == 0);
	if (r == 0)
		*ret_ok = json_incref(ok);
	json_decref(reply);
	return r;
}

int
maps_ask(struct ctl *ctl, int timeout_ms, struct maps *ret)
{
	struct maps m = {0};
	json_int_t workers, pages, first = 0;
	json_t *ok = NULL;
	int r;

	do {
		r = ask_some(ctl, timeout_ms, &m, first, &ok);
		if (r < 0)
			break;
		m.supervisor = (pid_t)json_integer_value(json_object_get(ok, "pid"));
		/* By CLOCK_MONOTONIC, which stands still while the machine sleeps. */
		m.started_ms =
		    (uint64_t)json_integer_value(json_object_get(ok, "started_ms")) +
		    clock_ms(CLOCK_BOOTTIME) - clock_ms(CLOCK_MONOTONIC);
		copy_text(m.version, sizeof(m.version), ok, "version");
		copy_text(m.source, sizeof(m.source), ok, "source");
		workers = json_integer_value(json_object_get(ok, "workers"));
		pages = json_integer_value(json_object_get(ok, "pages"));
		first += pages;
		json_decref(ok);
	} while (pages > 0 && first < workers);
	if (r == 0 && !is_whole(&m))
		r = -EPROTO;
	if (r < 0) {
		maps_close(&m);
		return r;
	}
	*ret = m;
	return 0;
}

/* ---- from /proc ---- */

/* A map that the supervisor holds as its descriptor `name`; what is none is passed. */
static int
add_found(struct maps *m, int dir, const char *name)
{
	static const char ring[] = "/memfd:wscast-ring", page[] = "/memfd:wscast-page";
	char target[64] = "";
	int fd, r;

	if (readlinkat(dir, name, target, sizeof(target) - 1) < 0)
		return errno == EACCES ? -EACCES : 0;
	if (strncmp(target, ring, strlen(ring)) != 0 &&
	    strncmp(target, page, strlen(page)) != 0)
		return 0;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = strncmp(target, ring, strlen(ring)) == 0 ? add_ring(m, fd)
						     : add_page(m, fd);
	(void)close(fd);
	return r;
}

int
maps_find(pid_t supervisor, struct maps *ret)
{
	struct maps m = {.supervisor = supervisor};
	struct proc_look look;
	char path[40];
	DIR *dir;
	int r = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)supervisor);
	dir = supervisor > 0 ? opendir(path) : NULL;
	if (dir == NULL)
		return supervisor > 0 ? -errno : -ENOENT;
	for (struct dirent *e; r == 0 && (e = readdir(dir)) != NULL;)
		if (e->d_name[0] != '.')
			r = add_found(&m, dirfd(dir), e->d_name);
	(void)closedir(dir);
	if (r == 0 && !is_whole(&m))
		r = -EPROTO;
	if (r < 0) {
		maps_close(&m);
		return r;
	}
	proc_look(supervisor, &look);
	m.started_ms = look.started_s * 1000;
	*ret = m;
	return 0;
}
