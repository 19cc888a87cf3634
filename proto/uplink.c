#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "proto/dialect.h"
#include "proto/json.h"
#include "proto/settings.h"
#include "proto/uplink.h"
#include "proto/utf8.h"

/* [head][channel_len bytes][key_len bytes][data: the rest]. Both ends are on one host,
 * and of one build or of one that an upgrade replaces: native byte order. */
struct head {
	uint64_t token;
	uint32_t slot;
	uint32_t cookie;
	uint32_t directory;
	uint16_t channel_len;
	uint16_t key_len;
};
_Static_assert(sizeof(struct head) == 24, "no padding");

size_t
uplink_len(const struct uplink *u)
{
	return sizeof(struct head) + u->channel_len + u->key_len + u->data_len;
}

void
uplink_put(const struct uplink *u, void *out)
{
	struct head head = {
	    .token = u->token,
	    .slot = u->slot,
	    .cookie = u->cookie,
	    .directory = u->directory,
	    .channel_len = (uint16_t)u->channel_len,
	    .key_len = (uint16_t)u->key_len,
	};
	char *o = out;

	memcpy(o, &head, sizeof(head));
	o += sizeof(head);
	if (u->channel_len > 0)
		memcpy(o, u->channel, u->channel_len);
	o += u->channel_len;
	if (u->key_len > 0)
		memcpy(o, u->key, u->key_len);
	if (u->data_len > 0)
		memcpy(o + u->key_len, u->data, u->data_len);
}

/* Whether this type has a channel / may have data. */
static int
shape_ok(uint32_t type, size_t channel_len, size_t data_len)
{
	switch (type) {
	case UPLINK_SYNC_BEGIN:
	case UPLINK_SYNC_END:
	case UPLINK_EXPELLED:
	case UPLINK_MEMBERS_BEGIN:
	case UPLINK_MEMBERS_END:
		return channel_len == 0 && data_len == 0;
	case UPLINK_WANT:
	case UPLINK_DROP:
	case UPLINK_LEAVE:
	case UPLINK_PRESENCE:
		return channel_len > 0 && data_len == 0;
	case UPLINK_PUBLISH:
		return channel_len > 0;
	case UPLINK_JOIN:
		return channel_len > 0 && data_len <= UPLINK_USER_MAX + UPLINK_INFO_MAX;
	default:
		return 0;
	}
}

/* What is shown of a member is text, and JSON. */
static bool
member_ok(uint32_t user_len, const char *data, size_t data_len)
{
	size_t info_len = data_len - user_len;

	if (user_len > data_len || user_len > UPLINK_USER_MAX)
		return false;
	return info_len <= UPLINK_INFO_MAX && utf8_valid(data, user_len) &&
	       (info_len == 0 || json_valid(data + user_len, info_len));
}

int
uplink_parse(uint32_t type, const void *buf, size_t len, struct uplink *ret)
{
	const char *p = buf;
	struct head head;
	size_t data_len;

	if (len < sizeof(head))
		return -EBADMSG;
	memcpy(&head, p, sizeof(head));
	if ((size_t)head.channel_len + head.key_len > len - sizeof(head) ||
	    head.key_len > (type == UPLINK_PUBLISH ? MESSAGE_KEY_MAX : 0))
		return -EBADMSG;
	data_len = len - sizeof(head) - head.channel_len - head.key_len;
	if (!shape_ok(type, head.channel_len, data_len))
		return -EBADMSG;
	p += sizeof(head);
	if (head.channel_len > 0 && !name_ok(p, head.channel_len))
		return -EBADMSG;
	if (type == UPLINK_JOIN &&
	    !member_ok(head.cookie, p + head.channel_len, data_len))
		return -EBADMSG;
	*ret = (struct uplink){
	    .type = type,
	    .slot = head.slot,
	    .cookie = head.cookie,
	    .directory = head.directory,
	    .token = head.token,
	    .channel = p,
	    .channel_len = head.channel_len,
	    .key = p + head.channel_len,
	    .key_len = head.key_len,
	    .data = p + head.channel_len + head.key_len,
	    .data_len = data_len,
	};
	return 0;
}
