/* test_tls.c - the first bytes of a client, and handshakes with certificates and keys
 * that change, against OpenSSL's own client. */
#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/pem.h"
#include "worker/tls.h"
#include "worker/tls_context.h"
#include "worker/tls_opening.h"

static struct pem first, second;

static int
setup(void **state)
{
	pem_make("first.example", -60, 3600, NULL, &first);
	pem_make("second.example", -60, 3600, NULL, &second);
	return 0;
}

/* ---- the first bytes ---- */

static void
test_tls_hello_waits_for_the_whole_record(void **state)
{
	static const uint8_t head[] = {22, 3, 1, 0x02, 0x05};
	static uint8_t buf[5 + 0x205];
	size_t need;

	memcpy(buf, head, sizeof(head));
	for (size_t len = 0; len < sizeof(buf); len++) {
		assert_int_equal(tls_hello(buf, len, &need), TLS_HELLO_MORE);
		assert_true(need > len);
		if (len >= 5)
			assert_int_equal(need, sizeof(buf));
	}
	assert_int_equal(tls_hello(buf, sizeof(buf), &need), TLS_HELLO_WHOLE);
}

static void
test_tls_hello_knows_http_by_its_first_byte(void **state)
{
	size_t need;

	assert_int_equal(tls_hello((const uint8_t *)"G", 1, &need), TLS_HELLO_HTTP);
	assert_int_equal(
	    tls_hello((const uint8_t *)"POST /", 6, &need), TLS_HELLO_HTTP);
}

static void
test_tls_hello_refuses_all_else(void **state)
{
	static const uint8_t too_long[] = {22, 3, 1, 0x40, 0x01};
	size_t need;

	for (int i = 0; i < 256; i++) {
		uint8_t b = (uint8_t)i;

		if (b != 22 && (b < 'A' || b > 'Z'))
			assert_int_equal(tls_hello(&b, 1, &need), TLS_HELLO_BROKEN);
	}
	assert_int_equal(tls_hello(too_long, 4, &need), TLS_HELLO_MORE);
	assert_int_equal(tls_hello(too_long, 5, &need), TLS_HELLO_BROKEN);
}

/* ---- handshakes ---- */

struct fixture {
	struct tls_context *context;
	SSL_CTX *client;
	SSL_SESSION *session; /* got last */
};

static int
on_session(SSL *ssl, SSL_SESSION *session)
{
	struct fixture *f = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(f->session);
	f->session = session;
	return 1;
}

static int
fixture_setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){.session = NULL};
	assert_int_equal(tls_context_new(TLS_RECORD, NULL, &f.context), 0);
	f.client = SSL_CTX_new(TLS_client_method());
	assert_non_null(f.client);
	(void)SSL_CTX_set_app_data(f.client, &f);
	(void)SSL_CTX_set_session_cache_mode(
	    f.client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(f.client, on_session);
	*state = &f;
	return 0;
}

static int
fixture_teardown(void **state)
{
	struct fixture *f = *state;

	SSL_SESSION_free(f->session);
	SSL_CTX_free(f->client);
	tls_context_free(f->context);
	return 0;
}

static void
load(struct fixture *f, const char *certificate, const char *key,
    const struct tickets *tickets)
{
	const struct tls_files files = {
	    .certificate = pem_slice(certificate),
	    .key = pem_slice(key),
	    .tickets = {(const char *)tickets, tickets != NULL ? sizeof(*tickets) : 0},
	};
	const char *why = "";

	assert_int_equal(tls_context_load(f->context, &files, &why), 0);
	assert_string_equal(why, "");
}

/* Pass what one side wrote to the other, until neither has more to say. */
static void
talk(SSL *client, SSL *server)
{
	char byte;

	for (int i = 0; i < 10; i++) {
		(void)SSL_do_handshake(client);
		(void)SSL_do_handshake(server);
		(void)SSL_read(
		    client, &byte, 1); /* tickets come behind the handshake */
	}
}

struct met {
	char name[64]; /* of the certificate */
	bool done, resumed;
};

/* host, session: NULL for none. between: called when the client has sent its first. */
static struct met
meet(struct fixture *f, const char *host, SSL_SESSION *session,
    void (*between)(struct fixture *f))
{
	SSL *client = SSL_new(f->client), *server = tls_context_accept(f->context);
	struct met met = {.done = false};
	BIO *a, *b;
	X509 *x;

	assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	assert_non_null(client);
	assert_non_null(server);
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	if (host != NULL)
		(void)SSL_set_tlsext_host_name(client, host);
	if (session != NULL) {
		/* OpenSSL's client gives one of TLS 1.3 up when it has used it. */
		SSL_SESSION *copy = SSL_SESSION_dup(session);

		assert_int_equal(SSL_set_session(client, copy), 1);
		SSL_SESSION_free(copy);
	}
	(void)SSL_do_handshake(client);
	if (between != NULL)
		between(f);
	talk(client, server);
	met.done = SSL_is_init_finished(client) && SSL_is_init_finished(server);
	met.resumed = SSL_session_reused(server);
	x = SSL_get1_peer_certificate(client);
	if (x != NULL)
		(void)X509_NAME_get_text_by_NID(X509_get_subject_name(x),
		    NID_commonName, met.name, sizeof(met.name));
	X509_free(x);
	(void)SSL_shutdown(client);
	SSL_free(client);
	SSL_free(server);
	return met;
}

static void
test_tls_context_goes_by_name(void **state)
{
	static char both[4 * PEM_MAX];
	struct fixture *f = *state;

	both[0] = '\0';
	pem_append(both, first.certificate);
	pem_append(both, first.key);
	pem_append(both, second.certificate);
	pem_append(both, second.key);
	load(f, both, "", NULL);
	assert_string_equal(meet(f, "first.example", NULL, NULL).name, "first.example");
	assert_string_equal(
	    meet(f, "second.example", NULL, NULL).name, "second.example");
	assert_string_equal(meet(f, "third.example", NULL, NULL).name, "first.example");
	assert_string_equal(meet(f, NULL, NULL, NULL).name, "first.example");
}

static void
test_tls_context_load_refused_changes_nothing(void **state)
{
	struct fixture *f = *state;
	const struct tls_files files = {
	    .certificate = pem_slice(second.certificate), .key = pem_slice(first.key)};
	const char *why = "";

	load(f, first.certificate, first.key, NULL);
	assert_int_equal(tls_context_load(f->context, &files, &why), -EINVAL);
	assert_non_null(strstr(why, "not the certificate's"));
	assert_string_equal(meet(f, NULL, NULL, NULL).name, "first.example");
}

static void
load_second(struct fixture *f)
{
	load(f, second.certificate, second.key, NULL);
}

/* The old SSL_CTX goes while a handshake that began with it is under way. */
static void
test_tls_context_load_in_the_middle_of_a_handshake(void **state)
{
	struct fixture *f = *state;
	struct met met;

	load(f, first.certificate, first.key, NULL);
	met = meet(f, "second.example", NULL, load_second);
	assert_true(met.done);
	assert_string_equal(met.name, "second.example"); /* it asked for that */
	assert_string_equal(meet(f, NULL, NULL, NULL).name, "second.example");
}

static void
rotate(struct tickets *t, uint8_t fill)
{
	memmove(t->key + 1, t->key, (TICKET_KEYS - 1) * sizeof(t->key[0]));
	memset(&t->key[0], fill, sizeof(t->key[0]));
}

static void
tickets_outlive_their_key(struct fixture *f, int version)
{
	struct tickets t = {0};
	SSL_SESSION *old;

	assert_int_equal(SSL_CTX_set_max_proto_version(f->client, version), 1);
	rotate(&t, 1);
	load(f, first.certificate, first.key, &t);
	assert_false(meet(f, NULL, NULL, NULL).resumed);
	assert_non_null(f->session);
	old = f->session;
	f->session = NULL;
	for (uint8_t i = 2; i <= TICKET_KEYS; i++) {
		rotate(&t, i);
		load(f, first.certificate, first.key, &t);
		assert_true(meet(f, NULL, old, NULL).resumed);
	}
	rotate(&t, 9);
	load(f, first.certificate, first.key, &t);
	assert_false(meet(f, NULL, old, NULL).resumed);
	SSL_SESSION_free(old);
	SSL_SESSION_free(f->session);
	f->session = NULL;
}

static void
test_tls_context_tickets_outlive_their_key(void **state)
{
	tickets_outlive_their_key(*state, TLS1_2_VERSION);
	tickets_outlive_their_key(*state, TLS1_3_VERSION);
}

static void
test_tls_context_gives_no_tickets_without_keys(void **state)
{
	struct fixture *f = *state;

	load(f, first.certificate, first.key, NULL);
	assert_true(meet(f, NULL, NULL, NULL).done);
	assert_null(f->session);
}

static void
test_tls_context_accept_without_certificate_is_null(void **state)
{
	struct fixture *f = *state;

	assert_null(tls_context_accept(f->context));
}

/* ---- memory ---- */

static size_t in_use; /* by OpenSSL, bytes of the heap */

static void *
counted_realloc(void *p, size_t len, const char *file, int line)
{
	size_t before = malloc_usable_size(p);
	void *now = realloc(p, len);

	if (now != NULL)
		in_use += malloc_usable_size(now) - before;
	return now;
}

static void *
counted_malloc(size_t len, const char *file, int line)
{
	return counted_realloc(NULL, len, file, line);
}

static void
counted_free(void *p, const char *file, int line)
{
	in_use -= malloc_usable_size(p);
	free(p);
}

/* Bytes of the heap that a server's end holds once it has read and written. */
static size_t
idle_cost(struct fixture *f, int version)
{
	static char buf[4096];
	SSL *client, *server;
	size_t before;
	BIO *a, *b;

	assert_int_equal(SSL_CTX_set_max_proto_version(f->client, version), 1);
	/* The share of a group that is safe from quantum computers is kept, too. */
	assert_int_equal(SSL_CTX_set1_groups_list(f->client, "X25519:P-256"), 1);
	before = in_use;
	assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	client = SSL_new(f->client);
	server = tls_context_accept(f->context);
	assert_non_null(client);
	assert_non_null(server);
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	talk(client, server);
	assert_int_equal(SSL_write(client, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(SSL_read(server, buf, sizeof(buf)), sizeof(buf));
	assert_int_equal(SSL_read(server, buf, sizeof(buf)), -1);
	assert_int_equal(SSL_write(server, buf, sizeof(buf)), sizeof(buf));
	SSL_free(client);
	SSL_set_bio(server, NULL, NULL);
	SSL_SESSION_free(f->session);
	f->session = NULL;
	before = in_use - before;
	SSL_free(server);
	return before;
}

/* One buffer for a record would be 16 KiB more. The certificates are nobody's own: a
 * long chain costs a connection nothing. */
static void
test_tls_context_idle_connection_holds_no_buffer_or_chain(void **state)
{
	static const struct tickets tickets = {.key = {{.name = {1}}}};
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
	static char chain[16 * PEM_MAX];
	struct fixture *f = *state;

	chain[0] = '\0';
	for (int i = 0; i < 12; i++)
		pem_append(chain, i == 0 ? first.certificate : second.certificate);
	for (int i = 0; i < 2; i++) {
		size_t one, many;

		load(f, first.certificate, first.key, &tickets);
		(void)idle_cost(f, versions[i]); /* what is fetched once */
		one = idle_cost(f, versions[i]);
		load(f, chain, first.key, &tickets);
		(void)idle_cost(f, versions[i]);
		many = idle_cost(f, versions[i]);
		print_message(
		    "%s: %zu bytes of the heap\n", i == 0 ? "TLS 1.2" : "TLS 1.3", one);
		assert_in_range(one, 4096, 24 << 10);
		assert_in_range(many, one - 256, one + 256);
	}
}

int
main(void)
{
#define WITH(test)                                                                     \
	cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tls_hello_waits_for_the_whole_record),
	    cmocka_unit_test(test_tls_hello_knows_http_by_its_first_byte),
	    cmocka_unit_test(test_tls_hello_refuses_all_else),
	    WITH(test_tls_context_goes_by_name),
	    WITH(test_tls_context_load_refused_changes_nothing),
	    WITH(test_tls_context_load_in_the_middle_of_a_handshake),
	    WITH(test_tls_context_tickets_outlive_their_key),
	    WITH(test_tls_context_gives_no_tickets_without_keys),
	    WITH(test_tls_context_accept_without_certificate_is_null),
	    WITH(test_tls_context_idle_connection_holds_no_buffer_or_chain),
	};

	/* Before OpenSSL's first allocation. */
	if (CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free) !=
	    1)
		return 1;
	return cmocka_run_group_tests(tests, setup, NULL);
}
