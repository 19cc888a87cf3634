#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include "tools/wsbench_net.h"
#include "tools/wsbench_trouble.h"

/* One request to the control socket. NULL: no good answer. */
static json_t *
ask_control(const struct options *o, const char *request)
{
	static char line[1 << 20];
	struct sockaddr_storage addr;
	socklen_t addr_len;
	size_t have = 0;
	ssize_t n;
	int fd;

	if (net_address(o->control, &addr, &addr_len) < 0 ||
	    net_connect(&addr, addr_len, &fd) < 0)
		return NULL;
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		have = sizeof(line);
	while (have < sizeof(line) && memchr(line, '\n', have) == NULL) {
		n = recv(fd, line + have, sizeof(line) - have, 0);
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	(void)close(fd);
	return have > 0 && have < sizeof(line)
		   ? json_loadb(line, have, JSON_DISABLE_EOF_CHECK, NULL)
		   : NULL;
}

static bool
restart_by_asking(const struct options *o)
{
	json_t *answer = ask_control(o, "{\"cmd\":\"restart\"}\n");
	bool good = json_object_get(answer, "ok") != NULL;

	json_decref(answer);
	return good;
}

/* kill -9 of one serving process; each in its turn. */
static bool
kill_a_worker(const struct options *o, unsigned turn)
{
	json_t *answer = ask_control(o, "{\"cmd\":\"workers\"}\n");
	json_t *workers = json_object_get(json_object_get(answer, "ok"), "workers");
	size_t n = json_array_size(workers);
	json_int_t pid = 0;

	if (n > 0)
		pid = json_integer_value(
		    json_object_get(json_array_get(workers, turn % n), "pid"));
	json_decref(answer);
	return pid > 1 && kill((pid_t)pid, SIGKILL) == 0;
}

static bool
restart(const struct options *o, unsigned turn)
{
	if (strcmp(o->restart, "ask") == 0)
		return restart_by_asking(o);
	if (strcmp(o->restart, "kill") == 0)
		return kill_a_worker(o, turn);
	return system(o->restart) == 0; /* the user's own command */
}

void
trouble_at(struct trouble *t, const struct options *o, struct shared *s, double elapsed,
    double total)
{
	if (o->storm && !t->stormed && elapsed > total / 3) {
		t->stormed = true;
		t->storm_ns = net_now_ns();
		OWN_ADD(s->storms, 1u);
		for (unsigned i = 0; i < o->processes; i++)
			(void)!write(s->wake_fds[i], &(uint64_t){1}, 8);
	}
	if (o->restart_every == 0)
		return;
	if (t->due == 0)
		t->due = o->restart_every / 2;
	if (elapsed < t->due || elapsed > total - 0.5)
		return;
	t->due += o->restart_every;
	if (!restart(o, t->restarts + t->failures)) {
		t->failures++;
		return;
	}
	t->restarts++;
}
