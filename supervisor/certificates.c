/* certificates.c - see certificates.h */
#include <string.h>
#include <time.h>

#include "proto/certificate.h"
#include "proto/journal.h"
#include "supervisor/certificates.h"

#define NAME_MAX_SHOWN 128

static void
look_at(const struct settings *s, const struct certificate *c, time_t now)
{
	char name[NAME_MAX_SHOWN], quoted[2 * NAME_MAX_SHOWN];
	int len = X509_NAME_get_text_by_NID(
	    X509_get_subject_name(c->leaf), NID_commonName, name, sizeof(name));

	(void)log_quote(name, len > 0 ? (size_t)len : 0, quoted, sizeof(quoted));
	switch (certificate_validity(c, now)) {
	case CERTIFICATE_VALID:
		break;
	case CERTIFICATE_NOT_YET:
		log_warning(0, "the certificate \"%s\" in %s does not hold yet", quoted,
		    s->tls_certificate);
		break;
	case CERTIFICATE_EXPIRED:
		log_warning(0, "the certificate \"%s\" in %s has expired", quoted,
		    s->tls_certificate);
		break;
	}
}

void
certificates_look(const struct settings *s)
{
	const struct settings_file *pem = settings_file(s, "tls.certificate");
	const struct settings_file *key = settings_file(s, "tls.key");
	struct certificate_fault fault;
	struct certificates c;

	if (pem == NULL || certificates_parse((struct slice){pem->data, pem->len},
			       key == NULL ? (struct slice){NULL, 0}
					   : (struct slice){key->data, key->len},
			       &c, &fault) < 0)
		return; /* a fault was told before */
	for (unsigned i = 0; i < c.n; i++)
		look_at(s, &c.certificate[i], time(NULL));
	certificates_done(&c);
}
