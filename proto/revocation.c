/* revocation.c - see revocation.h */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "proto/revocation.h"

static bool
take_name(const json_t *told, struct revocation *r)
{
	const json_t *user = json_object_get(told, "user");
	const json_t *jti = json_object_get(told, "jti");
	const json_t *name = user != NULL ? user : jti;
	size_t len = json_string_length(name);

	if ((user == NULL) == (jti == NULL) || len == 0 || len > REVOCATION_NAME_MAX)
		return false;
	r->is_user = user != NULL;
	r->len = (uint16_t)len;
	memcpy(r->name, json_string_value(name), len);
	return true;
}

static bool
take_for(const json_t *told, struct revocation *r)
{
	const json_t *v = json_object_get(told, "for");
	double s = json_number_value(v);

	r->for_ms = REVOCATION_FOR_MS;
	if (v == NULL)
		return true;
	if (!json_is_number(v) || !(s >= 0 && s <= REVOCATION_FOR_MS_MAX / 1000.))
		return false;
	r->for_ms = (uint64_t)(s * 1000);
	return true;
}

static bool
take_node(const json_t *told, struct revocation *r)
{
	const json_t *node = json_object_get(told, "node");
	size_t len = json_string_length(node);

	if (node != NULL && (len == 0 || len > REVOCATION_NODE_MAX))
		return false;
	if (len > 0)
		memcpy(r->node, json_string_value(node), len);
	return true;
}

int
revocation_parse(const char *text, size_t len, struct revocation *ret)
{
	json_t *told = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	struct revocation r = {0};
	bool good = take_name(told, &r) && take_for(told, &r) && take_node(told, &r);

	json_decref(told);
	if (!good)
		return -EBADMSG;
	*ret = r;
	return 0;
}

static char *
dumped(json_t *o)
{
	char *text = o == NULL ? NULL : json_dumps(o, JSON_COMPACT);

	json_decref(o);
	return text;
}

static const char *
kind_of(const struct revocation *r)
{
	return r->is_user ? "user" : "jti";
}

char *
revocation_told(const struct revocation *r)
{
	return dumped(
	    json_pack("{s:s%, s:f, s:s*}", kind_of(r), r->name, (size_t)r->len, "for",
		(double)r->for_ms / 1000, "node", r->node[0] != '\0' ? r->node : NULL));
}

char *
revocation_kept(const struct revocation *r)
{
	return dumped(json_pack("{s:s%}", kind_of(r), r->name, (size_t)r->len));
}
