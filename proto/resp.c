/* resp.c - see resp.h */
#include "proto/resp.h"

#define DIGITS_MAX 9 /* no string is as long as ten of them would say */

struct scan {
	const char *p, *end;
	size_t missing; /* CUT: so many bytes at least */
};

static enum resp_result
cut(struct scan *s, size_t missing)
{
	s->missing = missing;
	return RESP_CUT;
}

static enum resp_result
scan_line_end(struct scan *s)
{
	if (s->end - s->p < 2)
		return s->p == s->end || *s->p == '\r'
			   ? cut(s, 2 - (size_t)(s->end - s->p))
			   : RESP_OTHER;
	if (s->p[0] != '\r' || s->p[1] != '\n')
		return RESP_OTHER;
	s->p += 2;
	return RESP_WHOLE;
}

/* A type's letter was read: its number follows. Negative ones are others' (nil). */
static enum resp_result
scan_number(struct scan *s, uint32_t *ret_number)
{
	const char *from = s->p;
	uint32_t n = 0;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
		if (s->p - from == DIGITS_MAX)
			return RESP_OTHER;
		n = 10 * n + (uint32_t)(*s->p++ - '0');
	}
	if (s->p - from > 1 && *from == '0')
		return RESP_OTHER;
	if (s->p == from)
		return s->p == s->end ? cut(s, 3) : RESP_OTHER;
	*ret_number = n;
	return scan_line_end(s);
}

static enum resp_result
scan_part(struct scan *s, struct resp_part *part)
{
	enum resp_result r;
	char type;

	if (s->p == s->end)
		return cut(s, 4);
	type = *s->p++;
	if (type != '$' && type != ':')
		return RESP_OTHER;
	*part = (struct resp_part){.str = NULL};
	r = scan_number(s, &part->number);
	if (r != RESP_WHOLE || type == ':')
		return r;
	if ((size_t)(s->end - s->p) < (size_t)part->number + 2)
		return cut(s, part->number + 2 - (size_t)(s->end - s->p));
	part->str = s->p;
	part->len = part->number;
	s->p += part->len;
	return scan_line_end(s);
}

static enum resp_result
scan_flat(struct scan *s, struct resp_flat *ret)
{
	enum resp_result r;
	uint32_t n;

	if (s->p == s->end)
		return cut(s, 4);
	ret->push = *s->p == '>';
	if (*s->p != '*' && *s->p != '>')
		return RESP_OTHER;
	s->p++;
	r = scan_number(s, &n);
	if (r != RESP_WHOLE)
		return r;
	if (n == 0 || n > RESP_PARTS_MAX)
		return RESP_OTHER;
	ret->nparts = n;
	for (uint32_t i = 0; i < n && r == RESP_WHOLE; i++)
		r = scan_part(s, &ret->part[i]);
	return r;
}

enum resp_result
resp_flat(const char *buf, size_t len, struct resp_flat *ret_flat, size_t *ret_len)
{
	struct scan s = {.p = buf, .end = buf + len};
	enum resp_result r = scan_flat(&s, ret_flat);

	*ret_len = r == RESP_CUT ? len + s.missing : (size_t)(s.p - buf);
	return r;
}
