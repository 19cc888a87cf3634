#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "tools/wsbench_net.h"
#include "tools/wsbench_via.h"
#include "tools/wsbench_wire.h"

static int
buf_room(struct buf *b, size_t add)
{
	size_t capacity = b->capacity == 0 ? 4096 : b->capacity;
	uint8_t *grown;

	while (capacity < b->len + add)
		capacity *= 2;
	if (capacity == b->capacity)
		return 0;
	grown = realloc(b->data, capacity);
	if (grown == NULL)
		return -ENOMEM;
	b->data = grown;
	b->capacity = capacity;
	return 0;
}

static int
buf_add(struct buf *b, const void *data, size_t len)
{
	if (buf_room(b, len) < 0)
		return -ENOMEM;
	memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

__attribute__((format(printf, 2, 3))) static int
buf_print(struct buf *b, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len < 0 || (size_t)len >= sizeof(text))
		return -ENOMEM;
	return buf_add(b, text, (size_t)len);
}

static void
buf_take(struct buf *b, size_t len)
{
	memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
}

static int
open_address(const char *what, const char *where, unsigned add_port, struct via_conn *c)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int r = net_address(where, &addr, &len);

	if (r == 0) {
		net_add_port(&addr, add_port);
		r = net_connect(&addr, len, &c->fd);
	}
	if (r < 0)
		fprintf(stderr, "wsbench: cannot publish through %s at %s: %s\n", what,
		    where, strerror(-r));
	return r;
}

/* -- redis: PUBLISH, pipelined ------------------------------------------------- */

static int
redis_open(const struct options *o, unsigned index, struct via_conn *c)
{
	return open_address("Redis", o->redis, 0, c);
}

static int
redis_publish(struct via_conn *c, const char *name, const void *data, size_t len)
{
	const char *argv[] = {"PUBLISH", name, data};
	size_t lens[] = {7, strlen(name), len};
	char *command;
	long long n;
	int r;

	n = redisFormatCommandArgv(&command, 3, argv, lens);
	if (n < 0)
		return -ENOMEM;
	r = buf_add(&c->out, command, (size_t)n);
	redisFreeCommand(command);
	return r;
}

static int
redis_put(const struct options *o, struct via_conn *c, const char *channel,
    const char *payload, size_t len)
{
	char name[512];
	int n = snprintf(name, sizeof(name), "%s%s", o->prefix, channel);

	if (n < 0 || (size_t)n >= sizeof(name))
		return -ENOMEM;
	return redis_publish(c, name, payload, len);
}

/* Each answer is a line: how many heard it, or an error. */
static long
line_answers(struct via_conn *c, const char *good)
{
	const uint8_t *p = c->in.data, *end = p + c->in.len, *eol;

	while ((eol = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		if ((size_t)(eol - p) >= strlen(good) &&
		    memcmp(p, good, strlen(good)) == 0)
			c->acked++;
		else
			c->errors++;
		p = eol + 1;
	}
	return p - c->in.data;
}

static long
redis_answers(struct via_conn *c)
{
	return line_answers(c, ":");
}

/* -- emitter: what @socket.io/redis-emitter publishes for an event to all ------- */

static int
emitter_put(const struct options *o, struct via_conn *c, const char *channel,
    const char *payload, size_t len)
{
	/* MessagePack: ["emitter", {type: 2, data: ["m", [STRING]], nsp: "/"},
	 * {rooms: [], except: [], flags: {}}]; the string is our payload's. */
	static const char head[] = "\x93\xa7"
				   "emitter\x83\xa4type\x02\xa4"
				   "data\x92\xa1m\x91\xdb";
	static const char rest[] = "\xa3nsp\xa1/\x83\xa5rooms\x90\xa6"
				   "except\x90\xa5"
				   "flags\x80";
	uint32_t n = (uint32_t)len - 4; /* without [" and "] */
	uint8_t size[4] = {
	    (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
	struct buf body = {0};
	int r = -ENOMEM;

	if (buf_add(&body, head, sizeof(head) - 1) == 0 &&
	    buf_add(&body, size, sizeof(size)) == 0 &&
	    buf_add(&body, payload + 2, n) == 0 &&
	    buf_add(&body, rest, sizeof(rest) - 1) == 0)
		r = redis_publish(c, "socket.io#/#", body.data, body.len);
	free(body.data);
	return r;
}

/* -- control: one JSON object a line ------------------------------------------- */

static int
control_open(const struct options *o, unsigned index, struct via_conn *c)
{
	return open_address("the control socket", o->control, 0, c);
}

/* A payload has quotes at both ends (check_write()), and nothing else to escape. */
static int
put_string(struct buf *b, const char *payload, size_t len)
{
	const char *quote;
	size_t n;

	while (len > 0) {
		quote = memchr(payload, '"', len);
		n = quote == NULL ? len : (size_t)(quote - payload);
		if (buf_add(b, payload, n) < 0 ||
		    (quote != NULL && buf_add(b, "\\\"", 2) < 0))
			return -ENOMEM;
		payload += n + (quote != NULL);
		len -= n + (quote != NULL);
	}
	return 0;
}

static int
control_put(const struct options *o, struct via_conn *c, const char *channel,
    const char *payload, size_t len)
{
	if (buf_print(&c->out, "{\"cmd\":\"publish\",\"channel\":\"%s\",\"data\":\"",
		channel) < 0 ||
	    put_string(&c->out, payload, len) < 0)
		return -ENOMEM;
	return buf_add(&c->out, "\"}\n", 3);
}

static long
control_answers(struct via_conn *c)
{
	return line_answers(c, "{\"ok\"");
}

/* -- http: POST /publish, an array for all that waited ------------------------- */

static int
http_open(const struct options *o, unsigned index, struct via_conn *c)
{
	return open_address("the admin listener", o->admin, 0, c);
}

static int
http_put(const struct options *o, struct via_conn *c, const char *channel,
    const char *payload, size_t len)
{
	if (buf_print(&c->later, "%c{\"channel\":\"%s\",\"data\":",
		c->waiting == 0 ? '[' : ',', channel) < 0 ||
	    buf_add(&c->later, payload, len) < 0 || buf_add(&c->later, "}", 1) < 0)
		return -ENOMEM;
	c->waiting++;
	return 0;
}

/* One request at a time: what comes while it is answered goes with the next. */
static int
http_prepare(const struct options *o, struct via_conn *c)
{
	if (c->waiting == 0 || c->asked > 0)
		return 0;
	if (buf_add(&c->later, "]", 1) < 0 ||
	    buf_print(&c->out,
		"POST /publish HTTP/1.1\r\nHost: wscast\r\n%s%s%s"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		o->api_key != NULL ? "Authorization: Bearer " : "",
		o->api_key != NULL ? o->api_key : "", o->api_key != NULL ? "\r\n" : "",
		c->later.len) < 0 ||
	    buf_add(&c->out, c->later.data, c->later.len) < 0)
		return -ENOMEM;
	c->later.len = 0;
	c->asked = c->waiting;
	c->waiting = 0;
	return 0;
}

/* Take one whole answer from the front. Returns its length, 0: not whole. */
static long
http_answer(const struct via_conn *c, bool *ret_good)
{
	const char *head = (const char *)c->in.data, *end, *length;
	size_t body = 0, head_len;

	end = memmem(head, c->in.len, "\r\n\r\n", 4);
	if (end == NULL)
		return 0;
	head_len = (size_t)(end - head) + 4;
	for (length = head; length < end; length++)
		if (strncasecmp(length, "\r\ncontent-length:", 17) == 0)
			body = strtoul(length + 17, NULL, 10);
	if (c->in.len - head_len < body)
		return 0;
	*ret_good = head_len > 12 && head[9] == '2';
	return (long)(head_len + body);
}

static long
http_answers(struct via_conn *c)
{
	bool good;
	long n = http_answer(c, &good);

	if (n == 0)
		return 0;
	if (good)
		c->acked += c->asked;
	else
		c->errors += c->asked;
	c->asked = 0;
	return n;
}

/* -- post: POST /pub/CHANNEL, one message each, pipelined: nchan and its like --- */

static int
post_put(const struct options *o, struct via_conn *c, const char *channel,
    const char *payload, size_t len)
{
	if (buf_print(&c->out,
		"POST /pub/%s HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain\r\n"
		"Content-Length: %zu\r\n\r\n",
		channel, len) < 0)
		return -ENOMEM;
	return buf_add(&c->out, payload, len);
}

static long
post_answers(struct via_conn *c)
{
	bool good;
	long n = http_answer(c, &good);

	if (n > 0 && good)
		c->acked++;
	else if (n > 0)
		c->errors++;
	return n;
}

/* -- client: a wscast.v1 client publishes -------------------------------------- */

static int
shake_hands(const struct options *o, struct via_conn *c)
{
	char request[2048], answer[4096], key[WIRE_KEY_LEN + 1],
	    accept[WIRE_ACCEPT_LEN + 1];
	static const uint8_t nonce[16] = "wsbench client";
	size_t have = 0;
	ssize_t n;
	int len, r;

	wire_key(nonce, key);
	r = wire_accept(key, accept);
	if (r < 0)
		return r;
	len = snprintf(request, sizeof(request),
	    "GET %.*s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
	    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: wscast.v1\r\n"
	    "%s%s%s\r\n",
	    (int)strcspn(o->path, "?%"), o->path, o->host, key,
	    o->token != NULL ? "Authorization: Bearer " : "",
	    o->token != NULL ? o->token : "", o->token != NULL ? "\r\n" : "");
	if (len < 0 || (size_t)len >= sizeof(request))
		return -E2BIG;
	if (send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
		return -EIO;
	while ((r = wire_answer(answer, have, accept)) == 0) {
		if (have == sizeof(answer))
			return -EPROTO;
		n = recv(c->fd, answer + have, sizeof(answer) - have, 0);
		if (n <= 0)
			return n == 0 ? -ECONNRESET : -errno;
		have += (size_t)n;
	}
	if (r < 0)
		return -EPROTO;
	return buf_add(&c->in, answer + r, have - (size_t)r);
}

static int
client_open(const struct options *o, unsigned index, struct via_conn *c)
{
	int r = net_connect(&o->addr, o->addr_len, &c->fd);

	if (r == 0)
		r = shake_hands(o, c);
	if (r < 0)
		fprintf(stderr, "wsbench: cannot publish as a client of %s: %s\n",
		    o->url, strerror(-r));
	return r;
}

static int
client_put(const struct options *o, struct via_conn *c, const char *channel,
    const char *payload, size_t len)
{
	struct buf text = {0};
	int r = -ENOMEM;

	if (buf_print(&text, "{\"id\":1,\"publish\":\"%s\",\"data\":", channel) < 0 ||
	    buf_add(&text, payload, len) < 0 || buf_add(&text, "}", 1) < 0 ||
	    buf_room(&c->out, text.len + WIRE_HEAD_MAX) < 0)
		goto out;
	c->out.len +=
	    wire_masked(1, text.data, text.len, 0x1234abcd, c->out.data + c->out.len);
	r = 0;
out:
	free(text.data);
	return r;
}

static long
client_answers(struct via_conn *c)
{
	struct wire_frame f;
	size_t pos = 0, need;
	long r;

	while ((r = wire_frame(c->in.data + pos, c->in.len - pos, &f, &need)) > 0) {
		pos += (size_t)r;
		if (f.opcode == 8)
			return -EPROTO;
		if (f.opcode == 9 && f.len <= 125 &&
		    buf_room(&c->out, f.len + WIRE_HEAD_MAX) == 0)
			c->out.len += wire_masked(
			    10, f.data, f.len, 0x77, c->out.data + c->out.len);
		if (f.opcode != 1)
			continue;
		if (memmem(f.data, f.len, "\"error\":", 8) != NULL)
			c->errors++;
		else if (memmem(f.data, f.len, "\"ok\":", 5) != NULL)
			c->acked++;
	}
	return r < 0 ? r : (long)pos;
}

/* -- floor: 32 bits of length, little-endian, and the payload ------------------- */

static int
floor_open(const struct options *o, unsigned index, struct via_conn *c)
{
	return open_address("the floor", o->control, index, c);
}

static int
floor_put(const struct options *o, struct via_conn *c, const char *channel,
    const char *payload, size_t len)
{
	uint8_t head[4] = {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16),
	    (uint8_t)(len >> 24)};

	c->acked++; /* nothing is answered */
	if (buf_add(&c->out, head, sizeof(head)) < 0)
		return -ENOMEM;
	return buf_add(&c->out, payload, len);
}

static long
floor_answers(struct via_conn *c)
{
	return (long)c->in.len;
}

/* ------------------------------------------------------------------------------- */

static const struct via vias[] = {
    {"redis", false, redis_open, redis_put, NULL, redis_answers},
    {"emitter", false, redis_open, emitter_put, NULL, redis_answers},
    {"control", false, control_open, control_put, NULL, control_answers},
    {"http", false, http_open, http_put, http_prepare, http_answers},
    {"post", false, http_open, post_put, NULL, post_answers},
    {"client", false, client_open, client_put, NULL, client_answers},
    {"floor", true, floor_open, floor_put, NULL, floor_answers},
};

const struct via *
via_find(const char *name)
{
	for (size_t i = 0; i < sizeof(vias) / sizeof(vias[0]); i++)
		if (strcmp(vias[i].name, name) == 0)
			return &vias[i];
	return NULL;
}

unsigned
via_connections(const struct via *v, const struct options *o)
{
	return v->to_all && o->floor_processes > 0 ? o->floor_processes : o->publishers;
}

void
via_close(struct via_conn *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
	free(c->out.data);
	free(c->in.data);
	free(c->later.data);
}

void
via_flush(const struct via *v, const struct options *o, struct via_conn *c)
{
	ssize_t n;

	if (c->failed)
		return;
	if (v->prepare != NULL && v->prepare(o, c) < 0) {
		c->failed = true;
		return;
	}
	while (c->sent < c->out.len) {
		n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			c->failed = errno != EAGAIN && errno != EINTR;
			return;
		}
		c->sent += (size_t)n;
	}
	c->sent = c->out.len = 0;
}

void
via_read(const struct via *v, const struct options *o, struct via_conn *c)
{
	ssize_t n;
	long took;

	do {
		if (buf_room(&c->in, 65536) < 0) {
			c->failed = true;
			return;
		}
		n = recv(c->fd, c->in.data + c->in.len, c->in.capacity - c->in.len,
		    MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			c->failed = true;
			return;
		}
		if (n > 0)
			c->in.len += (size_t)n;
		while (c->in.len > 0 && (took = v->answers(c)) != 0) {
			if (took < 0) {
				c->failed = true;
				return;
			}
			buf_take(&c->in, (size_t)took);
		}
	} while (n == 65536);
	via_flush(v, o, c);
}
