/* command_answer.c - what all commands have in common; see ctl_client.h */
#include <errno.h>
#include <stdlib.h>

#include "proto/settings.h"
#include "shm/directory.h"
#include "shm/revoked.h"
#include "supervisor/ctl_client.h"
#include "supervisor/supervisor.h"

void
command_finish(struct ctl_client *c)
{
	json_decref(c->request);
	c->request = NULL;
	c->waits = CTL_WAITS_NOT;
}

void
say_ok(struct ctl_client *c, json_t *ok)
{
	size_t len = 0;
	char *line = control_ok(ok, &len);

	command_finish(c);
	client_reply(c, line, len);
}

bool
command_may_change(struct ctl_client *c)
{
	if (c->may_change)
		return true;
	say_error(c, CONTROL_FORBIDDEN,
	    "you may look, but not change anything: be root, or a member of the "
	    "control socket's group");
	return false;
}

const char *
command_name(
    struct ctl_client *c, const json_t *value, const char *member, size_t *ret_len)
{
	const char *name = json_string_value(value);
	size_t len = json_string_length(value);

	if (name != NULL && name_ok(name, len)) {
		*ret_len = len;
		return name;
	}
	say_error(c, CONTROL_BAD_REQUEST,
	    "\"%s\" must be a channel's name: 1 to %d bytes without control "
	    "characters, the first no \"!\"",
	    member, CHANNEL_NAME_MAX);
	return NULL;
}

bool
command_client(struct ctl_client *c, uint64_t *ret_id)
{
	const char *text = json_string_value(json_object_get(c->request, "client"));
	char *end = NULL;

	errno = 0;
	*ret_id = text == NULL ? 0 : strtoull(text, &end, 16);
	if (text != NULL && *text != '\0' && *end == '\0' && errno == 0)
		return true;
	say_error(c, CONTROL_BAD_REQUEST,
	    "\"client\" must be a client's id, as `wsctl clients` shows it");
	return false;
}

const char *
command_text(struct ctl_client *c, const char *member, size_t *ret_len)
{
	const json_t *v = json_object_get(c->request, member);

	*ret_len = json_string_length(v);
	if (json_is_string(v) && *ret_len > 0 && *ret_len <= REVOKED_TEXT_MAX)
		return json_string_value(v);
	say_error(c, CONTROL_BAD_REQUEST, "\"%s\" must be a text of 1 to %d bytes",
	    member, REVOKED_TEXT_MAX);
	return NULL;
}

bool
command_count(
    struct ctl_client *c, const char *member, uint64_t fallback, uint64_t *ret_n)
{
	const json_t *v = json_object_get(c->request, member);

	if (v != NULL && (!json_is_integer(v) || json_integer_value(v) < 0)) {
		say_error(c, CONTROL_BAD_REQUEST, "\"%s\" must be a number from 0 up",
		    member);
		return false;
	}
	*ret_n = v == NULL ? fallback : (uint64_t)json_integer_value(v);
	return true;
}

bool
command_workers(struct ctl_client *c, unsigned *ret_first, unsigned *ret_end)
{
	const json_t *v = json_object_get(c->request, "worker");
	unsigned n = c->sock->s->nworkers;

	if (v != NULL && (!json_is_integer(v) || json_integer_value(v) < 0 ||
			     json_integer_value(v) >= n)) {
		say_error(
		    c, CONTROL_NOT_FOUND, "\"worker\" must be from 0 to %u", n - 1);
		return false;
	}
	*ret_first = v == NULL ? 0 : (unsigned)json_integer_value(v);
	*ret_end = v == NULL ? n : *ret_first + 1;
	return true;
}
