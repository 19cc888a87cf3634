/* test_certificate.c - what PEM files hold, and what is wrong with them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "proto/certificate.h"
#include "tests/unit/pem.h"

static struct pem first, second, third;
static char text[4 * PEM_MAX];

static int
setup(void **state)
{
	pem_make("first.example", -60, 3600, NULL, &first);
	pem_make("*.second.example", -60, 3600, NULL, &second);
	pem_make("third.example", -60, 3600, NULL, &third);
	return 0;
}

static void
parse(const char *pem, const char *key, struct certificates *ret)
{
	struct certificate_fault fault = {.why = ""};

	assert_int_equal(
	    certificates_parse(pem_slice(pem), pem_slice(key), ret, &fault), 0);
	assert_string_equal(fault.why, "");
}

static void
refused(const char *pem, const char *key, enum certificate_file file, const char *why)
{
	struct certificate_fault fault = {.why = ""};
	struct certificates c;

	assert_int_equal(
	    certificates_parse(pem_slice(pem), pem_slice(key), &c, &fault), -EINVAL);
	assert_int_equal(fault.file, file);
	if (strstr(fault.why, why) == NULL)
		fail_msg("\"%s\" says nothing of \"%s\"", fault.why, why);
	assert_int_equal(c.n, 0);
}

static void
test_certificates_parse_two_files(void **state)
{
	struct certificates c;

	parse(first.certificate, first.key, &c);
	assert_int_equal(c.n, 1);
	assert_int_equal(sk_X509_num(c.certificate[0].chain), 0);
	assert_true(certificate_is_for(&c.certificate[0], "first.example"));
	assert_false(certificate_is_for(&c.certificate[0], "x.first.example"));
	certificates_done(&c);
}

static void
test_certificates_parse_keeps_the_chain(void **state)
{
	struct certificates c;

	text[0] = '\0';
	pem_append(text, first.certificate);
	pem_append(text, second.certificate);
	pem_append(text, third.certificate);
	parse(text, first.key, &c);
	assert_int_equal(c.n, 1);
	assert_int_equal(sk_X509_num(c.certificate[0].chain), 2);
	certificates_done(&c);
}

static void
test_certificates_parse_key_in_the_same_file_before_or_behind(void **state)
{
	struct certificates c;

	for (int before = 0; before < 2; before++) {
		text[0] = '\0';
		pem_append(text, before ? first.key : first.certificate);
		pem_append(text, before ? first.certificate : first.key);
		parse(text, "", &c);
		assert_int_equal(c.n, 1);
		certificates_done(&c);
	}
}

static void
test_certificates_parse_several_with_their_keys(void **state)
{
	struct certificates c;

	text[0] = '\0';
	pem_append(text, first.certificate);
	pem_append(text, third.certificate); /* its chain */
	pem_append(text, first.key);
	pem_append(text, "# whatever stands between them\n");
	pem_append(text, second.certificate);
	pem_append(text, second.key);
	pem_append(text, "\n# and at the end\n");
	parse(text, "", &c);
	assert_int_equal(c.n, 2);
	assert_int_equal(sk_X509_num(c.certificate[0].chain), 1);
	assert_false(certificate_is_for(&c.certificate[0], "a.second.example"));
	assert_true(certificate_is_for(&c.certificate[1], "a.second.example"));
	assert_false(certificate_is_for(&c.certificate[1], "second.example"));
	certificates_done(&c);
}

static void
test_certificates_parse_names_the_fault_and_its_file(void **state)
{
	static const char broken[] = "-----BEGIN CERTIFICATE-----\nAAAA\n"
				     "-----END CERTIFICATE-----\n";
	struct pem locked;

	refused("", first.key, CERTIFICATE_FILE, "no certificate");
	refused("nothing", first.key, CERTIFICATE_FILE, "no certificate");
	refused(broken, first.key, CERTIFICATE_FILE, "no certificate");
	refused(first.key, first.key, CERTIFICATE_FILE, "no certificate");
	refused(first.certificate, "", CERTIFICATE_FILE, "no other file");
	refused(first.certificate, "nothing", CERTIFICATE_KEY, "no private key");
	refused(
	    first.certificate, second.key, CERTIFICATE_KEY, "not the certificate's");
	text[0] = '\0';
	pem_append(text, first.certificate);
	pem_append(text, broken);
	refused(text, first.key, CERTIFICATE_FILE, "cannot be read behind the first");
	pem_make("locked.example", -60, 3600, (char[]){"secret"}, &locked);
	refused(locked.certificate, locked.key, CERTIFICATE_KEY, "encrypted");
}

/* Whatever a file is cut to, it is read or refused. */
static void
test_certificates_parse_cut_at_every_length(void **state)
{
	struct certificate_fault fault;
	struct certificates c;
	unsigned nread = 0;

	text[0] = '\0';
	pem_append(text, first.certificate);
	pem_append(text, first.key);
	pem_append(text, second.certificate);
	pem_append(text, second.key);
	for (size_t len = 0; len <= strlen(text); len++) {
		if (certificates_parse(
			(struct slice){text, len}, pem_slice(""), &c, &fault) < 0)
			continue;
		nread++;
		certificates_done(&c);
	}
	assert_true(nread > 0);
}

static void
test_certificate_validity_by_the_time(void **state)
{
	time_t now = time(NULL);
	struct certificates c;

	parse(first.certificate, first.key, &c);
	assert_int_equal(
	    certificate_validity(&c.certificate[0], now), CERTIFICATE_VALID);
	assert_int_equal(
	    certificate_validity(&c.certificate[0], now - 3600), CERTIFICATE_NOT_YET);
	assert_int_equal(
	    certificate_validity(&c.certificate[0], now + 7200), CERTIFICATE_EXPIRED);
	certificates_done(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_certificates_parse_two_files),
	    cmocka_unit_test(test_certificates_parse_keeps_the_chain),
	    cmocka_unit_test(
		test_certificates_parse_key_in_the_same_file_before_or_behind),
	    cmocka_unit_test(test_certificates_parse_several_with_their_keys),
	    cmocka_unit_test(test_certificates_parse_names_the_fault_and_its_file),
	    cmocka_unit_test(test_certificates_parse_cut_at_every_length),
	    cmocka_unit_test(test_certificate_validity_by_the_time),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
