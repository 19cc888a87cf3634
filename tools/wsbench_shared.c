#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/wsbench_shared.h"

int
shared_new(const struct options *o, struct shared **ret)
{
	size_t gens = sizeof(struct gen_shared) * o->processes;
	size_t counts = sizeof(uint32_t) * o->processes * o->channels;
	size_t len = sizeof(struct shared) + 64 + gens + 2 * counts +
		     sizeof(uint32_t) * o->channels;
	struct shared *s;
	char *at;

	s = mmap(NULL, len, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s == MAP_FAILED)
		return -errno;
	s->len = len;
	at = (char *)s + (sizeof(struct shared) + 63) / 64 * 64;
	s->gens = (struct gen_shared *)at;
	at += gens;
	s->sure = (_Atomic uint32_t *)at;
	at += counts;
	s->unsure = (_Atomic uint32_t *)at;
	at += counts;
	s->last_seq = (_Atomic uint32_t *)at;
	OWN_SET(s->pub.measured_from, UINT32_MAX);
	s->pub_fd = -1;
	for (unsigned i = 0; i < o->processes; i++)
		s->wake_fds[i] = -1;
	s->pub_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (unsigned i = 0; i < o->processes; i++) {
		s->wake_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (s->wake_fds[i] < 0 || s->pub_fd < 0) {
			int r = -errno;

			shared_free(s, o);
			return r;
		}
	}
	*ret = s;
	return 0;
}

void
shared_free(struct shared *s, const struct options *o)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; i < o->processes; i++)
		if (s->wake_fds[i] >= 0)
			(void)close(s->wake_fds[i]);
	if (s->pub_fd >= 0)
		(void)close(s->pub_fd);
	(void)munmap(s, s->len);
}

void
shared_begin(struct shared *s, const struct options *o, enum phase phase)
{
	OWN_SET(s->phase, (uint32_t)phase);
	atomic_fetch_add_explicit(&s->step, 1, memory_order_release);
	for (unsigned i = 0; i < o->processes; i++)
		(void)eventfd_write(s->wake_fds[i], 1);
	(void)eventfd_write(s->pub_fd, 1);
}

static uint32_t
sum(const _Atomic uint32_t *counts, const struct options *o, uint32_t channel)
{
	uint32_t n = 0;

	for (unsigned p = 0; p < o->processes; p++)
		n += OWN_GET(counts[(size_t)p * o->channels + channel]);
	return n;
}

uint32_t
shared_sure(const struct shared *s, const struct options *o, uint32_t channel)
{
	return sum(s->sure, o, channel);
}

uint32_t
shared_unsure(const struct shared *s, const struct options *o, uint32_t channel)
{
	return sum(s->unsure, o, channel);
}
