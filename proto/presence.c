/* presence.c - see presence.h */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/json.h"
#include "proto/presence.h"
#include "proto/settings.h"

/* ---- for clients ---- */

static size_t
put_text(const char *text, char *out)
{
	size_t len = strlen(text);

	memcpy(out, text, len);
	return len;
}

/* "client":…, and what else is known of it. */
static size_t
put_inner(const struct presence_member *m, char *out)
{
	char *p = out;

	p += sprintf(p, "\"client\":\"%016" PRIx64 "\"", m->shown);
	if (m->user.len > 0) {
		p += put_text(",\"user\":", p);
		p += json_put_string(m->user.p, m->user.len, p);
	}
	if (m->info.len > 0) {
		p += put_text(",\"info\":", p);
		memcpy(p, m->info.p, m->info.len);
		p += m->info.len;
	}
	return (size_t)(p - out);
}

size_t
presence_put_member(const struct presence_member *m, char *out)
{
	size_t len = 1;

	out[0] = '{';
	len += put_inner(m, out + len);
	out[len++] = '}';
	return len;
}

size_t
presence_push(const struct presence_member *m, bool join, uint8_t *out)
{
	char text[PRESENCE_FRAME_MAX - FRAME_HEAD_MAX];
	char *p = text;
	size_t head_len;

	p += put_text(join ? "{\"join\":{\"channel\":" : "{\"leave\":{\"channel\":", p);
	p += json_put_string(m->channel.p, m->channel.len, p);
	*p++ = ',';
	p += put_inner(m, p);
	p += put_text("}}", p);
	head_len = frame_head(OPCODE_TEXT, (size_t)(p - text), out);
	memcpy(out + head_len, text, (size_t)(p - text));
	return head_len + (size_t)(p - text);
}

/* ---- for hosts ---- */

size_t
presence_field(struct slice channel, uint64_t client, char *out)
{
	char id[PRESENCE_CLIENT_LEN + 1];

	(void)snprintf(id, sizeof(id), "%016" PRIx64, client);
	memcpy(out, id, PRESENCE_CLIENT_LEN);
	memcpy(out + PRESENCE_CLIENT_LEN, channel.p, channel.len);
	return PRESENCE_CLIENT_LEN + channel.len;
}

json_t *
presence_value(const struct presence_member *m)
{
	char id[PRESENCE_CLIENT_LEN + 1];

	(void)snprintf(id, sizeof(id), "%016" PRIx64, m->shown);
	return json_pack("[s, i, s%, s%]", id, (int)m->away,
	    m->user.p != NULL ? m->user.p : "", m->user.len,
	    m->info.p != NULL ? m->info.p : "", m->info.len);
}

bool
presence_parse_id(struct slice text, uint64_t *ret_id)
{
	uint64_t id = 0;

	if (text.len != PRESENCE_CLIENT_LEN)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (c >= '0' && c <= '9')
			id = id << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			id = id << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret_id = id;
	return true;
}

int
presence_parse_field(
    struct slice field, struct slice *ret_channel, uint64_t *ret_client)
{
	struct slice id = {field.p, PRESENCE_CLIENT_LEN}, channel;

	if (field.len <= PRESENCE_CLIENT_LEN)
		return -EBADMSG;
	channel = (struct slice){
	    field.p + PRESENCE_CLIENT_LEN, field.len - PRESENCE_CLIENT_LEN};
	if (!presence_parse_id(id, ret_client) || !name_ok(channel.p, channel.len))
		return -EBADMSG;
	*ret_channel = channel;
	return 0;
}

/* A string of at most max bytes; an empty one is none. */
static bool
text_of(const json_t *v, size_t max, struct slice *ret)
{
	size_t len = json_string_length(v);

	if (!json_is_string(v) || len > max)
		return false;
	*ret = (struct slice){len > 0 ? json_string_value(v) : NULL, len};
	return true;
}

int
presence_parse(
    struct slice field, const json_t *value, struct presence_member *ret_member)
{
	const json_t *away = json_array_get(value, 1);
	struct presence_member m = {.away = json_integer_value(away) != 0};
	struct slice shown;

	if (presence_parse_field(field, &m.channel, &m.client) < 0 ||
	    !text_of(json_array_get(value, 0), PRESENCE_CLIENT_LEN, &shown) ||
	    !presence_parse_id(shown, &m.shown) || m.shown == 0 ||
	    !json_is_integer(away) ||
	    !text_of(json_array_get(value, 2), PRESENCE_USER_MAX, &m.user) ||
	    !text_of(json_array_get(value, 3), PRESENCE_INFO_MAX, &m.info) ||
	    (m.info.len > 0 && !json_valid(m.info.p, m.info.len)))
		return -EBADMSG;
	*ret_member = m;
	return 0;
}

static bool
id_of(const json_t *v, uint64_t *ret_id)
{
	return json_is_string(v) &&
	       presence_parse_id(
		   (struct slice){json_string_value(v), json_string_length(v)}, ret_id);
}

static bool
is_true(const json_t *root, const char *name)
{
	return json_is_true(json_object_get(root, name));
}

int
presence_told_parse(const char *text, size_t len, struct presence_told *ret_told)
{
	json_t *root = json_loadb(text, len, 0, NULL);
	const json_t *node = json_object_get(root, "node");
	const json_t *n = json_object_get(root, "n");
	const json_t *set = json_object_get(root, "set");
	const json_t *del = json_object_get(root, "del");
	struct presence_told told = {
	    .root = root,
	    .node = json_string_value(node),
	    .n = (uint64_t)json_integer_value(n),
	    .busy = is_true(root, "busy"),
	    .hello = is_true(root, "hello"),
	    .bye = is_true(root, "bye"),
	    .set = json_is_object(set) ? set : NULL,
	    .del = json_is_array(del) ? del : NULL,
	};
	uint64_t id;

	if (!id_of(node, &id) || (set != NULL && told.set == NULL) ||
	    (del != NULL && told.del == NULL)) {
		json_decref(root);
		return -EBADMSG;
	}
	told.counted = json_is_integer(n) && json_integer_value(n) >= 0 &&
		       id_of(json_object_get(root, "sum"), &told.sum);
	*ret_told = told;
	return 0;
}

void
presence_told_done(struct presence_told *told)
{
	json_decref(told->root);
	*told = (struct presence_told){0};
}
