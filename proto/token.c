/* token.c - see token.h */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "proto/address.h"
#include "proto/base64.h"
#include "proto/json.h"
#include "proto/keyring.h"
#include "proto/settings.h"
#include "proto/token.h"
#include "proto/utf8.h"

#define HEADER_MAX 1024 /* bytes of the header in base64url */
#define DATE_MAX 1e15   /* seconds: what lies further off is no date */

/* The three parts, as they stand in the token. */
struct parts {
	struct slice header, claims, signature;
	struct slice signed_part; /* header, dot, claims */
};

/* ---- its form ---- */

static bool
split(const char *text, size_t len, struct parts *ret)
{
	const char *end = text + len;
	const char *dot1 = memchr(text, '.', len), *dot2;

	if (dot1 == NULL)
		return false;
	dot2 = memchr(dot1 + 1, '.', (size_t)(end - dot1 - 1));
	if (dot2 == NULL || memchr(dot2 + 1, '.', (size_t)(end - dot2 - 1)) != NULL)
		return false;
	ret->header = (struct slice){text, (size_t)(dot1 - text)};
	ret->claims = (struct slice){dot1 + 1, (size_t)(dot2 - dot1 - 1)};
	ret->signature = (struct slice){dot2 + 1, (size_t)(end - dot2 - 1)};
	ret->signed_part = (struct slice){text, (size_t)(dot2 - text)};
	return true;
}

/* What one part of a token holds, decoded. */
#define PART_MAX (TOKEN_MAX / 4 * 3 + 2)
_Static_assert(PART_MAX >= HEADER_MAX, "each part has room");

/* A part that is a JSON object, in which no name comes twice: who reads the first and
 * who reads the last would see two tokens. buf: PART_MAX bytes. Returns NULL when it is
 * none. */
static json_t *
load_object(struct slice part, char *buf, size_t *ret_len)
{
	json_t *root;

	if (base64_url_get(part.p, part.len, buf, ret_len) < 0)
		return NULL;
	root = json_loadb(buf, *ret_len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(root))
		return root;
	json_decref(root);
	return NULL;
}

static struct slice
string_of(const json_t *v)
{
	return (struct slice){json_string_value(v), json_string_length(v)};
}

/* ---- the signature ---- */

static enum token_result
check_signature(
    const struct keyring *keys, const struct parts *parts, const json_t *header)
{
	const json_t *alg = json_object_get(header, "alg");
	const json_t *kid = json_object_get(header, "kid");
	uint8_t sig[PART_MAX];
	size_t len;

	if (!json_is_string(alg) || (kid != NULL && !json_is_string(kid)) ||
	    base64_url_get(parts->signature.p, parts->signature.len, sig, &len) < 0)
		return TOKEN_MALFORMED;
	/* RFC 7515 §4.1.11: what it names must be understood, and we know of nothing;
	 * RFC 7797 has b64 stand in crit, but not all readers insist. */
	if (json_object_get(header, "crit") != NULL ||
	    json_object_get(header, "b64") != NULL)
		return TOKEN_UNSUPPORTED;
	switch (keyring_verify(keys, string_of(alg), string_of(kid), parts->signed_part,
	    (struct slice){(const char *)sig, len})) {
	case KEYRING_OK:
		return TOKEN_OK;
	case KEYRING_UNSUPPORTED:
		return TOKEN_UNSUPPORTED;
	case KEYRING_NO_KEY:
		return TOKEN_NO_KEY;
	case KEYRING_BAD:
		break;
	}
	return TOKEN_BAD_SIGNATURE;
}

/* ---- when and for whom ---- */

/* A NumericDate (RFC 7519 §2): seconds, perhaps with a fraction, which is cut off.
 * Missing: ret_date stays. */
static bool
get_date(const json_t *claims, const char *name, int64_t *ret_date)
{
	const json_t *v = json_object_get(claims, name);
	double date = json_number_value(v);

	if (v == NULL)
		return true;
	if (!json_is_number(v) || date > DATE_MAX || date < -DATE_MAX)
		return false;
	*ret_date = (int64_t)date;
	return true;
}

static enum token_result
check_dates(const json_t *claims, const struct token_policy *policy, int64_t now_s,
    int64_t *ret_expires)
{
	int64_t exp = INT64_MAX, nbf = INT64_MIN, iat = 0;

	if (!get_date(claims, "exp", &exp) || !get_date(claims, "nbf", &nbf) ||
	    !get_date(claims, "iat", &iat))
		return TOKEN_BAD_CLAIM;
	if (exp != INT64_MAX && now_s >= exp + policy->leeway_s)
		return TOKEN_EXPIRED;
	if (nbf > now_s + policy->leeway_s)
		return TOKEN_NOT_YET;
	*ret_expires = exp != INT64_MAX ? exp : 0;
	return TOKEN_OK;
}

static bool
list_has(const char *list, struct slice text)
{
	const char *word;
	size_t len;

	while ((len = list_next(&list, &word)) > 0)
		if (len == text.len && memcmp(word, text.p, len) == 0)
			return true;
	return false;
}

/* Whether it is a string, or an array of strings (RFC 7519 §4.1.3). */
static bool
is_audience(const json_t *aud)
{
	if (aud == NULL || json_is_string(aud))
		return true;
	for (size_t i = 0; i < json_array_size(aud); i++)
		if (!json_is_string(json_array_get(aud, i)))
			return false;
	return json_is_array(aud);
}

static enum token_result
check_issuer_and_audience(const json_t *claims, const struct token_policy *policy)
{
	const json_t *iss = json_object_get(claims, "iss");
	const json_t *aud = json_object_get(claims, "aud");
	bool meant;

	if ((iss != NULL && !json_is_string(iss)) || !is_audience(aud))
		return TOKEN_BAD_CLAIM;
	if (policy->issuer[0] != '\0' &&
	    (iss == NULL || !list_has(policy->issuer, string_of(iss))))
		return TOKEN_WRONG_ISSUER;
	meant = json_is_string(aud) && list_has(policy->audience, string_of(aud));
	for (size_t i = 0; i < json_array_size(aud); i++)
		meant = meant ||
			list_has(policy->audience, string_of(json_array_get(aud, i)));
	return policy->audience[0] == '\0' || meant ? TOKEN_OK : TOKEN_WRONG_AUDIENCE;
}

/* ---- what else it says ---- */

/* What is kept is never longer than what it was: each string loses two quotes and gets
 * one NUL; subject, jti and info have one when they are missing, too. */
#define TEXT_MAX (PART_MAX + 3)

static void
put_text(struct token *t, struct slice s)
{
	if (s.len > 0)
		memcpy(t->text + t->len, s.p, s.len);
	t->text[t->len + s.len] = '\0';
	t->len += s.len + 1;
}

/* A string of 1 to TOKEN_TEXT_MAX bytes of UTF-8 without control characters. */
static bool
is_text(const json_t *v)
{
	size_t len = json_string_length(v);

	return len > 0 && len <= TOKEN_TEXT_MAX &&
	       utf8_is_text(json_string_value(v), len);
}

static bool
is_name(const json_t *v)
{
	return json_is_string(v) &&
	       name_ok(json_string_value(v), json_string_length(v));
}

static bool
take_string(const json_t *claims, const char *name, struct token *t, uint16_t *ret_len)
{
	const json_t *v = json_object_get(claims, name);

	if (v != NULL && !is_text(v))
		return false;
	put_text(t, string_of(v));
	*ret_len = (uint16_t)json_string_length(v);
	return true;
}

/* As it was written, but for white space: numbers that no C type holds stay. text: the
 * claims. */
static bool
take_info(struct slice text, struct token *t)
{
	struct slice name, value, info = {NULL, 0};
	struct json_members members;
	char buf[PART_MAX];

	if (!json_valid(text.p, text.len) || !json_members_begin(&members, text))
		return false;
	while (json_members_next(&members, &name, &value))
		if (slice_is(name, "info"))
			info =
			    (struct slice){buf, json_compact(value.p, value.len, buf)};
	if (info.len > TOKEN_INFO_MAX)
		return false;
	put_text(t, info);
	t->info_len = (uint16_t)info.len;
	return true;
}

static bool
take_list(const json_t *claims, const char *name, bool (*is_right)(const json_t *v),
    struct token *t, uint16_t *ret_n)
{
	const json_t *v = json_object_get(claims, name);
	size_t n = json_array_size(v);

	if ((v != NULL && !json_is_array(v)) || n > TOKEN_LIST_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!is_right(json_array_get(v, i)))
			return false;
		put_text(t, string_of(json_array_get(v, i)));
	}
	*ret_n = (uint16_t)n;
	return true;
}

/* In the order that struct token gives. */
static bool
take_all(const json_t *claims, struct slice text, struct token *t)
{
	return take_string(claims, "sub", t, &t->subject_len) &&
	       take_string(claims, "jti", t, &t->jti_len) && take_info(text, t) &&
	       take_list(claims, "channels", is_name, t, &t->nchannels) &&
	       take_list(claims, "subscribe", is_text, t, &t->nsubscribe) &&
	       take_list(claims, "publish", is_text, t, &t->npublish);
}

static enum token_result
check_claims(const json_t *claims, struct slice text, const struct token_policy *policy,
    int64_t now_s, struct token *ret_token)
{
	struct token t = {0};
	enum token_result r = check_dates(claims, policy, now_s, &t.expires_s);

	if (r == TOKEN_OK)
		r = check_issuer_and_audience(claims, policy);
	if (r != TOKEN_OK)
		return r;
	t.text = malloc(TEXT_MAX);
	if (t.text == NULL)
		return TOKEN_NO_MEMORY;
	if (!take_all(claims, text, &t)) {
		token_done(&t);
		return TOKEN_BAD_CLAIM;
	}
	*ret_token = t;
	return TOKEN_OK;
}

/* ---- all of it ---- */

enum token_result
token_check(const struct keyring *keys, const struct token_policy *policy,
    const char *text, size_t len, int64_t now_s, struct token *ret_token)
{
	json_t *header = NULL, *claims = NULL;
	enum token_result r = TOKEN_MALFORMED;
	struct parts parts;
	char buf[PART_MAX];
	size_t n;

	if (len > TOKEN_MAX)
		return TOKEN_TOO_LONG;
	if (!split(text, len, &parts))
		return TOKEN_MALFORMED;
	if (parts.header.len > HEADER_MAX)
		return TOKEN_TOO_LONG;
	header = load_object(parts.header, buf, &n);
	if (header != NULL)
		r = check_signature(keys, &parts, header);
	json_decref(header);
	if (r != TOKEN_OK)
		return r;
	claims = load_object(parts.claims, buf, &n);
	r = claims == NULL ? TOKEN_MALFORMED
			   : check_claims(claims, (struct slice){buf, n}, policy, now_s,
				 ret_token);
	json_decref(claims);
	return r;
}

void
token_done(struct token *t)
{
	if (t == NULL)
		return;
	free(t->text);
	*t = (struct token){0};
}

const char *
token_result_text(enum token_result r)
{
	static const char *const text[] = {
	    [TOKEN_OK] = "the token is right",
	    [TOKEN_TOO_LONG] = "the token is too long: put less into it",
	    [TOKEN_MALFORMED] =
		"this is no token: a signed JWT in compact form is needed",
	    [TOKEN_UNSUPPORTED] =
		"an algorithm or header of the token is not supported",
	    [TOKEN_NO_KEY] =
		"the server has no key for the token's algorithm and key id",
	    [TOKEN_BAD_SIGNATURE] = "the token's signature is wrong",
	    [TOKEN_EXPIRED] = "the token has expired: get a new one",
	    [TOKEN_NOT_YET] = "the token is not valid yet",
	    [TOKEN_WRONG_AUDIENCE] = "the token is for another audience",
	    [TOKEN_WRONG_ISSUER] = "the token is of another issuer",
	    [TOKEN_BAD_CLAIM] = "a claim of the token has a wrong type or is too long",
	    [TOKEN_NO_MEMORY] = "the server has no room for the token now",
	};

	return text[r];
}
