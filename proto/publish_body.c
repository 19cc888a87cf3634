/* publish_body.c - see publish_body.h */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/dialect.h"
#include "proto/json.h"
#include "proto/publish_body.h"
#include "proto/settings.h"

static int
bad(char *why, const char *text)
{
	(void)snprintf(why, PUBLISH_WHY_MAX, "%s", text);
	return -EBADMSG;
}

static char *
skip_space(char *p, const char *end)
{
	while (p < end && json_is_space(*p))
		p++;
	return p;
}

int
publish_body_begin(struct publish_body *b, char *text, size_t len, char *why)
{
	char *end = text + len, *p;

	*b = (struct publish_body){.end = end};
	if (!json_valid(text, len))
		return bad(why, "the body is no JSON");
	p = skip_space(text, end);
	if (*p != '[' && *p != '{')
		return bad(why,
		    "the body must be {\"channel\":…,\"data\":…}, or a list of such");
	b->list = *p == '[';
	b->p = b->list ? skip_space(p + 1, end) : p;
	b->done = b->list && *b->p == ']';
	return b->done ? bad(why, "the list is empty") : 0;
}

static bool
name_is(struct slice name, const char *text)
{
	return name.len == strlen(text) && memcmp(name.p, text, name.len) == 0;
}

/* Read a string into its own place: what an escape stands for is shorter. Returns its
 * length, or below 0 when it is none. */
static ptrdiff_t
get_string(struct slice value)
{
	return value.p != NULL && *value.p == '"'
		   ? json_get_string(value, (char *)value.p, value.len)
		   : -1;
}

static int
take_channel(struct publish_item *item, struct slice value, char *why)
{
	ptrdiff_t n = get_string(value);

	if (n < 0 || !name_ok(value.p, (size_t)n))
		return bad(why,
		    "\"channel\" must be a channel's name: a string of 1 to "
		    "200 bytes without control characters");
	item->channel = (struct slice){value.p, (size_t)n};
	return 0;
}

static int
take_key(struct publish_item *item, struct slice value, char *why)
{
	ptrdiff_t n = get_string(value);

	item->key = (struct slice){NULL, 0};
	if (value.p == NULL)
		return 0;
	if (n < 1 || n > MESSAGE_KEY_MAX)
		return bad(why, "\"key\" must be a string of 1 to 200 bytes");
	item->key = (struct slice){value.p, (size_t)n};
	return 0;
}

/* In their place: base64 is longer than what it stands for, and JSON does not grow. */
static int
take_payload(
    struct publish_item *item, struct slice data, struct slice base64, char *why)
{
	if ((data.p == NULL) == (base64.p == NULL))
		return bad(why,
		    "a message needs \"data\", any JSON value, or \"base64\", "
		    "a string");
	item->data = data.p != NULL ? data : base64;
	if (data.p != NULL)
		item->data.len = json_compact(data.p, data.len, (char *)data.p);
	else if (*base64.p != '"' || base64_get(base64.p + 1, base64.len - 2,
					 (char *)base64.p, &item->data.len) < 0)
		return bad(why, "\"base64\" is no base64");
	return 0;
}

static int
take_item(struct publish_item *item, struct slice text, char *why)
{
	struct slice name, value, channel = {NULL, 0}, data = channel, base64 = channel,
				  key = channel;
	struct json_members m;
	int r;

	if (!json_members_begin(&m, text))
		return bad(
		    why, "a message must be an object: {\"channel\":…,\"data\":…}");
	while (json_members_next(&m, &name, &value)) {
		struct slice *to = name_is(name, "channel")  ? &channel
				   : name_is(name, "data")   ? &data
				   : name_is(name, "base64") ? &base64
				   : name_is(name, "key")    ? &key
							     : NULL;

		if (to == NULL)
			return bad(why,
			    "a message has \"channel\", \"data\" or "
			    "\"base64\", perhaps \"key\", and nothing else");
		if (to->p != NULL)
			return bad(why, "a member of a message is there twice");
		*to = value;
	}
	r = take_channel(item, channel, why);
	if (r == 0)
		r = take_key(item, key, why);
	return r < 0 ? r : take_payload(item, data, base64, why);
}

int
publish_body_next(struct publish_body *b, struct publish_item *ret_item, char *why)
{
	struct slice text;
	int r;

	if (b->done)
		return 0;
	text.p = b->p;
	text.len = json_value_len(b->p, (size_t)(b->end - b->p));
	/* Before the item is taken: that changes its bytes. */
	b->p = skip_space(b->p + text.len, b->end);
	b->done = !b->list || *b->p == ']';
	if (!b->done)
		b->p = skip_space(b->p + 1, b->end);
	r = take_item(ret_item, text, why);
	return r < 0 ? r : 1;
}
